"""The verb ``salmubench explore``: what a face, or a name, gives away, in a browser."""

from __future__ import annotations

from typing import Annotated

import typer

from salmubench.progress import console as bars


def explore(
    models: Annotated[
        list[str],
        typer.Option(
            "--model",
            help="A checkpoint, as `evaluate` takes it; repeatable. Runs of one method that differ in their budget "
            "alone share a column and are stepped through.",
        ),
    ],
    data: Annotated[str, typer.Option(help="A data set folder, an evaluation folder, or hf://owner/name@revision.")],
    arch: Annotated[str | None, typer.Option(help="The architecture of weights files: ViT-B-16, ...")] = None,
    host: Annotated[
        str, typer.Option(help="Where to listen. Elsewhere than on this machine alone, the page asks for a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 7860,
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Keep embeddings for the next run.")] = True,
    cache_size: Annotated[float, typer.Option(min=0, help="Gigabytes that kept embeddings may take.")] = 5,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, ...; by default CUDA where it is there.")
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32, or under autocast bf16 or fp16-autocast.")] = "fp32",
) -> None:
    """See in a browser what a face, or a name, gives away, model beside model."""
    from salmubench.reports.explorer.serve import explore as run

    def announce(address: str) -> None:
        typer.echo(f"The explorer: {address}  (Ctrl-C ends it)")

    run(
        models,
        data,
        arch=arch,
        host=host,
        port=port,
        cache=cache,
        cache_size=cache_size,
        device=device,
        precision=precision,
        announce=announce,
        progress=bars,
    )
