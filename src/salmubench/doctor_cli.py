"""The verb ``salmubench doctor``: what this machine has, and how long each preset would take on it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from salmubench.presets import PRESETS
from salmubench.progress import console as bars
from salmubench.progress import duration

if TYPE_CHECKING:
    from salmubench.studies.forecast import Forecast
    from salmubench.studies.machine import Machine

BUSY = 0.5
"""Load a core above which runs would share the cores with others."""


def doctor(
    preset: Annotated[
        list[str] | None,
        typer.Option(help=f"Whose times are wanted: {', '.join(PRESETS)}; repeatable; all by default."),
    ] = None,
    trial: Annotated[
        bool, typer.Option("--trial/--no-trial", help="Try each preset's model for a few steps, to tell times.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of tables.")] = False,
) -> None:
    """Say what this machine has and what would run on it, and how long; exit code 1 where a package is missing."""
    from salmubench.studies.doctor import doctor as diagnose

    found = diagnose(preset, trial=trial, progress=bars)
    machine = found.machine
    if as_json:
        forecasts = [asdict(each) | {"seconds": each.seconds} for each in found.forecasts]
        typer.echo(json.dumps({"schema": 1, "machine": asdict(machine), "forecasts": forecasts}, indent=1))
    else:
        _show_machine(machine)
        _show_forecasts(found.forecasts, machine.disks[0].free)
        if trial and machine.load > BUSY:
            typer.echo(
                f"Other programs want {machine.load:.1f} times this machine's cores now: so long, all takes longer."
            )
    if machine.unmet:
        typer.echo(f"Missing: {', '.join(machine.unmet)}; run pip install --upgrade salmubench", err=True)
        raise typer.Exit(1)


def _show_machine(machine: Machine) -> None:
    parts = Table(box=None, show_header=False)
    parts.add_column(style="bold")
    parts.add_column(overflow="fold")
    parts.add_row("Python", f"{machine.python} on {machine.system}")
    parts.add_row("packages", ", ".join(f"{name} {version}" for name, version in machine.packages.items()))
    for device in machine.devices:
        memory = "" if device.bytes is None else f"; {decimal(device.bytes)}, {decimal(device.free or 0)} free"
        parts.add_row(device.name, escape(device.description) + memory)
    for disk in machine.disks:
        parts.add_row("disk", f"{escape(disk.folder)}: {decimal(disk.free)} free of {decimal(disk.bytes)}")
    for cache in machine.caches:
        parts.add_row(f"{cache.name} cache", f"{escape(cache.folder)}: {decimal(cache.bytes)}")
    hub = machine.hub
    answer = hub.note or f"in {hub.seconds:.1f} s"
    parts.add_row("hub", f"{hub.state}: {escape(hub.address)}, {escape(answer)}")
    extras = Table("extra", "for", "", box=None)
    for extra in machine.extras:
        mend = f"missing {', '.join(extra.missing)}; pip install 'salmubench[{extra.name}]'"
        extras.add_row(extra.name, extra.use, escape(mend) if extra.missing else "[green]installed[/]")
    for table in (parts, extras):
        Console().print(table, "")


def _show_forecasts(forecasts: tuple[Forecast, ...], free: int) -> None:
    stages = Table("preset", "stage", "work", "time here", "", box=None)
    for each in forecasts:
        for number, stage in enumerate(each.stages):
            time = "unknown" if stage.seconds is None else duration(stage.seconds)
            work = f"{stage.work:,} {stage.unit}"
            stages.add_row("" if number else each.preset, stage.name, work, time, escape(stage.note))
    Console().print(stages, "")
    for each in forecasts:
        whole = "an unknown time" if each.seconds is None else f"about {duration(each.seconds)}"
        disk = "an unknown size" if each.bytes is None else decimal(each.bytes)
        room = f" [red]more than the {decimal(free)} that are free[/]" if each.bytes and each.bytes > free else ""
        Console().print(f"{each.preset} on {each.device}: {whole}, reading of pictures not counted; data {disk}{room}")
