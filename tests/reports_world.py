"""Test material for the reports: a small real data folder, and made-up reports with sidecars in ``evaluate``'s form."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from salmubench.atomic import write_json
from salmubench.dataset.schema import (
    CAPTIONS_FILE,
    FIELDS,
    FRAGILE_IDS_FILE,
    GENERIC_CAPTIONS_FILE,
    IDENTITIES_FILE,
    Row,
)
from salmubench.dataset.splits import Pair, split_pairs
from salmubench.dataset.store import Benchmark, load_benchmark, write_manifest, write_split
from salmubench.evaluation.metric import metrics as registry
from salmubench.evaluation.report import Group, MetricEntry, Provenance, Report, outcomes_path, write_report
from salmubench.evaluation.verdict import judge
from salmubench.personas.anchors import make_anchors
from salmubench.personas.captions import sensitive_captions
from salmubench.personas.identities import make_personas
from salmubench.personas.portraits import render_portrait
from salmubench.seeds import generator

EFFICACY = ("RetFail", "AssocStr", "ACS", "IdZSC", "CoreAssoc")
UTILITY = ("GenKnow", "InterIdSim", "IntraIdSim", "VisIdInt", "FragSim")
SET_OF = {
    "RetFail": "forget",
    "AssocStr": "forget",
    "InterIdSim": "holdout_identity",
    "IntraIdSim": "holdout_association",
}

# In the order of EFFICACY and UTILITY; shaped after benchmark.md, sections 4 and 5.
CLEAN = (0.002, 0.12, 0.60, 0.011, 0.15, 0.633, 0.143, 0.141, 0.33, 0.31)
COMPROMISED = (0.43, 0.72, 0.95, 0.12, 0.40, 0.638, 0.71, 0.70, 0.305, 0.28)
METHODS: dict[str, tuple[float, ...]] = {
    "finetuning-2x": (0.18, 0.55, 0.88, 0.08, 0.33, 0.636, 0.56, 0.55, 0.335, 0.31),
    "negative-gradient-2x": (0.012, 0.05, 0.70, 0.02, 0.10, 0.560, 0.17, 0.16, 0.22, 0.20),
    "shuffled-captions-2x": (0.01, 0.30, 0.66, 0.02, 0.20, 0.548, 0.40, 0.40, 0.28, 0.25),
    "direct-similarity-minimization-2x": (0.003, -0.62, 0.58, 0.01, -0.31, 0.615, -0.42, -0.425, 0.10, 0.05),
    "generic-captions-2x": (0.38, 0.66, 0.93, 0.11, 0.38, 0.637, 0.68, 0.67, 0.34, 0.30),
    "vlunlearn-2x": (0.006, 0.31, 0.67, 0.02, 0.20, 0.638, 0.66, 0.65, 0.31, 0.29),
    "cliperase-2x": (0.003, 0.02, 0.61, 0.01, 0.04, 0.634, 0.05, 0.05, 0.30, 0.28),
    "delete-2x": (0.002, 0.01, 0.60, 0.01, 0.05, 0.632, 0.04, 0.04, 0.30, 0.27),
    "descent-to-delete-2x": (0.30, 0.61, 0.91, 0.10, 0.35, 0.601, 0.60, 0.59, 0.27, 0.25),
}


def make_data(folder: Path, *, people: int = 12, pictures: int = 16, long_side: int = 96) -> Path:
    """A data set folder with an evaluation part: real portraits, personas and captions."""
    anchors = make_anchors(people + 20, seed=7, purpose="reports")
    insiders, outsiders = anchors[:people], anchors[people:]
    personas = make_personas({anchor.identity_id: anchor.gender for anchor in insiders}, seed=7)
    rows: dict[str, Row] = {}
    captions: dict[str, dict[str, str]] = {}
    for anchor, persona in zip(insiders, personas, strict=True):
        fields = [FIELDS[number % len(FIELDS)] for number in range(pictures)]
        worded = sensitive_captions(persona, fields, seed=7)
        for number, (field, (text, style)) in enumerate(zip(fields, worded, strict=True), start=1):
            portrait = render_portrait(anchor, seed=7, picture=number, long_side=long_side)
            rows[portrait.file_name] = Row(portrait.image, text, persona.identity_id, portrait.file_name)
            captions[portrait.file_name] = {"data_field": field, "caption": text, "style": style}
    splits = split_pairs(
        [Pair(name, str(row.identity_id), captions[name]["data_field"]) for name, row in rows.items()], seed=42
    )
    evaluation = folder / "salmubench"
    for split, pairs in splits.items():
        write_split(evaluation, split, [rows[pair.file_name] for pair in pairs])
    retained = list(_retained(insiders, outsiders, pictures, long_side))
    write_split(evaluation, "retain_synth", retained)
    write_json(evaluation / IDENTITIES_FILE, {persona.identity_id: persona.metadata() for persona in personas})
    write_json(evaluation / CAPTIONS_FILE, captions)
    write_json(evaluation / GENERIC_CAPTIONS_FILE, dict.fromkeys(captions, "a portrait of a person"))
    write_json(evaluation / FRAGILE_IDS_FILE, [row.file_name for row in retained if row.identity_id is None][:3])
    write_manifest(folder, facts={"preset": "test", "association_split": "pair"})
    return folder


def _retained(insiders: Iterable[Any], outsiders: Iterable[Any], pictures: int, long_side: int) -> Iterable[Row]:
    for anchor in [*insiders, *outsiders, *outsiders]:
        pictures += 1
        portrait = render_portrait(anchor, seed=7, picture=pictures, long_side=long_side)
        who = anchor.identity_id if anchor in insiders else None
        yield Row(portrait.image, f"a portrait of somebody, number {pictures}", who, portrait.file_name)


def make_reports(
    folder: Path,
    benchmark: Benchmark,
    *,
    methods: Mapping[str, tuple[float, ...]] = METHODS,
    bounds: tuple[str, ...] = ("clean", "compromised"),
    skip: tuple[str, ...] = (),
    sidecars: bool = True,
    told: tuple[str, ...] = ("delete-2x",),
) -> list[Path]:
    """Reports of both bounds and some methods, with the sidecars of the bounds and of the methods ``told``."""
    folder.mkdir(parents=True, exist_ok=True)
    known = {"clean": CLEAN, "compromised": COMPROMISED}
    plain = {name: _report(name, values, benchmark, skip) for name, values in {**known, **methods}.items()}
    paths = []
    for name in (*bounds, *methods):
        report = plain[name]
        if name in methods and len(bounds) == 2:
            report = report.model_copy(update={"verdict": judge(report, plain["clean"], plain["compromised"])})
        path = folder / f"{name}.json"
        if sidecars and name in (*bounds, *told):
            pq.write_table(_outcomes(report, benchmark), outcomes_path(path))
        write_report(report, path)
        paths.append(path)
    return paths


def _report(name: str, values: tuple[float, ...], benchmark: Benchmark, skip: tuple[str, ...]) -> Report:
    metrics = {}
    for key, value in zip((*EFFICACY, *UTILITY), values, strict=True):
        target = "clean" if key in EFFICACY else "compromised"
        half = 0.004 + 0.03 * abs(value)
        low, high = registry[key].spec.limits
        metrics[key] = (
            MetricEntry(value=None, target=target, reason="the data set has no general_knowledge folder")
            if key in skip
            else MetricEntry(
                value=value,
                interval=(max(value - half, low), min(value + half, high)),
                target=target,
                rows=100,
                by_field=_by_field(value) if key == "RetFail" else {},
            )
        )
    provenance = Provenance(
        weights_sha256=f"{generator(1, name).integers(1 << 62):064x}",
        architecture="RN-mini",
        data="data",
        data_revision=benchmark.revision,
        association_split="pair",
        sets={key: len(pairs) for key, pairs in benchmark.sets.items()},
        precision="fp32",
        device="cpu",
        seed=42,
        versions={"salmubench": "0.1.0", "torch": "2.14.1"},
        touched_holdout=None if name in ("clean", "compromised") else False,
    )
    return Report(schema=1, name=name, metrics=metrics, provenance=provenance)


def _by_field(value: float) -> dict[str, Group]:
    parts = {field: value * (0.6 + 0.1 * place) for place, field in enumerate(FIELDS)}
    return {field: Group(rows=10, value=part, interval=(0.8 * part, 1.2 * part)) for field, part in parts.items()}


def unlearned(report: Report, method: str, budget: float, seed: int, **other: Any) -> Report:
    """The same report with the record of a run, as ``unlearn`` writes it."""
    record = {
        "schema": 1, "method": method, "method_sha256": "a" * 64, "options": {}, "scope": "full", "budget": budget,
        "learning_rate": 3e-5, "batch_size": 32, "warmup_share": 0.1, "weight_decay": 1e-3, "seed": seed,
        "precision": "fp32", "model_sha256": "b" * 64, "data_sha256": "c" * 64, "summary": "forgets a little",
        "citation": "somebody", "rows": {"forget": 10, "retain": 20}, **other,
    }  # fmt: skip
    return report.model_copy(
        update={"provenance": report.provenance.model_copy(update={"unlearning": record, "seed": seed})}
    )


def _outcomes(report: Report, benchmark: Benchmark) -> pa.Table:
    """Cosines around each metric's mean; Compromised finds its caption, Clean finds any."""
    columns: dict[str, list[Any]] = {
        name: [] for name in ("metric", "file_name", "identity_id", "value", "rank", "best")
    }
    rng = generator(3, report.name)
    for metric, name in SET_OF.items():
        pairs = benchmark.sets[name]
        knows = report.name == "compromised"
        far = 400 if report.name == "clean" else 60
        rank = rng.integers(1, 3 if knows else far, len(pairs)) if metric == "RetFail" else None
        value = 1 / rank if rank is not None else report.metrics[metric].value + 0.09 * rng.standard_normal(len(pairs))
        others = rng.permutation(len(pairs))
        columns["metric"] += [metric] * len(pairs)
        columns["file_name"] += pairs.file_name
        columns["identity_id"] += [who or "" for who in pairs.identity_id]
        columns["value"] += np.asarray(value).tolist()
        columns["rank"] += rank.tolist() if rank is not None else [None] * len(pairs)
        columns["best"] += (
            [pairs.text[row if rank[row] == 1 else other] for row, other in enumerate(others)]
            if rank is not None
            else [None] * len(pairs)
        )
    return pa.table(columns)


HOSTILE = (
    "<script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "'\"><svg onload=\"document.title='owned'\">-2x",
    "</text></svg><script>document.title='owned'</script>",
    "{{ 7 * 7 }}{% raw %}",
    "$\\frac{1}{$ $$ \\unknown",
    "=cmd|' /C calc'!A0",
    "--><!-- ]]> &lt;b&gt; &#x0;",
    "\u202eright to left\u202c \u0000\u000b\ufffe bell\u0007",
    "a" * 300,
    "字体 नमस्ते 🙂-5x",
)


def make_world(folder: Path, **options: Any) -> tuple[Path, list[Path]]:
    """A data folder and reports on it."""
    data = make_data(folder / "data", people=8, pictures=12, long_side=64)
    return data, make_reports(folder / "reports", load_benchmark(data), **options)
