"""scripts/export_lexicon.py."""

from mmpt.cli.check import main as check
from mmpt.processors.fingerspelling import FingerspellingMetaProcessor
from mmpt.processors.table_file import read_table
from mmpt.utils.files import sha256
from scripts.export_lexicon import main
from tests.processors.test_fingerspelling import CONFIG


def test_export_lexicon_table(tmp_path, unrendered):
    assert main(["--out", str(tmp_path)]) == 0
    table = read_table(tmp_path / "table.csv")
    for split in ("train", "valid", "test"):
        corpus = FingerspellingMetaProcessor.from_config(CONFIG, split, ".pose")
        known = {(sha256(e.path), e.mirror) for e in corpus.examples if e.group not in ("cse", "csq", "tsm")}
        ours = {(sha256(row.path), row.left_handed) for row in table.of_split(split)}
        assert ours <= known and (split == "train" or ours == known)
    assert [len(table.of_split(split)) for split in ("train", "valid", "test")] == [205, 52, 78]
    assert check([str(tmp_path / "table.csv"), "--workers", "0"]) == 0


def test_export_lexicon_everything(tmp_path):
    assert main(["--out", str(tmp_path), "--everything"]) == 0
    table = read_table(tmp_path / "table.csv")
    assert len(table.of_split("test")) == 78 and len({row.text for row in table.rows}) > 150
    assert len({row.signed_language for row in table.rows}) == 19
    assert all(row.path.is_file() and row.text.isascii() for row in table.rows)
