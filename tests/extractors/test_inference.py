import threading
import time

import numpy as np
import pytest
import torch

from mmpt.extractors import I3D, S3D
from mmpt.extractors.i3d_extractor import I3DExtractor
from mmpt.extractors.inference import Inference, choose_dtype
from mmpt.extractors.networks.weights import fill_randomly
from mmpt.extractors.s3d_extractor import S3DExtractor
from mmpt.utils.errors import UserError
from tests.waiting import PATIENCE, wait_until

SHAPE = (4, 32, 32, 3)


def make(**options) -> Inference:
    network = S3D()
    fill_randomly(network, 0, 2.6)
    settings = {"device": torch.device("cpu"), "dtype": torch.float32} | options
    return Inference(network, 0.0, **settings)


def windows(count: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, SHAPE, np.uint8) for _ in range(count)]


def run_all(inference: Inference, inputs: list[np.ndarray]) -> dict[int, np.ndarray]:
    tokens: dict[int, np.ndarray] = {}
    done = threading.Event()

    def deliver(key, token):
        tokens[key] = token
        if len(tokens) == len(inputs):
            done.set()

    inference.start(deliver)
    try:
        for key, window in enumerate(inputs):
            inference.submit(key, window)
        assert done.wait(PATIENCE)
    finally:
        inference.stop()
    return tokens


def test_inference_tokens_equal_the_network(seed=0):
    inputs = windows(5)
    tokens = run_all(make(threads=2), inputs)
    network = S3D()
    fill_randomly(network, 0, 2.6)
    frames = torch.from_numpy(np.stack(inputs)).permute(0, 4, 1, 2, 3) / 255
    with torch.inference_mode():
        expected = network(frames).numpy()
    np.testing.assert_allclose(np.stack([tokens[key] for key in range(5)]), expected, rtol=1e-4, atol=1e-4)


def test_inference_token_does_not_depend_on_its_batch():
    inputs = windows(6)
    alone = [make(threads=1).run([window])[0] for window in inputs[:2]]
    together = run_all(make(threads=3), inputs)
    assert all(np.array_equal(together[key], alone[key]) for key in range(2))


def test_inference_always_computes_a_full_batch(monkeypatch):
    """As on a GPU: sums differ in the last bits with the size of a batch, so there is only one size."""
    inference = make()
    inference.batch = 4
    sizes = []
    network = inference.network
    inference.network = lambda frames: sizes.append(len(frames)) or network(frames)
    inputs = windows(3)
    assert inference.run(inputs).shape == (3, 512) and inference.run(inputs[:1]).shape == (1, 512)
    assert sizes == [4, 4]
    assert np.array_equal(inference.run(inputs[:1])[0], inference.run(inputs)[0])


def test_inference_queue_is_bounded():
    inference = make(threads=1)
    blocked = threading.Event()
    inference.run = lambda items: blocked.wait() and np.zeros((len(items), 512))
    inference.start(lambda key, token: None)
    submitted = []

    def feed():
        for key, window in enumerate(windows(20)):
            inference.submit(key, window)
            submitted.append(key)

    thread = threading.Thread(target=feed)
    thread.start()
    time.sleep(0.3)
    assert len(submitted) <= 4, "an hour of video would be held in memory"
    blocked.set()
    inference.stop()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def too_much(frames):
    raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize(
    ("network", "kind", "said"),
    [(lambda frames: torch.zeros(1)[5], IndexError, ""), (too_much, UserError, "--batch-size")],
)
def test_inference_error_is_delivered(network, kind, said):
    inference = make(threads=1)
    inference.network = network
    got = []
    inference.start(lambda key, token: got.append((key, token)))
    inference.submit("k", windows(1)[0])
    wait_until(lambda: got, "the error is delivered")
    inference.stop()
    assert got[0][0] == "k" and type(got[0][1]) is kind and said in str(got[0][1])


def test_inference_restores_the_number_of_threads(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda network, **options: network)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        inference = make(threads=2, compile_for=SHAPE)
        assert torch.get_num_threads() == 1, (
            "what is compiled keeps the number of threads it was compiled with"
        )
        run_all(inference, windows(3))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("fast", [True, False])
def test_inference_dtypes(monkeypatch, caplog, fast):
    """GPUs before Ampere and CPUs without AMX emulate bfloat16."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": fast})
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: fast or including_emulation
    )
    for device in (torch.device("cpu"), torch.device("cuda")):
        caplog.clear()
        assert choose_dtype("auto", device) == (torch.bfloat16 if fast else torch.float32)
        assert choose_dtype("float32", device) == torch.float32 and not caplog.records
        assert choose_dtype("bfloat16", device) == torch.bfloat16
        assert len(caplog.records) == (0 if fast else 1)
        with pytest.raises(UserError, match="--dtype float8"):
            choose_dtype("float8", device)


def cosines(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cosine_similarity(a - a.mean(), b - b.mean(), dim=1)


@pytest.mark.parametrize("kind", [S3DExtractor, I3DExtractor])
def test_inference_bfloat16_is_close_to_float32(shared_videos, kind):
    """The middle of a window, small, because most CPUs compute bfloat16 slowly."""
    extractor = kind("random:0", device="cpu")
    window = next(extractor.reader().windows(shared_videos / "sign_example.mp4"))
    frames = torch.from_numpy(window[:8, 96:128, 96:128]).permute(3, 0, 1, 2)[None] / 255 + extractor.offset
    with torch.inference_mode():
        exact = extractor.load().freeze()(frames)
        rounded = extractor.load().freeze(torch.bfloat16)(frames)
    assert rounded.dtype == torch.float32 and not torch.equal(exact, rounded)
    assert cosines(exact, rounded).min() > 0.999


@pytest.mark.slow
@pytest.mark.parametrize("kind", [S3DExtractor, I3DExtractor])
def test_inference_compiled_network(kind):
    extractor = kind("random:0", device="cpu", dtype="float32")
    reader = extractor.reader()
    rng = np.random.default_rng(0)
    window = rng.integers(0, 256, (reader.length, 224, 224, 3), np.uint8)
    compiled = kind("random:0", device="cpu", dtype="float32", compiled=True).network()
    expected = extractor.network().run([window])
    np.testing.assert_allclose(compiled.run([window]), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("option", ["threads", "batch"])
def test_extractor_refuses_sizes_out_of_range(option):
    with pytest.raises(UserError, match=f"^--{option}.* -1: expected "):
        S3DExtractor("random:0", **{option: -1})


def test_extractor_refuses_more_threads_than_the_cores_can_run():
    with pytest.raises(UserError, match=r"^--threads 100000: expected 0 to "):
        S3DExtractor("random:0", threads=100_000)


def test_inference_offset_of_i3d():
    assert (S3DExtractor.offset, I3DExtractor.offset) == (0.0, -0.5)
    network = I3D(num_classes=3)
    fill_randomly(network, 0, 2.0)
    seen = []
    inference = Inference(network, -0.5, torch.device("cpu"), torch.float32)
    inference.network = lambda frames: seen.append(frames) or torch.zeros(1, 3)
    window = np.zeros(SHAPE, np.uint8)
    window[..., 0] = 255
    inference.run([window])
    assert seen[0].shape == (1, 3, 4, 32, 32)
    assert seen[0][0, 0].unique().tolist() == [0.5] and seen[0][0, 1].unique().tolist() == [-0.5]
