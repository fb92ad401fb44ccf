"""The house rules that a machine can see: rooms import downwards, files and functions stay short."""

import ast
from pathlib import Path

import pytest

import salmubench

HOUSE = Path(salmubench.__file__).parent
FILES = sorted(HOUSE.rglob("*.py"))
FLOOR = {
    "__main__": 7, "cli": 6, "data_cli": 5, "doctor_cli": 5, "train_cli": 5, "demo": 5, "reports": 4, "studies": 4,
    "personas": 3, "unlearning": 3, "evaluation": 3, "encoders": 2,
}  # fmt: skip
"""Rooms by floor; what is not named here, dataset/ and the small shared ideas, stands on floor 1."""


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def module_of(path: Path) -> str:
    return ".".join(["salmubench", *path.relative_to(HOUSE).with_suffix("").parts]).removesuffix(".__init__")


def imported(tree: ast.AST) -> set[str]:
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    return {name for name in names if name.startswith("salmubench.")}


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_a_room_imports_lower_floors_alone(path: Path) -> None:
    here = room(module_of(path))
    if not here:  # the package's own __init__ names the public surface, imported when first used
        return
    for name in imported(ast.parse(path.read_text())):
        there = room(name)
        assert there == here or FLOOR.get(there, 1) < FLOOR.get(here, 1) or FLOOR.get(there, 1) == 1, f"{path}: {name}"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert lines <= 60, f"{path}: {node.name} has {lines} lines"
