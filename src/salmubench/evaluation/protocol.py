"""The one way to measure a checkpoint: collect what all metrics ask for, encode each input once, compute, report."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from salmubench.atomic import replacing
from salmubench.dataset.store import Benchmark, load_benchmark
from salmubench.encoders.checkpoint import load_encoder
from salmubench.encoders.embeddings import Embeddings, embed
from salmubench.encoders.encoder import Encoder
from salmubench.errors import UserError
from salmubench.evaluation.bootstrap import interval
from salmubench.evaluation.metric import MetricResult, MetricSpec, Pictures, Skip, Texts, describe, metrics
from salmubench.evaluation.official import write_official
from salmubench.evaluation.provenance import provenance, run_facts
from salmubench.evaluation.report import MetricEntry, Report, outcomes_path, read_report, write_report
from salmubench.evaluation.sampling import sample
from salmubench.evaluation.similarity import row_cosines
from salmubench.evaluation.verdict import judge, require_same_data
from salmubench.progress import Progress, silent
from salmubench.seeds import generator

OUTCOMES_SCHEMA = pa.schema(
    [
        ("metric", pa.string()),
        ("file_name", pa.string()),
        ("identity_id", pa.string()),
        ("value", pa.float64()),
        ("rank", pa.int64()),
        ("best", pa.string()),
    ]
)


def evaluate(
    checkpoint: str | Path,
    data: str | Path,
    *,
    name: str | None = None,
    arch: str | None = None,
    general_knowledge: str | Path | None = None,
    clean: str | Path | Report | None = None,
    compromised: str | Path | Report | None = None,
    out: str | Path | None = None,
    official: str | Path | None = None,
    limit: int | None = None,
    batch_size: int = 256,
    device: str | None = None,
    precision: str = "fp32",
    seed: int = 42,
    progress: Progress = silent,
) -> Report:
    """Measures all registered metrics on a checkpoint.

    Args:
        checkpoint: an open_clip folder, a weights file (with ``arch``) or ``hf-hub:OWNER/NAME``.
        data: a data set folder, an evaluation folder or ``hf://OWNER/NAME@REVISION``.
        name: what the report calls the checkpoint; its folder or file name by default.
        arch: open_clip's name of the architecture, for a weights file.
        general_knowledge: a clip_benchmark webdataset folder for GenKnow, in place of the data set's own.
        clean: the report of Clean, or its path.
        compromised: that of Compromised; with both the report holds a verdict.
        out: where to write ``report.json``; the per-row outcomes go beside it.
        official: where to write the official evaluator's JSON.
        limit: keep at most so many rows of each set, for a quick look.
        batch_size: inputs a forward pass; changes no number beyond rounding.
        device: ``cpu``, ``cuda``, ...; a GPU if there is one by default.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        seed: of the ``limit`` sample and the intervals. What a metric draws is fixed by its definition.
        progress: shows the encoding.

    Raises:
        UserError: a wrong argument, or data, checkpoint or bounds that cannot be read or do not belong together.
        RunError: the model's embeddings are not finite.
    """
    started = time.perf_counter()
    bounds = _read_bounds(clean, compromised)
    encoder = load_encoder(checkpoint, arch=arch, device=device, precision=precision)
    whole = load_benchmark(data, general_knowledge=general_knowledge)
    measured = whole if limit is None else sample(whole, limit, seed=seed)
    origin = provenance(encoder, checkpoint, data, whole, measured, limit=limit, seed=seed)
    for bound in bounds:
        require_same_data(origin, bound)

    results = _measure(encoder, measured, batch_size, progress)
    entries = {spec.key: _entry(spec, results[spec.key], seed) for spec in describe()}
    report = Report(schema=1, name=name or encoder.name, metrics=entries, provenance=origin)
    verdict = judge(report, *bounds) if bounds else None
    origin = origin.model_copy(update={"run": run_facts(started)})
    report = report.model_copy(update={"verdict": verdict, "provenance": origin})
    _write(report, results, out, official)
    return report


def score_fragile(
    checkpoint: str | Path,
    data: str | Path,
    *,
    arch: str | None = None,
    batch_size: int = 256,
    device: str | None = None,
    precision: str = "fp32",
    progress: Progress = silent,
) -> dict[str, float]:
    """Cosine of each retain_disjoint pair by file name, for ``dataset.splits.write_fragile``; score with Compromised.

    Raises:
        UserError: checkpoint or data cannot be read.
    """
    encoder = load_encoder(checkpoint, arch=arch, device=device, precision=precision)
    benchmark = load_benchmark(data)
    pairs = benchmark.sets["retain_disjoint"]
    embeddings = embed(encoder, benchmark, pairs.picture, pairs.text, batch_size=batch_size, progress=progress)
    cosines = row_cosines(embeddings.of_pictures(pairs.picture), embeddings.of_texts(pairs.text))
    return dict(zip(pairs.file_name, cosines.tolist(), strict=True))


def _measure(
    encoder: Encoder, benchmark: Benchmark, batch_size: int, progress: Progress
) -> dict[str, MetricResult | Skip]:
    """All metrics by key, in the order of tables."""
    wanted = {spec.key: metrics[spec.key].inputs(benchmark) for spec in describe()}
    arguments = [value for inputs in wanted.values() if not isinstance(inputs, Skip) for value in inputs.values()]
    pictures = [value.index for value in arguments if isinstance(value, Pictures)]
    index = np.concatenate(pictures) if pictures else np.empty(0, np.int64)
    texts = (text for value in arguments if isinstance(value, Texts) for text in value.text)
    embeddings = embed(encoder, benchmark, index, texts, batch_size=batch_size, progress=progress)
    return {
        key: inputs if isinstance(inputs, Skip) else metrics[key](**_fill(inputs, embeddings))
        for key, inputs in wanted.items()
    }


def _read_bounds(
    clean: str | Path | Report | None, compromised: str | Path | Report | None
) -> tuple[()] | tuple[Report, Report]:
    if clean is None and compromised is None:
        return ()
    if clean is None or compromised is None:
        missing = "--clean" if clean is None else "--compromised"
        raise UserError(f"{missing} is missing: a verdict needs the reports of both Clean and Compromised")
    return (
        clean if isinstance(clean, Report) else read_report(Path(clean)),
        compromised if isinstance(compromised, Report) else read_report(Path(compromised)),
    )


def _fill(inputs: Mapping[str, Any], embeddings: Embeddings) -> dict[str, Any]:
    """The metric's arguments, with embeddings in place of what ``Pictures`` and ``Texts`` name."""
    filled: dict[str, Any] = {}
    for name, value in inputs.items():
        if isinstance(value, Pictures):
            filled[name] = embeddings.of_pictures(value.index)
        elif isinstance(value, Texts):
            filled[name] = embeddings.of_texts(value.text)
        else:
            filled[name] = value
    return filled


def _entry(spec: MetricSpec, result: MetricResult | Skip, seed: int) -> MetricEntry:
    if isinstance(result, Skip):
        return MetricEntry(value=None, version=spec.version, target=spec.target, reason=result.reason)
    return MetricEntry(
        value=result.value,
        interval=interval(result.outcomes, result.identity_id, generator(seed, "bootstrap", spec.key)),
        version=spec.version,
        target=spec.target,
        rows=len(result.outcomes),
        **result.extra,
    )


def _write(
    report: Report,
    results: Mapping[str, MetricResult | Skip],
    out: str | Path | None,
    official: str | Path | None,
) -> None:
    measured = {key: result for key, result in results.items() if isinstance(result, MetricResult)}
    if out is not None:
        with replacing(outcomes_path(Path(out))) as temporary:
            tables = [_outcomes(key, result) for key, result in measured.items()]
            pq.write_table(pa.concat_tables([OUTCOMES_SCHEMA.empty_table(), *tables]), temporary, compression="zstd")
    if official is not None:
        ranks = measured["RetFail"].outcomes.tolist() if "RetFail" in measured else []
        write_official(report, official, reciprocal_ranks=ranks)
    if out is not None:
        write_report(report, Path(out))


def _outcomes(key: str, result: MetricResult) -> pa.Table:
    rows = len(result.outcomes)
    columns = {
        "metric": [key] * rows,
        "file_name": [""] * rows if result.file_name is None else result.file_name.tolist(),
        "identity_id": [""] * rows if result.identity_id is None else result.identity_id.tolist(),
        "value": result.outcomes,
        "rank": result.columns.get("rank", pa.nulls(rows)),
        "best": result.columns.get("best", pa.nulls(rows)),
    }
    return pa.table(columns, schema=OUTCOMES_SCHEMA)
