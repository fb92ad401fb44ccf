"""mkdocs hook: the pages that the code writes itself, so that none of them can be out of date."""

import ast
import importlib
import inspect
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer
from mkdocs.structure.files import File, Files
from typer.cli import get_docs_for_click

import salmubench
from salmubench.cli import app
from salmubench.evaluation.metric import describe, metrics
from salmubench.options import option_help

ROOT = Path(__file__).resolve().parents[2]
EXTENDING = {
    "salmubench.unlearning.method": ("method", "Method", "Step", "Features", "clip_loss"),
    "salmubench.evaluation.metric": ("metric", "MetricSpec", "MetricResult"),
}
"""What a new method or metric is made of, beside the package's public functions."""
WIDEST = 88
"""Letters of a signature that stands on one line."""
SECTIONS = ("Args", "Returns", "Raises", "Attributes")


def cli() -> str:
    """The command line, from typer's own description of it."""
    command = typer.main.get_command(app)
    context = command.make_context("salmubench", [], resilient_parsing=True)
    return get_docs_for_click(obj=command, ctx=context, name="salmubench", title="Command line")


def docstring(text: str) -> str:
    """A Google docstring as Markdown."""
    lines: list[str] = []
    inside = False
    for line in inspect.cleandoc(text).splitlines():
        heading = line.rstrip(":")
        if line.endswith(":") and heading in SECTIONS:
            lines += ["", f"**{heading}**", ""]
            inside = True
        elif inside and line.startswith("    ") and not line.startswith("     "):
            name, colon, words = line.strip().partition(": ")
            lines.append(f"- `{name}`: {words}" if colon and " " not in name else f"- {line.strip()}")
        elif inside and line.strip() and not line.startswith(" "):
            inside = False
            lines += ["", line]
        else:
            lines.append(f"    {line.strip()}" if inside and line.strip() else line)
    return re.sub(r"``(.+?)``", r"`\1`", "\n".join(lines))


def signature(name: str, thing: Any) -> str:
    """A function's or class's signature, an argument a line where it is long."""
    try:
        made = inspect.signature(thing)
    except ValueError:
        return f"class {name}"
    written = f"{'class' if inspect.isclass(thing) else 'def'} {name}{made}"
    if len(written) > WIDEST:
        end = "" if made.return_annotation is made.empty else f" -> {inspect.formatannotation(made.return_annotation)}"
        lines, starred = [], False
        for argument in made.parameters.values():
            if argument.kind is argument.KEYWORD_ONLY and not starred:
                lines.append("    *,")
                starred = True
            lines.append(f"    {argument},")
        written = "\n".join([written.partition("(")[0] + "(", *lines, f"){end}"])
    return written.replace("salmubench.", "")


def python() -> str:
    """The public functions, then what methods and metrics are made of."""

    def entry(name: str, thing: Any) -> str:
        return f"### {name}\n\n```python\n{signature(name, thing)}\n```\n\n{docstring(thing.__doc__ or '')}\n"

    parts = ["# Python", docstring(salmubench.__doc__ or ""), "## salmubench"]
    parts += [entry(name, getattr(salmubench, name)) for name in salmubench.__all__]
    for module, names in EXTENDING.items():
        home = importlib.import_module(module)
        parts += [f"## {module}", docstring(home.__doc__ or ""), *(entry(name, getattr(home, name)) for name in names)]
    return "\n\n".join(parts)


def metric_list() -> str:
    """The registered metrics and their options."""
    rows = ["# Metrics", "From the code; `salmubench metrics` prints the same.", ""]
    rows += ["| metric | what it measures | target | sets | range | version |", "| --- | --- | --- | --- | --- | --- |"]
    options = ["", "## Options", "", "| `evaluate --set` | default: meaning |", "| --- | --- |"]
    for spec in describe():
        page = f"metrics/{spec.key}.md"
        name = f"[{spec.key}](../{page})" if (ROOT / "docs" / page).is_file() else spec.key
        limits = " to ".join(f"{end:g}" for end in spec.limits)
        rows.append(f"| {name} | {spec.title} | {spec.target} | {', '.join(spec.sets)} | {limits} | {spec.version} |")
        for key, meaning in option_help(metrics[spec.key].options).items():
            options.append(f"| `{spec.key}.{key}` | {meaning.replace('|', chr(92) + '|')} |")
    return "\n".join(rows + options)


def _kind(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{json.dumps(value)}`" for value in schema.get("enum", [schema.get("const")]))
    if "anyOf" in schema:
        return " or ".join(_kind(part) for part in schema["anyOf"])
    kind = schema.get("type", "anything")
    inner = schema.get("items") or schema.get("additionalProperties")
    return f"{kind} of {_kind(inner)}" if isinstance(inner, dict) and inner else str(kind)


def _table(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f"\n### {name}\n\n{docstring(schema.get('description', ''))}\n"
    if schema.get("properties"):
        yield "| key | value | meaning |\n| --- | --- | --- |"
        for key, value in schema["properties"].items():
            needed = "" if key in schema.get("required", ()) else " (optional)"
            yield f"| `{key}`{needed} | {_kind(value)} | {' '.join(value.get('description', '').split())} |"


def schemas() -> str:
    """Every published JSON schema as tables, with the file itself beside it."""
    parts = ["# File formats"]
    for path in sorted((ROOT / "docs").glob("*.schema.json")):
        schema = json.loads(path.read_text(encoding="utf-8"))
        parts.append(f"\n## {path.name.removesuffix('.schema.json')}\n\nThe JSON schema: [{path.name}](../{path.name})")
        for name, part in {schema.get("title", "The file"): schema, **schema.get("$defs", {})}.items():
            parts += _table(name, part)
    return "\n".join(parts)


def numbers() -> str:
    """How each number in the docs is made: the demo's files, and what each benchmark says of itself."""
    rows = [
        "# Where each number comes from",
        "Each number in these pages is in a file that a run wrote, or is printed by a script.\n",
        "- The tables and figures of [the demo](../results/mini/README.md) are the files that `make demo` wrote.",
        "- The official evaluator's numbers for the published models, and the paper's recovered rows, are other "
        "people's: the pages that show them say so.",
        "- Worked examples of [the metrics](../metrics.md) are run by the tests.",
        "- Speeds are ratios of two things run side by side; the scripts of `benchmarks/` print them:\n",
        "| script | what it measures |",
        "| --- | --- |",
    ]
    for path in sorted((ROOT / "benchmarks").glob("*.py")):
        told = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        rows.append(f"| `benchmarks/{path.name}` | {' '.join(told.split()).replace('|', chr(92) + '|')} |")
    return "\n".join(rows)


def tutorial() -> str:
    """The notebook as a page: text as it stands, code in blocks."""
    notebook = json.loads((ROOT / "docs" / "tutorial.ipynb").read_text(encoding="utf-8"))
    parts = []
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    return "\n\n".join([*parts, "[This page as a notebook](tutorial.ipynb){ download }"])


PAGES: dict[str, Callable[[], str]] = {
    "reference/cli.md": cli,
    "reference/python.md": python,
    "reference/metrics.md": metric_list,
    "reference/schemas.md": schemas,
    "reference/numbers.md": numbers,
    "tutorial.md": tutorial,
}


def on_post_build(config: Any) -> None:
    """Writes the index of the search as a script too: a page from disk may fetch nothing."""
    index = Path(config.site_dir) / "search" / "search_index.json"
    index.with_suffix(".js").write_text(f"var __index = {index.read_text(encoding='utf-8')}", encoding="utf-8")


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages; none of them is a file of the repository."""
    for uri, write in PAGES.items():
        files.append(File.generated(config, uri, content=write()))
    return files
