"""The command line: each verb is a thin call of a public Python function with the same argument names."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from salmubench import __version__
from salmubench.errors import RunError, UserError
from salmubench.presets import PRESETS
from salmubench.progress import console as bars

CHECK_MARKS = {"passed": "[green]ok[/]", "failed": "[red]FAILED[/]", "skipped": "skipped"}

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 and the signal's number."""

app = typer.Typer(
    help="Benchmark for association-level unlearning in CLIP-style encoders: make fictitious people, train a Clean and "
    "a Compromised model, unlearn, measure efficacy (towards Clean) and utility (staying at Compromised), and report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
data_app = typer.Typer(help="Make and prove a data set folder.", no_args_is_help=True)
app.add_typer(data_app, name="data")

PresetName = Annotated[str, typer.Option("--preset", help=f"The scale: {', '.join(PRESETS)}.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="The one seed; the same seed gives the same bytes.")]
Data = Annotated[Path, typer.Option("--data", help="A data set folder, as `salmubench data build` writes it.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...; by default CUDA where it is there.")]
Arch = Annotated[str | None, typer.Option(help="open_clip architecture of a bare weights file, e.g. ViT-B-16.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"salmubench {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    if debug:
        os.environ["SALMUBENCH_DEBUG"] = "1"


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The folder to write; finished steps in it are kept.")] = Path(
        "salmubench-demo"
    ),
    preset: PresetName = "mini",
    seed: Seed = 42,
    open_page: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the report in a browser at the end.")
    ] = True,
) -> None:
    """All of it, from nothing to a report in a browser: people, Clean, Compromised, every method, ten metrics."""
    from salmubench import demo as whole
    from salmubench.evaluation.report import read_report
    from salmubench.reports.table import table

    made = whole.demo(out, preset=preset, seed=seed)
    Console().print(table([read_report(path) for path in made.reports]))
    typer.echo(f"The report: {made.page.resolve()}")
    if open_page and sys.stdout.isatty() and _has_desktop():
        typer.launch(made.page.resolve().as_uri())


def _has_desktop() -> bool:
    """Whether a browser window can open: elsewhere a text browser might take the terminal over."""
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


@data_app.command("build")
def data_build(
    out: Annotated[Path, typer.Option(help="The data set folder to write.")],
    preset: PresetName = "mini",
    seed: Seed = 42,
    association_split: Annotated[
        str, typer.Option(help="Halve a person's associations by `pair` or by `field`.")
    ] = "pair",
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; by default one a core.")] = None,
) -> None:
    """Make fictitious people, their pictures and captions, and general knowledge, in the official layout."""
    from salmubench.personas.build import build

    build(
        preset,
        out,
        seed=seed,
        association_split=association_split,  # type: ignore[arg-type]
        workers=workers,
        progress=bars,
    )
    typer.echo(f"The data set: {out}")


@data_app.command("check")
def data_check(data: Annotated[Path, typer.Argument(help="A data set folder or an evaluation folder.")]) -> None:
    """Prove a folder: counts, disjointness, no holdout in what a method may see, captions, pictures, side files."""
    from salmubench.dataset.check import check

    report = check(data, progress=bars)
    table = Table("", "check", "finding", box=None)
    for entry in report.entries:
        table.add_row(CHECK_MARKS[entry.state], entry.name, escape(entry.finding))
    Console().print(table)
    if not report.passed:
        raise typer.Exit(1)


@data_app.command("card")
def data_card(data: Annotated[Path, typer.Argument(help="A data set folder.")]) -> None:
    """Write the cards and the Croissant file of a data set folder again."""
    from salmubench.dataset.card import write_cards

    write_cards(data)
    typer.echo(f"The cards: {data / 'salmubench' / 'README.md'}, {data / 'salmu' / 'README.md'}")


@data_app.command("fragile")
def data_fragile(
    data: Annotated[Path, typer.Argument(help="A data set folder.")],
    model: Annotated[str, typer.Option(help="The Compromised checkpoint that scores the pairs.")],
) -> None:
    """Choose the fragile set: the 5 % of retain_disjoint that Compromised aligns worst."""
    from salmubench.dataset.splits import write_fragile
    from salmubench.evaluation.protocol import score_fragile

    chosen = write_fragile(data, score_fragile(model, data, progress=bars))
    typer.echo(f"The fragile set: {len(chosen)} pictures")


@app.command()
def train(
    which: Annotated[str, typer.Argument(help="clean or compromised.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="The checkpoint folder to write.")],
    preset: PresetName = "mini",
    seed: Seed = 42,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; by default torch's choice.")] = None,
) -> None:
    """Train Clean (retain pairs) or Compromised (retain and sensitive pairs) from scratch with open_clip_train."""
    from salmubench.encoders.pretrain import train as run

    run(which, data, out, preset=preset, seed=seed, threads=threads, progress=bars)  # type: ignore[arg-type]
    typer.echo(f"The model: {out}")


@app.command()
def unlearn(
    method: Annotated[str, typer.Argument(help="A method's name; `salmubench methods` lists them.")],
    model: Annotated[str, typer.Option(help="The Compromised checkpoint to start from.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="The run's folder: checkpoint, log, record of the rows seen.")],
    budget: Annotated[float, typer.Option(help="Passes over the forget set, fractions allowed.")] = 1,
    option: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An option of the method; repeatable.")
    ] = None,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate of AdamW.")] = 1e-4,
    batch_size: Annotated[int, typer.Option(min=2, max=10**6, help="Forget pairs, and retain pairs, a step.")] = 32,
    warmup_share: Annotated[float, typer.Option(help="Share of the steps over which the rate rises.")] = 0.1,
    weight_decay: Annotated[float, typer.Option(help="AdamW's, on matrices only.")] = 1e-3,
    seed: Seed = 42,
    arch: Arch = None,
    device: Device = None,
    precision: Annotated[str, typer.Option(help="fp32 or bf16 (autocast).")] = "fp32",
) -> None:
    """Run one unlearning method from Compromised. It sees forget and retain data only."""
    from salmubench.unlearning.run import unlearn as run

    options = {}
    for item in option or []:
        key, equals, value = item.partition("=")
        if not equals:
            raise UserError(f"--set {item}: write it as key=value")
        options[key] = value
    run(
        method,
        model,
        data,
        out,
        budget=budget,
        options=options,
        learning_rate=learning_rate,
        batch_size=batch_size,
        warmup_share=warmup_share,
        weight_decay=weight_decay,
        seed=seed,
        arch=arch,
        device=device,
        precision=precision,
        progress=bars,
    )
    typer.echo(f"The unlearned model: {out}")


@app.command()
def evaluate(
    checkpoint: Annotated[str, typer.Argument(help="An open_clip folder, hf-hub:..., or a weights file with --arch.")],
    data: Annotated[str, typer.Option(help="A data set folder, an evaluation folder, or hf://owner/name@revision.")],
    name: Annotated[
        str | None, typer.Option(help="What the report calls it: `clean` and `compromised` are a table's bounds.")
    ] = None,
    arch: Arch = None,
    general_knowledge: Annotated[
        Path | None, typer.Option(help="A clip_benchmark webdataset for GenKnow (ImageNet-1k for real models).")
    ] = None,
    clean: Annotated[Path | None, typer.Option(help="Clean's report: one bound of the verdict.")] = None,
    compromised: Annotated[Path | None, typer.Option(help="Compromised's report: the other bound.")] = None,
    out: Annotated[Path | None, typer.Option(help="The report to write (JSON).")] = None,
    official: Annotated[Path | None, typer.Option(help="Also write the official evaluator's JSON here.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many rows a set, a stratified sample.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=10**6, help="Pictures or captions a forward pass.")] = 256,
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16 (autocast).")] = "fp32",
    seed: Seed = 42,
    device: Device = None,
) -> None:
    """Measure a checkpoint with all ten metrics: efficacy towards Clean, utility towards Compromised."""
    from salmubench.evaluation.protocol import evaluate as run
    from salmubench.reports.table import table

    report = run(
        checkpoint,
        data,
        name=name,
        arch=arch,
        general_knowledge=general_knowledge,
        clean=clean,
        compromised=compromised,
        out=out,
        official=official,
        limit=limit,
        batch_size=batch_size,
        precision=precision,
        seed=seed,
        device=device,
        progress=bars,
    )
    Console().print(table([report]))


@app.command()
def report(
    reports: Annotated[list[Path], typer.Argument(help="Report files; Clean's and Compromised's give the bounds.")],
    out: Annotated[Path, typer.Option(help="The folder of the static site.")],
    data: Annotated[Path | None, typer.Option(help="The data set folder, for its pictures.")] = None,
    show_values: Annotated[bool, typer.Option(help="Show the sensitive values instead of masking them.")] = False,
) -> None:
    """Make the static page: table, verdicts and figures, readable without a network."""
    from salmubench.reports.site import build_site

    typer.echo(f"The report: {build_site(reports, out, data=data, show_values=show_values)}")


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="A report, ours or the official evaluator's.")],
    b: Annotated[Path, typer.Argument(help="The report to compare it with.")],
) -> None:
    """Show two reports' metrics side by side, with the difference."""
    from salmubench.evaluation.compare import compare as run

    table = Table("metric", escape(a.stem), escape(b.stem), "difference")
    for row in run(a, b):
        table.add_row(row.metric, *("-" if x is None else f"{x:.4f}" for x in (row.a, row.b, row.difference)))
    Console().print(table)


@app.command()
def methods() -> None:
    """List the unlearning methods with their source and options."""
    from salmubench.unlearning.method import methods as registry

    table = Table(
        Column("method", no_wrap=True),
        "what it does",
        Column("source", overflow="fold"),
        Column("options (--set)", overflow="fold"),
    )
    for name in registry:
        entry = registry[name]
        options = "\n".join(f"{key}={meaning}" for key, meaning in entry.option_help().items())
        table.add_row(name, entry.summary, entry.citation, options)
    Console().print(table)


@app.command()
def metrics() -> None:
    """List the metrics with their target, sets, range and version."""
    from salmubench.evaluation.metric import describe

    table = Table("metric", "what it measures", "target", "sets", "range", "version")
    for spec in describe():
        low, high = spec.limits
        table.add_row(
            spec.key, spec.title, spec.target, ", ".join(spec.sets), f"{low:g} to {high:g}", str(spec.version)
        )
    Console().print(table)


def main() -> None:
    """Runs the command line; an error is one sentence, exit code 2 for the user's mistake and 1 for a failed run."""
    try:
        # Left to itself, typer frames its errors and ends without a word at Ctrl-C.
        code = app(standalone_mode=False)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except typer.Abort:
        code = 1
    except Exception as error:
        if os.environ.get("SALMUBENCH_DEBUG") and not hasattr(error, "format_message"):
            raise
        code = _explain(error)
    if code == INTERRUPTED:
        typer.echo("Stopped; run the same command again to go on.", err=True)
    sys.exit(code if isinstance(code, int) else 0)


def _explain(error: Exception) -> int:
    """Prints what went wrong as one line without control characters, and returns the exit code."""
    if type(error).__name__ == "NoArgsIsHelpError":  # typer shows the help where a verb is missing
        error.show()  # type: ignore[attr-defined]
        return 2
    if isinstance(error, (UserError, RunError)):
        words, code = str(error), error.exit_code
    elif hasattr(error, "format_message"):  # typer's own: an unknown verb or flag, a value that does not fit
        words, code = f"{error.format_message().rstrip('.')}; see --help", 2
    elif isinstance(error, OSError) and (error.filename is not None or error.errno == errno.ENOSPC):
        where = "the disk" if error.filename is None else error.filename
        words, code = f"{where}: {error.strerror}; mend the path, its rights or its disk and run again", 1
    else:
        words, code = f"{type(error).__name__}: {error} (a defect of ours; --debug shows where)", 1
    printable = "".join(letter if letter.isprintable() else " " for letter in words)
    typer.echo(f"Error: {' '.join(printable.split())}", err=True)
    return code
