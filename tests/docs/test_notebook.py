"""The example notebook runs from start to end."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

NOTEBOOK = ROOT / "docs" / "notebooks" / "search_signs.ipynb"


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the notebook runs, with an untrained model: the numbers differ, everything else is as shown."""
    monkeypatch.setenv("SIGNCLIP_MODEL", str(model_folder))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_notebook_code_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec("\n".join("".join(cell["source"]) for cell in code_cells()), {})
    check_output(capsys.readouterr().out)
    assert list(folder.glob("*/index"))


@pytest.mark.slow
def test_notebook_runs_in_jupyter(folder: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="the notebook needs requirements-docs.txt")
    client = pytest.importorskip("nbclient", reason="the notebook needs requirements-docs.txt")
    pytest.importorskip("ipykernel", reason="the notebook needs requirements-docs.txt")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
    check_output("".join(output["text"] for cell in notebook.cells for output in cell.get("outputs", [])))


def code_cells() -> list[dict[str, Any]]:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def check_output(shown: str) -> None:
    assert "78 clips" in shown and "78 vectors of dimension 32, flat, cosine" in shown


def test_notebook_shows_results_and_no_paths_of_a_machine() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert "V2T R@1 0." in text
    assert not [word for word in ("/tmp", "/home", "/root", "site-packages") if word in text]
    assert all(output["name"] == "stdout" for cell in code_cells() for output in cell["outputs"])
