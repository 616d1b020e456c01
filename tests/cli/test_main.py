"""`signclip`: the list of commands, suggestions for misspelt names, and what help costs."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmpt.cli.main import command_names, load_command, main, signclip
from mmpt.extractors import EXTRACTORS
from tests.conftest import ROOT

COMMANDS = command_names()


def test_help_lists_every_command_with_its_summary(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0 and main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in COMMANDS:
        line = next(line for line in lines if line.startswith(f"  {name} "))
        assert line.rstrip().endswith(".") and len(line.split(maxsplit=len(name.split()))[-1]) > 10
    assert {"train", "evaluate", "embed", "extract", "check", "convert", "search query"} <= set(COMMANDS)
    assert {"experiment ablate", "experiment results", "config show", "config list"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_module_is_the_command_of_its_path(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert load_command(name).name == name
    with pytest.raises(SystemExit) as ended:
        main([*name.split(), "--help"])
    assert ended.value.code == 0 and f"usage: signclip {name}" in capsys.readouterr().out


def test_every_argument_has_a_help() -> None:
    parsers = {name: load_command(name).parser() for name in COMMANDS}
    for name in EXTRACTORS.names():
        parsers[f"extract {name}"] = argparse.ArgumentParser()
        EXTRACTORS.get(name)().add_arguments(parsers[f"extract {name}"])
    assert not [(name, each.dest) for name, one in parsers.items() for each in one._actions if not each.help]


@pytest.mark.parametrize(
    "words, suggestion",
    [
        (["trian"], "Did you mean 'train'?"),
        (["experiment", "ablation"], "Did you mean 'experiment ablate'?"),
        (["config", "shwo"], "Did you mean 'config show'?"),
        (["serch", "build", "x"], "Did you mean 'search build'?"),
        (["evalute", "x.yaml"], "no command 'evalute'. Did you mean 'evaluate'?"),
        (["config", "show", "package:fslex_dem"], "Did you mean 'fslex_demo'?"),
        (["config", "show", "projects/signclip/fslex_dmo.yaml"], "Did you mean 'fslex_demo.yaml'?"),
    ],
)
def test_misspelt_names_get_a_suggestion(
    words: list[str], suggestion: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert suggestion in error and error.count("\n") == 1


def test_misspelt_protocol_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "--protocol", "knnn"])
    assert ended.value.code == 2 and "Did you mean 'knn'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, hint",
    [
        (
            "train x.yaml --max_epoch=2",
            "--max_epoch=2. Keys of the config are set without dashes: key=value.",
        ),
        ("evaluate x.yaml --modle m", "--modle m. Did you mean '--model'?\n"),
        ("embed --model m --in i --out o --portoin 3", "--portoin 3. Did you mean '--portion'?\n"),
    ],
)
def test_an_unknown_option_gets_a_suggestion(
    words: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 2 and hint in capsys.readouterr().err


def test_a_misspelt_include_gets_a_suggestion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "base.yaml").write_text("dataset: {}\n")
    (tmp_path / "x.yaml").write_text("includes: [bsae.yaml]\n")
    assert main(["config", "check", str(tmp_path / "x.yaml")]) == 2
    assert "Did you mean 'base.yaml'?" in capsys.readouterr().err


def test_package_configs_are_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("includes: [package:fslex_best]\nloss: {temperature: 0.125}\n")
    assert main(["config", "check", "package:test_fslex_demo"]) == 0
    assert main(["config", "show", "mine.yaml"]) == 0
    assert "temperature: 0.125" in capsys.readouterr().out
    assert main(["config", "list"]) == 0
    told = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if " " in line)
    assert told["package:fslex_demo"] == "The model of `make demo`: fslex_best with its own run folder."
    assert told["package:fslex"].endswith("the test sign languages are not in the training split.")
    assert told["package:test_rwthfs_zs"] == "S3D features, VideoCLIP zero-shot: no training."  # of two lines
    assert told["package:fslex_best_no_ema"] == "no EMA weights"
    of_ablations = {f"package:{file.stem}" for file in (ROOT / "projects/signclip/ablations").glob("*.yaml")}
    cut = {name for name, text in told.items() if not text.endswith(".")}
    assert cut == of_ablations


HEAVY = {
    "numpy",
    "torch",
    "omegaconf",
    "transformers",
    "fairseq",
    "sklearn",
    "scipy",
    "pyarrow",
    "matplotlib",
    "mediapipe",
}


def test_help_imports_no_heavy_library() -> None:
    """So that it takes about 0.2 s; no test asserts a time. The error names the first command that does."""
    code = (
        "import sys, mmpt.cli.main as main\n"
        f"for name in {['', *COMMANDS]!r}:\n"
        "    try: main.main([*name.split(), '--help'])\n"
        "    except SystemExit: pass\n"
        f"    heavy = sorted({HEAVY!r} & set(sys.modules))\n"
        "    assert not heavy, f'signclip {name} --help imports {heavy}'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: signclip") > len(COMMANDS)


def test_processes_of_the_installed_command_import_nothing_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONSAFEPATH", "")
    monkeypatch.delenv("PYTHONSAFEPATH")
    monkeypatch.setattr(sys, "argv", ["signclip", "--version"])
    assert signclip() == 0
    for name in ("types", "torch"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(5)\n")
    started = [sys.executable, "-m", "mmpt", "config", "check", "package:fslex_demo"]
    assert subprocess.run(started, cwd=tmp_path, check=False, capture_output=True).returncode == 0


def test_completion_knows_nested_commands_and_their_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert "leave-one-out" in script and "--allow-leak" in script and "zero_shot" in script
    for option in (
        "--cluster",
        "--cluster-config",
        "--cancel-on-interrupt",
        "--shards",
        "--shard",
        "--merge",
    ):
        assert option in script.replace(")", " ").split()
    check = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
    assert check.returncode == 0, check.stderr


def test_config_check_refuses_an_option_that_the_loss_does_not_support(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["loss.loss_cls=MMSigmoidLoss", "loss.label_smoothing=0.2"]
    assert main(["config", "check", "package:fslex_demo", *options]) == 2
    said = capsys.readouterr().err
    assert "loss.label_smoothing is 0.2, which MMSigmoidLoss does not support" in said


@pytest.mark.parametrize(
    "given, expected",
    [
        ({}, ["PASSIVE", "1000"]),
        ({"GOMP_SPINCOUNT": "300000"}, ["PASSIVE", "300000"]),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, ["PASSIVE", "None"]),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, ["ACTIVE", "None"]),
    ],
)
def test_waiting_threads_leave_the_cores_to_others_after_a_moment(
    given: dict[str, str], expected: list[str]
) -> None:
    """Set before torch is imported, which reads it once."""
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    code = f"import os, sys, mmpt.cli; print(*map(os.environ.get, {names}), 'torch' in sys.modules)"
    environment = {name: value for name, value in os.environ.items() if name not in names} | given
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [*expected, "False"]
