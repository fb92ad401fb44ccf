"""A study file, ``STUDY.yaml``: which methods, settings, budgets, seeds and checkpoints; and the runs that follow."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Hashable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from salmubench.errors import UserError
from salmubench.presets import recipe
from salmubench.unlearning.method import methods
from salmubench.unlearning.plan import check_budget, check_rates
from salmubench.unlearning.scope import Scope

Scalar = bool | int | float | str
GRID = ("scope", "learning_rate", "batch_size", "warmup_share", "weight_decay")
MOST_RUNS = 100_000
Value = TypeVar("Value")
Some = Annotated[list[Value], Field(min_length=1)]
OneOrSome = Annotated[Some[Value], BeforeValidator(lambda given: given if isinstance(given, list) else [given])]


class Trial(BaseModel):
    """One method of a study. A list of values is tried value by value, several lists in all combinations.

    What is left out comes from the study's preset: the method's tuned settings where there are some.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    options: dict[str, OneOrSome[Scalar]] = Field(default_factory=dict)
    scope: OneOrSome[str] | None = None
    learning_rate: OneOrSome[float] | None = None
    batch_size: OneOrSome[int] | None = None
    warmup_share: OneOrSome[float] | None = None
    weight_decay: OneOrSome[float] | None = None
    budgets: Some[float] | None = None

    @model_validator(mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        """A name alone is a method with the preset's settings."""
        return {"method": given} if isinstance(given, str) else given


class Study(BaseModel):
    """The content of a study file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: str = "mini"
    methods: Some[Trial]
    budgets: Some[float] = [1]
    seeds: Some[Annotated[int, Field(ge=0, le=2**32 - 1)]] = [42]
    models: dict[str, str] = Field(default_factory=dict)
    data: str | None = None
    clean: Path | None = None
    compromised: Path | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
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


class _Loader(yaml.SafeLoader):
    """Plain YAML; a word that stands twice in a mapping is refused, where YAML's reader would drop what stood first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        words = [key.value for key, _ in node.value]
        twice = next((word for word in words if words.count(word) > 1), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"{twice!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_study(path: Path, **instead: Any) -> Study:
    """Reads a study file; ``instead`` replaces members of it that are not None.

    Raises:
        UserError: the file is missing, no YAML, or has a member that is unknown or does not fit.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a study file") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path}: not YAML ({' '.join(str(error).split())}); mend it") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: a study file is a mapping with `methods:`; see docs/sweep.md")
    try:
        study = Study.model_validate(content | {key: value for key, value in instead.items() if value is not None})
        for trial in study.methods:
            list(_settings(trial, study))
    except ValidationError as error:
        raise UserError(f"{path}: {_words(error)}; see docs/sweep.md") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return study


def _words(error: ValidationError) -> str:
    """The first thing that does not fit, and where."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        members = Study.model_fields if len(first["loc"]) == 1 else Trial.model_fields
        return f"{where}: there is no such member; choose from {', '.join(members)}"
    if first["type"] == "model_type":
        return f"{where}: neither a method's name nor a mapping with `method:`"
    return f"{where}: {first['msg']}"


def expand(study: Study) -> list[Run]:
    """The study's runs, in its order: models, methods, their settings, budgets, seeds. Two equal ones are one.

    Raises:
        UserError: a method, an option or a scope does not exist, or there are too many runs.
    """
    runs: dict[str, Run] = {}
    settings = {place: list(_settings(trial, study)) for place, trial in enumerate(study.methods)}
    for (name, checkpoint), (place, trial) in itertools.product(study.models.items(), enumerate(study.methods)):
        for setting, budget, seed in itertools.product(settings[place], trial.budgets or study.budgets, study.seeds):
            run = Run(name, checkpoint, trial.method, budget=budget, seed=seed, precision=study.precision, **setting)
            runs[json.dumps(asdict(run), sort_keys=True)] = run
            if len(runs) > MOST_RUNS:
                raise UserError(f"the study has more than {MOST_RUNS:,} runs; split it")
    return list(runs.values())


def _settings(trial: Trial, study: Study) -> Iterator[dict[str, Any]]:
    """All combinations of a trial's settings, each checked as far as it can be without data or a model."""
    given = {key: value for key in GRID if (value := getattr(trial, key)) is not None}
    start = recipe(study.preset, trial.method)
    axes = {**{key: [start[key]] for key in GRID}, **given}
    options = {**{key: [value] for key, value in start["options"].items()}, **trial.options}
    every = [*axes.values(), *options.values()]
    budgets = trial.budgets or study.budgets
    if math.prod(map(len, (*every, budgets, study.seeds))) > MOST_RUNS:
        raise UserError(f"the study has more than {MOST_RUNS:,} runs; split it")
    entry = methods[trial.method]
    for values in itertools.product(*every):
        chosen = dict(zip((*axes, *options), values, strict=True))
        found = {key: chosen.pop(key) for key in axes}
        built = entry.build(entry.parse({key: str(value) for key, value in chosen.items()}))
        Scope.parse(found["scope"]).require_fit(trial.method, built)
        check_rates(found["learning_rate"], found["warmup_share"], found["weight_decay"])
        for budget in budgets:
            check_budget(budget, found["batch_size"])
        yield {**found, "options": chosen}
