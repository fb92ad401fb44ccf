"""``salmubench attack``: what can still be had from a checkpoint that seems to have forgotten."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from salmubench.progress import console as bars


def attack(
    checkpoints: Annotated[
        list[str], typer.Argument(help="An open_clip folder, hf-hub:..., or weights with --arch; one or more.")
    ],
    data: Annotated[str, typer.Option(help="A data set folder, an evaluation folder, or hf://owner/name@revision.")],
    control: Annotated[str | None, typer.Option(help="Clean, attacked in the same way: what anyone would get.")] = None,
    compromised: Annotated[
        str | None, typer.Option(help="Compromised; with --control it gives the recovered shares.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The file to write, attack.json; of several checkpoints, a folder.")
    ] = None,
    probe: Annotated[
        list[str] | None,
        typer.Option(
            help="relearning, relearning_holdout, paraphrase, extraction or membership; repeatable, by default all."
        ),
    ] = None,
    pairs: Annotated[int, typer.Option(min=2, help="Pairs that relearning teaches.")] = 32,
    steps: Annotated[str, typer.Option(help="Steps of relearning after which is measured.")] = "1,2,5,10,20",
    learning_rate: Annotated[float, typer.Option(help="Of relearning (AdamW, constant).")] = 1e-4,
    batch_size: Annotated[int, typer.Option(min=2, help="Pairs a step of relearning.")] = 32,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many rows a set, for a quick look.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Also write the table as Markdown here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the reports as a JSON list, not a table.")] = False,
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Keep embeddings for the next run.")] = True,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads that decode; by default one a core.")] = None,
    arch: Annotated[str | None, typer.Option(help="The architecture of a weights file.")] = None,
    precision: Annotated[str, typer.Option(help="fp32, or under autocast bf16 or fp16-autocast.")] = "fp32",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...; by default CUDA where it is there.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of all that is drawn.")] = 42,
) -> None:
    """Try to get back what a checkpoint has forgotten: relearning, other wordings, extraction, membership inference.

    Reads holdouts, as evaluate does; changes no checkpoint. docs/attack.md says what each number means.
    """
    from salmubench.atomic import require_writable, write_text
    from salmubench.reports.recovery import recovery_markdown, recovery_table
    from salmubench.studies.attack import attack as run

    if markdown is not None:
        require_writable(markdown)
    reports = run(
        checkpoints,
        data,
        control=control,
        compromised=compromised,
        out=out,
        probes=probe,
        pairs=pairs,
        steps=steps,
        learning_rate=learning_rate,
        batch_size=batch_size,
        limit=limit,
        workers=workers,
        cache=cache,
        arch=arch,
        device=device,
        precision=precision,
        seed=seed,
        progress=bars,
    )
    if markdown is not None:
        write_text(markdown, recovery_markdown(reports))
    if as_json:
        listed = [report.model_dump(mode="json", by_alias=True) for report in reports]
        typer.echo(json.dumps(listed, ensure_ascii=False, indent=1, allow_nan=False))
    else:
        Console().print(recovery_table(reports))
