"""What a machine has for this package: software, devices, memory, disk, caches, and whether the hub answers."""

import os
import platform
import shutil
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import psutil
import torch
from packaging.requirements import Requirement

from salmubench.encoders.cache import cache_folder
from salmubench.jobs import cores

OFFICIAL = "cvc-mmu/salmubench-512-redistributed"
"""The official evaluation data: the one thing that a user wants of the hub."""
HUB_SECONDS = 5.0
"""How long its answer is waited for, name look-up included."""
PACKAGES = ("torch", "torchvision", "open_clip_torch", "accelerate", "numpy", "huggingface_hub")
USES = {
    "diffusion": "data build --portraits ip-adapter",
    "llm": "data build --captions llm",
    "lora": "unlearn --scope lora-R",
    "scale": "--ray",
    "track": "--tracker tensorboard",
    "explore": "explore",
}
"""What needs an extra; the rest is for who works on the package itself."""
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where a container's memory limit stands, cgroup 2 and 1."""


@dataclass(frozen=True)
class Device:
    """A processor that models can run on.

    Attributes:
        name: as torch takes it: ``cpu``, ``cuda:0``, ``mps``.
        description: the model, and of a CPU its usable cores and threads.
        bytes: its memory; None where it is not told.
        free: of it.
    """

    name: str
    description: str
    bytes: int | None
    free: int | None


@dataclass(frozen=True)
class Disk:
    """A folder's file system, in bytes."""

    folder: str
    free: int
    bytes: int


@dataclass(frozen=True)
class Cache:
    """A folder that may be deleted: what is in it is made or fetched again."""

    name: str
    folder: str
    bytes: int


@dataclass(frozen=True)
class Extra:
    """An optional part of the package.

    Attributes:
        name: as in ``pip install 'salmubench[name]'``.
        use: what needs it.
        missing: its packages that are not installed, or too old.
    """

    name: str
    use: str
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Hub:
    """Whether the Hugging Face hub gives the official data.

    Attributes:
        state: ``reachable``, ``refused`` (it answered, but without them), ``unreachable``, or ``offline`` where the
            user has asked for no network (``HF_HUB_OFFLINE``).
        address: of the hub.
        note: why not.
        seconds: that the answer took.
    """

    state: str
    address: str
    note: str = ""
    seconds: float | None = None


@dataclass(frozen=True)
class Machine:
    """All of it; sizes in bytes. ``load`` is how many programs wanted a core in the last minute, for each core."""

    python: str
    system: str
    packages: dict[str, str]
    unmet: tuple[str, ...]
    devices: tuple[Device, ...]
    load: float
    memory: int
    memory_free: int
    disks: tuple[Disk, ...]
    caches: tuple[Cache, ...]
    extras: tuple[Extra, ...]
    hub: Hub


def examine(*, hub_seconds: float = HUB_SECONDS) -> Machine:
    """Looks; loads no model, writes nothing, and asks the hub one question."""
    memory, free = _memory()
    return Machine(
        python=platform.python_version(),
        system=platform.platform(terse=True),
        packages={name: version(name) for name in ("salmubench", *PACKAGES)},
        unmet=unmet(),
        devices=_devices(memory, free),
        load=round(psutil.getloadavg()[0] / cores(), 2),
        memory=memory,
        memory_free=free,
        disks=tuple(dict.fromkeys(_disk(folder) for folder in (Path.cwd(), cache_folder()))),
        caches=_caches(),
        extras=extras(),
        hub=ask_hub(hub_seconds),
    )


def unmet(extra: str = "") -> tuple[str, ...]:
    """Requirements of the package, or of an extra of it, that are not installed or too old."""
    missing = []
    for text in requires("salmubench") or []:
        requirement = Requirement(text)
        of_extra = requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": extra})
        if not wanted or of_extra != bool(extra):
            continue
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            missing.append(f"{requirement.name}{requirement.specifier}")
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            missing.append(f"{requirement.name}{requirement.specifier} (is {installed})")
    return tuple(missing)


def extras() -> tuple[Extra, ...]:
    """The extras that a user may want, in the order of ``USES``."""
    return tuple(Extra(name, use, unmet(name)) for name, use in USES.items())


def _devices(memory: int, free: int) -> tuple[Device, ...]:
    capability = torch.backends.cpu.get_cpu_capability()
    words = f"{_processor()}, {cores()} cores, {torch.get_num_threads()} threads, {capability}"
    found = [Device("cpu", words, memory, free)]
    for number in range(torch.cuda.device_count()):
        left, size = torch.cuda.mem_get_info(number)
        found.append(Device(f"cuda:{number}", torch.cuda.get_device_name(number), size, left))
    if torch.backends.mps.is_available():
        found.append(Device("mps", "Apple GPU", None, None))
    return tuple(found)


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> tuple[int, int]:
    """Main memory that this process may use and what of it is free; in a container less than the machine has."""
    there = psutil.virtual_memory()
    for path in LIMITS:
        with suppress(OSError, ValueError):  # no such file, or "max"
            limit = int(Path(path).read_text())
            if limit < there.total:
                return limit, min(there.available, limit - psutil.Process().memory_info().rss)
    return there.total, there.available


def _disk(folder: Path) -> Disk:
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    usage = shutil.disk_usage(there)
    return Disk(str(there), usage.free, usage.total)


def _caches() -> tuple[Cache, ...]:
    from huggingface_hub import constants

    folders = {"embeddings": cache_folder(), "hub": Path(constants.HF_HUB_CACHE)}
    return tuple(Cache(name, str(folder), _size(folder)) for name, folder in folders.items())


def _size(folder: Path) -> int:
    """Bytes of the files in a folder; links, which the hub's cache is full of, do not count."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # gone since
                status = (Path(root) / name).lstat()
                total += 0 if Path(root, name).is_symlink() else status.st_size
    return total


def ask_hub(seconds: float = HUB_SECONDS) -> Hub:
    """Asks the hub for the official data set's entry.

    Args:
        seconds: how long to wait. A thread asks, as no client's own limit covers the look-up of the name.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    address = constants.ENDPOINT
    if constants.HF_HUB_OFFLINE:
        return Hub("offline", address, "HF_HUB_OFFLINE is set; only what the cache holds is used")
    answers: list[Hub] = []

    def ask() -> None:
        began = time.perf_counter()
        try:
            HfApi(endpoint=address).dataset_info(OFFICIAL, revision="main", timeout=seconds)
            answers.append(Hub("reachable", address, "", round(time.perf_counter() - began, 2)))
        except HfHubHTTPError as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            words = (
                f"it answered {status or type(error).__name__} for {OFFICIAL}; check the network's proxy or HF_TOKEN"
            )
            answers.append(Hub("refused", address, words, round(time.perf_counter() - began, 2)))
        except Exception as error:  # two dozen kinds, which change with the version of the hub's client
            answers.append(Hub("unreachable", address, f"no answer ({type(error).__name__}); check the network"))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return (
        answers[0] if answers else Hub("unreachable", address, f"no answer in {seconds:g} seconds; check the network")
    )
