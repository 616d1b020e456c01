"""scripts/export_lexicon.py."""

import shutil

import pytest

from mmpt.cli.check import main as check
from mmpt.processors.fingerspelling import FingerspellingMetaProcessor
from mmpt.processors.table_file import read_table
from mmpt.utils.files import sha256
from scripts.export_lexicon import main
from tests.processors.test_fingerspelling import CONFIG


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lexicon")
    assert main(["--out", str(folder)]) == 0
    return folder


def test_export_lexicon_table(exported):
    table = read_table(exported / "table.csv")
    for split in ("train", "valid", "test"):
        corpus = FingerspellingMetaProcessor.from_config(CONFIG, split, ".pose")
        known = {(sha256(e.path), e.mirror) for e in corpus.examples if e.group not in ("cse", "csq", "tsm")}
        ours = {(sha256(row.path), row.left_handed) for row in table.of_split(split)}
        assert ours <= known and (split == "train" or ours == known)
    assert [len(table.of_split(split)) for split in ("train", "valid", "test")] == [205, 52, 78]
    assert check([str(exported / "table.csv"), "--workers", "0"]) == 0


def test_export_lexicon_everything(tmp_path):
    assert main(["--out", str(tmp_path), "--everything"]) == 0
    table = read_table(tmp_path / "table.csv")
    assert len(table.of_split("test")) == 78 and len({row.text for row in table.rows}) > 150
    assert len({row.signed_language for row in table.rows}) == 19
    assert all(row.path.is_file() and row.text.isascii() for row in table.rows)


def test_export_lexicon_replaces_its_own_files_only(exported, tmp_path, capsys):
    pose = tmp_path / "mine" / "poses" / "ase_A.pose"
    pose.parent.mkdir(parents=True)
    pose.write_bytes(b"mine")
    assert main(["--out", str(tmp_path / "mine")]) == 2
    assert "holds 'poses/ase_A.pose', which does not belong to the lexicon" in capsys.readouterr().err
    assert pose.read_bytes() == b"mine" and not (tmp_path / "mine" / "table.csv").exists()
    out = shutil.copytree(exported, tmp_path / "out")
    (out / "poses" / "mine.pose").write_bytes(b"mine")
    pose = out / "poses" / "ase_A.pose"
    earlier = pose.stat().st_ino
    assert main(["--out", str(out)]) == 0
    assert pose.stat().st_ino != earlier and (out / "poses" / "mine.pose").read_bytes() == b"mine"
    (out / "table.csv").write_text("corrected by hand")
    assert main(["--out", str(out)]) == 2
    assert (out / "table.csv").read_text() == "corrected by hand"


def test_export_lexicon_of_other_clips_needs_force(exported, tmp_path, capsys):
    out = shutil.copytree(exported, tmp_path / "out")
    before = (out / "table.csv").read_bytes()
    assert main(["--out", str(out), "--everything"]) == 2
    assert "clips: none there, all now" in capsys.readouterr().err
    assert (out / "table.csv").read_bytes() == before
    assert main(["--out", str(out), "--everything", "--force"]) == 0
