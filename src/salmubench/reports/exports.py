"""The main table as text to paste: LaTeX for a paper, CSV for a spreadsheet (``markdown.py`` has it for an issue).

Names come from strangers' files; each text shows them as they are and runs nothing of them.
"""

import csv
import io

from salmubench.evaluation.metric import title
from salmubench.reports.redact import plain
from salmubench.reports.results import Column, Results, Run, number

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a spreadsheet's formula begins."""
_TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "`": r"\textasciigrave{}", "\u00a0": "~", "×": r"$\times$",
    "−": "$-$", "–": "--",
}  # fmt: skip


def latex(results: Results) -> str:
    """The table in booktabs' style, bounds on top, bold where a number is nearest to its target.

    Below each number stands its 95 % interval, or of several seeds the standard deviation. A package ``booktabs`` is
    all that it needs.
    """
    efficacy, utility = results.efficacy, results.utility
    columns = [*efficacy, *utility]
    best = {column.key: results.best(column) for column in columns}
    first = 2
    heads, rules = [], []
    for words, group in ((r"Efficacy $\to$ Clean", efficacy), (r"Utility $\to$ Compromised", utility)):
        if group:
            heads.append(rf"\multicolumn{{{len(group)}}}{{c}}{{{words}}}")
            rules.append(rf"\cmidrule(lr){{{first}-{first + len(group) - 1}}}")
            first += len(group)
    lines = [
        rf"\begin{{tabular}}{{l{'r' * len(columns)}}}",
        r"\toprule",
        f" & {' & '.join(heads)} \\\\",
        " ".join(rules),
        f"Run & {' & '.join(tex(plain(column.key, 24)) for column in columns)} \\\\",
        r"\midrule",
    ]
    for place, run in enumerate(results.everything):
        if place and place == len(results.bounds):
            lines.append(r"\midrule")
        values, spreads = [], []
        for column in columns:
            text = tex(number(run.value(column.key)))
            is_best = run not in results.bounds and run.report.name in best[column.key]
            values.append(rf"\textbf{{{text}}}" if is_best else text)
            spreads.append(_spread(run, column))
        name = tex(run.label if run not in results.bounds else run.name.capitalize())
        lines.append(f"{name} & {' & '.join(values)} \\\\")
        if any(spreads):
            lines.append(f" & {' & '.join(spreads)} \\\\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _spread(run: Run, column: Column) -> str:
    entry = run.entry(column.key)
    if entry is None or entry.value is None or entry.interval is None:
        return ""
    low, high = entry.interval
    words = rf"$\pm$ {high - entry.value:.3f}" if run.seeds > 1 else f"[{tex(number(low))}, {tex(number(high))}]"
    return rf"{{\scriptsize {words}}}"


def tex(text: str) -> str:
    """Text that LaTeX sets as it stands: no command, comment or formula of its own."""
    return "".join(_TEX.get(letter, letter) for letter in text)


def table_csv(results: Results) -> str:
    """One line a run and number, as data: run, seeds, verdict, metric, value, interval, target.

    Numbers have all their digits. A text that a spreadsheet would run as a formula gets an apostrophe before it.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("run", "seeds", "verdict", "metric", "value", "low", "high", "target"))
    for run in results.everything:
        verdict = run.verdict.label if run.verdict and run not in results.bounds else ""
        for column in (*results.efficacy, *results.utility):
            entry = run.entry(column.key)
            target = "clean" if column.efficacy else "compromised"
            for name, value in (entry.numbers() if entry else {"": None}).items():
                low, high = (entry.interval_of(name) if entry else None) or (None, None)
                metric = cell(title(plain(column.key, 24), plain(name, 24)))
                writer.writerow((cell(run.name), run.seeds, verdict, metric, value, low, high, target))
    return stream.getvalue()


def cell(text: str) -> str:
    """A text as a cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.lstrip().startswith(FORMULA) else text
