"""Flags that several verbs of the command line have."""

from typing import Annotated

import typer

from salmubench.presets import PRESETS

PresetName = Annotated[str, typer.Option("--preset", help=f"The scale: {', '.join(PRESETS)}.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="The one seed; the same seed gives the same bytes.")]
Arch = Annotated[str | None, typer.Option(help="The architecture of a weights file: ViT-B-16, ..., or a JSON file.")]
