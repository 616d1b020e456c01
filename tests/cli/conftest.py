"""A trained model that tests of several commands begin with."""

import subprocess
from pathlib import Path

import pytest

from tests.commands import O, train
from tests.conftest import write_tiny


@pytest.fixture(scope="session")
def finished(
    tmp_path_factory: pytest.TempPathFactory, data_dir: Path, pose_cache: Path
) -> tuple[Path, Path, "subprocess.CompletedProcess[str]"]:
    """The config of tiny_yaml, the folder of its run of one epoch (five updates), and what it printed."""
    folder = tmp_path_factory.mktemp("finished")
    path = write_tiny(folder, data_dir, pose_cache)
    done = train(path, f"{O}.max_epoch=1")
    assert done.returncode == 0, done.stderr
    return path, folder / "run", done
