"""scripts/letter_spotting.py, with models that are not trained."""

from types import SimpleNamespace

import pytest

from scripts import join_letters, letter_spotting
from scripts.letter_spotting import main
from tests.letters import save_letter_model


@pytest.fixture(scope="module")
def model(tmp_path_factory, data_dir):
    return save_letter_model(tmp_path_factory.mktemp("letters") / "model", data_dir)


@pytest.mark.slow
def test_both_tables_are_printed_and_the_svm_is_above_chance(model, tmp_path, capsys):
    few = ["--valid", "2", "--test", "2", "--words", "6", "--out", str(tmp_path / "out")]
    assert main(["--models", str(model), *few]) == 0
    printed = capsys.readouterr().out
    assert printed.strip() == (tmp_path / "out" / "results.md").read_text().strip()
    cells = {line.split("|")[1].strip(): line.split("|")[2:] for line in printed.splitlines() if "|" in line}
    svm, chance = (float(cells[name][1].split()[0]) for name in ("SVM", "chance"))
    assert "joined by crossfade, with seed 1. In brackets: 95 % intervals" in printed
    assert "6 spelled words, 6 recordings" in printed and "every letter known" in cells
    assert svm > 0.3 and chance < 1


def test_models_that_know_the_languages_are_refused(tmp_path, data_dir, capsys, monkeypatch):
    languages = ("dataset.test_languages=[gsg]", "dataset.train_languages=[ase,eso]")
    path = save_letter_model(tmp_path / "model", data_dir, *languages)

    def run(words, **_):  # in this process
        return SimpleNamespace(returncode=join_letters.main(words[2:]))

    monkeypatch.setattr(letter_spotting, "subprocess", SimpleNamespace(run=run, DEVNULL=None))
    words = ["--models", str(path), "--valid", "1", "--test", "2", "--words", "6"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    assert "was trained on ase: its letters are not unseen" in capsys.readouterr().err
    assert not (tmp_path / "out" / "results.md").exists()
