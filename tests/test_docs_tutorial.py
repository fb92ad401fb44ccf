"""The tutorial notebook runs from its first cell to its last, in a kernel of its own, and is stored without outputs."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs" / "tutorial.ipynb"


def test_it_is_stored_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)


@pytest.mark.slow
def test_it_runs_from_people_to_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    again = next(place for place, cell in enumerate(notebook.cells) if "@method(" in cell.source)
    notebook.cells.insert(again + 1, nbformat.v4.new_code_cell(notebook.cells[again].source))  # as a reader would
    NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}, env=dict(os.environ)
    ).execute()
    page = tmp_path / "tutorial" / "site" / "index.html"
    assert "gentle-push" in page.read_text(encoding="utf-8")
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert any("image/jpeg" in output.get("data", {}) for output in outputs)
    table = next(output["data"]["text/plain"] for output in outputs if "RetFail" in str(output.get("data")))
    assert all(name in table for name in ("clean", "compromised", "gentle-push\u00a02×", "delete\u00a02×"))
