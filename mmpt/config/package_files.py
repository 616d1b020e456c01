"""Configs that come with mmpt: `package:fslex_demo` is projects/signclip/fslex_demo.yaml of the package."""

from pathlib import Path

from mmpt.registry import nearest
from mmpt.utils.errors import UserError

PREFIX = "package:"
_PACKAGE = Path(__file__).parents[1]


def package_root() -> Path:
    """The folder that holds configs/ and projects/: of the installed package, or the top of a checkout."""
    installed = _PACKAGE / "package_configs"  # written by setup.py
    return installed if installed.is_dir() else _PACKAGE.parent


def package_configs() -> dict[str, Path]:
    """Name -> file of every config of the package; if a name occurs twice, the experiment."""
    root = package_root()
    folders = (root / "projects" / "signclip", root / "projects" / "signclip" / "ablations", root / "configs")
    files = [file for folder in folders for file in sorted(folder.glob("*.yaml"))]
    return {file.stem: file for file in reversed(files)}


def description(path: Path) -> str:
    """The comment at the start of a config, up to the line in which a sentence ends; "" if there is none."""
    text = ""
    for line in path.read_text(encoding="utf-8").split("\n"):
        if not line.startswith("#"):
            break
        text = f"{text} {line.removeprefix('#').strip()}".strip()
        if text.endswith((".", "!", "?")):
            break
    return text


def config_path(name: str | Path) -> Path:
    """The file of a config: a path as it is, or that of `package:NAME`. Raises UserError if there is none."""
    text = str(name)
    if not text.startswith(PREFIX):
        return Path(name)
    files = package_configs()
    wanted = text.removeprefix(PREFIX).removesuffix(".yaml")
    if wanted not in files:
        raise UserError(
            f"there is no config {text}.{nearest(wanted, files)} `signclip config list` shows all of them."
        )
    return files[wanted]
