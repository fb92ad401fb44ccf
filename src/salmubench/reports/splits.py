"""Figure: the sets with their sizes, areas in proportion to pairs."""

from collections.abc import Mapping
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from salmubench.reports import style
from salmubench.reports.style import Figure, Omission

NAME = "splits"
TITLE = "Who is forgotten, who is held out, what must stay"
NEEDED = ("forget", "holdout_association", "holdout_identity", "retain_synth")


@dataclass(frozen=True)
class Tile:
    """A rectangle of the diagram in points, with what is written in it."""

    x: float
    y: float
    width: float
    height: float
    title: str
    pairs: int
    words: str
    colour: str
    strength: float


def splits_figure(sets: Mapping[str, int], people: Mapping[str, int]) -> Figure | Omission:
    """The diagram.

    Args:
        sets: pairs a set, as in a report's provenance.
        people: identities a sensitive split, where the data set is at hand; may be empty.
    """
    missing = [name for name in NEEDED if not sets.get(name)]
    if missing:
        return Omission(NAME, TITLE, f"The reports do not say how many pairs {', '.join(missing)} holds.")
    told = ", ".join(f"{name} {sets[name]:,}" for name in NEEDED)
    return Figure(
        name=NAME,
        title=TITLE,
        alt=f"Area diagram of the sets in pairs: {told}.",
        caption="Areas are in proportion to pairs. A method sees the forget set and retained data; the holdouts tell "
        "whether it erased more than it was asked to. The fragile set is the retained pairs that Compromised aligns "
        "worst.",
        draw=lambda width: _draw(sets, people, width),
    )


def _draw(sets: Mapping[str, int], people: Mapping[str, int], width: float) -> Canvas:
    wide = width > style.NARROW
    sensitive = sum(sets[name] for name in NEEDED[:3])
    area = width * (250 if wide else 330) / (sensitive + sets["retain_synth"])
    tiles, gap, head = [], 3.0, 22.0
    # The halved people stand left, forget half over held-out half; beside them those forgotten and held out whole.
    halved_forget = sets.get("forget_association", sets["forget"] // 2)
    whole_forget = sets["forget"] - halved_forget
    halved = halved_forget + sets["holdout_association"]
    height = area * sensitive / width
    columns = [width * part / sensitive for part in (halved, whole_forget, sets["holdout_identity"])]
    upper = height * halved_forget / halved
    orange, blue = style.COMPROMISED, style.CLEAN
    tiles.append(
        Tile(
            0, head, columns[0], upper, "forget", halved_forget, _who(people, "halved", "of halved people"), orange, 0.8
        )
    )
    tiles.append(Tile(0, head + upper, columns[0], height - upper, "holdout association", sets["holdout_association"],
                      "the same people's other half", blue, 0.45))  # fmt: skip
    tiles.append(Tile(columns[0], head, columns[1], height, "forget", whole_forget,
                      _who(people, "whole", "of people forgotten whole"), orange, 0.62))  # fmt: skip
    tiles.append(Tile(columns[0] + columns[1], head, columns[2], height, "holdout identity", sets["holdout_identity"],
                      _who(people, "held_out", "of people held out whole"), blue, 0.25))  # fmt: skip
    lower = head + height + 34
    depth = area * sets["retain_synth"] / width
    tiles += _retained(sets, width, lower, depth)
    figure, axes = style.sheet(width, lower + depth + (4 if depth > 40 else 46))
    style.say(axes, 0, 3, f"Sensitive: {sensitive:,} pairs, all trained into Compromised", weight="bold")
    style.say(
        axes, 0, lower - head + 3, f"Retained portraits: {sets['retain_synth']:,} pairs, in both models", weight="bold"
    )
    for tile in tiles:
        _tile(axes, tile, gap)
    return figure


def _who(people: Mapping[str, int], group: str, words: str) -> str:
    return f"{words.replace('of ', f'of {people[group]:,} ', 1)}" if people.get(group) else words


def _retained(sets: Mapping[str, int], width: float, top: float, height: float) -> list[Tile]:
    """Joint, disjoint and, inside disjoint, fragile; what is unknown is not drawn apart."""
    total, joint = sets["retain_synth"], sets.get("retain_joint", 0)
    fragile = sets.get("fragile_set", 0)
    parts = [
        ("retain joint", joint, "the set's people, generic captions", 0.75),
        ("retain disjoint", total - joint - fragile, "nobody of the set", 0.4),
        ("fragile", fragile, "weakest", 0.95),
    ]
    tiles, x = [], 0.0
    for title, pairs, words, strength in parts:
        if pairs > 0:
            tiles.append(
                Tile(x, top, width * pairs / total, height, title, pairs, words, style.VERDICTS["forgets"][0], strength)
            )
            x += width * pairs / total
    return tiles


def _tile(axes: Axes, tile: Tile, gap: float) -> None:
    """Draws a tile; its words stand inside where they fit, else the least of them, else below."""
    width, height = max(tile.width - gap, 1.0), max(tile.height - gap, 1.0)
    style.box(
        axes,
        tile.x,
        tile.y,
        width,
        height,
        radius=min(4, width / 3, height / 3),
        facecolor=tile.colour,
        alpha=tile.strength * 0.55,
    )
    inner = width - 16
    if inner < 44:
        short = f"{tile.title} {tile.pairs:,}"
        wide = style.text_width(short, 9)
        right = tile.x + wide > axes.get_xlim()[1]
        style.say(
            axes,
            tile.x + width if right else tile.x,
            tile.y + height + 4,
            short,
            size=9,
            ha="right" if right else "left",
        )
        return
    if height < 34:
        line, size = style.fit(f"{tile.title}  {tile.pairs:,}", inner, 10)
        style.say(axes, tile.x + 8, tile.y + height / 2 - size * 0.62, line, size=size, weight="bold")
        return
    y = style.say(axes, tile.x + 8, tile.y + 7, tile.title, size=10, weight="bold", width=inner, lines=2)
    if y + 14 < tile.y + height:
        y = style.say(axes, tile.x + 8, y + 1, f"{tile.pairs:,}", size=12)
    if y + 11 < tile.y + height:
        style.say(
            axes,
            tile.x + 8,
            y + 2,
            tile.words,
            size=8.5,
            width=inner,
            lines=max(1, int((tile.y + height - y - 4) // 11.5)),
        )
