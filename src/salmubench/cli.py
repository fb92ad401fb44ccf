"""The command line: each verb is a thin call of a public Python function with the same argument names."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from salmubench import __version__
from salmubench.attack_cli import attack
from salmubench.data_cli import data_app
from salmubench.doctor_cli import doctor
from salmubench.errors import UserError, explain, printable
from salmubench.explore_cli import explore
from salmubench.flags import Arch, PresetName, Seed
from salmubench.leaderboard_cli import leaderboard_app
from salmubench.presets import PRESETS, recipe
from salmubench.progress import console as bars
from salmubench.reports_cli import AsJson, print_json, reports_app
from salmubench.studies_cli import sweep
from salmubench.train_cli import train

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 and the signal's number."""

SHOWN = 15
"""Differences that ``--verify`` prints: the first ones tell the cause (other weights, other data)."""

app = typer.Typer(
    help="Benchmark for association-level unlearning in CLIP-style encoders: make fictitious people, train a Clean and "
    "a Compromised model, unlearn, measure efficacy (towards Clean) and utility (staying at Compromised), and report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(data_app, name="data")
app.add_typer(leaderboard_app, name="leaderboard")
app.command()(attack)
app.add_typer(reports_app)
app.command()(sweep)

Data = Annotated[Path, typer.Option("--data", help="A data set folder, as `salmubench data build` writes it.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...; by default CUDA where it is there.")]


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


app.command()(train)


@app.command()
def unlearn(
    method: Annotated[str, typer.Argument(help="A method's name; `salmubench methods` lists them.")],
    model: Annotated[str, typer.Option(help="The Compromised checkpoint to start from.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="The run's folder: checkpoint, log, record of the rows seen.")],
    preset: Annotated[
        str | None,
        typer.Option(help=f"Take a scale's settings, the method's tuned ones where there are: {', '.join(PRESETS)}."),
    ] = None,
    budget: Annotated[float | None, typer.Option(help="Passes over the forget set, fractions allowed. [1]")] = None,
    option: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An option of the method; repeatable.")
    ] = None,
    scope: Annotated[
        str | None,
        typer.Option(
            help="What is trained: full; vision or text, one tower; last-N, the last N blocks of each tower; lora-R, "
            "adapters of rank R, merged at the end. [full]"
        ),
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate of AdamW. [3e-5]")] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=2, max=10**6, help="Forget pairs, and retain pairs, a step. [32]")
    ] = None,
    warmup_share: Annotated[
        float | None, typer.Option(help="Share of the steps over which the rate rises. [0.1]")
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(help="AdamW's, on matrices only. [0.001]")] = None,
    seed: Seed = 42,
    arch: Arch = None,
    device: Device = None,
    precision: Annotated[str, typer.Option(help="fp32 or bf16 (autocast).")] = "fp32",
    chunks: Annotated[
        int, typer.Option(help="Forward passes that a step is cut into: less memory, the same loss and gradient.")
    ] = 1,
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the model first (torch.compile).")] = False,
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Keep decoded pictures for the next run.")] = True,
    tracker: Annotated[
        str | None,
        typer.Option(
            help="Where the loss is shown live: tensorboard (the default where it is installed), wandb, trackio, "
            "mlflow or none."
        ),
    ] = None,
) -> None:
    """Run one unlearning method from Compromised. It sees forget and retain data only."""
    from salmubench.options import split_settings
    from salmubench.unlearning.run import unlearn as run

    settings = {} if preset is None else recipe(preset, method)
    given = {
        "budget": budget, "scope": scope, "learning_rate": learning_rate, "batch_size": batch_size,
        "warmup_share": warmup_share, "weight_decay": weight_decay,
    }  # fmt: skip
    settings |= {key: value for key, value in given.items() if value is not None}
    settings["options"] = {**settings.get("options", {}), **split_settings(option)}
    run(
        method,
        model,
        data,
        out,
        **settings,
        seed=seed,
        arch=arch,
        device=device,
        precision=precision,
        chunks=chunks,
        compiled=compiled,
        cache=cache,
        tracker=tracker,
        progress=bars,
    )
    typer.echo(f"The unlearned model: {out}")


@app.command()
def evaluate(
    checkpoints: Annotated[
        list[str],
        typer.Argument(
            help="An open_clip or Hugging Face CLIP folder, hf-hub:..., or weights with --arch. Several are held in "
            "memory together, and each picture is decoded once for all."
        ),
    ],
    data: Annotated[str, typer.Option(help="A data set folder, an evaluation folder, or hf://owner/name@revision.")],
    name: Annotated[
        list[str] | None,
        typer.Option(
            help="What the report calls it: `clean` and `compromised` are a table's bounds. Once for each checkpoint."
        ),
    ] = None,
    arch: Arch = None,
    general_knowledge: Annotated[
        Path | None, typer.Option(help="A clip_benchmark webdataset for GenKnow (ImageNet-1k for real models).")
    ] = None,
    clean: Annotated[Path | None, typer.Option(help="Clean's report: one bound of the verdict.")] = None,
    compromised: Annotated[Path | None, typer.Option(help="Compromised's report: the other bound.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="The report to write (JSON); of several checkpoints, a folder.")
    ] = None,
    official: Annotated[
        Path | None, typer.Option(help="Also write the official evaluator's JSON here; of several, a folder.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="At most so many rows a set, a stratified sample: quick, but RetFail is easier among fewer captions.",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="What the paper leaves open, e.g. ACS.feature=product."),
    ] = None,
    verify: Annotated[
        Path | None, typer.Option(help="Measure again, as this report was, and say what differs; writes nothing.")
    ] = None,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave out pictures that do not decode; the report names them.")
    ] = False,
    batch_size: Annotated[
        str, typer.Option(help="Inputs a forward pass; `auto` makes it smaller where memory runs out.")
    ] = "auto",
    workers: Annotated[int | None, typer.Option(min=1, help="Threads that decode; by default one a core.")] = None,
    cache: Annotated[
        bool, typer.Option("--cache/--no-cache", help="Keep embeddings for the next run, in SALMUBENCH_CACHE.")
    ] = True,
    cache_size: Annotated[float, typer.Option(min=0, help="Gigabytes that kept embeddings may take.")] = 5,
    precision: Annotated[str, typer.Option(help="fp32, or under autocast bf16 or fp16-autocast.")] = "fp32",
    seed: Seed = 42,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Measure checkpoints with all ten metrics: efficacy towards Clean, utility towards Compromised."""
    from salmubench.evaluation import protocol
    from salmubench.options import split_settings
    from salmubench.reports.results import with_bounds
    from salmubench.reports.table import skipped, table, verdicts

    inputs: Any = int(batch_size) if re.fullmatch(r"-?\d{1,9}", batch_size) else batch_size
    settings: protocol.Settings = {
        "arch": arch,
        "general_knowledge": general_knowledge,
        "clean": clean,
        "compromised": compromised,
        "limit": limit,
        "options": split_settings(option),
        "skip_broken": skip_broken,
        "batch_size": inputs,
        "workers": workers,
        "cache": cache,
        "cache_size": cache_size,
        "precision": precision,
        "seed": seed,
        "device": device,
        "progress": bars,
    }
    if verify is not None:
        given = {"--out": out, "--official": official, "--name": name, "--limit": limit, "--set": option}
        for flag in [flag for flag, value in given.items() if value]:
            raise UserError(f"--verify {verify}: measures as the report was and writes nothing; leave {flag} out")
        _verify(verify, checkpoints, data, settings)
        return
    if len(checkpoints) == 1 and len(name or ()) <= 1:
        single = name[0] if name else None
        reports = [protocol.evaluate(checkpoints[0], data, name=single, out=out, official=official, **settings)]
    else:
        reports = protocol.evaluate_all(checkpoints, data, names=name, out=out, official=official, **settings)
    if as_json:
        written = [each.model_dump(mode="json", by_alias=True) for each in reports]
        print_json(written[0] if len(written) == 1 else written)
    else:
        Console().print(table(with_bounds(reports, clean, compromised)))
        for line in verdicts(reports):
            Console().print(line)
        for note in skipped(reports):
            typer.echo(note)
    if limit is not None:
        typer.echo(f"Limited to {limit} rows a set: RetFail is not comparable with a run over all rows.", err=as_json)
    if broken := reports[0].provenance.skipped_pictures:
        typer.echo(f"Left out as broken, {len(broken)} in all: {printable('; '.join(broken[:3]))}", err=as_json)


def _verify(report: Path, checkpoints: list[str], data: str, settings: Any) -> None:
    from salmubench.evaluation.report import read_report
    from salmubench.evaluation.verify import tolerance, verify

    if len(checkpoints) > 1:
        raise UserError(f"--verify {report}: a report speaks of one checkpoint, and {len(checkpoints)} are named")
    differences = verify(report, checkpoints[0], data, **settings)
    for line in differences[:SHOWN]:
        typer.echo(printable(line))
    if len(differences) > SHOWN:
        typer.echo(f"... and {len(differences) - SHOWN} more differences")
    if differences:
        raise typer.Exit(1)
    allowed = tolerance(read_report(report).provenance.precision)
    typer.echo(f"verified: every number of {report.name} is within {allowed:g}")


@app.command()
def methods() -> None:
    """List the unlearning methods with their source and options."""
    from salmubench.reports import lists

    Console().print(lists.methods())


@app.command()
def metrics() -> None:
    """List the metrics with their target, sets, range, version and options."""
    from salmubench.reports import lists

    Console().print(lists.metrics(), lists.metric_options())


app.command()(explore)
app.command()(doctor)


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
    words, code = explain(error)
    typer.echo(f"Error: {words}", err=True)
    return code
