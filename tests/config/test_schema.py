"""Invalid values for every key of the schema, generated so that new keys are covered."""

import dataclasses
import json
import typing

import pytest

from mmpt.config import Config, load_config
from mmpt.utils.errors import UserError

GOOD = {"dataset": {"meta_processor": "A", "video_processor": "B", "max_video_len": 128, "max_len": 32}}


def walk(cls, prefix=""):
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if dataclasses.is_dataclass(hints[field.name]):
            yield from walk(hints[field.name], f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", hints[field.name], field.metadata


KEYS = [row for row in walk(Config) if row[0] != "fairseq"]
NAMES = [row[0] for row in KEYS]


def load_with(tmp_path, key, value):
    tree = {section: dict(keys) for section, keys in GOOD.items()}
    *parents, last = key.split(".")
    node = tree
    for parent in parents:
        node = node.setdefault(parent, {})
    node[last] = value
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps(tree))
    return load_config(path)


def refused(tmp_path, key, value, named):
    with pytest.raises(UserError) as caught:
        load_with(tmp_path, key, value)
    assert named in str(caught.value) and "c.yaml" in str(caught.value)


@pytest.mark.parametrize("key, hint, bounds", KEYS, ids=NAMES)
def test_schema_wrong_values_of_every_key_are_refused(tmp_path, key, hint, bounds):
    """Another type, an unknown key like it, and values out of its range. Each key has a description."""
    refused(tmp_path, key, 1.5 if "dict" in str(hint) else {"a": "section"}, key)
    refused(tmp_path, key + "_x", 1, key + "_x")
    if choices := bounds.get("choices"):
        refused(tmp_path, key, 999 if isinstance(choices[0], int) else "none of these", key)
    for side, step in (("min", -1), ("max", 1)):
        if bounds.get(side) is not None:
            refused(tmp_path, key, bounds[side] + step, key)
    assert len(bounds["doc"]) > 5
