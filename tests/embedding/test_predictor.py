"""The predictor: input order, length-sorted batches, distinct prompts, unchanged training mode."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from mmpt.embedding.predictor import PREDICTORS, Predictor
from mmpt.utils.errors import UserError
from tests.waiting import PATIENCE


class Towers(nn.Module):
    """Masked means with dropout behind them; remembers the batches it saw."""

    def __init__(self, width: int = 5, hidden: int = 7):
        super().__init__()
        self.video = nn.Linear(width, hidden)
        self.text = nn.Embedding(50, hidden)
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.Dropout(0.5)
        self.batches: list[tuple[int, int]] = []

    def encode_video(self, vfeats: torch.Tensor, vmasks: torch.Tensor) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        assert vmasks.any(dim=1).all() and vmasks.any(dim=0).all(), "padded beyond the batch's longest"
        self.batches.append(tuple(vmasks.shape))
        return self._mean(self.video(vfeats), vmasks)

    def encode_text(self, caps: torch.Tensor, cmasks: torch.Tensor) -> torch.Tensor:
        self.batches.append(tuple(cmasks.shape))
        return self._mean(self.text(caps), cmasks)

    def _mean(self, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        values = self.frozen(self.dropout(values)) * mask[..., None]
        return values.sum(dim=1) / mask.sum(dim=1, keepdim=True)


@pytest.fixture
def model() -> Towers:
    torch.manual_seed(0)
    return Towers().train()


def clips(lengths: list[int], width: int = 5) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.standard_normal((n, width)).astype(np.float32) for n in lengths]


def prompt(*ids: int, padded: int = 0) -> tuple[np.ndarray, np.ndarray]:
    caps = np.array([*ids] + [0] * padded)
    return caps, np.arange(len(caps)) < len(ids)


LENGTHS = [3, 9, 1, 9, 4, 30, 2, 5, 5, 8]


@pytest.mark.parametrize("batch_size", [1, 3, 64])
@pytest.mark.parametrize("pool", [1, 4, 1000])
def test_predictor_keeps_the_input_order(model: Towers, batch_size: int, pool: int) -> None:
    videos = clips(LENGTHS)
    got = Predictor(model, batch_size=batch_size, pool=pool).embed_videos(videos)
    wanted = [model.video(torch.from_numpy(clip)).mean(dim=0).detach().numpy() for clip in videos]
    assert got.dtype == np.float32 and got.shape == (10, 7)
    np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_predictor_reads_a_generator_in_pools(model: Towers) -> None:
    read = []

    def source() -> Iterator[np.ndarray]:
        for i, clip in enumerate(clips(LENGTHS)):
            read.append((i, len(model.batches)))
            yield clip

    got = Predictor(model, batch_size=2, pool=4).embed_videos(source())
    np.testing.assert_allclose(got, Predictor(model, batch_size=2).embed_videos(clips(LENGTHS)), atol=1e-6)
    assert [batches for _, batches in read] == [0] * 4 + [2] * 4 + [4] * 2


def test_predictor_sorts_batches_by_length(model: Towers) -> None:
    Predictor(model, batch_size=2).embed_videos(clips([1, 9, 1, 9, 2, 30]))
    assert sorted(model.batches, reverse=True) == [(2, 30), (2, 9), (2, 1)]  # two threads may overtake


def test_predictor_encodes_each_distinct_prompt_once(model: Towers) -> None:
    a, b, c = prompt(1, 2, 3), prompt(1, 2, 4, 5), prompt(9)
    texts = [a, b, a, c, prompt(1, 2, 3, padded=4), b]
    got = Predictor(model, batch_size=8).embed_texts(texts)
    assert model.batches == [(3, 4)]
    np.testing.assert_array_equal(got[0], got[2])
    np.testing.assert_array_equal(got[0], got[4])
    np.testing.assert_array_equal(got[1], got[5])
    wanted = [
        model.text(torch.tensor(ids)).mean(dim=0).detach().numpy() for ids in ([1, 2, 3], [1, 2, 4, 5], [9])
    ]
    np.testing.assert_allclose(got[[0, 1, 3]], wanted, atol=1e-6)


def test_predictor_accepts_tensors(model: Towers) -> None:
    videos, text = clips([2, 3]), prompt(4, 5)
    predictor = Predictor(model)
    tensors = [torch.from_numpy(clip) for clip in videos]
    np.testing.assert_array_equal(predictor.embed_videos(tensors), predictor.embed_videos(videos))
    as_tensors = (torch.from_numpy(text[0]), torch.from_numpy(text[1]))
    np.testing.assert_array_equal(predictor.embed_texts([as_tensors]), predictor.embed_texts([text]))


def test_predictor_restores_the_training_mode(model: Towers) -> None:
    model.frozen.eval()
    predictor = Predictor(model)
    predictor.embed_videos(clips([2]))
    assert model.training and model.dropout.training and not model.frozen.training
    with pytest.raises(UserError):
        predictor.embed_videos([*clips([2]), np.zeros((0, 5))])
    assert model.training and model.dropout.training and not model.frozen.training
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_predictor_errors(model: Towers) -> None:
    predictor = Predictor(model, batch_size=1, pool=1)
    with pytest.raises(UserError, match=r"clip number 1 .*dimension 4.* 5"):
        predictor.embed_videos([*clips([2]), *clips([2], width=4)])
    with pytest.raises(UserError, match="clip number 0"):
        predictor.embed_videos([np.zeros(5)])
    with pytest.raises(UserError, match="no clips"):
        predictor.embed_videos([])
    with pytest.raises(UserError, match="no prompts"):
        predictor.embed_texts([])
    with pytest.raises(UserError, match="prompt"):
        predictor.embed_texts([(np.array([1, 2]), np.array([True]))])
    with pytest.raises(UserError, match="batch size"):
        Predictor(model, batch_size=0)


def test_predictor_registry_name() -> None:
    assert PREDICTORS.get("RetrievalPredictor") is Predictor


class Meeting(Towers):
    """Every batch waits for another one; a clip of 13 frames is an error."""

    def __init__(self) -> None:
        super().__init__()
        self.barrier = threading.Barrier(2, timeout=PATIENCE)
        self.threads: set[int] = set()

    def encode_video(self, vfeats: torch.Tensor, vmasks: torch.Tensor) -> torch.Tensor:
        self.threads.add(torch.get_num_threads())
        if vmasks.shape[1] == 13:
            raise UserError("13 frames")
        self.barrier.wait()
        return super().encode_video(vfeats, vmasks)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def test_batches_are_computed_by_several_threads_with_the_same_result(two_threads: None) -> None:
    torch.manual_seed(0)
    meeting, made = Meeting(), clips([3, 9, 1, 9, 4, 30, 2, 5])
    together = Predictor(meeting, batch_size=2).embed_videos(made)
    assert meeting.threads == {1} and len(meeting.batches) == 4
    alone = Towers()
    alone.load_state_dict(meeting.state_dict())
    torch.set_num_threads(1)
    np.testing.assert_array_equal(together, Predictor(alone, batch_size=2).embed_videos(made))
    torch.set_num_threads(2)


def test_an_error_in_a_thread_ends_the_others_and_restores_the_threads(two_threads: None) -> None:
    meeting = Meeting()
    meeting.barrier.abort = meeting.barrier.wait = lambda: 0  # nobody waits
    with pytest.raises(UserError, match="13 frames"):
        Predictor(meeting, batch_size=1).embed_videos(clips([13] + [1] * 3000))
    assert len(meeting.batches) < 3000


@pytest.mark.parametrize(
    ("cores", "batches", "longest", "at_once"),
    [
        (2, 8, 10, 2),
        (2, 1, 10, 1),
        (16, 8, 10, 8),
        (16, 7, 10, 1),
        (2, 8, 128, 2),
        (2, 8, 129, 1),
        (1, 8, 1, 1),
    ],
)
def test_batches_at_once(monkeypatch, model, cores: int, batches: int, longest: int, at_once: int) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    assert Predictor(model, batch_size=64)._at_once(batches, longest) == at_once
    assert Predictor(model, "meta", batch_size=64)._at_once(batches, longest) == 1
