"""The palette: whoever sees red, green or blue differently still tells its colours apart."""

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from salmubench.reports.style import DARK, LIGHT

SEEN = {
    "all": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
"""What is left of linear RGB (Machado, Oliveira and Fernandes 2009, table 1, severity 1)."""
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
TOLD_APART = 10
"""CIE 1976 difference that is seen at a glance; 2.3 is just seen."""


def linear(colour: str) -> NDArray[np.float64]:
    parts = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lab(light: NDArray[np.float64]) -> NDArray[np.float64]:
    share = TO_XYZ @ np.clip(light, 0, 1) / TO_XYZ.sum(1)
    x, y, z = np.where(share > 0.008856, np.cbrt(share), 7.787 * share + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("seen", SEEN)
@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_no_two_colours_of_a_figure_look_alike_to_anybody(palette: dict[str, str], seen: str) -> None:
    names = ("paper", "ink", "clean", "compromised", "forgets", "ineffective", "over")
    looks = {name: lab(SEEN[seen] @ linear(palette[name])) for name in names}
    apart = {pair: float(np.linalg.norm(looks[pair[0]] - looks[pair[1]])) for pair in combinations(names, 2)}
    assert {pair: distance for pair, distance in apart.items() if distance < TOLD_APART} == {}
