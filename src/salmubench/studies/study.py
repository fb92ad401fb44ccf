"""A study file, ``STUDY.yaml``: which methods, settings, budgets, seeds and checkpoints; and the runs that follow."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from salmubench.errors import UserError
from salmubench.presets import recipe
from salmubench.unlearning.method import methods
from salmubench.unlearning.scope import Scope

Scalar = bool | int | float | str
GRID = ("scope", "learning_rate", "batch_size", "warmup_share", "weight_decay")
MOST_RUNS = 100_000


class Trial(BaseModel):
    """One method of a study. A list of values is tried value by value, several lists in all combinations.

    What is left out comes from the study's preset: the method's tuned settings where there are some.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    options: dict[str, Scalar | list[Scalar]] = Field(default_factory=dict)
    scope: str | list[str] | None = None
    learning_rate: float | list[float] | None = None
    batch_size: int | list[int] | None = None
    warmup_share: float | list[float] | None = None
    weight_decay: float | list[float] | None = None
    budgets: list[float] | None = None


class Study(BaseModel):
    """The content of a study file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: str = "mini"
    methods: list[str | Trial] = Field(min_length=1)
    budgets: list[float] = Field(default=[1], min_length=1)
    seeds: list[int] = Field(default=[42], min_length=1)
    models: dict[str, str] = Field(default_factory=dict)
    data: str | None = None
    clean: Path | None = None
    compromised: Path | None = None
    precision: str = "fp32"
    device: str | None = None
    limit: int | None = Field(None, ge=1)


@dataclass(frozen=True)
class Run:
    """One run of a study: all that ``unlearn`` needs beside the data and the folder to write."""

    model: str
    checkpoint: str
    method: str
    options: dict[str, Scalar]
    budget: float
    seed: int
    scope: str
    learning_rate: float
    batch_size: int
    warmup_share: float
    weight_decay: float
    precision: str

    def setting(self) -> dict[str, Any]:
        """What is tuned: the run without its checkpoint and seed."""
        return {key: value for key, value in asdict(self).items() if key not in ("model", "checkpoint", "seed")}

    def identifier(self, weights_sha256: str, data: str) -> str:
        """The name of the run's folder, by its content: the same run has the same name wherever it is started.

        Args:
            weights_sha256: of the checkpoint that it starts from.
            data: the data set's revision or hash, with what else its report depends on.
        """
        content = {
            **self.setting(),
            "seed": self.seed,
            "method_sha256": methods[self.method].source_sha256,
            "model_sha256": weights_sha256,
            "data": data,
        }
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        return f"{self.method}-{self.budget:g}x-{digest[:10]}"


def read_study(path: Path, **instead: Any) -> Study:
    """Reads a study file; ``instead`` replaces members of it that are not None.

    Raises:
        UserError: the file is missing, no YAML, or has a member that is unknown or does not fit.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a study file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML ({' '.join(str(error).split())}); mend it") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: a study file is a mapping with `methods:`; see docs/sweep.md")
    try:
        return Study.model_validate(content | {key: value for key, value in instead.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in ("Trial", "str"))
        raise UserError(f"{path}: {where}: {first['msg']}; see docs/sweep.md") from None


def expand(study: Study) -> list[Run]:
    """The study's runs, in its order: models, methods, their settings, budgets, seeds. Two equal ones are one.

    Raises:
        UserError: a method, an option or a scope does not exist, or there are too many runs.
    """
    runs: dict[str, Run] = {}
    for name, checkpoint in study.models.items():
        for entry in study.methods:
            trial = Trial(method=entry) if isinstance(entry, str) else entry
            for settings in _settings(trial, study.preset):
                for budget, seed in itertools.product(trial.budgets or study.budgets, study.seeds):
                    run = Run(name, checkpoint, trial.method, budget=budget, seed=seed, precision=study.precision,
                              **settings)  # fmt: skip
                    runs[json.dumps(asdict(run), sort_keys=True)] = run
                    if len(runs) > MOST_RUNS:
                        raise UserError(f"the study has more than {MOST_RUNS:,} runs; split it")
    return list(runs.values())


def _settings(trial: Trial, preset: str) -> Iterator[dict[str, Any]]:
    given = {key: value for key in GRID if (value := getattr(trial, key)) is not None}
    start = recipe(preset, trial.method)
    axes = {**{key: start[key] for key in GRID}, **given}
    options = {**start["options"], **trial.options}
    every = [value if isinstance(value, list) else [value] for value in (*axes.values(), *options.values())]
    for values in itertools.product(*every):
        chosen = dict(zip((*axes, *options), values, strict=True))
        found = {key: chosen.pop(key) for key in axes}
        methods[trial.method].parse({key: str(value) for key, value in chosen.items()})
        Scope.parse(found["scope"])
        yield {**found, "options": chosen}
