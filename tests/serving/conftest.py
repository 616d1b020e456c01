"""A server over an untrained model, an index of real clips, and a check of their table."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmpt.embedding.embedder import SignCLIP
from mmpt.processors.table_file import read_table
from mmpt.search import Embeddings, Index, build_index
from tests.serving.servers import Server, serving

PROMPTS = [f"Fingerspell the letter {letter}." for letter in "ABCDEF"]


@pytest.fixture(autouse=True)
def _no_event_loop() -> Iterator[None]:
    """As in a terminal: the loop of playwright, which browser tests start, runs until the tests end."""
    running = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    yield
    asyncio._set_running_loop(running)


@pytest.fixture(scope="package")
def model(model_folder: Path) -> SignCLIP:
    """The model of the server, as the library loads it."""
    return SignCLIP.from_pretrained(model_folder, "cpu")


@pytest.fixture(scope="package")
def poses(small_table: Path) -> dict[str, Path]:
    """24 clips by id."""
    return {row.id: row.path for row in read_table(small_table).rows}


@pytest.fixture(scope="package")
def index(model: SignCLIP, poses: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Index:
    """An index of the clips."""
    vectors = model.embed_pose(list(poses.values()))
    source = Embeddings(vectors, list(poses), model.fingerprint)
    return build_index([source], tmp_path_factory.mktemp("serving") / "index")


@pytest.fixture(scope="package")
def server(
    model_folder: Path, index: Index, small_table: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server with small limits."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "prompts.txt").write_text("\n".join(PROMPTS))
    check = folder / "check"
    check.mkdir()
    (check / "check.md").write_text("# a check\n")
    (check / "lengths.png").write_bytes(b"\x89PNG")
    limits = ["--max-bytes", 4 << 20, "--max-frames", 500, "--max-clips", 8, "--max-prompts", 50]
    limits += ["--max-characters", 300, "--max-seconds", 60, "--max-requests", 40]
    sources = ["--model", model_folder, "--index", index.folder, "--clips", small_table, "--data", check]
    with serving(*sources, "--prompts", folder / "prompts.txt", *limits) as running:
        yield running
        assert "Traceback" not in running.log
