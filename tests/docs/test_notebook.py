"""The example notebook runs from start to end."""

import json
from pathlib import Path

import pytest

from tests.conftest import ROOT

NOTEBOOK = ROOT / "docs" / "notebooks" / "search_signs.ipynb"


def test_notebook_runs(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an untrained model: the numbers differ, everything else is as shown."""
    nbformat = pytest.importorskip("nbformat", reason="the notebook needs requirements-docs.txt")
    client = pytest.importorskip("nbclient", reason="the notebook needs requirements-docs.txt")
    pytest.importorskip("ipykernel", reason="the notebook needs requirements-docs.txt")
    monkeypatch.setenv("SIGNCLIP_MODEL", str(model_folder))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = "".join(output["text"] for cell in notebook.cells for output in cell.get("outputs", []))
    assert "78 clips" in shown and "78 vectors of dimension 32, flat, cosine" in shown


def test_notebook_shows_results_and_no_paths_of_a_machine() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert "V2T R@1 0." in text
    assert not [word for word in ("/tmp", "/home", "/root", "site-packages") if word in text]
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert all(output["name"] == "stdout" for cell in cells for output in cell["outputs"])
