"""docs/methods.md, written from the code: ``python -m salmubench.unlearning.page > docs/methods.md``."""

import inspect
from collections.abc import Sequence
from pathlib import Path

from salmubench.unlearning.method import SEEN, MethodEntry, methods
from salmubench.unlearning.run import unlearn

_HEAD = """# Unlearning methods

Written by `python -m salmubench.unlearning.page`; a test compares it with the code. `salmubench methods` lists them in
the terminal. A new method is one file: see the [README](../README.md#add-a-method).

S is the cosine matrix of a batch, pictures against captions; CLIP(.) is CLIP's symmetric cross-entropy over a batch.
u is the model that is changed, o the frozen original; Df is forget, Dr is retain. Every method starts from Compromised
and gets its data through one interface that opens forget and retain alone; while it runs, loading any other data set or
checkpoint (Clean, say) through this package raises. The rows that it looked at stand in `rows.parquet`, and `evaluate`
marks a checkpoint whose rows touch a holdout.

## Shared options

| option of `unlearn` | default | meaning |
| --- | --- | --- |
| `--budget` | {budget} | passes over forget, fractions allowed; as many retain pairs come with them |
| `--scope` | {scope} | what is trained: `full`; `vision` or `text`, one tower with its projection, the logit scale \
stays; `last-N`, the last N blocks of each tower and nothing else; `lora-R`, adapters of rank R, scaled by 1, beside \
the matrices of both towers' blocks ([peft](https://github.com/huggingface/peft), `pip install 'salmubench[lora]'`), \
merged at the end into a plain checkpoint |
| `--learning-rate` | {learning_rate} | AdamW's peak rate; adapters want a larger one |
| `--warmup-share` | {warmup_share} | share of the steps over which the rate rises linearly; then it falls as a cosine |
| `--weight-decay` | {weight_decay} | AdamW's, on matrices only |
| `--batch-size` | {batch_size} | forget pairs a step, and as many retain pairs |
| `--precision` | {precision} | or bf16 |
| `--seed` | {seed} | of all that is drawn |

A method that does not train takes no steps, whatever the budget: it looks at one pass over forget at most (at a part
with a budget below 1), and the record says what it consumed.
"""


def page() -> str:
    """The page as Markdown."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(unlearn).parameters.items()}
    return "\n".join((_HEAD.format(**defaults), _index(), *(_section(methods[name]) for name in methods)))


def _index() -> str:
    rows = [("method", "what it does", "source"), ("---",) * 3]
    for name in methods:
        entry = methods[name]
        kind = f" (variant of `{entry.variant_of}`)" if entry.variant_of else ""
        rows.append((f"[`{name}`](#{name}){kind}", entry.summary, entry.citation))
    return "## All methods\n\n" + _table(rows)


def _section(entry: MethodEntry) -> str:
    built = entry.build(entry.parse({}))
    seen = [SEEN[need] for need in built.needs]
    file = Path(inspect.getfile(entry.build)).name
    parts = [
        f"## {entry.name}\n",
        f"{inspect.cleandoc(type(built).__doc__ or entry.summary)}\n",
        f"Sees: {', '.join(seen)}. Source: {entry.citation}. "
        f"Code: [{file}](../src/salmubench/unlearning/methods/{file}).\n",
    ]
    if options := entry.option_help():
        cells = [(f"`{key}`", *text.split(": ", 1)) for key, text in options.items()]
        parts.append(_table([("`--set`", "default", "meaning"), ("---",) * 3, *cells]))
    return "\n".join(parts)


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    print(page(), end="")
