"""The one way to measure a checkpoint: collect what all metrics ask for, encode each input once, compute, report."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from salmubench.atomic import require_writable
from salmubench.dataset.schema import CaptionInfo
from salmubench.dataset.store import Benchmark, load_benchmark
from salmubench.encoders.cache import DEFAULT_GIGABYTES, EmbeddingCache
from salmubench.encoders.checkpoint import load_encoder
from salmubench.encoders.embeddings import Embeddings, embed
from salmubench.encoders.encoder import BatchSize, decoders, require_batch_size
from salmubench.errors import UserError
from salmubench.evaluation.breakdown import entry
from salmubench.evaluation.broken import find_broken, without
from salmubench.evaluation.metric import MetricResult, Pictures, Skip, Texts, configure, describe, metrics
from salmubench.evaluation.official import write_official
from salmubench.evaluation.outcomes import write_outcomes
from salmubench.evaluation.provenance import provenance, run_facts
from salmubench.evaluation.report import Report, outcomes_path, read_report, write_report
from salmubench.evaluation.sampling import sample
from salmubench.evaluation.similarity import row_cosines
from salmubench.evaluation.verdict import judge, require_same_data, require_same_options
from salmubench.options import changed
from salmubench.progress import Progress, silent

Places = tuple[Path | None, Path | None]
"""Where a report and the official evaluator's JSON go."""
Wanted = Mapping[str, Mapping[str, Any] | Skip]
"""What each metric, by key in the order of tables, asks of a benchmark."""


class Settings(TypedDict, total=False):
    """How to measure: keywords of both ``evaluate`` and ``evaluate_all``.

    Attributes:
        arch: open_clip's name of the architecture, for a weights file.
        general_knowledge: a clip_benchmark webdataset folder for GenKnow, in place of the data set's own.
        clean: the report of Clean, or its path.
        compromised: that of Compromised; with both a report holds a verdict.
        limit: keep at most so many rows of each set, for a quick look.
        options: of the metrics, where the paper leaves something open, e.g. ``{"ACS.feature": "product"}``.
        skip_broken: leave out pictures that do not decode and name them in the report; else the first is an error.
            Each picture is decoded once more for it.
        batch_size: inputs a forward pass, or ``auto`` (default), which halves it where memory runs out; changes no
            number beyond rounding.
        workers: threads that decode pictures; by default one a core. Changes no number.
        cache: keep embeddings for later runs and take them from earlier ones (default). Changes no number.
        cache_size: gigabytes that all kept embeddings may take.
        device: ``cpu``, ``cuda``, ...; a GPU if there is one by default.
        precision: ``fp32`` (default), ``bf16`` or ``fp16-autocast``.
        seed: of the ``limit`` sample and the intervals. What a metric draws is fixed by its definition.
        progress: shows the encoding.
    """

    arch: str | None
    general_knowledge: str | Path | None
    clean: str | Path | Report | None
    compromised: str | Path | Report | None
    limit: int | None
    options: Mapping[str, Any] | None
    skip_broken: bool
    batch_size: BatchSize
    workers: int | None
    cache: bool
    cache_size: float
    device: str | None
    precision: str
    seed: int
    progress: Progress


def evaluate(
    checkpoint: str | Path,
    data: str | Path,
    *,
    name: str | None = None,
    out: str | Path | None = None,
    official: str | Path | None = None,
    **settings: Unpack[Settings],
) -> Report:
    """Measures all registered metrics on a checkpoint.

    Args:
        checkpoint: an open_clip folder, a weights file (with ``arch``) or ``hf-hub:OWNER/NAME``.
        data: a data set folder, an evaluation folder or ``hf://OWNER/NAME@REVISION``.
        name: what the report calls the checkpoint; its folder or file name by default.
        out: where to write ``report.json``; the per-row outcomes go beside it.
        official: where to write the official evaluator's JSON.
        settings: see ``Settings``.

    Raises:
        UserError: a wrong argument, or data, checkpoint or bounds that cannot be read or do not belong together.
        RunError: the model's embeddings are not finite.
    """
    names = None if name is None else [name]
    places = (None if out is None else Path(out), None if official is None else Path(official))
    return _evaluate([checkpoint], data, names, lambda _: places, **settings)[0]


def evaluate_all(
    checkpoints: Sequence[str | Path],
    data: str | Path,
    *,
    names: Sequence[str] | None = None,
    out: str | Path | None = None,
    official: str | Path | None = None,
    **settings: Unpack[Settings],
) -> list[Report]:
    """Measures several checkpoints, all held in memory together; each picture is read and decoded once for all.

    Each report is the one that ``evaluate`` gives of the checkpoint alone.

    Args:
        checkpoints: as for ``evaluate``.
        data: as for ``evaluate``.
        names: what the reports call them, one each, all different; by default their folder or file names.
        out: a folder that gets ``<name>.json`` of each; a slash in a name becomes a hyphen.
        official: a folder that gets ``evaluation_<name>.json`` of each.
        settings: see ``Settings``.

    Raises:
        UserError: as for ``evaluate``; or two checkpoints have one name.
        RunError: a model's embeddings are not finite.
    """
    if not checkpoints:
        raise UserError("there is no checkpoint to evaluate; name one or more")
    if names is not None and len(names) != len(checkpoints):
        raise UserError(f"--name: {len(names)} for {len(checkpoints)} checkpoints; give one each, in their order")
    folders = [None if folder is None else Path(folder) for folder in (out, official)]
    for folder in folders:
        if folder is not None and folder.exists() and not folder.is_dir():
            raise UserError(f"{folder}: is a file, and the reports of several checkpoints need a folder; name another")

    def places(name: str) -> Places:
        report, theirs = folders
        file = name.replace("/", "-")
        return report and report / f"{file}.json", theirs and theirs / f"evaluation_{file}.json"

    return _evaluate(checkpoints, data, names, places, **settings)


def _evaluate(
    checkpoints: Sequence[str | Path],
    data: str | Path,
    names: Sequence[str] | None,
    places: Callable[[str], Places],
    *,
    arch: str | None = None,
    general_knowledge: str | Path | None = None,
    clean: str | Path | Report | None = None,
    compromised: str | Path | Report | None = None,
    limit: int | None = None,
    options: Mapping[str, Any] | None = None,
    skip_broken: bool = False,
    batch_size: BatchSize = "auto",
    workers: int | None = None,
    cache: bool = True,
    cache_size: float = DEFAULT_GIGABYTES,
    device: str | None = None,
    precision: str = "fp32",
    seed: int = 42,
    progress: Progress = silent,
) -> list[Report]:
    started = time.perf_counter()
    require_batch_size(batch_size)
    decoders(workers)
    chosen = configure(options)
    bounds = _read_bounds(clean, compromised)
    encoders = [load_encoder(path, arch=arch, device=device, precision=precision) for path in checkpoints]
    titles = _titles(checkpoints, names or [encoder.name for encoder in encoders])
    _require_places(places(title) for title in titles)
    whole = load_benchmark(data, general_knowledge=general_knowledge)
    measured = whole if limit is None else sample(whole, limit, seed=seed)
    wanted = _inputs(measured, chosen)
    skipped: list[str] = []
    if skip_broken:
        broken = find_broken(measured.pictures, pictures_wanted(wanted), workers=workers, progress=progress)
        skipped = [measured.pictures.describe(number) for number in broken]
        measured = without(measured, broken)
        wanted = _inputs(measured, chosen)
    origins = [
        provenance(encoder, path, data, whole, measured, limit=limit, seed=seed, skipped=skipped)
        for encoder, path in zip(encoders, checkpoints, strict=True)
    ]
    for bound in bounds:
        require_same_data(origins[0], bound)
        for key, options_of in chosen.items():
            require_same_options(key, changed(options_of), bound)

    embedded = embed(
        encoders,
        measured,
        pictures_wanted(wanted),
        texts_wanted(wanted),
        cache=EmbeddingCache(gigabytes=cache_size) if cache else None,
        batch_size=batch_size,
        workers=workers,
        progress=progress,
    )
    reports = []
    for title, origin, embeddings in zip(titles, origins, embedded, strict=True):
        results = measure(wanted, embeddings)
        entries = {key: entry(metrics[key].spec, results[key], chosen[key], measured.captions, seed) for key in results}
        report = Report(schema=1, name=title, metrics=entries, provenance=origin)
        facts = origin.run | run_facts(started) | dict(embeddings.facts) | {"models": len(encoders)}
        update = {
            "verdict": judge(report, *bounds) if bounds else None,
            "provenance": origin.model_copy(update={"run": facts}),
        }
        reports.append(report.model_copy(update=update))
        _write(reports[-1], results, measured.captions, *places(title))
    return reports


def _titles(checkpoints: Sequence[str | Path], names: Sequence[str]) -> Sequence[str]:
    """The names, where each would have a file of its own."""
    seen: dict[str, str | Path] = {}
    for path, name in zip(checkpoints, names, strict=True):
        if not name.strip():
            raise UserError(f"--name {name!r}: is empty; say what the report of {path} calls it")
        file = name.replace("/", "-")
        if file in seen:
            raise UserError(
                f"{seen[file]} and {path} are both called {name!r}, and their reports would be one file; give --name "
                "once for each checkpoint"
            )
        seen[file] = path
    return names


def _require_places(wanted: Iterable[Places]) -> None:
    """Each report, its sidecar and its official form can be written, each to a file of its own."""
    seen: set[Path] = set()
    for out, official in wanted:
        for place in (*((out, outcomes_path(out)) if out else ()), *((official,) if official else ())):
            require_writable(place)
            if place.resolve() in seen:
                raise UserError(
                    f"{place}: two files of this evaluation would have this name; choose another --out or --official"
                )
            seen.add(place.resolve())


def score_fragile(
    checkpoint: str | Path,
    data: str | Path,
    *,
    arch: str | None = None,
    batch_size: BatchSize = "auto",
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
    (embeddings,) = embed([encoder], benchmark, pairs.picture, pairs.text, batch_size=batch_size, progress=progress)
    cosines = row_cosines(embeddings.of_pictures(pairs.picture), embeddings.of_texts(pairs.text))
    return dict(zip(pairs.file_name, cosines.tolist(), strict=True))


def _inputs(benchmark: Benchmark, chosen: Mapping[str, Any]) -> Wanted:
    return {spec.key: metrics[spec.key].inputs(benchmark, chosen[spec.key]) for spec in describe()}


def _arguments(wanted: Wanted) -> Iterator[Any]:
    return (value for inputs in wanted.values() if not isinstance(inputs, Skip) for value in inputs.values())


def pictures_wanted(wanted: Wanted) -> NDArray[np.int64]:
    """Numbers of the pictures that metrics look at, ascending and distinct."""
    numbers = [value.index for value in _arguments(wanted) if isinstance(value, Pictures)]
    return np.unique(np.concatenate(numbers)) if numbers else np.empty(0, np.int64)


def texts_wanted(wanted: Wanted) -> Iterator[str]:
    """Texts that metrics look at, repeats among them."""
    return (text for value in _arguments(wanted) if isinstance(value, Texts) for text in value.text)


def measure(wanted: Wanted, embeddings: Embeddings) -> dict[str, MetricResult | Skip]:
    """All metrics by key, in the order of tables."""
    return {
        key: inputs if isinstance(inputs, Skip) else metrics[key](**fill(inputs, embeddings))
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


def fill(inputs: Mapping[str, Any], embeddings: Embeddings) -> dict[str, Any]:
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


def _write(
    report: Report,
    results: Mapping[str, MetricResult | Skip],
    captions: Mapping[str, CaptionInfo],
    out: str | Path | None,
    official: str | Path | None,
) -> None:
    measured = {key: result for key, result in results.items() if isinstance(result, MetricResult)}
    if out is not None:
        write_outcomes(Path(out), measured.items(), captions)
    if official is not None:
        ranks = measured["RetFail"].outcomes.tolist() if "RetFail" in measured else []
        write_official(report, official, reciprocal_ranks=ranks)
    if out is not None:
        write_report(report, Path(out))
