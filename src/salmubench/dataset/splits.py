"""Who is forgotten, who is held out, which pairs of a person stand on which side, and which retained pairs are fragile.

Identities split 50 % (halved inside) / 25 % / 25 %; 774 of them give 387 / 193 / 194. Rounding: half of the identities,
rounded down, are halved; half of the rest, rounded down, are forgotten whole; what is left is held out whole.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from salmubench.atomic import write_json
from salmubench.dataset.manifest import refresh_manifest
from salmubench.dataset.schema import (
    FIELDS,
    FRAGILE_IDS_FILE,
    FRAGILE_SIMILARITIES_FILE,
    SENSITIVE_SPLITS,
    AssociationSplit,
)
from salmubench.dataset.store import load_split
from salmubench.errors import UserError
from salmubench.seeds import generator


@dataclass(frozen=True)
class Pair:
    """What a sensitive pair is split by: its picture, its person and the field that its caption tells."""

    file_name: str
    identity_id: str
    data_field: str


def group_sizes(identities: int) -> tuple[int, int, int]:
    """How many identities are halved, forgotten whole and held out whole: 774 -> (387, 193, 194)."""
    halved = identities // 2
    whole = (identities - halved) // 2
    return halved, whole, identities - halved - whole


def group_people(identities: Sequence[str], *, seed: int = 42) -> tuple[list[str], list[str], list[str]]:
    """The people who are halved, forgotten whole and held out whole; their order does not matter.

    Raises:
        UserError: there are fewer than three.
    """
    if len(identities) < 3:
        raise UserError(f"{len(identities)} identities cannot be split 50/25/25; make at least three")
    halved, whole, _ = group_sizes(len(identities))
    ordered = sorted(identities)
    order = [ordered[place] for place in generator(seed, "splits", "identities").permutation(len(ordered))]
    return order[:halved], order[halved : halved + whole], order[halved + whole :]


def split_pairs(
    pairs: Sequence[Pair], *, seed: int = 42, association_split: AssociationSplit = "pair"
) -> dict[str, list[Pair]]:
    """Splits the sensitive pairs into forget, holdout_association and holdout_identity.

    The result depends on the set of pairs and the seed, not on the pairs' order. A halved person's pairs fall half and
    half: by pair, the odd one to forget; or by field, all pairs of a field on one side, four and four of the eight (of
    a person with fewer fields half, the odd one to forget).

    Returns:
        Split -> its pairs, sorted by file name.

    Raises:
        UserError: there is no such association split, a file name occurs twice, there are fewer than three identities,
            or a person that is to be halved has nothing to halve.
    """
    if association_split not in get_args(AssociationSplit):
        raise UserError(f"--association-split {association_split}: choose {' or '.join(get_args(AssociationSplit))}")
    people: dict[str, list[Pair]] = defaultdict(list)
    names: set[str] = set()
    for pair in sorted(pairs, key=lambda pair: (pair.identity_id, pair.file_name)):
        if pair.file_name in names:
            raise UserError(f"{pair.file_name}: occurs twice among the sensitive pairs; file names must be unique")
        names.add(pair.file_name)
        people[pair.identity_id].append(pair)
    halved, whole, held_out = group_people(list(people), seed=seed)
    splits: dict[str, list[Pair]] = {split: [] for split in SENSITIVE_SPLITS}
    for identity in halved:
        forgotten, kept = _halve(people[identity], seed, association_split)
        splits["forget"] += forgotten
        splits["holdout_association"] += kept
    for identity in whole:
        splits["forget"] += people[identity]
    for identity in held_out:
        splits["holdout_identity"] += people[identity]
    return {split: sorted(members, key=lambda pair: pair.file_name) for split, members in splits.items()}


def _halve(pairs: list[Pair], seed: int, association_split: AssociationSplit) -> tuple[list[Pair], list[Pair]]:
    """One person's pairs, sorted by file name, as (forget, holdout_association)."""
    identity = pairs[0].identity_id
    present = {pair.data_field for pair in pairs}
    units = [pair.file_name for pair in pairs] if association_split == "pair" else [f for f in FIELDS if f in present]
    if len(units) < 2:
        raise UserError(f"the person {identity} has {len(units)} {association_split}s; halving needs two")
    order = generator(seed, "splits", association_split, identity).permutation(len(units))
    forgotten = {units[place] for place in order[: math.ceil(len(units) / 2)]}
    sides: tuple[list[Pair], list[Pair]] = ([], [])
    for pair in pairs:
        unit = pair.file_name if association_split == "pair" else pair.data_field
        sides[unit not in forgotten].append(pair)
    return sides


def fragile_count(retain_disjoint: int, share: float = 0.05) -> int:
    """The size of the fragile set: ``share`` of retain_disjoint, rounded, at least one pair (15,741 -> 787)."""
    return max(1, round(share * retain_disjoint))


def choose_fragile(similarity: Mapping[str, float], share: float = 0.05) -> list[str]:
    """The file names of the weakest pairs, weakest first; ties by file name.

    Args:
        similarity: file name of each retain_disjoint picture -> cosine with its caption under Compromised.
        share: part of them that is fragile.

    Raises:
        UserError: there is nothing to choose from, or a similarity is not finite.
    """
    if not similarity:
        raise UserError("retain_disjoint has no pairs: there is no fragile set to choose")
    for name, value in similarity.items():
        if not math.isfinite(value):
            raise UserError(f"{name}: its similarity is {value}; the weights that scored it are broken")
    return sorted(similarity, key=lambda name: (similarity[name], name))[: fragile_count(len(similarity), share)]


def write_fragile(data: Path, similarity: Mapping[str, float]) -> list[str]:
    """Chooses the fragile set and writes both side files into ``data/salmubench``; the manifest follows.

    Args:
        data: the data set folder.
        similarity: file name of each retain_disjoint picture -> cosine with its caption under Compromised.

    Returns:
        The fragile file names, weakest first.

    Raises:
        UserError: the similarities are not those of retain_disjoint.
    """
    folder = data / "salmubench"
    retain, _ = load_split(folder, "retain_synth")
    disjoint = {name for name, who in zip(retain.file_name, retain.identity_id, strict=True) if who is None}
    if disjoint != set(similarity):
        odd = min(disjoint ^ set(similarity))
        raise UserError(f"{folder}: {odd} is scored but not in retain_disjoint or the reverse; score every pair of it")
    fragile = choose_fragile(similarity)
    files = [folder / FRAGILE_SIMILARITIES_FILE, folder / FRAGILE_IDS_FILE]
    write_json(files[0], {name: float(similarity[name]) for name in sorted(similarity)})
    write_json(files[1], fragile)
    refresh_manifest(data, files)
    return fragile
