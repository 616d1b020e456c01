import functools
import hashlib
import logging
import os
import pickle
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mmpt.pose import store as store_module
from mmpt.pose.components import LEFT_HAND, RIGHT_HAND
from mmpt.pose.normalization import normalize_shoulders
from mmpt.pose.reader import read_pose
from mmpt.pose.store import PoseStore, StoreRequest
from mmpt.pose.store_file import InvalidStoreError, StoreFile
from mmpt.utils.errors import MissingDataError, UserError
from tests.pose.pose_fakes import assert_masked, fake_clip, without, write_pose
from tests.waiting import PATIENCE

KEY = {"version": 1}


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "poses"
    folder.mkdir()
    return [write_pose(folder / f"{i} ä.pose", fake_clip(frames=3 + i, seed=i)) for i in range(6)]


class Counted:
    """prepare(), with a list of what it was called for."""

    def __init__(self):
        self.calls = []

    def __call__(self, path, mirror=False):
        self.calls.append((Path(path).name, mirror))
        return normalize_shoulders(read_pose(path))


def build_or_open(*args, **options) -> PoseStore:
    return PoseStore.build_or_open(StoreRequest(*args, **options))


@pytest.fixture
def open_store(tmp_path, files):
    return functools.partial(build_or_open, files, KEY, cache_dir=tmp_path / "cache")


def stored(tmp_path) -> Path:
    (found,) = (tmp_path / "cache").iterdir()  # one file, and nothing left beside it
    return found


def test_a_store_gives_what_was_prepared(open_store, files):
    store = open_store(prepare=Counted())
    assert len(store) == 6 and store.lengths.tolist() == [3, 4, 5, 6, 7, 8] and store.bad == {}
    for path, clip in zip(files, store, strict=True):
        expected = normalize_shoulders(read_pose(path))
        np.testing.assert_array_equal(clip.data, expected.data)
        np.testing.assert_array_equal(clip.present, expected.present)
        np.testing.assert_allclose(clip.confidence, expected.confidence, atol=0.003)
        assert clip.layout is expected.layout and clip.fps == 25 and clip.width == 500
        assert_masked(clip)
        assert not clip.data.flags.writeable
    assert len(store[-1]) == 8
    with pytest.raises(IndexError):
        store[6]


def test_store_is_built_once(open_store, tmp_path):
    first, second = Counted(), Counted()
    open_store(prepare=first)
    store = open_store(prepare=second)
    assert len(first.calls) == 6 and second.calls == []
    assert store.path == stored(tmp_path)


@pytest.mark.parametrize("change", ["prepare_key", "paths", "order", "dtype", "mirrored"])
def test_store_key_depends_on_the_request(open_store, files, tmp_path, change):
    open_store(prepare=Counted())
    asked = {"paths": files, "prepare_key": KEY, "prepare": Counted(), "cache_dir": tmp_path / "cache"}
    asked |= {
        "prepare_key": {"prepare_key": {"version": 2}},
        "paths": {"paths": files[:5]},
        "order": {"paths": files[::-1]},
        "dtype": {"dtype": "float16"},
        "mirrored": {"mirrored": [True] + [False] * 5},
    }[change]
    store = build_or_open(**asked)
    assert len(asked["prepare"].calls) == len(asked["paths"])
    assert len(list((tmp_path / "cache").iterdir())) == 2
    assert len(store[0]) == len(read_pose(asked["paths"][0]))


def test_mirrored_clips_are_prepared_with_mirror(open_store):
    prepare = Counted()
    open_store(prepare=prepare, mirrored=[i == 2 for i in range(6)])
    assert [mirror for _, mirror in prepare.calls] == [False, False, True, False, False, False]


def test_only_changed_files_are_prepared_again(open_store, files, tmp_path):
    open_store(prepare=Counted())
    write_pose(files[1], fake_clip(frames=20, seed=99))
    os.utime(files[4], ns=(1, 1))
    again = Counted()
    store = open_store(prepare=again)
    assert again.calls == [("1 ä.pose", False), ("4 ä.pose", False)]
    assert store.lengths.tolist() == [3, 20, 5, 6, 7, 8]
    np.testing.assert_array_equal(store[5].data, normalize_shoulders(read_pose(files[5])).data)
    stored(tmp_path)


def test_float16_halves_the_size(open_store, tmp_path):
    whole = open_store(prepare=Counted())
    half = open_store(prepare=Counted(), dtype="float16")
    assert half[3].data.dtype == np.float32
    np.testing.assert_allclose(half[3].data, whole[3].data, rtol=1e-3, atol=1e-3)
    assert half.path.stat().st_size < 0.7 * whole.path.stat().st_size


def test_float16_overflow_is_an_error(tmp_path):
    clip = fake_clip(missing=0)
    clip.data[1, 0, 0] = 1e5
    path = write_pose(tmp_path / "far.pose", clip)
    options = {"prepare_key": KEY, "prepare": read_pose, "cache_dir": tmp_path / "cache"}
    with pytest.raises(UserError, match=r"far\.pose.*100000.*store_dtype: float32"):
        build_or_open([path], **options, dtype="float16")
    assert "store_dtype" in build_or_open([path], **options, dtype="float16", on_bad="skip").bad[0]
    assert build_or_open([path], **options)[0].data.max() == np.float32(1e5)


def test_low_confidence_points_stay_present(tmp_path):
    clip = fake_clip(missing=0)
    clip.confidence[:] = 1e-4
    path = write_pose(tmp_path / "faint.pose", clip)
    store = build_or_open([path], KEY, read_pose, tmp_path / "cache")
    assert store[0].present.all()


def test_bad_files_stop_or_are_skipped(open_store, files, tmp_path, caplog):
    files[2].write_bytes(b"rubbish")
    with pytest.raises(UserError, match=r"2 ä\.pose.*header"):
        open_store(prepare=Counted())
    assert list((tmp_path / "cache").iterdir()) == []
    store = open_store(prepare=Counted(), on_bad="skip")
    assert list(store.bad) == [2] and "header" in store.bad[2] and store.lengths[2] == 0
    with pytest.raises(UserError, match=r"2 ä\.pose"):
        store[2]
    again = Counted()
    assert list(open_store(prepare=again, on_bad="skip").bad) == [2] and again.calls == []
    with pytest.raises(UserError, match=r"2 ä\.pose"):  # what one run skipped is still an error in another
        open_store(prepare=Counted())
    write_pose(files[2], fake_clip())
    mended = Counted()
    assert open_store(prepare=mended, on_bad="skip").bad == {}
    assert mended.calls == [("2 ä.pose", False)]


def test_missing_files(open_store, files):
    files[0].unlink()
    files[3].unlink()
    with pytest.raises(MissingDataError, match=r"0 ä\.pose.*1 more of 6"):
        open_store(prepare=Counted())
    assert list(open_store(prepare=Counted(), on_bad="skip").bad) == [0, 3]


@pytest.mark.parametrize("damage", ["cut", "empty", "rubbish", "index", "text", "trailer", "pickle"])
def test_a_damaged_store_is_rebuilt(open_store, tmp_path, caplog, damage):
    open_store(prepare=Counted())
    path = stored(tmp_path)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[:-100]
    elif damage == "empty":
        content = bytearray()
    elif damage == "rubbish":
        content = bytearray(os.urandom(5000))
    elif damage == "pickle":
        content = bytearray(pickle.dumps(os.getcwd))
    else:
        content[{"index": -90 - len(content) // 4, "text": -300, "trailer": -20}[damage]] ^= 0x55
        if damage == "index":
            file = StoreFile(path)
            at = bytes(content).index(file.index.tobytes()[8:60])
            content = bytearray(path.read_bytes())
            content[at + 3] ^= 0x55
            del file
    path.write_bytes(content)
    again = Counted()
    with caplog.at_level(logging.WARNING):
        store = open_store(prepare=again)
    assert len(again.calls) == 6 and "rebuilding it" in caplog.text
    assert len(store[3]) == 6


def test_a_damaged_clip_is_read_from_its_source(open_store, files, tmp_path, caplog):
    open_store(prepare=Counted())
    path = stored(tmp_path)
    content = bytearray(path.read_bytes())
    content[int(StoreFile(path).index["offset"][1]) + 5] ^= 0x10
    path.write_bytes(content)
    prepare = Counted()
    store = open_store(prepare=prepare)
    np.testing.assert_array_equal(store[1].data, normalize_shoulders(read_pose(files[1])).data)
    assert prepare.calls == [("1 ä.pose", False)] and "damaged" in caplog.text
    np.testing.assert_array_equal(store[0].data, normalize_shoulders(read_pose(files[0])).data)


@pytest.mark.parametrize(
    ("field", "value"), [("frames", 10**8), ("offset", 2**62), ("layout", 7), ("frames", -4)]
)
def test_an_invalid_index_is_refused(open_store, tmp_path, field, value):
    """Even with a right checksum: no clip may lie outside the file."""
    open_store(prepare=Counted())
    path = stored(tmp_path)
    content = bytearray(path.read_bytes())
    trailer = struct.Struct("<QQQ32s16s")
    start, clips, text, _, magic = trailer.unpack(content[-trailer.size :])
    index = StoreFile(path).index.copy()
    index[field][2] = value
    content[start : start + index.nbytes] = index.tobytes()
    digest = hashlib.sha256(content[start : -trailer.size]).digest()
    content[-trailer.size :] = trailer.pack(start, clips, text, digest, magic)
    path.write_bytes(content)
    with pytest.raises(InvalidStoreError):
        StoreFile(path)


def test_a_failed_build_leaves_nothing(open_store, tmp_path):
    def fail(path, mirror=False):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        open_store(prepare=fail)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_cannot_be_written(files, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"dataset\.cache_dir"):
        build_or_open(files, KEY, Counted(), tmp_path / "file" / "cache")


def test_store_can_be_pickled(open_store):
    store = pickle.loads(pickle.dumps(open_store(prepare=read_pose)))
    assert len(store[2]) == 5


def test_several_processes_prepare(files, tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "PROGRESS_FROM", 2)
    one = build_or_open(files, KEY, read_pose, tmp_path / "one")
    two = build_or_open(files, KEY, read_pose, tmp_path / "two", workers=2)
    assert one.path.read_bytes() == two.path.read_bytes()


SLOW_BUILD = """
import sys, time
from mmpt.pose.reader import read_pose
from mmpt.pose.store import PoseStore, StoreRequest

def slow(path):
    print("prepare", flush=True)
    time.sleep(float(sys.argv[1]))
    return read_pose(path)

store = PoseStore.build_or_open(StoreRequest(sys.argv[3:], {"slow": 1}, slow, sys.argv[2]))
print("frames", *store.lengths, flush=True)
"""


def start(seconds, cache, files):
    command = [sys.executable, "-c", SLOW_BUILD, str(seconds), str(cache), *map(str, files)]
    root = Path(__file__).resolve().parents[2]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root)


def test_two_processes_build_one_store(files, tmp_path):
    runs = [start(0.1, tmp_path / "cache", files) for _ in range(2)]
    outputs = [run.communicate(timeout=PATIENCE)[0].split("\n") for run in runs]
    assert all("frames 3 4 5 6 7 8" in output for output in outputs)
    assert sum(output.count("prepare") for output in outputs) == 6
    stored(tmp_path)


def test_leftovers_of_a_killed_build_are_removed(files, tmp_path):
    cache = tmp_path / "cache"
    run = start(600, cache, files)
    assert run.stdout is not None and run.stdout.readline() == "prepare\n"
    run.kill()
    run.communicate()
    assert any(path.name.startswith(".") for path in cache.iterdir())  # the half-written file
    output = start(0, cache, files).communicate(timeout=PATIENCE)[0]
    assert "frames 3 4 5 6 7 8" in output
    stored(tmp_path)


@pytest.mark.slow
def test_a_hundred_thousand_clips_open_in_a_second_in_little_memory(tmp_path):
    folder = tmp_path / "poses"
    folder.mkdir()
    paths = [str(folder / str(i)) for i in range(100_000)]
    for path in paths:
        Path(path).touch()
    clip = fake_clip(frames=26)
    args = (paths, KEY, lambda path: clip, tmp_path / "cache")
    build_or_open(*args)
    before = time.process_time()  # not of the clock: other tests may be running
    store = build_or_open(*args)
    assert time.process_time() - before < 1
    order = np.random.default_rng(0).permutation(len(paths))
    resident = []
    for count, i in enumerate(order[:30_000]):
        assert len(store[int(i)]) == 26
        if count % 1000 == 0:
            resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    assert max(resident) - resident[0] < 150e6


def test_unreadable_files_are_retried(open_store, files, caplog):
    """A failing disk, or rights: the file did not change, and is there the next time."""
    open_store(prepare=Counted())

    def failing(path, mirror=False):
        if Path(path) == files[2]:
            raise UserError(f"{path}: cannot be read (Input/output error); expected a readable .pose file")
        if Path(path) == files[3]:
            raise UserError(f"{path}: it holds nonsense")
        return read_pose(path)

    key = {"version": 2}
    ask = functools.partial(build_or_open, files, key, cache_dir=files[0].parent / "cache", on_bad="skip")
    assert set(ask(prepare=failing).bad) == {2, 3}
    again = Counted()
    assert set(ask(prepare=again).bad) == set()
    assert {name for name, _ in again.calls} == {files[2].name, files[3].name}, "the good ones are copied"


def test_invalid_files_are_not_retried(files, tmp_path):
    def failing(path, mirror=False):
        raise UserError(f"{path}: it holds nonsense")

    ask = functools.partial(build_or_open, files, KEY, cache_dir=tmp_path / "cache", on_bad="skip")
    ask(prepare=failing)
    again = Counted()
    assert len(ask(prepare=again).bad) == len(files) and again.calls == []


def test_seen_counts_frames_with_points(tmp_path):
    clips = [fake_clip(frames=5, missing=0), fake_clip(frames=4, missing=0)]
    clips[0].confidence[1:3] = 0
    clips[1].confidence[:] = 0
    store = build_or_open(["a", "b"], KEY, lambda path: clips[path.endswith("b")], tmp_path, on_bad="skip")
    assert store.seen.tolist() == [3, 0] and store.lengths.tolist() == [5, 4]


def test_seen_counts_frames_with_a_hand_whatever_else_is_there(tmp_path):
    whole = fake_clip(frames=5, missing=0)
    clips = {"a": whole, "b": without(whole, LEFT_HAND), "c": without(whole, LEFT_HAND, RIGHT_HAND)}
    store = build_or_open([*clips], KEY, lambda path: clips[path[-1]], tmp_path, on_bad="skip")
    assert store.seen.tolist() == [5, 5, 0]


def test_store_sees_a_file_that_was_replaced_under_the_same_size_and_time(open_store, files, tmp_path):
    open_store(prepare=Counted())
    status = files[0].stat()
    write_pose(tmp_path / "new.pose", fake_clip(frames=3, seed=99))
    assert (tmp_path / "new.pose").stat().st_size == status.st_size
    os.utime(tmp_path / "new.pose", ns=(status.st_atime_ns, status.st_mtime_ns))
    (tmp_path / "new.pose").replace(files[0])
    counted = Counted()
    open_store(prepare=counted)
    assert counted.calls == [(files[0].name, False)]


NO_GUARD = """
import sys, threading
threading.Thread(target=sys.stdin.read, daemon=True).start()  # so that workers cannot be forked
from mmpt.pose.reader import read_pose
from mmpt.pose.store import PoseStore, StoreRequest
PoseStore.build_or_open(StoreRequest(sys.argv[2:] * 250, {}, read_pose, sys.argv[1], workers=2))
"""


def test_a_script_without_main_guard_ends_with_an_error(tmp_path, files):
    """Its workers import the script, and would wait for the lock that it holds."""
    (tmp_path / "script.py").write_text(NO_GUARD)
    command = [sys.executable, tmp_path / "script.py", tmp_path / "cache", files[0]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.wait(PATIENCE) == 1 and process.stderr is not None
        assert "needs a main guard" in process.stderr.read().splitlines()[-1]


@pytest.mark.parametrize("seconds", [0.02, 0.0])
def test_files_on_a_slow_disk_are_looked_at_together_and_each_once(files, monkeypatch, seconds):
    sources = [*map(str, files), "missing", "nul\0", *map(str, reversed(files))]
    expected = store_module._stamps_of(sources)
    monkeypatch.setattr(store_module, "_CHUNK", 2)
    monkeypatch.setattr(store_module, "_SLOW", 0.01 if seconds else 100.0)
    looked, now, most, stat = [], set(), [], os.stat

    def slow(path, *args, **options):
        now.add(path)
        most.append(len(now))
        looked.append(path)
        time.sleep(seconds)
        now.remove(path)
        return stat(path, *args, **options)

    monkeypatch.setattr(os, "stat", slow)
    np.testing.assert_array_equal(store_module._stamps(sources), expected)
    assert sorted(looked) == sorted(set(sources))
    assert (max(most) > 1) == (seconds > 0)
    assert store_module._stamps([]).shape == (0, 2)
