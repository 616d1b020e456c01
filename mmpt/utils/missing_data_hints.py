"""Hints for errors about missing data: where to get corpora and weights that mmpt may not ship."""

from pathlib import Path

RWTH = (
    "Request the RWTH German Fingerspelling Database at "
    "https://www-i6.informatik.rwth-aachen.de/aslr/fingerspelling.php."
)
VIDEOCLIP = (
    "Get VideoCLIP's checkpoint from https://dl.fbaipublicfiles.com/MMPT/retri/videoclip/checkpoint_best.pt "
    "(see https://github.com/facebookresearch/fairseq/tree/main/examples/MMPT)."
)
S3D = (
    "Get S3D's weights from "
    "https://www.rocq.inria.fr/cluster-willow/amiech/howto100m/s3d_howto100m.pth (see "
    "https://github.com/antoine77340/S3D_HowTo100M)."
)
I3D = (
    "Get I3D's weights from https://www.robots.ox.ac.uk/~vgg/research/bslattend/data/bsl5k.pth.tar (from "
    "https://github.com/gulvarol/bsl1k)."
)


def how_to_get_features(folder: str | None, suffix: str) -> str:
    """How to extract the features of RWTH's videos: poses, or s3d or i3d by the name of the folder."""
    out = folder or "FOLDER"
    if suffix == ".pose":
        return f"Make the poses: `signclip extract pose --in VIDEOS --out {out}`."
    kinds = [kind for kind in ("s3d", "i3d") if kind in Path(out).name]
    kind = kinds[0] if kinds else "s3d|i3d"
    weights = {"s3d": S3D, "i3d": I3D}.get(kind, f"{S3D} {I3D}")
    command = f"signclip extract {kind} --weights FILE --in VIDEOS --out {out}"
    return f"Make the features: `{command}`. {weights}"


def where_checkpoint_comes_from(path: Path) -> str | None:
    """How to get a missing checkpoint, if its path shows whose it is; else None."""
    return f"{VIDEOCLIP} Save it as this file." if "videoclip" in path.parts else None
