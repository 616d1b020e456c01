"""Hints for errors about missing data: where corpora and weights that mmpt may not ship come from."""

from pathlib import Path

RWTH = (
    "The RWTH German Fingerspelling Database is asked for at "
    "https://www-i6.informatik.rwth-aachen.de/aslr/fingerspelling.php."
)
VIDEOCLIP = (
    "VideoCLIP's checkpoint is https://dl.fbaipublicfiles.com/MMPT/retri/videoclip/checkpoint_best.pt (from "
    "https://github.com/facebookresearch/fairseq/tree/main/examples/MMPT)."
)
S3D = (
    "S3D's weights are https://www.rocq.inria.fr/cluster-willow/amiech/howto100m/s3d_howto100m.pth (from "
    "https://github.com/antoine77340/S3D_HowTo100M)."
)
I3D = (
    "I3D's weights are https://www.robots.ox.ac.uk/~vgg/research/bslattend/data/bsl5k.pth.tar (from "
    "https://github.com/gulvarol/bsl1k)."
)


def how_to_get_features(folder: str | None, suffix: str) -> str:
    """How the features of RWTH's videos are made: poses, or what its folder's name says (s3d, i3d)."""
    out = folder or "FOLDER"
    if suffix == ".pose":
        return f"Make the poses: `python -m mmpt.cli.extract pose --in VIDEOS --out {out}`."
    kinds = [kind for kind in ("s3d", "i3d") if kind in Path(out).name]
    kind = kinds[0] if kinds else "s3d|i3d"
    weights = {"s3d": S3D, "i3d": I3D}.get(kind, f"{S3D} {I3D}")
    command = f"python -m mmpt.cli.extract {kind} --weights FILE --in VIDEOS --out {out}"
    return f"Make the features: `{command}`. {weights}"


def where_checkpoint_comes_from(path: Path) -> str | None:
    """What to do about a checkpoint that is missing, where the path tells whose it is; else None."""
    return f"{VIDEOCLIP} Put it there." if "videoclip" in path.parts else None
