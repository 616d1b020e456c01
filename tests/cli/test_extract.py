"""mmpt.cli.extract: interrupted, killed and resumed."""

import errno
import math
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from mmpt.cli.extract import _kind, main
from mmpt.extractors.base import Outcome
from mmpt.extractors.manifest import JOURNAL, NAME, read_manifest, trial_weights
from mmpt.extractors.npy import NpyReader
from tests.commands import Forked, run, start
from tests.extractors.test_runner import content, save
from tests.extractors.videos import write_audio, write_video
from tests.waiting import wait_until

VIDEOS = ("asl_book.mp4", "pose_test_video.mp4", "sign_example.mp4")


def test_extract_folder_named_like_an_extractor() -> None:
    for line, kind in (
        ("--out s3d i3d --in videos", "i3d"),
        ("pose --in pose --out s3d", "pose"),
        ("--quiet pose --in x --out s3d", "pose"),
        ("--help", None),
    ):
        assert _kind(line.split()) == kind


@pytest.mark.parametrize("status", [0, 1])
def test_a_file_name_with_a_line_break_is_shown_in_one_line(tmp_path, monkeypatch, capsys, status):
    def convert(self, source: Path, target: Path) -> Outcome:
        if status:
            raise OSError(errno.EIO, "I/O error", source)
        return Outcome({}, ["a note"], "skipped")

    monkeypatch.setattr(NpyReader, "convert", convert)
    save(tmp_path / "in" / "a\nb.npy")
    words = ["npy", "--dim", "4", "--in", tmp_path / "in", "--out", tmp_path / "out", "--workers", "0"]
    assert main([*map(str, words)]) == status
    lines = [line for line in capsys.readouterr().err.splitlines() if "b.npy" in line]
    assert lines and all(r"a\nb" in line for line in lines), lines


def recorded(out: Path) -> float:
    """Number of results that the journal records as done, or all if the run has ended."""
    try:
        return (out / JOURNAL).read_bytes().count(b'"status": "done"')
    except FileNotFoundError:
        return math.inf if (out / NAME).exists() else 0


def wait_for_results(started: Forked, out: Path, suffix: str, count: int) -> None:
    """Wait until this many results are written and recorded (the main process records them later)."""

    def written() -> bool:
        return min(len(list(out.rglob(f"[!.]*{suffix}"))), recorded(out)) >= count

    wait_until(lambda: written() or not started.process.is_alive(), f"{count} results are written")


def interrupt(command: list[object], out: Path, suffix: str, after: int, how: signal.Signals) -> None:
    """Start, end with the signal `how` after some results, check that no file is half-written."""
    started = start(*command, hold=("mmpt.utils.progress:Progress.advance", 3 * after))
    wait_for_results(started, out, suffix, after)
    started.send(how)
    ended = started.end()
    if how != signal.SIGKILL:
        assert ended.returncode == 128 + how, ended.stderr
        assert ("interrupted" if how == signal.SIGINT else "terminated") in ended.stderr
        assert "Traceback" not in ended.stderr
        assert (out / "manifest.json").exists() and not (out / ".manifest.journal").exists()
    else:
        assert ended.returncode == -how


def interrupt_and_finish(
    arguments: list[object], out: Path, suffix: str, after: int, *signals: signal.Signals
) -> None:
    """As interrupt, for each of the signals after as many results more; then resume."""
    command = ["extract", *arguments, "--out", out]
    for number, how in enumerate(signals, start=1):
        interrupt(command, out, suffix, number * after, how)
    again = run(*command)
    assert again.returncode == 0, again.stderr
    assert " 0 already finished" not in again.stderr, "finished files were extracted again"


@pytest.mark.parametrize(
    "signals",
    [[signal.SIGKILL, signal.SIGINT], pytest.param([signal.SIGTERM], marks=pytest.mark.slow)],
)
def test_resume_extract_after_a_signal_gives_the_same_files(tmp_path, signals):
    folder = tmp_path / "in"
    for index in range(400):
        save(folder / f"{index % 7}" / f"{index}.npy", 1 + index % 5, value=index)
    arguments = ["npy", "--in", folder, "--dim", 4, "--workers", 2]
    alone = [*map(str, arguments[:-1]), "0"]
    assert main([*alone, "--out", str(tmp_path / "whole"), "--quiet"]) == 0
    whole = content(tmp_path / "whole")
    assert len(whole) == 401
    interrupt_and_finish(arguments, tmp_path / "broken", ".npy", 20, *signals)
    assert content(tmp_path / "broken") == whole


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["legacy", "tasks"])
def test_resume_extract_pose_after_kill_gives_the_same_files(shared_videos, tmp_path, request, backend):
    """MediaPipe on real videos, killed during the second of three clips."""
    request.getfixturevalue({"legacy": "legacy", "tasks": "bundle"}[backend])
    (tmp_path / "in").mkdir()
    for name in VIDEOS:
        shutil.copy(shared_videos / name, tmp_path / "in")
    arguments = ["pose", "--in", tmp_path / "in", "--workers", 1, "--backend", backend]
    assert main([*map(str, arguments), "--out", str(tmp_path / "whole"), "--quiet"]) == 0
    interrupt_and_finish(arguments, tmp_path / "broken", ".pose", 1, signal.SIGKILL)
    whole = content(tmp_path / "whole")
    assert len(whole) == 1 + len(VIDEOS) and content(tmp_path / "broken") == whole


@pytest.mark.slow
@pytest.mark.parametrize("network", [["s3d"], ["i3d", "--stride", "8"]])
def test_resume_extract_network_after_kill_gives_the_same_files(tmp_path, network):
    for index in range(8):
        write_video(tmp_path / "in" / f"{index}.mp4", 20 + 9 * index, 25)
    arguments = [*network, "--in", tmp_path / "in", "--weights", "random:1", "--dtype", "float32"]
    whole = run("extract", *arguments, "--out", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    interrupt_and_finish(arguments, tmp_path / "broken", ".npy", 2, signal.SIGKILL)
    assert content(tmp_path / "broken") == content(tmp_path / "whole")


def test_extract_s3d_of_readable_and_unreadable_videos(tmp_path, capsys):
    folder, out = tmp_path / "in", tmp_path / "out"
    write_video(folder / "Zürich.mpg", 30, 25, codec="mpeg1video")
    write_video(folder / "sub" / "short.mp4", 3, 25)
    (folder / "bad.mp4").write_bytes(b"no video" * 99)
    write_audio(folder / "sound.mp4")
    arguments = ["s3d", "--in", str(folder), "--out", str(out), "--weights", "random:5", "--workers", "0"]
    assert main(arguments) == 1
    lines = capsys.readouterr().err.splitlines()
    assert "2 extracted, 3 tokens" in lines[-3] and "2 failed" in lines[-3]
    assert "failed" in lines[-2] and "bad.mp4" in lines[-2]
    assert "sound.mp4" in lines[-1] and "no video stream" in lines[-1]
    features = np.load(out / "Zürich.npy")
    assert features.shape == (2, 512) and features.dtype == np.float16
    np.testing.assert_allclose(np.linalg.norm(features.astype(np.float32), axis=1), 1, atol=2e-3)
    assert np.load(out / "sub" / "short.npy").shape == (1, 512)
    assert trial_weights(out) == "random:5"
    run = next(iter(read_manifest(out)["runs"].values()))
    assert run["options"]["fps"] == "30" and run["options"]["dtype"] == "float32"
    assert {"torch", "av", "device"} <= run["tools"].keys()
    # copies keep the mark, also of a subfolder
    for source in (out, out / "sub"):
        copies = tmp_path / "copies" / source.name
        assert main(["npy", "--in", str(source), "--out", str(copies), "--dim", "512", "--workers", "0"]) == 0
        assert trial_weights(copies) == "random:5"
    # the second run retries only the failed files
    assert main(arguments) == 1
    assert "2 already finished" in capsys.readouterr().err


def test_extract_npy_ignores_a_manifest_of_another_kind(tmp_path):
    save(tmp_path / "in" / "a.npy")
    (tmp_path / "in" / "manifest.json").write_text('{"name": "a browser extension"}')
    arguments = ["npy", "--in", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--dim", "4"]
    assert main([*arguments, "--workers", "0"]) == 0
    assert trial_weights(tmp_path / "out") is None


def test_extract_errors_are_one_line_and_status_2(tmp_path, capsys):
    folder, out = tmp_path / "in", tmp_path / "out"
    save(folder / "a.npy")
    write_video(folder / "a.mp4", 1)
    common = ["--in", str(folder), "--out", str(out)]
    for arguments, said in (
        (["s3d", "--weights", str(tmp_path / "gone.pth")], "howto100m/s3d_howto100m.pth"),
        (["i3d", "--weights", str(tmp_path / "gone.pth.tar")], "bslattend/data/bsl5k.pth.tar"),
        (["i3d", "--weights", "random:0", "--stride", "0"], "--stride 0"),
        (["s3d", "--weights", "random:0", "--device", "abacus"], "abacus"),
        (["npy", "--dim", "0"], "--dim 0"),
        (["npy", "--dim", "4", "--workers", "-1"], "--workers -1"),
        (["npy", "--dim", "4", "--workers", "9999"], "--workers 9999: expected 0 to "),
        (["pose", "--fps", "fast"], "--fps fast"),
        (["pose", "--complexity", "3"], "--complexity 3"),
    ):
        assert main([*arguments, *common]) == 2, arguments
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1 and said in errors[0]
    assert not out.exists()


@pytest.mark.parametrize("arguments", [["s4d"], [], ["npy"], ["s3d", "--in", "x", "--out", "y"]])
def test_extract_invalid_options(arguments):
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2


def test_extract_help_of_each_extractor(capsys):
    for name, option in (("pose", "--no-hand"), ("s3d", "--dtype"), ("i3d", "--stride"), ("npy", "--dim")):
        with pytest.raises(SystemExit) as end:
            main([name, "--help"])
        assert end.value.code == 0 and option in capsys.readouterr().out
