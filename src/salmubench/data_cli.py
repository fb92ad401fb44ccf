"""The verbs of ``salmubench data``: make, prove, show and publish a data set folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from salmubench.errors import UserError, printable
from salmubench.flags import PresetName, Seed
from salmubench.progress import console as bars
from salmubench.progress import duration

if TYPE_CHECKING:
    from salmubench.personas.estimate import Estimate

CHECK_MARKS = {"passed": "[green]ok[/]", "failed": "[red]FAILED[/]", "skipped": "skipped"}

data_app = typer.Typer(help="Make, prove, show and publish a data set folder.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(help="A data set folder.")]


@data_app.command("build")
def data_build(
    out: Annotated[Path | None, typer.Option(help="The data set folder to write; a dry run needs none.")] = None,
    preset: PresetName = "mini",
    seed: Seed = 42,
    association_split: Annotated[
        str, typer.Option(help="Halve a person's associations by `pair` or by `field`.")
    ] = "pair",
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; by default one a core.")] = None,
    ray: Annotated[
        str | None, typer.Option(metavar="auto|ADDRESS", help="Draw on a Ray cluster instead; needs the extra `scale`.")
    ] = None,
    captions: Annotated[
        str | None, typer.Option(help="Who writes the sensitive captions: `grammar`, or `llm`, a language model.")
    ] = None,
    caption_model: Annotated[
        str | None, typer.Option(help="The language model: a folder, a hub id, or the endpoint's name for it.")
    ] = None,
    caption_endpoint: Annotated[
        str | None, typer.Option(help="An OpenAI-shaped API (.../v1) to ask instead; its key in OPENAI_API_KEY.")
    ] = None,
    anchors: Annotated[
        str, typer.Option(metavar="procedural|folder:PATH", help="Faces that are drawn, or a folder of photographs.")
    ] = "procedural",
    portraits: Annotated[
        str, typer.Option(metavar="procedural|ip-adapter", help="Who makes the pictures of a face.")
    ] = "procedural",
    curation: Annotated[bool, typer.Option("--curation", help="Make more pictures and keep those that pass.")] = False,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="E.g. portraits.steps=20, curation.keep=0.7 or captions.retries=4; repeatable.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print counts, disk and time; write nothing.")] = False,
) -> None:
    """Make fictitious people, their pictures and captions, and general knowledge, in the official layout."""
    from salmubench.dataset.manifest import read_manifest
    from salmubench.options import split_settings
    from salmubench.personas.build import build
    from salmubench.personas.casting import Sources
    from salmubench.personas.estimate import estimate

    for flag, given in (("--caption-model", caption_model), ("--caption-endpoint", caption_endpoint)):
        if given is not None and captions not in (None, "llm"):
            raise UserError(f"{flag}: belongs to --captions llm, not to {captions}; drop one of the two")
    settings = split_settings(option)
    wording = {key: settings.pop(key) for key in list(settings) if key.startswith("captions.")}
    asked = {"captions.model": caption_model, "captions.endpoint": caption_endpoint}
    wording |= {key: value for key, value in asked.items() if value is not None}
    world: dict[str, Any] = {
        "seed": seed,
        "association_split": association_split,
        "workers": workers,
        "ray": ray,
        "captions": captions or ("llm" if caption_model or caption_endpoint else None),
        "caption_options": {key.removeprefix("captions."): value for key, value in wording.items()},
        "sources": Sources(anchors, portraits, curation, settings),
        "progress": bars,
    }
    if dry_run:
        _show_estimate(estimate(preset, **world))
        return
    if out is None:
        raise UserError("--out is missing: name the data set folder to write")
    if read_manifest(out) is None:
        typer.echo(_in_all(estimate(preset, **world)), err=True)
    build(preset, out, **world)
    _show_built(out, captions_asked=world["captions"] is not None)


def _in_all(found: Estimate) -> str:
    """An estimate in one line."""
    size = "disk unknown" if found.bytes is None else decimal(found.bytes)
    more = f"; unknown: {', '.join(found.unknown)}" if found.unknown else ""
    return f"In all {found.pictures:,} pictures, {size}, about {duration(found.seconds)}{more}"


def _rate(rate: float) -> str:
    return f"{rate:,.0f}/s" if rate >= 2 else f"{1 / rate:,.1f} s each"


def _show_estimate(found: Estimate) -> None:
    counts = Table("set", "rows", box=None)
    for name, count in found.counts.items():
        counts.add_row(name, f"{count:,}")
    stages = Table("stage", "work", "rate", "time", "", box=None)
    for stage in found.stages:
        known = (
            ("unknown", "?") if stage.seconds is None else (_rate(stage.work / stage.seconds), duration(stage.seconds))
        )
        stages.add_row(stage.name, f"{stage.work:,} {stage.unit}", *known, escape(stage.note))
    for table in (counts, stages):
        Console().print(table, "")
    typer.echo(_in_all(found))


def _show_built(out: Path, *, captions_asked: bool) -> None:
    from salmubench.dataset.manifest import read_manifest

    made = read_manifest(out)
    facts = made.facts if made else {}
    for reason, names in facts.get("anchors", {}).get("skipped", {}).items():
        some = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
        typer.echo(f"Photographs that {reason} were passed over: {len(names):,} ({some})")
    written = facts.get("captions", {})
    if set(written) - {"grammar"} or captions_asked:
        typer.echo("The captions: " + ", ".join(f"{count:,} by {source}" for source, count in sorted(written.items())))
    typer.echo(f"The data set: {out}")


@data_app.command("check")
def data_check(
    data: Annotated[Path, typer.Argument(help="A data set folder or an evaluation folder.")],
    statistics: Annotated[
        Path | None, typer.Option(help="Also write the statistics here: statistics.json and index.html.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="The checkpoint whose similarities the statistics compare, or that looks at retain pictures."
        ),
    ] = None,
    real_portraits: Annotated[
        Path | None, typer.Option(help="A folder of real portraits, to compare the set's pictures with.")
    ] = None,
    retain: Annotated[
        bool,
        typer.Option(
            "--retain", help="Check instead that no retain pair is near a sensitive person: pictures, names and values."
        ),
    ] = False,
    retain_shards: Annotated[
        list[str] | None,
        typer.Option(metavar="URL...", help="Check these shards, named as in `train --retain`, not the folder's own."),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write each offending pair here, a line of JSON each.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the other pairs here, as shards to `train --retain`.")] = None,
) -> None:
    """Prove a folder: counts, disjointness, no holdout in what a method may see, captions, pictures, side files."""
    from salmubench.dataset.check import check
    from salmubench.reports.statistics import prepare_statistics, write_statistics

    if retain:
        _refuse(
            "belongs to the check without --retain", {"--statistics": statistics, "--real-portraits": real_portraits}
        )
        _check_retain(data, retain_shards or (), report, out, model)
        return
    _refuse("belongs to --retain", {"--retain-shards": retain_shards, "--report": report, "--out": out})
    if statistics is None:
        _refuse("belongs to --statistics or --retain", {"--model": model})
        _refuse("belongs to --statistics", {"--real-portraits": real_portraits})
    else:
        prepare_statistics(statistics, model=model, real_portraits=real_portraits)
    checked = check(data, progress=bars)
    table = Table("", "check", "finding, or what was found to hold", box=None)
    for entry in checked.entries:
        table.add_row(CHECK_MARKS[entry.state], entry.name, escape(entry.finding or entry.promise))
    Console().print(table)
    if statistics is not None:
        page = write_statistics(data, statistics, model=model, real_portraits=real_portraits, progress=bars)
        typer.echo(f"The statistics: {page}")
    if not checked.passed:
        raise typer.Exit(1)


def _refuse(reason: str, flags: Mapping[str, Any]) -> None:
    """Says of the first flag that is given why it has no effect here."""
    for flag, given in flags.items():
        if given:
            raise UserError(f"{flag}: {reason}; run that, or drop {flag}")


def _check_retain(data: Path, shards: Sequence[str], report: Path | None, out: Path | None, model: str | None) -> None:
    from salmubench.dataset.retain_check import Embed, check_retain

    embed: Embed | None = None
    if model is not None:
        from salmubench.encoders.checkpoint import load_encoder

        encoder = load_encoder(model)

        def embed(pictures):  # type: ignore[no-untyped-def]
            return encoder.encode_pictures(pictures, len(pictures))

    found = check_retain(data, shards=shards, report=report, out=out, embed=embed, progress=bars)
    for offence in found.first:
        typer.echo(printable(f"{offence.shard}, {offence.key}: {offence.reason}"))
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in found.kinds.items())
    typer.echo(f"{found.offenders:,} of {found.pairs:,} retain pairs offend{f' ({kinds})' if kinds else ''}")
    if out is not None:
        typer.echo(f"The other {found.kept:,} pairs: {out}")
    elif not found.passed:
        raise typer.Exit(1)


@data_app.command("card")
def data_card(
    data: Folder,
    figures: Annotated[
        Path | None, typer.Option(help="Also draw the pipeline, a persona, the splits and contact sheets here.")
    ] = None,
    show_values: Annotated[bool, typer.Option(help="Show the sensitive values instead of masking them.")] = False,
) -> None:
    """Write the cards and the Croissant file of a data set folder again, and draw its figures."""
    from salmubench.dataset.card import write_cards
    from salmubench.reports.sheets import draw_cards

    write_cards(data)
    typer.echo(f"The cards: {data / 'salmubench' / 'README.md'}, {data / 'salmu' / 'README.md'}")
    if figures is not None:
        for path in draw_cards(data, figures, show_values=show_values):
            typer.echo(f"Drawn: {path}")


@data_app.command("export")
def data_export(
    data: Folder,
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    form: Annotated[str, typer.Option("--format", help="`webdataset` (tars) or `folder` (pictures).")] = "webdataset",
) -> None:
    """Write the splits as webdataset shards, or as pictures with a metadata.jsonl a split."""
    from salmubench.dataset.export import export

    typer.echo(f"Exported: {export(data, out, form=form, progress=bars)}")


@data_app.command("push")
def data_push(
    data: Folder,
    repository: Annotated[
        str, typer.Argument(help="OWNER/NAME on the hub; the training set goes to OWNER/NAME-train.")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Upload; without it only what would go where is printed.")] = False,
    private: Annotated[bool, typer.Option("--private", help="Make the repositories private.")] = False,
) -> None:
    """Publish a data set folder on the Hugging Face hub; by default it only says what would go where."""
    from salmubench.dataset.export import push

    for line in push(data, repository, yes=yes, private=private):
        typer.echo(line)
    if not yes:
        typer.echo("Nothing was uploaded; add --yes to do it.")


@data_app.command("fragile")
def data_fragile(
    data: Folder,
    model: Annotated[str, typer.Option(help="The Compromised checkpoint that scores the pairs.")],
) -> None:
    """Choose the fragile set: the 5 % of retain_disjoint that Compromised aligns worst."""
    from salmubench.dataset.splits import write_fragile
    from salmubench.evaluation.protocol import score_fragile

    chosen = write_fragile(data, score_fragile(model, data, progress=bars))
    typer.echo(f"The fragile set: {len(chosen)} pictures")
