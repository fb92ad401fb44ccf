"""The verbs of ``salmubench leaderboard``: make an entry, measure it again, build the site."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from salmubench.errors import printable
from salmubench.flags import Arch
from salmubench.progress import console as bars

leaderboard_app = typer.Typer(
    help="Make a leaderboard entry, measure it again, and build the site of all.", no_args_is_help=True
)

EntryFile = Annotated[Path, typer.Argument(help="An entry, as `leaderboard submit` writes it.")]
Key = Annotated[
    Path | None, typer.Option(help="The maintainer's secret, any file of 16 bytes or more: stamps are sealed with it.")
]


@leaderboard_app.command()
def submit(
    report: Annotated[Path, typer.Argument(help="The run's report of the whole benchmark (`evaluate --out`).")],
    out: Annotated[Path, typer.Option(help="The entry to write (JSON).")],
    run: Annotated[
        Path | None, typer.Option(help="The run's folder or weights: proves that the report speaks of it.")
    ] = None,
    arch: Arch = None,
    kind: Annotated[str, typer.Option(help="method; or clean or compromised, a bound of the tables.")] = "method",
    method: Annotated[str | None, typer.Option(help="Its name; by default the run's method.")] = None,
    track: Annotated[
        str | None, typer.Option(help="standard (the run's record proves what it saw) or open (anything else).")
    ] = None,
    budget: Annotated[float | None, typer.Option(help="Passes over the forget set; by default the run's.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of a run without a record; repeatable."),
    ] = None,
    untuned: Annotated[bool, typer.Option("--untuned", help="A run without a record kept all defaults.")] = False,
    author: Annotated[list[str] | None, typer.Option(help="Who made it; repeatable.")] = None,
    paper: Annotated[str | None, typer.Option(help="An https:// address.")] = None,
    code: Annotated[str | None, typer.Option(help="An https:// address.")] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(help="Where others find the weights: hf-hub:OWNER/NAME, https://..., or a path beside the entry."),
    ] = None,
    link: Annotated[
        bool, typer.Option("--link", help="Name the report by its path beside the entry; else it is embedded.")
    ] = False,
) -> None:
    """Make and check an entry from a report; says all that is missing."""
    from salmubench.evaluation.report import read_report
    from salmubench.options import split_settings
    from salmubench.reports.leaderboard.submit import optional_gaps
    from salmubench.reports.leaderboard.submit import submit as make

    entry = make(
        report,
        out,
        run=run,
        arch=arch,
        kind=kind,
        method=method,
        track=track,
        budget=budget,
        settings=split_settings(option),
        untuned=untuned,
        authors=author or (),
        paper=paper,
        code=code,
        checkpoint=checkpoint,
        link=link,
    )
    for gap in optional_gaps(entry, read_report(report)):
        typer.echo(f"Note: {printable(gap)}.")
    typer.echo(f"The entry: {out}")


@leaderboard_app.command()
def verify(
    entry: EntryFile,
    data: Annotated[
        str, typer.Option(help="The data that the entry speaks of: a folder, or hf://owner/name@revision.")
    ],
    checkpoint: Annotated[
        str | None, typer.Option(help="The weights, where the entry's reference cannot be loaded as it stands.")
    ] = None,
    arch: Arch = None,
    general_knowledge: Annotated[Path | None, typer.Option(help="As for `evaluate`.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Measure a sample of so many rows a set; by default all.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws the sample.")] = 42,
    key: Key = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads that decode pictures.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...")] = None,
) -> None:
    """Measure an entry's checkpoint again and stamp the entry; exit code 1 where a number is not as reported."""
    from salmubench.reports.leaderboard.site import read_key
    from salmubench.reports.leaderboard.verify import verify as measure

    stamp = measure(
        entry,
        data,
        checkpoint=checkpoint,
        limit=limit,
        seed=seed,
        key=read_key(key),
        arch=arch,
        general_knowledge=general_knowledge,
        workers=workers,
        device=device,
        progress=bars,
    ).verified
    assert stamp is not None
    untold = [name for name, checked in stamp.numbers.items() if checked.agrees is None]
    if untold:
        typer.echo(f"Not compared, as a sample of {limit} rows is easier or too small: {', '.join(untold)}.")
    for line in stamp.differences:
        typer.echo(printable(line))
    if stamp.differences:
        typer.echo(f"Stamped as contested: {entry}")
        raise typer.Exit(1)
    compared = len(stamp.numbers) - len(untold)
    extent = "on all rows" if limit is None else f"on a sample of {limit} rows a set (seed {seed})"
    typer.echo(f"Verified {extent}, {compared} numbers agree: {entry}")


@leaderboard_app.command()
def build(
    entries: Annotated[Path, typer.Argument(help="A folder of entries (*.json).")],
    out: Annotated[Path, typer.Option(help="The folder of the site.")],
    key: Key = None,
) -> None:
    """Make the static site: a table for each track, data and tuning; no network, opened from disk."""
    from salmubench.reports.leaderboard.site import build as make
    from salmubench.reports.leaderboard.site import read_key

    page, trusted = make(entries, out, key=read_key(key))
    if trusted:
        typer.echo(f"Note: {trusted} stamps are taken on trust; seal them with `verify --key` and build with --key.")
    typer.echo(f"The leaderboard: {page}")
