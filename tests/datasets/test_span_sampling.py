"""VideoCLIP's overlapped pairs of a caption and a part of its recording."""

import csv
from pathlib import Path

import numpy as np
import pytest

from mmpt.config import load_config
from mmpt.datasets.span_sampling import SpanLengths, SpanSampler
from mmpt.pose.span import Span
from mmpt.processors.example import Example
from mmpt.processors.recordings import recordings_request
from mmpt.tasks import Task
from mmpt.utils.errors import UserError
from tests.pose.pose_fakes import fake_clip, write_pose

FPS = 10.0
CAPTIONS = [(0, 900), (1000, 2500), (2400, 4000), (5000, 5050), (9000, 12000)]
"""Start and end in ms; the recording has 10 s."""


class Recording:
    """The Recordings of one file of 100 frames."""

    def __init__(self, fps: float | None = FPS, unit: str = "ms", frames: int = 100):
        scale = 1 if unit == "ms" else 0.01
        spans = [Span(round(a * scale), round(b * scale), unit) for a, b in CAPTIONS]
        self.examples = [Example(str(i), f"t{i}", Path("a.pose"), span=s) for i, s in enumerate(spans)]
        self._fps, self._frames = fps, frames

    def extent(self, index: int) -> tuple[int, float | None]:
        return self._frames, self._fps


def test_centres_are_uniform_in_the_text_and_lengths_between_the_bounds() -> None:
    sampler = SpanSampler(Recording(fps=1000.0, frames=10_000), SpanLengths(0.5, 1.5))
    rng = np.random.default_rng(0)
    drawn = [sampler.draw(1, rng) for _ in range(20_000)]
    assert all(each.captions == (1,) and each.text is None for each in drawn)
    first = np.array([each.frames.start for each in drawn], float)
    last = np.array([each.frames.stop for each in drawn], float)
    assert ((first < 2500) & (last > 1000)).all(), "every part overlaps the caption, frames 1000 to 2500"
    centres, lengths = (first + last) / 2, last - first
    near = np.histogram(centres, bins=5, range=(1000, 2500))[0] / len(drawn)
    np.testing.assert_allclose(near, 0.2, atol=0.01)
    sizes = np.histogram(lengths, bins=5, range=(500, 1500))[0] / len(drawn)
    np.testing.assert_allclose(sizes, 0.2, atol=0.01)
    assert abs(np.corrcoef(centres, lengths)[0, 1]) < 0.03


@pytest.mark.parametrize("texts", [1, 3, 50])
def test_parts_overlap_their_texts_and_stay_in_the_recording(texts: int) -> None:
    sampler = SpanSampler(Recording(), SpanLengths(0.1, 30.0), texts)
    rng = np.random.default_rng(0)
    counts = set()
    for index in range(len(CAPTIONS)):
        seen = set()
        for _ in range(300):
            drawn = sampler.draw(index, rng)
            assert index in drawn.captions and len(drawn.captions) <= texts
            assert list(drawn.captions) == list(range(drawn.captions[0], drawn.captions[-1] + 1))
            assert drawn.text == (
                " ".join(f"t{i}" for i in drawn.captions) if len(drawn.captions) > 1 else None
            )
            low, high = (min(round(CAPTIONS[drawn.captions[end]][end] / 100), 100) for end in (0, -1))
            assert 0 <= drawn.frames.start < drawn.frames.stop <= 100
            assert drawn.frames.start < max(high, low + 1) and drawn.frames.stop > low
            counts.add(len(drawn.captions))
            seen |= set(drawn.captions)
        if texts > 1:
            assert {index - 1, index + 1} & set(range(len(CAPTIONS))) <= seen, "neighbours of both sides"
    assert counts == set(range(1, min(texts, len(CAPTIONS)) + 1))
    assert sampler.longest == 100


def test_joined_texts_that_do_not_fit_are_shortened_to_the_clips_own() -> None:
    sampler = SpanSampler(Recording(), SpanLengths(1, 2), 5, lambda text: len(text) <= 5)
    drawn = [sampler.draw(2, np.random.default_rng(seed)) for seed in range(60)]
    assert {each.captions for each in drawn} == {(2,), (1, 2), (2, 3)}


def test_lengths_in_frames_and_seconds_without_a_frame_rate() -> None:
    features = Recording(fps=None, unit="frames")
    drawn = SpanSampler(features, SpanLengths(4, 4, in_frames=True)).draw(1, np.random.default_rng(0))
    assert drawn.frames.stop - drawn.frames.start == 4
    with pytest.raises(UserError, match=r"features have no frame rate: set dataset.span_frames"):
        SpanSampler(features, SpanLengths(1, 2))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of three captions in each of two recordings of 60 frames, of which one is left-handed."""
    folder = tmp_path_factory.mktemp("recordings")
    rows = []
    words = iter(["tree", "house", "water", "sun", "moon", "star"])
    for number, name in enumerate(("one", "two")):
        write_pose(folder / f"{name}.pose", fake_clip(60, seed=number))
        np.save(folder / f"{name}.npy", np.random.default_rng(number).normal(size=(60, 63)))
        for start in (0, 20, 40):
            row = {"id": f"{name}-{start}", "path": f"{name}.pose", "text": next(words), "split": "train"}
            row |= {"start_frame": start, "end_frame": start + 15}
            rows.append(row | {"signer": name, "left_handed": number})
    with open(folder / "table.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    text = (folder / "table.csv").read_text().replace(".pose", ".npy").replace("left_handed", "note")
    (folder / "features.csv").write_text(text)
    return folder


def task_of(tiny_yaml: Path, folder: Path, *overrides: str, table: str = "table.csv") -> Task:
    given = ["meta_processor=TableMetaProcessor", f"table_path={folder / table}", "span_sampling=videoclip"]
    given += ["flip_pose=null", "hand_frame=null", f"cache_dir={folder / 'cache'}"]
    return Task(load_config(tiny_yaml, [f"dataset.{each}" for each in [*given, *overrides]]))


POSES = ["video_processor=PoseProcessor", "span_seconds=[0.2,1.6]", "augment2d=false", "max_video_len=64"]


def test_samples_are_the_prepared_parts_and_depend_on_seed_epoch_and_index(
    tiny_yaml: Path, recordings: Path
) -> None:
    dataset = task_of(tiny_yaml, recordings, *POSES, "span_texts=2").dataset("train")
    again = task_of(tiny_yaml, recordings, *POSES, "span_texts=2").dataset("train")
    processor = task_of(tiny_yaml, recordings, *POSES).video_processor(training=False)
    again[5], again[0]
    texts = set()
    for index, example in enumerate(dataset.examples):
        sample = dataset[index]
        drawn = dataset._draws.spans.draw(index, dataset._generators(index)[1])
        span = Span(drawn.frames.start, drawn.frames.stop, "frames")
        expected = processor(example.path, mirror=example.mirror, span=span)
        np.testing.assert_allclose(sample["vfeats"], expected, atol=1e-5)
        assert sample["label"] == dataset.labels[index] and sample["text"].split()
        np.testing.assert_array_equal(again[index]["vfeats"], sample["vfeats"])
        assert again[index]["text"] == sample["text"]
        texts.add(len(sample["text"].split()))
    assert texts == {1, 2}
    again.set_epoch(2)
    assert any(again[i]["vfeats"].shape != dataset[i]["vfeats"].shape for i in range(len(dataset))), (
        "another epoch draws other parts"
    )


def test_evaluation_reads_the_captions_own_part(tiny_yaml: Path, recordings: Path) -> None:
    exact = task_of(tiny_yaml, recordings, *POSES).dataset("train", training=False)
    assert [len(exact[i]["vfeats"]) for i in range(len(exact))] == [15] * 6


def test_each_recording_is_stored_once_and_only_drawn_frames_are_read(
    tiny_yaml: Path, recordings: Path
) -> None:
    task = task_of(tiny_yaml, recordings, *POSES)
    dataset = task.dataset("train")
    request = recordings_request(task.video_processor(True), dataset.examples, task.config.dataset)
    assert len(request) == 2 and request.target.is_file()
    store = dataset.clips._store
    part = store.part(1, slice(10, 14))
    assert len(part) == 4 and part.data.base is not None, "a view"
    np.testing.assert_array_equal(part.data, store[1].data[10:14])
    assert (store.rates == fake_clip().fps).all()


def test_a_part_that_cannot_be_normalised_is_the_clip_itself(
    tiny_yaml: Path, tmp_path: Path, recordings: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clip = fake_clip(60, missing=0.0)
    confidence = clip.confidence.copy()
    confidence[20:] = 0
    data = clip.data * (confidence > 0)[..., None]
    write_pose(tmp_path / "one.pose", clip.with_data(data, confidence))
    lines = (recordings / "table.csv").read_text().splitlines()
    (tmp_path / "table.csv").write_text("\n".join([lines[0], lines[1]]).replace("15", "60") + "\n")
    options = [POSES[0], "span_frames=[3,3]", *POSES[2:]]
    dataset = task_of(tiny_yaml, tmp_path, *options).dataset("train")
    lengths = set()
    for epoch in range(1, 12):
        dataset.set_epoch(epoch)
        lengths.add(len(dataset[0]["vfeats"]))
    assert lengths - {2} == {3, 60}
    assert caplog.text.count("cannot be used") == 1 and "the clip itself is used" in caplog.text


def test_features_are_drawn_in_frames(tiny_yaml: Path, recordings: Path) -> None:
    features = ["video_processor=VideoProcessor", "augment2d=false", "span_frames=[4,9]"]
    dataset = task_of(tiny_yaml, recordings, *features, table="features.csv").dataset("train")
    whole = np.load(recordings / "one.npy").astype(np.float32)
    for index in range(3):
        drawn = dataset._draws.spans.draw(index, dataset._generators(index)[1])
        np.testing.assert_array_equal(dataset[index]["vfeats"], whole[drawn.frames])


@pytest.mark.parametrize(
    "overrides, words",
    [
        (["span_seconds=null"], "span_sampling needs the length of the parts"),
        (["span_frames=[1,2]"], "set either dataset.span_seconds or"),
        (["span_seconds=[2,1]"], r"got \[2.0, 1.0\]; expected \[min, max\]"),
        (["span_seconds=[1]"], r"expected \[min, max\]"),
        (["span_sampling=null", "span_texts=3"], "has no effect without dataset.span_sampling"),
        (["span_texts=3", "prompt_templates=['{text}','a {text}']"], "span_texts joins captions of one kind"),
    ],
)
def test_options_that_contradict_are_one_line(
    tiny_yaml: Path, recordings: Path, overrides: list[str], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        task_of(tiny_yaml, recordings, *POSES, *overrides)
