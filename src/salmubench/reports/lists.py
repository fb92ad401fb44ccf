"""What there is, as tables for the terminal: methods and metrics with their options."""

from rich.markup import escape
from rich.table import Column, Table

from salmubench.evaluation.metric import describe
from salmubench.evaluation.metric import metrics as known_metrics
from salmubench.options import option_help
from salmubench.unlearning.method import methods as known_methods


def methods() -> Table:
    """The unlearning methods with their source and options, variants under their method."""
    table = Table(Column("method", no_wrap=True), Column("what it does, its source, its options", overflow="fold"))
    for name in known_methods:
        entry = known_methods[name]
        options = (f"--set {key}={meaning}" for key, meaning in entry.option_help().items())
        words = "\n".join(map(escape, (entry.summary, entry.citation, *options)))
        table.add_row(f"└ {name}" if entry.variant_of else name, words, end_section=True)
    return table


def metrics() -> Table:
    """The metrics with their target, sets, range and version."""
    table = Table(Column("metric", no_wrap=True), "what it measures", "target", "sets", "range", "version")
    for spec in describe():
        limits = " to ".join(f"{end:g}" for end in spec.limits)
        table.add_row(spec.key, spec.title, spec.target, ", ".join(spec.sets), limits, str(spec.version))
    return table


def metric_options() -> Table:
    """What the paper leaves open in the metrics, with our default."""
    table = Table(Column("option (--set)", no_wrap=True), "default: meaning")
    for spec in describe():
        for name, meaning in option_help(known_metrics[spec.key].options).items():
            table.add_row(f"{spec.key}.{name}", escape(meaning))
    return table
