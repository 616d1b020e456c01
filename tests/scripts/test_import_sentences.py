"""Importers of corpora of sentences, on tiny files in the corpora's own layouts."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from mmpt.processors.table_file import Table, read_table
from scripts import import_csl_daily, import_how2sign, import_phoenix2014t, import_youtube_asl
from tests.pose.pose_fakes import fake_clip, write_pose


def pose(path: Path, frames: int = 50, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_pose(path, fake_clip(frames=frames, seed=seed))


def arguments(**options: Path) -> list[str]:
    return [word for name, path in options.items() for word in (f"--{name.strip('_')}", str(path))]


def imported(out: Path) -> Table:
    return read_table(out / "table.csv")


HOW2SIGN = "\t".join(
    ("VIDEO_ID", "VIDEO_NAME", "SENTENCE_ID", "SENTENCE_NAME", "START_REALIGNED", "END_REALIGNED", "SENTENCE")
)


def how2sign_csv(folder: Path, texts: Sequence[str], times: Sequence[tuple[float, float]] = ()) -> list[str]:
    """Write the re-aligned CSV files, with one video a split. Returns the names of the sentences."""
    names = []
    for split, video in (("train", "--7E2sU6zP4"), ("val", "-d5dN54tH2E"), ("test", "-fZc293MpJk")):
        lines = [HOW2SIGN]
        for number, text in enumerate(texts):
            text = '"' + text.replace('"', '""') + '"' if '"' in text else text
            start, end = times[number] if times else (number, number + 1)
            names.append(f"{video}_{number}-5-rgb_front")
            ids = (video, f"{video}-5-rgb_front", f"{video}_{number}", names[-1])
            lines.append("\t".join((*ids, str(start), str(end), text)))
        (folder / f"how2sign_realigned_{split}.csv").write_text("\n".join(lines) + "\n")
    return names


@pytest.fixture
def how2sign(tmp_path: Path) -> Path:
    texts = ["And I call them decorative.", '"Yes," she said.', "No.", "After the end.", " "]
    times = [(0.0, 0.8), (0.8, 2.5), (1.0, 0.5), (3.0, 4.0), (0.1, 0.2)]
    for name in how2sign_csv(tmp_path, texts, times)[1::5]:
        pose(tmp_path / "clips" / f"{name}.pose")
        pose(tmp_path / "poses" / "some" / f"{name[:11]}-5-rgb_front.pose", frames=50)  # 2 s
    return tmp_path


def test_import_how2sign(how2sign, caplog):
    options = arguments(csv=how2sign, poses=how2sign / "poses", out=how2sign / "out")
    assert import_how2sign.main([*options, "--recordings"]) == 0
    rows = imported(how2sign / "out").rows
    assert [(row.id, str(row.span), row.text, row.split, row.signer) for row in rows[:3]] == [
        ("--7E2sU6zP4_0-5-rgb_front", "0-800 ms", "And I call them decorative.", "train", "5"),
        ("--7E2sU6zP4_1-5-rgb_front", "800-2000 ms", '"Yes," she said.', "train", "5"),
        ("-d5dN54tH2E_0-5-rgb_front", "0-800 ms", "And I call them decorative.", "valid", "5"),
    ]
    assert rows[0].path.is_file() and len(rows) == 6
    for words in ("end before they start", "after the recording's end, left out: 3", "cut there: 3"):
        assert words in caplog.text
    assert import_how2sign.main(arguments(csv=how2sign, poses=how2sign / "clips", out=how2sign / "clip")) == 0
    rows = imported(how2sign / "clip").rows
    assert [row.id for row in rows] == [
        f"{video}_1-5-rgb_front" for video in ("--7E2sU6zP4", "-d5dN54tH2E", "-fZc293MpJk")
    ]
    assert rows[0].span is None and "12 of 15 clips have no file" not in caplog.text
    assert "9 of 12 clips have no file" in caplog.text


def test_import_how2sign_refuses_other_layouts(how2sign, capsys):
    options = arguments(csv=how2sign, poses=how2sign / "poses", out=how2sign / "out")
    file = how2sign / "how2sign_realigned_val.csv"
    content = file.read_text()
    for old, new, words in (
        ("\t", ";", "expected the columns VIDEO_NAME"),
        ("0.8\tAnd", "x\tAnd", "sentence 1: expected seconds"),
        ("0.8\tAnd", "1e306\tAnd", "sentence 1: expected seconds"),
        ("SENTENCE_NAME", "NAME", "expected the columns SENTENCE_NAME"),
    ):
        file.write_text(content.replace(old, new))
        assert import_how2sign.main([*options, "--recordings"]) == 2
        assert words in capsys.readouterr().err
    file.unlink()
    assert import_how2sign.main(options) == 2 and "see --help" in capsys.readouterr().err
    assert not (how2sign / "out").exists()


def phoenix_csv(folder: Path, texts: Sequence[str]) -> list[str]:
    """Write the annotations below `folder`. Returns the names of the clips."""
    manual, names = folder / "annotations" / "manual", []
    manual.mkdir(parents=True)
    for split in ("train", "dev", "test"):
        lines = ["name|video|start|end|speaker|orth|translation"]
        for number, text in enumerate(texts):
            names.append(f"11August_2010_Wednesday_tagesschau-{split}{number}")
            lines.append(f"{names[-1]}|{names[-1]}/1/*.png|-1|-1|Signer08|DRUCK TIEF KOMMEN|{text}")
        (manual / f"PHOENIX-2014-T.{split}.corpus.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return names


def test_import_phoenix2014t(tmp_path, capsys):
    for name in phoenix_csv(tmp_path / "in", ["tiefer luftdruck in den nächsten tagen", "ohne pose"])[::2]:
        pose(tmp_path / "poses" / name[-6:-1] / f"{name}.pose")
    options = arguments(in_=tmp_path / "in", poses=tmp_path / "poses", out=tmp_path / "out")
    assert import_phoenix2014t.main(options) == 0
    rows = imported(tmp_path / "out").rows
    assert [(row.split, row.text, row.values["gloss"], row.signer) for row in rows] == [
        (split, "tiefer luftdruck in den nächsten tagen", "DRUCK TIEF KOMMEN", "Signer08")
        for split in ("train", "valid", "test")
    ]
    pose(tmp_path / "poses" / "more" / f"{rows[0].id}.pose")
    assert import_phoenix2014t.main(options) == 2 and "have the same name" in capsys.readouterr().err


def csl_daily_labels(folder: Path, texts: Sequence[str]) -> list[str]:
    """Write video_map.txt and split_1.txt. Returns the names of the clips."""
    lines, splits, names = ["index|name|length|gloss|char|word|postag"], ["name|split"], []
    for signer, split in enumerate(("train", "dev", "test")):
        for number, text in enumerate(texts):
            names.append(f"S{number:06d}_P{signer:04d}_T00")
            splits.append(f"{names[-1]}|{split}")
            lines.append(f"{len(names)}|{names[-1]}|99|你 认识|{' '.join(text)}|{text}|r v")
    (folder / "video_map.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "split_1.txt").write_text("\n".join(splits), encoding="utf-8")
    return names


def test_import_csl_daily(tmp_path, caplog, capsys):
    label = tmp_path / "sentence_label"
    label.mkdir()
    names = csl_daily_labels(label, ["你和小张什么时候认识?"])
    for n, name in enumerate(names):
        pose(tmp_path / "poses" / f"{name}.pose", seed=n)
    with open(label / "video_map.txt", "a", encoding="utf-8") as file:
        file.write("9|S000007_P0003_T00|99|你|你 好|你好|r\n")
    with open(label / "split_1.txt", "a", encoding="utf-8") as file:
        file.write("\nS000005_P0004_T00|train")
    options = arguments(in_=label, poses=tmp_path / "poses", out=tmp_path / "out")
    assert import_csl_daily.main(options) == 0
    rows = imported(tmp_path / "out").rows
    assert [(row.id, row.split, row.signer) for row in rows] == list(
        zip(names, ("train", "valid", "test"), ("0000", "0001", "0002"))
    )
    assert rows[0].text == "你和小张什么时候认识?" and rows[0].values["gloss"] == "你 认识"
    assert "clips without a split, left out: 1" in caplog.text
    assert "names in split_1.txt without a sentence, left out: 1 (first: S000005_P0004_T00)" in caplog.text
    file = label / "video_map.txt"
    words = " ".join("你和小张什么时候认识?")
    file.write_text(file.read_text(encoding="utf-8").replace(words, " ", 1), encoding="utf-8")
    assert import_csl_daily.main(options) == 0
    assert [row.id for row in imported(tmp_path / "out").rows] == names[1:], "the gloss is not its sentence"
    assert "clips without text, left out: 1 (first: S000000_P0000_T00)" in caplog.text
    (label / "split_1.txt").write_text("name|split\nS000000_P0000_T00|trian\n")
    assert import_csl_daily.main(options) == 2 and "got trian" in capsys.readouterr().err


@pytest.mark.parametrize("corpus", ["how2sign", "phoenix", "csl_daily"])
def test_a_clip_is_imported_once_and_is_in_one_split(tmp_path, caplog, capsys, corpus):
    """A row that is there twice is left out and counted; a clip in two splits is refused."""
    poses = arguments(poses=tmp_path / "poses", out=tmp_path / "out")
    if corpus == "how2sign":
        [name, *_] = how2sign_csv(tmp_path, ["hello"])
        run, file = import_how2sign.main, "how2sign_realigned_{}.csv"
        poses += arguments(csv=tmp_path)
    elif corpus == "phoenix":
        [name, *_] = phoenix_csv(tmp_path, ["regen"])
        run, file = import_phoenix2014t.main, "annotations/manual/PHOENIX-2014-T.{}.corpus.csv"
        poses += arguments(in_=tmp_path)
    else:
        [name, *_] = csl_daily_labels(tmp_path, ["你好"])
        run, file = import_csl_daily.main, "split_1.txt"
        poses += arguments(in_=tmp_path)
    pose(tmp_path / "poses" / f"{name}.pose")
    line = next(line for line in (tmp_path / file.format("train")).read_text().splitlines() if name in line)

    def append(split: str) -> None:
        file_of = tmp_path / file.format(split)
        content = file_of.read_text().rstrip("\n")
        file_of.write_text(f"{content}\n{line.replace('|train', f'|{split}')}\n")

    append("train")
    assert run(poses) == 0 and [row.id for row in imported(tmp_path / "out").rows] == [name]
    assert f"repeated rows (same clip, text and split), left out: 1 (first: {name})" in caplog.text
    append("test")
    assert run(poses) == 2
    assert f"error: {name} is in train and in test: correct the annotations" in capsys.readouterr().err


def test_quotes_are_text_where_a_bar_separates(tmp_path):
    names = csl_daily_labels(tmp_path, ["你好", "好你"])[:2]
    poses = phoenix_csv(tmp_path, ['"regen', 'schnee"'])
    for name in (*names, *poses):
        pose(tmp_path / "poses" / f"{name}.pose")
    file = tmp_path / "video_map.txt"
    text = file.read_text(encoding="utf-8").replace("你 认识", '"你', 1).replace("你 认识", '你"', 1)
    file.write_text(text, encoding="utf-8")
    folders = {"poses": tmp_path / "poses", "out": tmp_path / "out"}
    assert import_csl_daily.main(arguments(in_=tmp_path, **folders)) == 0
    rows = imported(tmp_path / "out").rows
    assert [(row.id, row.values["gloss"]) for row in rows] == [(names[0], '"你'), (names[1], '你"')]
    assert import_phoenix2014t.main(arguments(in_=tmp_path, **folders)) == 0
    assert [row.text for row in imported(tmp_path / "out").rows] == ['"regen', 'schnee"'] * 3


def test_import_youtube_asl(tmp_path, capsys):
    ids = ["-0abcDEF_12", "aaaaaaaaaa1", "bbbbbbbbbb2", "gone0000000"]
    (tmp_path / "ids.txt").write_text("\n".join(ids) + "\n")
    subs = tmp_path / "videos"
    subs.mkdir()
    for n, name in enumerate([*ids[:3], "unlisted000"]):
        pose(tmp_path / "poses" / f"{name}.pose", seed=n)
    events = [{"tStartMs": 100, "dDurationMs": 900, "segs": [{"utf8": "hello\nthere"}]}]
    (subs / f"{ids[0]}.en.json3").write_text(json.dumps({"events": events}))
    (subs / f"{ids[1]}.en-US.vtt").write_text(
        "WEBVTT\nKind: captions\n\n00:00.500 --> 00:01.500\n[music] hi\n"
    )
    (subs / "unlisted000.en.vtt").write_text("WEBVTT\n\n00:00.500 --> 00:01.500\nhi\n")
    options = arguments(
        ids=tmp_path / "ids.txt", subtitles=subs, poses=tmp_path / "poses", out=tmp_path / "out"
    )
    assert import_youtube_asl.main(options) == 0
    rows = imported(tmp_path / "out").rows
    assert [(row.id, row.text, str(row.span)) for row in rows] == [
        ("-0abcDEF_12-100", "hello there", "100-1000 ms"),
        ("aaaaaaaaaa1-500", "[music] hi", "500-1500 ms"),
    ]
    said = capsys.readouterr().out
    for words in (
        "recordings without captions, left out: 1 (first: bbbbbbbbbb2)",
        "ids without a pose, left out: 1",
    ):
        assert words in said
    (tmp_path / "ids.txt").write_text("https://youtu.be/aaaaaaaaaa1\n")
    assert import_youtube_asl.main(options) == 2 and "ids of 11 characters" in capsys.readouterr().err


def test_names_of_poses_stay_in_their_folder(tmp_path, capsys):
    pose(tmp_path / "mine.pose")
    (tmp_path / "poses").mkdir()
    how2sign_csv(tmp_path, ["hello"])
    phoenix_csv(tmp_path, ["regen"])
    csl_daily_labels(tmp_path, ["你好"])
    for path in tmp_path.rglob("*.*"):
        if path.suffix in (".csv", ".txt"):
            for name in ("--7E2sU6zP4_0-5-rgb_front", "tagesschau-train0", "S000000_P0000_T00"):
                path.write_text(re.sub(rf"[^\t|\n]*{name}(?=[\t|])", "../mine", path.read_text()))
    folders = {"poses": tmp_path / "poses", "out": tmp_path / "out"}
    for module, options in (
        (import_how2sign, arguments(csv=tmp_path, **folders)),
        (import_phoenix2014t, arguments(in_=tmp_path, **folders)),
        (import_csl_daily, arguments(in_=tmp_path, **folders)),
    ):
        assert module.main(options) == 2, module
        assert "error: the name '../mine.pose' cannot be" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
