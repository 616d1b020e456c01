"""Random text as a config, and random changes of a valid one: it loads or raises UserError."""

import os
from pathlib import Path

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmpt.config import Config, load_config
from mmpt.utils.errors import UserError

FUZZ_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))  # more by hand, or by `make fuzz`
SECRET = "a-token-of-somebody"
os.environ["FUZZ_SECRET"] = SECRET
GOOD = {
    "dataset": {
        "meta_processor": "FingerspellingMetaProcessor",
        "video_processor": "PoseProcessor",
        "bert_name": "bert-base-uncased",
        "max_video_len": 32,
        "max_len": 32,
        "augment3d": {"rotation": 0.5},
    },
    "model": {"vfeat_dim": 63},
    "loss": {"temperature": 0.1},
    "fairseq": {"dataset": {"batch_size": 4}, "optimization": {"lr": [1.0e-3]}},
}
keys = st.one_of(
    st.sampled_from(
        ["dataset", "model", "loss", "eval", "fairseq", "includes", "max_len", "augment3d", "lr"]
    ),
    st.text(max_size=6),
    st.integers(-2, 2),
    st.none(),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(
        [
            "${dataset.max_len}",
            "${oc.env:FUZZ_SECRET}",
            "${oc.env:SIGNCLIP_X,${oc.env:FUZZ_SECRET}}",
            "${",
            "${oc.env:SIGNCLIP_X,1}",
            "1e400",
            "!!python",
        ]
    ),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=6,
)


def loads_or_is_refused(path: Path, overrides: list[str]) -> None:
    try:
        config = load_config(path, overrides)
    except UserError as error:
        assert str(error) and "\n" not in str(error)
    else:
        assert isinstance(config, Config)
        assert SECRET not in repr(config), "a config reads variables of its own prefix only"


@settings(
    max_examples=FUZZ_EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_fuzz_files(tmp_path, data):
    path = tmp_path / "fuzz.yaml"
    kind = data.draw(st.sampled_from(["bytes", "tree", "changed"]))
    if kind == "bytes":
        path.write_bytes(data.draw(st.binary(max_size=300)))
    elif kind == "tree":
        path.write_text(yaml.safe_dump(data.draw(values), allow_unicode=True), encoding="utf-8")
    else:
        tree = yaml.safe_load(yaml.safe_dump(GOOD))
        where = tree[data.draw(st.sampled_from(sorted(tree)))] if data.draw(st.booleans()) else tree
        where[data.draw(st.one_of(st.sampled_from(sorted(where)), keys))] = data.draw(values)
        path.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
    loads_or_is_refused(path, [])


@settings(
    max_examples=FUZZ_EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_fuzz_overrides(tmp_path, data):
    path = tmp_path / "fuzz.yaml"
    if not path.exists():
        path.write_text(yaml.safe_dump(GOOD))
    key = data.draw(
        st.one_of(st.sampled_from(["dataset.max_len", "fairseq.optimization.lr", "x"]), st.text(max_size=9))
    )
    value = data.draw(st.one_of(st.text(max_size=9), scalars.map(str)))
    loads_or_is_refused(path, [f"{key}={value}"])
