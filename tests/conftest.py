"""Fixtures that many tests share."""

import gc
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"  # no test may use the Hugging Face hub
del sys.argv[1:]  # scripts check them: they would refuse the empty word of `pytest -m ""`
for variable in ("SIGNCLIP_DATA", "SIGNCLIP_RUNS", "SIGNCLIP_TOKEN"):  # they would change what commands do
    os.environ.pop(variable, None)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # started with & by a shell: tests of Ctrl-C would hang
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Many containers forbid Python to keep what it compiled: the dozens that tests start would each do it again.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
if "PYTEST_XDIST_WORKER" in os.environ:  # tests side by side: a core each, for the commands they start too
    os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent

# What is imported stays, and each look for garbage among it takes half a second.
gc.disable()


def pytest_collection_finish() -> None:
    """Look for garbage among what the tests make only."""
    gc.freeze()
    gc.enable()


# ---- packages that not every Python has: a test that turns out to need one is skipped
NO_FAIRSEQ = find_spec("fairseq") is None


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    """Skip a module of tests that imports fairseq where it is not installed."""
    report = yield
    if NO_FAIRSEQ and report.failed and "No module named 'fairseq'" in str(report.longrepr):
        report.outcome, report.longrepr = "skipped", (str(collector.path), 0, "fairseq is not installed")
    return report


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """Skip a test that imports fairseq where it is not installed."""
    try:
        return (yield)
    except ModuleNotFoundError as error:
        if NO_FAIRSEQ and error.name == "fairseq":
            pytest.skip("fairseq is not installed")
        raise


@pytest.fixture(autouse=True)
def _training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip a test that trains in its own process where fairseq is not installed."""
    if NO_FAIRSEQ and (train := sys.modules.get("mmpt.cli.train")):
        monkeypatch.setattr(train, "_check_fairseq", lambda: pytest.skip("fairseq is not installed"))


@pytest.fixture(autouse=True)
def _no_handler_is_left() -> Generator[None, None, None]:
    """The handler of a command writes to the stderr of its test, which is closed after it.

    No level of our loggers is left either: it would hide messages that later tests expect. That of the root
    logger, which each command sets, is restored.
    """
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)
    for handler in [*root.handlers]:
        if type(handler) is logging.StreamHandler:
            root.removeHandler(handler)
    ours = [logging.getLogger(name) for name in root.manager.loggerDict if name.startswith("mmpt")]
    changed = [logger.name for logger in ours if logger.level]
    for name in changed:
        logging.getLogger(name).setLevel(logging.NOTSET)
    assert not changed


def skip_without_fairseq(output: str) -> None:
    """Skip the test if a command of it needed fairseq, which is not installed."""
    said = ("training needs fairseq, which is not installed", "No module named 'fairseq'")
    if NO_FAIRSEQ and any(line in output for line in said):
        pytest.skip("fairseq is not installed")


@pytest.fixture
def legacy() -> None:
    """Skip a test of the legacy Holistic where it is not installed."""
    from mmpt.extractors.holistic import has_legacy

    if not has_legacy():
        pytest.skip("the legacy Holistic (mediapipe 0.10.21) is not installed")


@pytest.fixture
def bundle() -> Path:
    """The models of the backend `tasks`. Skips a test where they or MediaPipe 1.x are not installed."""
    from mmpt.extractors.holistic_bundle import default_bundle

    try:
        installed = version("mediapipe")
    except PackageNotFoundError:
        installed = "0"
    if int(installed.partition(".")[0]) < 1:
        pytest.skip("MediaPipe 1.x is not installed")
    if not default_bundle().is_file():
        pytest.skip(f"there is no {default_bundle()} (scripts/fetch_holistic.py)")
    return default_bundle()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Small numeric fixtures in the repository."""
    return ROOT / "tests" / "data"


def _shared(folder: str) -> Path:
    path = ROOT.parent / "shared" / folder
    if not path.is_dir():
        pytest.skip(f"the folder shared/{folder} beside the checkout is not there")
    return path


def mmfusion_config(data_dir: Path) -> Any:
    """The Config of the weights in tests/data/mmfusion: right hands, towers of width 32."""
    from mmpt.config.schema import Config, DatasetConfig, ModelConfig

    dataset = DatasetConfig(
        meta_processor="RWTHFSMetaProcessor",
        video_processor="RWTHFSPoseProcessor",
        pose_components=["RIGHT_HAND_LANDMARKS"],
        max_video_len=128,
        max_len=32,
        bert_name=str(data_dir / "mmfusion" / "bert"),
    )
    return Config(dataset, ModelConfig(num_hidden_video_layers=2, vfeat_dim=63))


@pytest.fixture(scope="session")
def shared_reference() -> Path:
    """Outputs of the reference implementations, if available."""
    return _shared("reference")


@pytest.fixture(scope="session")
def shared_videos() -> Path:
    """A few real videos, if available."""
    return _shared("data")


TINY = """
dataset:
  meta_processor: FingerspellingMetaProcessor
  video_processor: PoseProcessor
  bert_name: {bert}
  pose_components: [RIGHT_HAND_LANDMARKS]
  augment2d: true
  max_video_len: 32
  max_len: 24
  letters: [A, B, C, D, E, F]
  train_languages: [svk, swl, psr]
  valid_languages: [asq]
  test_languages: [gsg]
  cache_dir: {cache}
model:
  num_hidden_video_layers: 2
  vfeat_dim: 63
fairseq:
  common:
    log_interval: 1000
    seed: 7
  dataset:
    batch_size: 4
  optimization:
    lr: [1.0e-03]
    clip_norm: 2.0
    optimizer: adam
    adam_betas: (0.9, 0.98)
    lr_scheduler: polynomial_decay
    total_num_update: 1000
    warmup_updates: 2
    max_epoch: 3
  checkpoint:
    no_epoch_checkpoints: true
    save_dir: {folder}/run
"""


@pytest.fixture(scope="session")
def pose_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pose cache that the tests share, so that each pose is parsed once."""
    return tmp_path_factory.mktemp("poses")


def write_tiny(folder: Path, data_dir: Path, pose_cache: Path) -> Path:
    """The config of the fixture tiny_yaml, in `folder`."""
    path = folder / "tiny.yaml"
    path.write_text(TINY.format(bert=data_dir / "mmfusion" / "bert", cache=pose_cache, folder=folder))
    return path


@pytest.fixture
def tiny_yaml(tmp_path: Path, data_dir: Path, pose_cache: Path) -> Path:
    """A task config whose model trains in seconds: 18 real clips of six letters, towers of width 32."""
    return write_tiny(tmp_path, data_dir, pose_cache)


def untrained(config_path: Path, folder: Path) -> Path:
    """A model folder with the untrained model of a config."""
    import torch

    from mmpt.config import load_config
    from mmpt.embedding.embedder import SignCLIP
    from mmpt.models import load_tokenizer
    from mmpt.models.folder import LoadedModel
    from mmpt.tasks import Task

    config = load_config(config_path)
    torch.manual_seed(0)
    parts = LoadedModel(
        Task(config).build_model(), config.model, config.dataset, load_tokenizer(config.dataset.bert_name)
    )
    SignCLIP(parts).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, data_dir: Path, pose_cache: Path) -> Path:
    """An untrained model of right hands, with towers of width 32."""
    folder = tmp_path_factory.mktemp("model")
    return untrained(write_tiny(folder, data_dir, pose_cache), folder / "model")


@pytest.fixture(scope="session")
def small_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six letters in four sign languages: 12 clips of train, 6 of valid, 6 of test."""
    from tests.processors.table_data import table_rows, write_table

    return write_table(tmp_path_factory.mktemp("table") / "table.csv", table_rows())


def quick_figures() -> dict[tuple[type, str], Any]:
    """Replacements of matplotlib's methods, by class and name, that leave rendering out.

    Figures are composed, but their files hold a few bytes: rendering takes most of their time.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

    return {
        (Figure, "findobj"): lambda *_: [],  # no text is looked up, so no tick is made
        (Figure, "draw_without_rendering"): lambda _: None,
        (Figure, "get_tightbbox"): lambda *_: Bbox.unit(),
        (FigureCanvasAgg, "print_figure"): lambda _, path, **options: Path(path).write_text("-"),
    }


@pytest.fixture(scope="session", autouse=True)
def _rendering() -> Generator[dict[tuple[type, str], Any], None, None]:
    """No figure is rendered; the methods that render."""
    quick = quick_figures()
    real = {place: getattr(*place) for place in quick}
    with pytest.MonkeyPatch.context() as patch:
        for place, function in quick.items():
            patch.setattr(*place, function)
        yield real


@pytest.fixture
def rendered(_rendering: dict[tuple[type, str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are rendered in the process of the test: for tests whose subject is a picture."""
    for place, function in _rendering.items():
        monkeypatch.setattr(*place, function)


#: one thread: several would sum in an order of their own, and fight over a busy machine
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def run_module(*command: str, cwd: Path = ROOT, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `python ...` as a user does, and return its output and exit status."""
    environment = {**ENVIRONMENT, **options.pop("env", {})}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **options,
    )
    skip_without_fairseq(done.stderr)
    return done
