"""The wheel, installed in an environment of its own, far from the checkout."""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import mmpt
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # setuptools leaves a build/ folder in the tree that it builds
    kept = shutil.ignore_patterns(
        ".*", "runs", "data", "build", "tests", "vendor", "__pycache__", "*.egg-info", "site"
    )
    shutil.copytree(ROOT, source, ignore=kept)
    left = source / "build" / "lib" / "mmpt" / "cli" / "left_by_an_earlier_build.py"
    left.parent.mkdir(parents=True)
    left.touch()
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", str(source)]
    subprocess.run([*build, "-w", str(folder)], check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def signclip(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command in an environment that has the wheel, and this one's libraries but not its checkout."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "-q"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True)
    site = next((folder / "lib").glob("python*/site-packages"))
    # .pth files in that folder, such as the checkout's, are not read
    (site / "libraries.pth").write_text(f"{Path(pytest.__file__).parents[1]}\n")
    return folder / "bin" / "signclip"


def run(signclip: Path, folder: Path, *words: str, **options: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SIGNCLIP_RUNS": str(folder / "runs"), "PYTHONPATH": ""}
    done = subprocess.run(
        [signclip, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def test_wheel_holds_every_config_and_the_licence(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("configs", "projects/signclip"):
        for path in (ROOT / folder).rglob("*.yaml"):
            assert f"mmpt/package_configs/{path.relative_to(ROOT)}" in names
    assert "mmpt/package_configs/configs/published_rwthfs.csv" in names and "mmpt/py.typed" in names
    for path in (ROOT / "mmpt" / "page" / "static").glob("*.*"):
        assert f"mmpt/page/static/{path.name}" in names
    assert any(name.endswith("LICENSE") for name in names)
    assert not any(name.startswith(("tests/", "scripts/")) or "left_by" in name for name in names)


def test_version_is_the_same_everywhere(wheel: Path) -> None:
    assert wheel.name.startswith(f"mmpt-{mmpt.__version__}-")
    assert f"\nversion: {mmpt.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_wheel_runs_outside_the_checkout(signclip: Path, tmp_path: Path) -> None:
    where = [str(signclip.with_name("python")), "-c", "import mmpt; print(mmpt.__file__)"]
    file = subprocess.run(
        where, cwd=tmp_path, env={"PYTHONPATH": ""}, capture_output=True, text=True, check=True
    ).stdout
    assert str(signclip.parents[1]) in file
    assert "experiment ablate" in run(signclip, tmp_path).stdout
    assert "package:fslex_demo" in run(signclip, tmp_path, "config", "list").stdout
    # imports torch, and with it what a wheel without a package would lack
    assert "no errors" in run(signclip, tmp_path, "config", "check", "package:test_rwthfs_zs").stdout


@pytest.mark.slow
def test_wheel_trains_evaluates_and_classifies(signclip: Path, tmp_path: Path) -> None:
    """The demo in short: two updates, not two minutes."""
    (tmp_path / "types.py").write_text("raise SystemExit(5)\n")  # of the user; no process may import it
    short = ["fairseq.optimization.max_update=2", "fairseq.optimization.max_epoch=1"]
    trained = run(signclip, tmp_path, "train", "package:fslex_demo", *short)
    assert "P@1" in trained.stdout
    assert " 1. " in run(signclip, tmp_path, "demo", "--out", "clip.png").stdout
    assert (tmp_path / "clip.png").stat().st_size > 10_000
    runs = str(tmp_path / "runs" / "fslex_demo")
    run(
        signclip,
        tmp_path,
        "convert",
        f"{runs}/checkpoint_best.pt",
        "--config",
        "package:fslex_demo",
        "--out",
        "m",
    )
    (tmp_path / "prompts.txt").write_text("the letter A\nthe letter B\n")
    run(signclip, tmp_path, "embed", "--model", "m", "--in", "prompts.txt", "--out", "prompts")
    run(signclip, tmp_path, "search", "build", "prompts", "--out", "index", "--ids", "prompts/ids.csv")
