"""The config loader: includes, overrides, strict checks and messages."""

from pathlib import Path

import pytest

from mmpt.config import load_config, save_config
from mmpt.config.fairseq_options import option, table, to_argv
from mmpt.utils.errors import UserError

ROOT = Path(__file__).parents[2]
MINIMAL = """
dataset: {meta_processor: A, video_processor: B, max_video_len: 128, max_len: 32}
fairseq:
  dataset: {batch_size: 26}
  optimization: {lr: [5.0e-05], adam_betas: "(0.9, 0.98)", ddp_backend: no_c10d}
"""


@pytest.fixture
def yaml(tmp_path: Path):
    def write(text: str, name: str = "x.yaml") -> Path:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


def test_later_includes_and_overrides_win(yaml):
    yaml("model: {vfeat_dim: 1, conv1d: 1}\ndataset: {max_len: 10}", "base/a.yaml")
    yaml("includes: a.yaml\nmodel: {vfeat_dim: 2}", "base/b.yaml")
    path = yaml("includes: [base/b.yaml]\n" + MINIMAL + "model: {dropout: 0.5}\n")
    config = load_config(path, ["model.conv1d=3", "fairseq.optimization.max_epoch=5"])
    assert (config.model.vfeat_dim, config.model.conv1d, config.model.dropout) == (2, 3, 0.5)
    assert config.dataset.max_len == 32
    assert config.fairseq["optimization"]["max_epoch"] == 5


@pytest.mark.parametrize(
    "override, words",
    [
        ("datset.max_len=3", ["datset", "Did you mean dataset?"]),
        ("dataset.max_lenn=3", ["dataset.max_lenn", "dataset.max_len?"]),
        ("dataset.augment3d.rotatin=0.3", ["dataset.augment3d.rotatin", "dataset.augment3d.rotation?"]),
        ("augment2d=true", ["unknown key augment2d. Did you mean dataset.augment2d?"]),
        ("model.valid_path=x", ["Did you mean dataset.valid_path?"]),
        ("model.vfeat=3", ["Did you mean model.vfeat_dim?"]),
        ("batch_size=3", ["Did you mean eval.batch_size or fairseq.dataset.batch_size?"]),
        ("max_epoch=3", ["Did you mean fairseq.optimization.max_epoch?"]),
        ("dataset.seed=3", ["unknown key dataset.seed. Did you mean fairseq.optimization.seed?"]),
        ("optimization.lr=3", ["Did you mean fairseq.optimization?"]),
        ("arch=x", ["unknown key arch. Known keys here: "]),
        ("model.dataset.max_len=3", ["Did you mean dataset or fairseq.dataset?"]),
        ("dataset.metric=x", ["unknown key dataset.metric. Did you mean metric?"]),
        ("fairseq.max_epoch=3", ["key fairseq.max_epoch. Did you mean fairseq.optimization.max_epoch?"]),
        ("fairseq.loss.temperature=3", ["unknown key fairseq.loss. Did you mean loss?"]),
        ("fairseq.dataset.max_len=3", ["option of fairseq. Did you mean dataset.max_len?"]),
        ("fairseq.optimizatoin.lr=3", ["fairseq.optimizatoin", "fairseq.optimization?"]),
        ("fairseq.optimization.max_epochs=3", ["unknown option of fairseq", "max_epoch?"]),
        ("fairseq.optimization.task=x", ["the launcher sets it"]),
        ("dataset.max_len=abc", ["dataset.max_len", "whole number", "'abc'"]),
        ("dataset.max_len=true", ["dataset.max_len", "whole number"]),
        ("dataset.max_len=3", ["from 4 to"]),
        ("model.dropout=1.5", ["from 0 to 0.999"]),
        ("model.dropout=.nan", ["from 0 to 0.999"]),
        ("dataset.long_video=cut", ["one of truncate, error, uniform"]),
        ("loss=3", ["expected a section"]),
        ("fairseq.dataset.batch_size=a", ["whole number"]),
        ("fairseq.dataset.batch_size=0", ["at least 1"]),
        ("fairseq.optimization.optimizer=adm", ["one of", "adam"]),
        ("fairseq.common.fp16=3", ["true or false"]),
        ("fairseq.optimization.lr=[-1]", ["at least 0"]),
        ("fairseq.optimization.lr=[true]", ["at least 0"]),
        ("fairseq.optimization.update_freq=[2,0]", ["at least 1"]),
        ("fairseq.optimization.adam_betas=0.9", ["two numbers", "(0.9, 0.98)"]),
        ("fairseq.optimization.adam_betas='(0.9, 1)'", ["two numbers"]),
        ("fairseq.checkpoint.save_interval=0", ["at least 1"]),
        ("fairseq.common.seed=-3", ["at least 0"]),
        ("fairseq.optimization.adam_betas=__import__('os').getpid()", ["expected numbers"]),
        ("fairseq.optimization.update_freq=[open]", ["at least 1"]),
        ("fairseq.optimization.update_freq=1.5", ["whole number"]),
        ("fairseq.dataset.required_batch_size_multiple=8", ["leave it out"]),
        ("fairseq.common.seed=4294967296", ["from 0 to"]),
        ("loss.temperature=.inf", ["finite"]),
        ("loss.mixup=.inf", ["finite"]),
        ("fairseq.optimization.weight_decay=.inf", ["finite"]),
        ("fairseq.optimization.clip_norm=.nan", ["finite"]),
        ("fairseq.checkpoint.ddp_backend=c10d", ["is 'no_c10d'", "is 'c10d'", "two groups", "optimization"]),
        ("dataset.vfeat_dir=${oc.env:PATH}", ["SIGNCLIP_"]),
        ("dataset.vfeat_dir=${oc.decode:x}", ["SIGNCLIP_"]),
        ("dataset.vfeat_dir=${dataset.nothing}", ["cannot be resolved"]),
        ("noequals", ["section.key=value"]),
        ("dataset.max_len=[", ["not readable"]),
        ("dataset.prompt=The letter #1", ["'#1' as a comment", "quote the value"]),
        ("dataset.prompt=#1", ["'#1' as a comment"]),
        ("dataset.letters=[A, B] # two", ["'# two' as a comment"]),
    ],
)
def test_override_errors_name_the_key_and_expectation(yaml, override, words):
    with pytest.raises(UserError) as caught:
        load_config(yaml(MINIMAL), [override])
    message = str(caught.value)
    assert f"override {override!r}" in message or "cannot be resolved" in message
    for word in words:
        assert word in message
    assert "\n" not in message


@pytest.mark.parametrize("key", ["train_languages", "letters", "prompt_templates"])
def test_a_text_that_yaml_reads_as_something_else_is_to_be_quoted(yaml, key):
    hint = rf"dataset\.{key}: expected a list.*False.*put a text in quotes, as in 'no'"
    with pytest.raises(UserError, match=hint):
        load_config(yaml(f"{{dataset: {{{key}: [no, svk]}}}}"))
    with pytest.raises(UserError, match=hint):
        load_config(yaml("{}"), [f"dataset.{key}=[no,svk]"])


@pytest.mark.parametrize("value", ["'The letter #1'", '"The letter #1"', " 'The letter #1' "])
def test_quoted_hash_in_an_override_is_no_comment(yaml, value):
    assert load_config(yaml(MINIMAL), [f"dataset.prompt={value}"]).dataset.prompt == "The letter #1"
    assert load_config(yaml(MINIMAL), ["dataset.prompt=C#"]).dataset.prompt == "C#"


def test_config_errors_name_the_file_of_the_key(yaml):
    yaml("model: {vfeat_dimm: 3}", "part.yaml")
    with pytest.raises(UserError, match=r"part\.yaml: unknown key model\.vfeat_dimm"):
        load_config(yaml("includes: part.yaml\n" + MINIMAL))


def test_missing_key(yaml):
    with pytest.raises(UserError, match=r"missing key dataset\.max_len"):
        load_config(yaml(MINIMAL.replace(", max_len: 32", "")))


@pytest.mark.parametrize(
    "text",
    [
        "[1, 2]",
        "'0'",
        "a: [",
        "a: 1\na: 2",
        "\x00",
        "includes: {a: 1}",
        "includes: none.yaml",
        "!!python/object:os.x {}",
        "a: &a [*a]",
        "\n".join(["a0: &a0 [x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]),
    ],
)
def test_unreadable_files(yaml, text):
    with pytest.raises(UserError, match=r"x\.yaml|none\.yaml"):
        load_config(yaml(text))


def test_a_folder_and_a_broken_link_are_no_config_files(tmp_path):
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "link.yaml").symlink_to("nowhere")
    for name in ("folder.yaml", "link.yaml"):
        with pytest.raises(
            UserError, match=rf"{name} is a folder or a broken link; a YAML file was expected\.$"
        ):
            load_config(tmp_path / name)


def test_includes_cannot_loop(yaml):
    yaml("includes: x.yaml", "y.yaml")
    with pytest.raises(UserError, match="includes itself"):
        load_config(yaml("includes: y.yaml\n" + MINIMAL))


def test_interpolation_reads_only_signclip_variables(yaml, monkeypatch):
    path = yaml(
        MINIMAL.replace("max_len: 32", "max_len: 32, vfeat_dir: '${oc.env:SIGNCLIP_DATA,data}/poses'")
    )
    monkeypatch.delenv("SIGNCLIP_DATA", raising=False)
    assert load_config(path).dataset.vfeat_dir == "data/poses"
    monkeypatch.setenv("SIGNCLIP_DATA", "/elsewhere")
    assert load_config(path).dataset.vfeat_dir == "/elsewhere/poses"


def test_alias_and_key_together_are_refused(yaml):
    config = load_config(
        yaml(MINIMAL.replace("max_len: 32", "max_len: 32, valid_path: v.txt") + "input_dim: 63")
    )
    assert config.dataset.val_path == "v.txt"
    assert config.model.vfeat_dim == 63
    with pytest.raises(UserError, match="is an alias of"):
        load_config(yaml(MINIMAL.replace("max_len: 32", "max_len: 32, valid_path: v.txt, val_path: w.txt")))
    with pytest.raises(UserError, match="are aliases"):
        load_config(yaml(MINIMAL + "input_dim: 63\nmodel: {vfeat_dim: 12}"))


def test_alias_in_a_later_layer_wins(yaml):
    """A YAML file written before a rename may include one that uses the new name, and the reverse."""
    yaml("model: {ensemble_size: 8}", "new.yaml")
    yaml("model: {members: 8}", "old.yaml")
    for included, key in (("new", "members"), ("old", "ensemble_size")):
        path = yaml(f"includes: {included}.yaml\n{MINIMAL}model: {{{key}: 3}}")
        assert load_config(path).model.ensemble_size == 3
        for override in ("members", "ensemble_size"):
            assert load_config(path, [f"model.{override}=2"]).model.ensemble_size == 2
    with pytest.raises(UserError, match=r"model\.members is an alias of model\.ensemble_size"):
        load_config(yaml(MINIMAL + "model: {ensemble_size: 2, members: 2}"))


def test_saved_config_round_trip(yaml, tmp_path):
    config = load_config(yaml(MINIMAL), ["dataset.augment3d.rotation=0.3", "dataset.prompt='Ä {letter}'"])
    save_config(config, tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml") == config


@pytest.mark.parametrize(
    "section, named",
    [
        ("loss:\n#  mixup: 0.1\n", ["x.yaml", "section loss is empty", "temperature", "remove loss"]),
        ("fairseq:\n  optimization:\n", ["fairseq.optimization is empty", "lr, adam_betas"]),
        ("dataset:\n  augment3d:\n", ["dataset.augment3d is empty", "rotation"]),
    ],
)
def test_empty_section_over_an_include_is_refused(yaml, section, named):
    yaml(MINIMAL + "loss: {temperature: 0.1}\n", "base.yaml")
    yaml("includes: base.yaml\ndataset: {augment3d: {rotation: 0.5}}\n", "other.yaml")
    with pytest.raises(UserError) as caught:
        load_config(yaml("includes: other.yaml\n" + section))
    assert all(word in str(caught.value) for word in named)
    with pytest.raises(UserError, match=r"override 'loss=null'.*loss is empty"):
        load_config(yaml("includes: other.yaml\n"), ["loss=null"])
    assert load_config(yaml("includes: other.yaml\nmodel:\n")).loss.temperature == 0.1, "nothing is lost here"


def test_section_override_keeps_the_other_keys(yaml):
    path = yaml(MINIMAL + "loss: {temperature: 0.1, mixup: 0.2}\n")
    loss = load_config(path, ["loss={mixup: 0.3}"]).loss
    assert (loss.temperature, loss.mixup) == (0.1, 0.3)


@pytest.mark.parametrize("override", ["checkpoint.max_epoch=25", "checkpoint.max_epoch=null"])
def test_fairseq_option_in_two_groups_with_equal_values(yaml, override):
    config = load_config(yaml(MINIMAL), ["fairseq.optimization.max_epoch=25", f"fairseq.{override}"])
    assert option(config.fairseq, "max_epoch") == 25


def test_fairseq_arguments(yaml):
    groups = load_config(
        yaml(MINIMAL), ["fairseq.common.fp16=false", "fairseq.checkpoint.no_epoch_checkpoints=true"]
    ).fairseq
    argv = to_argv(groups)
    assert argv[argv.index("--lr") + 1] == "[5e-05]"
    assert argv[argv.index("--adam-betas") + 1] == "(0.9, 0.98)"
    assert "--no-epoch-checkpoints" in argv and "--fp16" not in argv
    assert option(groups, "ddp_backend") == "no_c10d"


def test_fairseq_options_json_is_up_to_date():
    """The table of options must match the installed fairseq."""
    from mmpt.fairseq_plugin.options import table as installed

    assert installed() == table()


@pytest.mark.parametrize(
    "path", sorted((ROOT / "projects" / "signclip").glob("*.yaml")), ids=lambda p: p.stem
)
def test_all_project_configs_load(path):
    config = load_config(path)
    assert config.dataset.split == ("test" if path.name.startswith("test_") else None)


def test_members_yaml_alias_of_ensemble_yaml_can_be_included(tmp_path):
    (tmp_path / "x.yaml").write_text("includes: [configs/fslex.yaml, configs/members.yaml]\n")
    assert load_config(tmp_path / "x.yaml").model.ensemble_size == 8


def test_includes_of_the_package_without_a_checkout(tmp_path, monkeypatch):
    """As docs/your_data.md shows them, in a folder of the user's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").write_text("includes: [configs/table.yaml, configs/small_data.yaml]\n")
    assert load_config("x.yaml").dataset.meta_processor == "TableMetaProcessor"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "small_data.yaml").write_text("dataset: {max_len: 7}\n")  # the user's wins
    assert load_config("x.yaml").dataset.max_len == 7
    (tmp_path / "x.yaml").write_text("includes: [configs/tables.yaml]\n")
    with pytest.raises(UserError, match=r"there is no config file configs/tables\.yaml"):
        load_config("x.yaml")


SECRETS = {
    "passwd": "root:x:0:0:s3cret:/root:/bin/bash\nadm:x:1:1:s3cret:/:/bin/sh\n",
    "shadow": "root:$6$s3cret:19000:0:99999:7:::\n",
    "netrc": "machine a login b password s3cret\n",
    "key": "-----BEGIN s3cret-----\n%s3cret: [\n",
    "tagged": "!s3cret x\n",
    "alias": "a: *s3cret\n",
    "interpolation": "a: ${s3cret\n",
    "quote": "a: 's3cret\n",
}


@pytest.mark.parametrize("name", SECRETS)
def test_an_included_file_that_is_no_yaml_is_not_quoted(yaml, name):
    """A stranger's config may include any file; its errors are sent around in bug reports."""
    yaml(SECRETS[name], name)
    with pytest.raises(UserError) as caught:
        load_config(yaml(f"includes: {name}\n" + MINIMAL))
    assert "s3cret" not in str(caught.value) and name in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("fairseq.ema.ema_decay=7", "from 0 to below 1"),
        ("fairseq.ema.ema_decay=1.0", "from 0 to below 1"),
        ("fairseq.ema.ema_decay=-0.1", "at least 0"),
        ("fairseq.checkpoint.save_dir=", "save_dir"),
        ("fairseq.checkpoint.save_dir=''", "it is empty"),
        ("eval.save_path=''", "it is empty"),
        ("dataset.cache_dir=''", "it is empty"),
        ("model.dropout=1.0", "from 0 to 0.999"),
        ("model.members=1000000", "from 1 to 100"),
    ],
)
def test_options_out_of_bounds(yaml, override, words):
    path = yaml(MINIMAL)
    if override.endswith("="):  # null: the default
        assert load_config(path, [override])
        return
    with pytest.raises(UserError, match=words):
        load_config(path, [override])
