"""Signclip hub push and pull, and from_pretrained of a hub model, against a hub on this machine."""

import json
import shutil

import numpy as np
import pytest

import mmpt
from mmpt.cli.main import main
from mmpt.utils.errors import UserError
from tests.conftest import run_module
from tests.hub_endpoint import TOKEN, Handler, running_hub, use_hub

CLIP = np.random.default_rng(0).normal(size=(9, 63))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with running_hub() as running:
        use_hub(running, tmp_path / "cache", monkeypatch)
        yield running


@pytest.fixture
def folder(model_folder, tmp_path):
    """A copy of the model, with files of other people in it."""
    shutil.copytree(model_folder, tmp_path / "mine")
    (tmp_path / "mine" / "notes.txt").write_text("secret")
    (tmp_path / "mine" / "tokenizer" / "notes.txt").write_text("secret")
    return tmp_path / "mine"


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_hub_round_trip_gives_the_same_files_and_embeddings(hub, folder, model_folder, tmp_path, capsys):
    assert main(["hub", "push", str(folder), "org/letters"]) == 0
    assert f"{hub.url}/org/letters" in capsys.readouterr().out
    ours = content(model_folder)
    assert {k: v for k, v in hub.files("org/letters").items() if k != ".gitattributes"} == ours
    assert main(["hub", "pull", "org/letters", "--out", str(tmp_path / "pulled")]) == 0
    assert content(tmp_path / "pulled") == ours
    expected = mmpt.from_pretrained(folder)
    for again in (mmpt.from_pretrained(tmp_path / "pulled"), mmpt.from_pretrained("org/letters")):
        np.testing.assert_array_equal(again.embed_text(["A"]), expected.embed_text(["A"]))
        np.testing.assert_array_equal(
            again.embed_video_features([CLIP]), expected.embed_video_features([CLIP])
        )


@pytest.mark.slow  # two processes that import torch
def test_hub_commands_read_the_environment(hub, folder, model_folder, tmp_path):
    environment = {
        "HF_ENDPOINT": hub.url,
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_XET": "1",
    }
    for words in (["push", str(folder), "org/m"], ["pull", "org/m", "--out", str(tmp_path / "pulled")]):
        done = run_module("-m", "mmpt", "hub", *words, env=environment)
        assert done.returncode == 0, done.stderr
    assert content(tmp_path / "pulled") == content(model_folder)


def test_hub_name_in_commands_and_score(hub, folder, tmp_path, data_dir, capsys):
    assert main(["hub", "push", str(folder), "org/letters"]) == 0
    pose = data_dir / "pose" / "4_17_1_cam2.pose"
    np.testing.assert_array_equal(
        mmpt.score([pose], ["A"], "org/letters"), mmpt.score([pose], ["A"], str(folder))
    )
    (tmp_path / "prompts.txt").write_text("A\nB\n")
    for model, out in (("org/letters", "hub"), (folder, "local")):
        words = ["--model", str(model), "--in", str(tmp_path / "prompts.txt"), "--out", str(tmp_path / out)]
        assert main(["embed", *words]) == 0
    vectors = [np.load(tmp_path / out / "embeddings.npy") for out in ("hub", "local")]
    np.testing.assert_array_equal(*vectors)
    table = ["--table", "table.csv", "--protocol", "zero_shot"]
    assert main(["evaluate", "--model", "org/letters", *table]) == 2
    assert "to evaluate a model of the hub, give --out DIR" in capsys.readouterr().err


def test_hub_push_to_hub_revisions_and_files_of_older_versions(hub, model_folder):
    model = mmpt.from_pretrained(model_folder)
    hub.create("org/letters")
    old = hub.commit("org/letters", {"tokenizer/merges.txt": b"old", "training.log": b"kept"})
    assert model.push_to_hub("org/letters") == f"{hub.url}/org/letters"
    assert "tokenizer/merges.txt" not in hub.files("org/letters")
    assert hub.files("org/letters")["training.log"] == b"kept"
    pushed = hub.repos["org/letters"]["commits"][-1][0]
    assert mmpt.from_pretrained("org/letters", revision=pushed).fingerprint == model.fingerprint
    assert not any("training.log" in request for request in hub.requests)
    with pytest.raises(UserError, match=r"has no revision 'v9': give a branch"):
        mmpt.from_pretrained("org/letters", revision="v9")
    with pytest.raises(UserError, match=r"is not a SignCLIP model \(it has no config.json\)"):
        mmpt.from_pretrained("org/letters", revision=old)


def test_hub_local_folder_wins(hub, model_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model_folder, tmp_path / "org" / "letters")
    assert mmpt.from_pretrained("org/letters").path == mmpt.from_pretrained("org/letters").path
    assert hub.requests == []
    with pytest.raises(UserError, match="revision 'main' is for a model of the hub"):
        mmpt.from_pretrained("org/letters", revision="main")


def test_hub_model_that_cannot_be_had(hub, model_folder, monkeypatch):
    from huggingface_hub import constants

    with pytest.raises(UserError, match=r"no folder org/none here; there is no model org/none on http://127"):
        mmpt.from_pretrained("org/none")
    mmpt.from_pretrained(model_folder).push_to_hub("org/letters")
    mmpt.from_pretrained("org/letters")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    mmpt.from_pretrained("org/letters")  # from the cache
    with pytest.raises(UserError, match=r"HF_HUB_OFFLINE is set, and org/none on .* is not in the cache"):
        mmpt.from_pretrained("org/none")
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        mmpt.from_pretrained(model_folder).push_to_hub("org/letters")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    mmpt.from_pretrained("org/letters")
    with pytest.raises(
        UserError, match=r"there is no folder org/none here; org/none on http://127.0.0.1:9 cannot be reached"
    ):
        mmpt.from_pretrained("org/none")


def test_hub_push_is_refused(hub, folder, tmp_path, monkeypatch, capsys):
    def refused(*words):
        before = json.dumps(list(hub.repos)), [len(repo["commits"]) for repo in hub.repos.values()]
        assert main(["hub", "push", *map(str, words)]) == 2
        assert before == (json.dumps(list(hub.repos)), [len(r["commits"]) for r in hub.repos.values()])
        lines = capsys.readouterr().err.splitlines()
        return lines[-1]

    hub.create("org/public")
    assert "exists and is public" in refused(folder, "org/public", "--private")
    hub.create("org/other")
    hub.commit("org/other", {"config.json": b'{"model_type": "bert"}'})
    assert "not of a SignCLIP model: nothing was uploaded" in refused(folder, "org/other")
    assert "expected the name of a hub model, org/name, got 'letters'" in refused(folder, "letters")
    assert "there is no model folder" in refused(tmp_path / "none", "org/new")
    (tmp_path / "key").write_text("secret")
    (folder / "tokenizer" / "vocab.txt").unlink(missing_ok=True)
    (folder / "tokenizer" / "vocab.txt").symlink_to(tmp_path / "key")
    assert "is a link out of the folder" in refused(folder, "org/new")
    (folder / "tokenizer" / "vocab.txt").unlink()
    (folder / "model.safetensors").write_bytes(b"damaged")
    assert "model.safetensors" in refused(folder, "org/new")


def test_hub_push_needs_a_token(hub, folder, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert main(["hub", "push", str(folder), "org/letters"]) == 2
    assert "`hf auth login`, or set HF_TOKEN" in capsys.readouterr().err
    assert not hub.repos
    assert mmpt.from_pretrained(folder).push_to_hub("org/letters", private=True, token="hf_test")
    assert hub.repos["org/letters"]["private"]


def test_hub_pull_keeps_what_is_not_ours(hub, folder, tmp_path, capsys):
    assert main(["hub", "push", str(folder), "org/letters"]) == 0
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "README.md").write_text("mine")
    assert main(["hub", "pull", "org/letters", "--out", str(out)]) == 2
    assert "README.md" in capsys.readouterr().err
    assert content(out) == {"README.md": b"mine"}
    hub.commit("org/letters", {"model.safetensors": b"damaged"})
    assert main(["hub", "pull", "org/letters", "--out", str(tmp_path / "new")]) == 2
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (b"<html>log in</html>", 200, "cannot be used (JSONDecodeError: "),
        ([1], 200, "cannot be used (TypeError: "),
        (b"overloaded", 500, "the server answered Server error '500 Internal Server Error'"),
    ],
)
def test_hub_that_answers_something_else(hub, folder, tmp_path, capsys, monkeypatch, answer, status, said):
    def serve(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.answer(answer, status)

    monkeypatch.setattr(Handler, "serve", serve)
    for command in (
        ["pull", "org/letters", "--out", str(tmp_path / "out")],
        ["push", str(folder), "org/new"],
    ):
        assert main(["hub", *command]) == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert said in line
    assert not (tmp_path / "out").exists()
