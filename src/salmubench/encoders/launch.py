"""Starts a training on several processes: the torchrun line and the Slurm script that it prints are those that it runs.

Every process that torchrun starts runs the same ``salmubench train`` and finds itself to be one of many (``ranks.py``).
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from salmubench.encoders.checkpoint import default_device
from salmubench.encoders.pretrain import train
from salmubench.encoders.ranks import started_by_torchrun
from salmubench.encoders.shards import Which
from salmubench.errors import RunError, UserError
from salmubench.jobs import cores
from salmubench.presets import preset
from salmubench.progress import Progress, silent

PORT = 29500
"""Where the machines of a training meet, on the first of them."""
TORCHRUN = (sys.executable, "-m", "torch.distributed.run")


@dataclass(frozen=True)
class Launch:
    """A training to start. All but the last three are ``train``'s; None leaves a number to the preset.

    Attributes:
        nodes: machines.
        gpus_per_node: processes a machine: one a GPU, or so many without one.
        rendezvous: HOST:PORT of the first machine, where the command is started by hand on each of several.
    """

    which: Which
    data: Path
    out: Path
    preset: str = "mini"
    arch: str | None = None
    seed: int = 42
    threads: int | None = None
    retain: Sequence[str] = ()
    retain_pairs: int | None = None
    accumulate: int | None = None
    workers: int | None = None
    resume: bool = True
    tracker: str | None = None
    nodes: int | None = field(default=None, metadata={"launcher": True})
    gpus_per_node: int | None = field(default=None, metadata={"launcher": True})
    rendezvous: str | None = field(default=None, metadata={"launcher": True})

    @property
    def machines(self) -> int:
        """How many machines."""
        return preset(self.preset).scaling.nodes if self.nodes is None else self.nodes

    @property
    def processes(self) -> int:
        """How many processes a machine."""
        return preset(self.preset).scaling.gpus_per_node if self.gpus_per_node is None else self.gpus_per_node

    def verb(self) -> list[str]:
        """The ``salmubench`` arguments of one process."""
        words = ["train", self.which, "--data", str(self.data), "--out", str(self.out), "--preset", self.preset]
        words += ["--seed", str(self.seed)]
        for flag, value in (
            ("--arch", self.arch),
            ("--threads", self.threads),
            ("--retain-pairs", self.retain_pairs),
            ("--accum-freq", self.accumulate),
            ("--workers", self.workers),
            ("--tracker", self.tracker),
        ):
            words += [] if value is None else [flag, str(value)]
        words += [word for url in self.retain for word in ("--retain", url)]
        return [*words, "--resume", "latest" if self.resume else "never"]


def torchrun(launch: Launch, rendezvous: str | None = None) -> list[str]:
    """The arguments of torchrun, for one machine or for each of several.

    Raises:
        UserError: nothing says where several machines meet.
    """
    meeting = rendezvous or launch.rendezvous
    if launch.machines == 1 and meeting is None:
        place = ["--standalone"]
    elif meeting is None:
        raise UserError(
            f"--nodes {launch.machines}: the machines must meet somewhere; pass --rendezvous HOST:{PORT} with the name "
            "of the first and start the command on each, or pass --slurm, or --nodes 1 --gpus-per-node 1 for here alone"
        )
    else:
        name = f"{launch.out.absolute().name}-{launch.which}"
        place = [f"--rdzv-id={name}", "--rdzv-backend=c10d", f"--rdzv-endpoint={meeting}"]
    count = [f"--nnodes={launch.machines}", f"--nproc-per-node={launch.processes}"]
    return [*count, *place, "-m", "salmubench", *launch.verb()]


def torchrun_line(launch: Launch) -> str:
    """What a shell starts the training with, on each machine."""
    meeting = None if launch.machines == 1 or launch.rendezvous else f"FIRST_HOST:{PORT}"
    return shlex.join([*TORCHRUN, *torchrun(launch, meeting)])


def slurm_script(launch: Launch) -> str:
    """The batch script for ``sbatch``. A job that is requeued goes on from the last checkpoint."""
    workers = preset(launch.preset).scaling.workers if launch.workers is None else launch.workers
    line = shlex.join([*TORCHRUN, *torchrun(launch, "MEETING")]).replace("MEETING", f'"$MASTER":{PORT}')
    log = shlex.quote(f"{launch.out.absolute()}-%j.log")
    return f"""#!/bin/bash
#SBATCH --job-name=salmubench-{launch.which}
#SBATCH --nodes={launch.machines}
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node={launch.processes}
#SBATCH --cpus-per-task={launch.processes * (workers + 1)}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output={log}
set -euo pipefail
MASTER=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER
srun bash -c {shlex.quote("exec " + line)}
"""


def submit(launch: Launch) -> str:
    """Hands the script to ``sbatch`` and returns the job's number.

    Raises:
        UserError: there is no ``sbatch`` here, or it refuses the job.
    """
    try:
        done = subprocess.run(
            ["sbatch", "--parsable"], input=slurm_script(launch), text=True, capture_output=True, check=True
        )
    except FileNotFoundError:
        raise UserError("--slurm: there is no sbatch on this machine; run this where jobs are submitted") from None
    except subprocess.CalledProcessError as error:
        raise UserError(f"--slurm: sbatch refuses the job ({error.stderr.strip()}); change what it names") from error
    return done.stdout.strip()


def run(launch: Launch, *, progress: Progress = silent) -> Path:
    """Trains: here in one process, or in those that torchrun starts on this machine; returns the checkpoint folder.

    Raises:
        UserError: as ``train``; or there are fewer GPUs here than asked for.
        RunError: a process failed; what it said stands above.
    """
    if started_by_torchrun() or launch.machines * launch.processes == 1:
        own = {each.name: getattr(launch, each.name) for each in fields(launch) if not each.metadata}
        return train(**own, progress=progress)
    from torch.cuda import device_count
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args
    from torch.distributed.run import run as start

    arguments = torchrun(launch)
    room = device_count() if default_device() != "cpu" else max(2, cores())
    if launch.processes > room:
        raise UserError(
            f"--gpus-per-node {launch.processes}: this machine has {room} GPUs or cores; pass fewer, or print the "
            "command with --print-command and start it elsewhere"
        )
    try:
        start(parse_args(arguments))  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        raise RunError(
            f"{launch.out}: training process {rank} ended with code {failure.exitcode} (its words stand above); "
            "run the same command again and it goes on from the last checkpoint"
        ) from error
    return launch.out
