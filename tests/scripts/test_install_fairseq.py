"""scripts/install_fairseq.py, and what `signclip train` says without fairseq."""

import base64
import csv
import hashlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mmpt.cli import train
from mmpt.utils.errors import UserError
from scripts import install_fairseq as script

FILES = {
    "fairseq/__init__.py": "name = 'fairseq'\n",
    "fairseq/data/data_utils_fast.cpython-312-x86_64-linux-gnu.so": "compiled",
    "top.cpython-312-x86_64-linux-gnu.so": "compiled",
    "ve_fairseq-0.12.3.dist-info/METADATA": "Metadata-Version: 2.1\nName: ve-fairseq\nVersion: 0.12.3\n"
    "Requires-Python: <3.13\n",
    "ve_fairseq-0.12.3.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: false\n"
    "Tag: cp312-cp312-manylinux_2_28_x86_64\nTag: cp312-cp312-linux_x86_64\n",
    "ve_fairseq-0.12.3.dist-info/RECORD": "",
}


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / script.WHEEL
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    return path


def test_fairseq_wheel_without_compiled_files_is_one_for_every_python(wheel: Path, tmp_path: Path) -> None:
    made = script.without_compiled_files(wheel, tmp_path)
    assert made.name == "ve_fairseq-0.12.3-py3-none-any.whl"
    with zipfile.ZipFile(made) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    assert files.keys() == {name for name in FILES if not name.endswith(".so")}
    tags = files["ve_fairseq-0.12.3.dist-info/WHEEL"].decode().splitlines()
    assert tags == ["Wheel-Version: 1.0", "Root-Is-Purelib: true", "Tag: py3-none-any"]
    for name, digest, size in csv.reader(io.StringIO(files["ve_fairseq-0.12.3.dist-info/RECORD"].decode())):
        if not name.endswith("RECORD"):
            expected = base64.urlsafe_b64encode(hashlib.sha256(files[name]).digest()).decode().rstrip("=")
            assert digest == f"sha256={expected}" and int(size) == len(files[name])
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--ignore-requires-python",
    ]
    subprocess.run([*pip, "--no-compile", "--target", str(tmp_path / "site"), str(made)], check=True)
    assert (tmp_path / "site" / "fairseq" / "__init__.py").read_text() == FILES["fairseq/__init__.py"]


def test_fairseq_wheel_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / script.WHEEL
    path.write_bytes(b"PK")
    with pytest.raises(UserError, match=r"cannot be read: expected ve_fairseq-0\.12\.3-cp312"):
        script.without_compiled_files(path, tmp_path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("fairseq/__init__.py", "")
    with pytest.raises(UserError, match="cannot be read"):
        script.without_compiled_files(path, tmp_path)


@pytest.mark.parametrize(
    "python, expected",
    [((3, 12, 1), '`pip install "mmpt[train]"`'), ((3, 13, 0), "`python scripts/install_fairseq.py`")],
)
def test_train_without_fairseq_says_why_and_what_to_do(tiny_yaml, monkeypatch, capsys, python, expected):
    monkeypatch.setattr(train.sys, "version_info", python)
    monkeypatch.setattr(train.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(train, "_check_fairseq", CHECK)
    assert train.main([str(tiny_yaml), "--in-process"]) == 2
    said = capsys.readouterr().err
    assert "training needs fairseq, which is not installed" in said and expected in said
    assert said.count("\n") == 1


def test_train_names_what_fairseq_imports(tiny_yaml, monkeypatch, capsys):
    """scripts/install_fairseq.py installs fairseq alone."""
    monkeypatch.setattr(train.importlib.util, "find_spec", lambda name: None if name == "sacrebleu" else name)
    monkeypatch.setattr(train, "_check_fairseq", CHECK)
    assert train.main([str(tiny_yaml), "--in-process"]) == 2
    said = capsys.readouterr().err
    assert "training needs sacrebleu, which is not installed: `pip install" in said and said.count("\n") == 1


CHECK = train._check_fairseq  # conftest.py replaces it where fairseq is not installed
