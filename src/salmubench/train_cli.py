"""``salmubench train``: pre-training on one core, on the GPUs of a machine, or on a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from salmubench.errors import UserError
from salmubench.flags import PresetName, Seed
from salmubench.progress import console as bars


def train(
    which: Annotated[str, typer.Argument(help="clean or compromised.")],
    data: Annotated[Path, typer.Option("--data", help="A data set folder, as `salmubench data build` writes it.")],
    out: Annotated[Path, typer.Option(help="The checkpoint folder to write.")],
    preset: PresetName = "mini",
    arch: Annotated[
        str | None,
        typer.Option(metavar="NAME|JSON", help="Another model than the preset's: open_clip's name, or a JSON file."),
    ] = None,
    seed: Seed = 42,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; by default torch's choice.")] = None,
    retain: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL...",
            help="Webdataset shards in the place of the folder's retain_real: a folder, a path or URL with "
            "{0000..0123}, pipe:COMMAND, or a .txt of such lines; repeatable.",
        ),
    ] = None,
    retain_pairs: Annotated[
        int | None, typer.Option(min=1, help="Pairs in them, where no sizes.json beside them tells.")
    ] = None,
    nodes: Annotated[int | None, typer.Option(min=1, help="Machines; by default the preset's.")] = None,
    gpus_per_node: Annotated[
        int | None, typer.Option(min=1, help="Processes a machine, one a GPU; by default the preset's.")
    ] = None,
    rendezvous: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Where machines meet that you start the command on by hand."),
    ] = None,
    slurm: Annotated[bool, typer.Option("--slurm", help="Submit a Slurm job in the place of running here.")] = False,
    print_command: Annotated[
        bool, typer.Option("--print-command", help="Print the torchrun line, or with --slurm the script; run nothing.")
    ] = False,
    accum_freq: Annotated[
        int | None, typer.Option(min=1, help="Parts of a batch that go through the model one by one, to save memory.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Loading processes of each training process; by default the preset's.")
    ] = None,
    tracker: Annotated[
        str | None,
        typer.Option(help="Where the loss is shown live: tensorboard (the default where it is installed) or none."),
    ] = None,
    resume: Annotated[
        str, typer.Option(metavar="latest|never", help="Go on from a killed run's last checkpoint, or begin anew.")
    ] = "latest",
) -> None:
    """Train Clean (retain pairs) or Compromised (retain and sensitive pairs) from scratch with open_clip_train."""
    from salmubench.encoders import launch as launching
    from salmubench.encoders.ranks import started_by_torchrun

    if resume not in ("latest", "never"):
        raise UserError(f"--resume {resume}: choose latest or never")
    if which not in ("clean", "compromised"):
        raise UserError(f"cannot train {which!r}: choose clean or compromised")
    launch = launching.Launch(
        which,  # type: ignore[arg-type]
        data,
        out,
        preset=preset,
        arch=arch,
        seed=seed,
        threads=threads,
        retain=retain or (),
        retain_pairs=retain_pairs,
        accumulate=accum_freq,
        workers=workers,
        resume=resume == "latest",
        tracker=tracker,
        nodes=nodes,
        gpus_per_node=gpus_per_node,
        rendezvous=rendezvous,
    )
    if print_command:
        typer.echo(launching.slurm_script(launch) if slurm else launching.torchrun_line(launch), nl=not slurm)
        return
    if slurm:
        typer.echo(f"Submitted job {launching.submit(launch)}; its log: {out}-JOB.log")
        return
    launching.run(launch, progress=bars)
    if not started_by_torchrun():
        typer.echo(f"The model: {out}")
