"""Runs that differ in nothing but their seed, as one line: the mean, with the spread between the seeds.

A run's settings stand in its record, which the report carries; ``DECIDES`` names those that decide what it is.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from salmubench.evaluation.report import Group, MetricEntry, Report
from salmubench.reports.redact import plain

DECIDES = (
    "method", "method_sha256", "options", "scope", "budget", "learning_rate", "batch_size", "warmup_share",
    "weight_decay", "precision", "chunks", "processes", "compiled", "model_sha256", "data_sha256",
)  # fmt: skip
"""``unlearning.record.Settings`` without the seed (a test holds it to that: importing it here would import torch)."""
TOLD = ("options", "scope", "learning_rate", "batch_size", "warmup_share", "weight_decay", "precision")
"""Settings that tell two runs of one method and budget apart, in the order in which a name tells them."""
BOUNDS = ("clean", "compromised")


@dataclass(frozen=True)
class Recipe:
    """What was run: the method, its budget and the rest of its settings."""

    method: str
    budget: float | None
    rest: Mapping[str, Any]

    @property
    def family(self) -> tuple[str, str]:
        """Equal for runs that differ in budget and seed alone."""
        return self.method, repr(sorted((key, repr(value)) for key, value in self.rest.items()))


def recipe(report: Report) -> Recipe:
    """A report's recipe: from the record of its run, else from a name such as ``delete-2x``."""
    record = report.provenance.unlearning or {}
    found = re.fullmatch(r"(.+?)-(\d{1,6}(?:\.\d{1,6})?)x", report.name)
    name, budget = (found[1], float(found[2])) if found else (report.name, None)
    told = record.get("budget")
    if isinstance(record.get("method"), str) and isinstance(told, (int, float)) and not isinstance(told, bool):
        rest = {key: record[key] for key in DECIDES if key in record and key not in ("method", "budget")}
        return Recipe(record["method"], float(told), rest)
    return Recipe(name, budget, {})


def by_seed(reports: Sequence[Report]) -> list[tuple[int, ...]]:
    """Groups of reports, by their places, that repeat one recipe with different seeds; others stand alone."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for place, report in enumerate(reports):
        record, known = report.provenance.unlearning or {}, recipe(report)
        repeats = report.name not in BOUNDS and known.rest and isinstance(record.get("seed"), int)
        groups.setdefault((*known.family, known.budget) if repeats else (place,), []).append(place)
    found: list[tuple[int, ...]] = []
    for group in groups.values():
        seeds = {(reports[place].provenance.unlearning or {}).get("seed") for place in group}
        found += [tuple(group)] if len(seeds) == len(group) else [(place,) for place in group]
    return sorted(found)


def names(groups: Sequence[Sequence[Report]]) -> list[str]:
    """A name for each group: its report's own, or the method and its budget.

    The latter where several seeds are one, or where a sweep named the run by its content. What is unusual among such
    lines of that method and budget is added, e.g. ``delete-2x (learning_rate 0.0001)``.
    """
    recipes = [recipe(group[0]) for group in groups]
    made = [len(group) > 1 or _by_content(group[0].name, known) for group, known in zip(groups, recipes, strict=True)]
    own = {group[0].name for group, new in zip(groups, made, strict=True) if not new}
    found = []
    for group, known, new in zip(groups, recipes, made, strict=True):
        if not new:
            found.append(group[0].name)
            continue
        rivals = [other.rest for other, rival in zip(recipes, made, strict=True)
                  if rival and (other.method, other.budget) == (known.method, known.budget)]  # fmt: skip
        odd = [key for key in TOLD if not _usual(known.rest.get(key), [other.get(key) for other in rivals])]
        name = plain(known.method, 60) + ("" if known.budget is None else f"-{known.budget:g}x")
        told = [words for key in odd for words in _told(key, known.rest, rivals)]
        told = told or [f"{len(group)} seeds"] * (name in own)
        found.append(f"{name} ({', '.join(told)})" if told else name)
    return [group[0].name if len(group) == 1 and found.count(name) > 1 else name
            for group, name in zip(groups, found, strict=True)]  # fmt: skip


def _by_content(name: str, known: Recipe) -> bool:
    """Whether it is a name such as ``salmubench sweep`` gives: method, budget and a hash."""
    return known.budget is not None and bool(
        re.fullmatch(rf"{re.escape(known.method)}-{re.escape(f'{known.budget:g}')}x-[0-9a-f]{{10}}", name)
    )


def _usual(value: Any, all_of: Sequence[Any]) -> bool:
    """Whether most have it."""
    return 2 * len([other for other in all_of if other == value]) > len(all_of)


def _told(key: str, mine: Mapping[str, Any], rivals: Sequence[Mapping[str, Any]]) -> list[str]:
    """A setting in which runs differ; of a method's options those that differ."""
    value, others = mine.get(key), [rival.get(key) for rival in rivals]
    options = [other for other in others if isinstance(other, Mapping)]
    if isinstance(value, Mapping) and len(options) == len(others):
        odd = [name for name in value if not _usual(value[name], [other.get(name) for other in options])]
        return [f"{plain(str(name), 20)} {_value(value[name])}" for name in odd]
    return [f"{key} {_value(value)}"]


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key}={_value(each)}" for key, each in value.items()) or "none"
    return f"{value:g}" if isinstance(value, float) else plain(str(value), 40)


def mean(reports: Sequence[Report], name: str) -> Report:
    """The mean of several seeds as a report; its intervals are the mean less and plus one standard deviation.

    It carries no verdict: whoever has the bounds judges the means. Its provenance is the first seed's.
    """
    first = reports[0]
    touched = [report.provenance.touched_holdout for report in reports]
    facts = {"touched_holdout": True if True in touched else None if None in touched else False}
    keys = [key for key in first.metrics if all(key in report.metrics for report in reports)]
    return first.model_copy(
        update={
            "name": name,
            "metrics": {key: _mean_entry([report.metrics[key] for report in reports]) for key in keys},
            "verdict": None,
            "provenance": first.provenance.model_copy(update=facts),
        }
    )


def _mean_entry(entries: Sequence[MetricEntry]) -> MetricEntry:
    skipped = next((entry for entry in entries if entry.value is None), None)
    if skipped is not None:
        return skipped
    shared = set.intersection(*(set(entry.numbers()) for entry in entries)) - {""}
    value, spread = _spread([entry.value for entry in entries if entry.value is not None])
    more = {number: _spread([entry.numbers()[number] for entry in entries]) for number in sorted(shared)}
    parts = {
        part: {
            group: _mean_group([getattr(entry, part)[group] for entry in entries])
            for group in getattr(entries[0], part)
            if all(group in getattr(entry, part) for entry in entries)
        }
        for part in ("by_field", "by_style")
    }
    return MetricEntry(
        value=value, interval=spread, version=entries[0].version, target=entries[0].target, rows=entries[0].rows,
        options=entries[0].options, intervals={number: bounds for number, (_, bounds) in more.items()}, **parts,
        **{number: middle for number, (middle, _) in more.items()},
    )  # fmt: skip


def _mean_group(groups: Sequence[Group]) -> Group:
    value, spread = _spread([group.value for group in groups])
    return Group(rows=groups[0].rows, value=value, interval=spread)


def _spread(values: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Mean, and mean less and plus the sample standard deviation."""
    middle, deviation = float(np.mean(values)), float(np.std(values, ddof=1))
    return middle, (middle - deviation, middle + deviation)
