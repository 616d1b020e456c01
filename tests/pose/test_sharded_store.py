"""A pose cache in several files."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from mmpt.pose.reader import read_pose
from mmpt.pose.sharded_store import ShardedStore, open_shards, shards_of
from mmpt.pose.store import PoseStore, StoreRequest
from mmpt.utils.errors import MissingDataError, UserError
from tests.pose.pose_fakes import fake_clip, write_pose


class Counted:
    """prepare(), with a list of what it was called for."""

    def __init__(self):
        self.calls: list[str] = []

    def __call__(self, path, mirror=False):
        self.calls.append(Path(path).name)
        return read_pose(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    return [write_pose(folder / f"{i}.pose", fake_clip(frames=3 + i, seed=i)) for i in range(11)]


def request_of(paths, folder, prepare=None, **options):
    return StoreRequest(paths, {"version": 1}, prepare or Counted(), folder, **options)


@pytest.mark.parametrize("shards", [1, 2, 5, 40])
def test_clips_are_those_of_one_file(files, tmp_path, shards):
    mirrored = [i % 2 == 0 for i in range(len(files))]
    whole = PoseStore.build_or_open(request_of(files, tmp_path / "one", mirrored=mirrored))
    store = ShardedStore.build_or_open(request_of(files, tmp_path / "many", mirrored=mirrored), shards)
    assert len(store) == len(files) and store.bad == {}
    np.testing.assert_array_equal(store.lengths, whole.lengths)
    np.testing.assert_array_equal(store.seen, whole.seen)
    for one, other in zip(whole, store, strict=True):
        np.testing.assert_array_equal(one.data, other.data)
    assert len(store[-1]) == len(whole[-1])
    with pytest.raises(IndexError):
        store[len(files)]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(store))[3].data, whole[3].data)


def test_each_shard_can_be_built_by_another_process_and_none_is_built_again(files, tmp_path):
    request = request_of(files, tmp_path)
    shard_of = shards_of(request, 3)
    built = []
    for shard in (2, 0, 1):
        mine = request_of(files, tmp_path)
        dict(open_shards(mine, shard_of, [shard]))
        assert sorted(mine.prepare.calls) == sorted(
            path.name for path, of in zip(files, shard_of) if of == shard
        )
        built += mine.prepare.calls
    assert len(built) == len(files)
    ShardedStore.build_or_open(request, 3)
    assert request.prepare.calls == []


def test_a_new_clip_changes_one_shard(files, tmp_path):
    ShardedStore.build_or_open(request_of(files[:10], tmp_path), 3)
    before = set(tmp_path.glob("*.poses"))
    more = request_of(files, tmp_path)
    ShardedStore.build_or_open(more, 3)
    of = shards_of(more, 3)
    assert len(set(tmp_path.glob("*.poses")) - before) == 1
    assert len(more.prepare.calls) == np.count_nonzero(of == of[10])


def test_bad_clips_keep_their_numbers(files, tmp_path):
    broken = tmp_path / "broken.pose"
    broken.write_bytes(b"no pose")
    paths = [*files[:4], broken, *files[4:]]
    store = ShardedStore.build_or_open(request_of(paths, tmp_path / "cache", on_bad="skip"), 3)
    assert list(store.bad) == [4] and store.lengths[4] == 0 and len(store[5]) == 7
    with pytest.raises(UserError, match=r"broken\.pose"):
        store[4]


def test_sources_are_only_looked_at_if_asked(files, tmp_path):
    own = [write_pose(tmp_path / f"{i}.pose", fake_clip(frames=4, seed=i)) for i in range(3)]
    ShardedStore.build_or_open(request_of(own, tmp_path / "cache"), 2)
    own[0].unlink()
    with pytest.raises(MissingDataError):
        ShardedStore.build_or_open(request_of(own, tmp_path / "cache"), 2)
    store = ShardedStore.build_or_open(request_of(own, tmp_path / "cache", check_sources=False), 2)
    assert len(store[0]) == 4
    with pytest.raises(MissingDataError):  # there is no cache for these
        ShardedStore.build_or_open(request_of([*own, own[0]], tmp_path / "cache", check_sources=False), 3)
