"""One random generator a purpose, seeded by (seed, name): what one part draws never moves what another part draws."""

import hashlib

import numpy as np


def derive(seed: int, *names: str | int) -> int:
    """A 64-bit seed for the purpose that ``names`` spell out: the head of SHA-256 over ``seed/name/name/...``."""
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A NumPy generator for one purpose, e.g. ``generator(42, "portrait", identity, picture)``."""
    return np.random.default_rng(derive(seed, *names))
