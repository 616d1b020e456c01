"""Load a task config: YAML -> includes -> overrides -> dataclasses, strictly.

Later layers win: the files under `includes:` (relative to the including file, to the working directory, to a
folder above the file, as in the published `projects/task/ft.yaml`, or to the package, as
`configs/table.yaml`), the file itself, then overrides such as `dataset.augment2d=true`. Errors name the file
or override, the dotted key and, for a misspelt key, the nearest valid one.
"""

import copy
import dataclasses
import functools
import io
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mmpt.config.build import Source, aliases, build
from mmpt.config.cluster_options import OF_THE_JOBS, ClusterConfig, minutes, of_slurm_config
from mmpt.config.fairseq_options import GROUPS, SET_BY_US, check_fairseq, table
from mmpt.config.package_files import PREFIX, config_path, package_root
from mmpt.config.published import remove_ignored
from mmpt.config.schema import Config, DatasetConfig, ModelConfig
from mmpt.registry import nearest
from mmpt.utils.errors import UserError
from mmpt.utils.files import check_regular, read_text, write_text

log = logging.getLogger(__name__)

MAX_VALUES = 10_000
_SECTIONS = frozenset({"dataset", "model", "loss", "eval", "fairseq"})

# ${dataset.x} and ${oc.env:SIGNCLIP_DATA,data} only: an untrusted YAML must not run a resolver or copy
# secrets from the environment into a saved config.
_ALLOWED_INTERPOLATION = re.compile(
    r"\$\{(oc\.env:(SIGNCLIP_[A-Z0-9_]*|HOME|USER)(,[^{}$]*)?|[A-Za-z_][\w.]*)\}"
)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a task config.

    path: a YAML file or `package:NAME`. overrides: `dotted.key=value`, the value in YAML syntax.
    Raises UserError for whatever is wrong in either.
    """
    merged, sources = _read(config_path(path), ())
    for override in overrides:
        _apply_override(merged, sources, override)
    resolved = _resolve(merged, path, sources)
    ignored = remove_ignored(resolved)
    if ignored:
        log.info("%s: ignored keys of data sets that mmpt does not support: %s", path, ", ".join(ignored))
    source = Source(str(path), sources, lambda name: _full_keys(name, resolved))
    _map_slurm_config(resolved, path)
    config = build(Config, resolved, source)
    check_fairseq(config.fairseq, source)
    _check_cluster(config.cluster, source)
    if config.input_dim is not None:
        if "model.vfeat_dim" in sources and config.model.vfeat_dim != config.input_dim:
            raise UserError(
                f"{source.of('input_dim')}: input_dim is {config.input_dim} but model.vfeat_dim is "
                f"{config.model.vfeat_dim}: they are aliases, set one of them."
            )
        config.model.vfeat_dim = config.input_dim
    return config


def load_cluster_config(path: str | Path) -> ClusterConfig:
    """Read the `cluster:` section of a YAML file, which may be a task config. Raises UserError."""
    merged, sources = _read(config_path(path), ())
    if "cluster" not in merged:
        raise UserError(f"{path}: expected a section cluster: with keys such as partition and time.")
    section = _resolve({"cluster": merged["cluster"]}, path, sources)["cluster"]
    source = Source(str(path), sources)
    config = build(ClusterConfig, {} if section is None else section, source, "cluster.")
    _check_cluster(config, source)
    return config


def _map_slurm_config(tree: dict[str, Any], path: str | Path) -> None:
    """Add the keys of a published slurm_config to the section `cluster`, whose own keys win."""
    published, own = tree.get("slurm_config"), tree.get("cluster") or {}
    if not isinstance(published, str | dict) or not isinstance(own, dict):
        return
    found, note = of_slurm_config(published)
    if found:
        tree["cluster"] = found | own
    if note:
        log.info("%s: slurm_config: %s", path, note)


def _check_cluster(config: ClusterConfig, source: Source) -> None:
    for option in config.sbatch:
        name = str(option).replace("-", "_")
        if name in OF_THE_JOBS or hasattr(config, name):
            instead = f"set cluster.{name}" if hasattr(config, name) else "leave it out"
            raise UserError(
                f"{source.of('cluster.sbatch')}: cluster.sbatch: {option!r} is set by the command itself: "
                f"{instead}."
            )
    if config.time is None:
        return
    limit = minutes(config.time)
    if limit is None or limit <= 0:
        raise UserError(
            f"{source.of('cluster.time')}: cluster.time: expected minutes, 'hours:minutes:seconds' or "
            f"'days-hours:minutes:seconds', got {config.time!r}."
        )
    if config.stop_seconds >= 60 * limit:
        raise UserError(
            f"{source.of('cluster.stop_seconds')}: cluster.stop_seconds: a job is asked to stop "
            f"{config.stop_seconds} s before a limit of {60 * limit:g} s (cluster.time): set it lower, or "
            "the limit higher."
        )


def evaluates(path: str | Path, config: Config) -> bool:
    """Whether a config is for evaluation only: its file is test_X.yaml, or its task_type local_predict."""
    return config_path(path).name.startswith("test_") or config.task_type == "local_predict"


def save_config(config: Config, path: str | Path) -> None:
    """Write the resolved config as YAML that load_config reads back to the same values."""
    write_text(path, as_yaml(config))


def is_saved_config(path: Path) -> bool:
    """Whether save_config, of this version or an older one, wrote a file."""
    try:
        text = read_text(path)
        tree = yaml.safe_load(text)
    except (OSError, UserError, yaml.YAMLError, RecursionError):
        return False
    return isinstance(tree, dict) and tree.keys() >= _SECTIONS and _dump(tree) == text


def as_yaml(config: Config) -> str:
    """The resolved config as YAML."""
    return _dump(dataclasses.asdict(config))


def _dump(tree: dict[str, Any]) -> str:
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=110)


def _read(path: Path, including: tuple[Path, ...]) -> tuple[dict[str, Any], dict[str, str]]:
    """Read one YAML file with its includes: the merged tree, and the file of each dotted key."""
    check_regular(path)
    if os.path.lexists(path) and not path.is_file():
        raise UserError(f"{path} is a folder or a broken link; a YAML file was expected.")
    if not path.is_file():
        by = f" (included by {including[-1]})" if including else ""
        there = [file.name for file in path.parent.glob("*.yaml")]
        raise UserError(
            f"there is no config file {path}{by}.{nearest(path.name, there)} Give "
            "the path of a YAML file, or package:NAME (`signclip config list`)."
        )
    real = path.resolve()
    if real in [other.resolve() for other in including]:
        chain = " -> ".join(str(p) for p in (*including, path))
        raise UserError(f"{path}: includes itself: {chain}. Remove one of the includes.")
    try:
        content = copy.deepcopy(_content(path, path.read_text(encoding="utf-8")))
    except AssertionError as error:  # raised by omegaconf if the file is one quoted number
        raise UserError(
            f"{path}: expected a mapping of sections (dataset:, model:, ...), got text."
        ) from error
    except (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError, OSError, RecursionError) as error:
        raise UserError(f"{path}: not readable as YAML{_why_no_yaml(error, bool(including))}") from None
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: expected a mapping of sections (dataset:, model:, ...), got {type(content).__name__}."
        )
    includes = content.pop("includes", None) or []
    if isinstance(includes, str):
        includes = [includes]
    if not isinstance(includes, list) or not all(isinstance(item, str) for item in includes):
        raise UserError(f"{path}: includes: expected a file name or a list of them, got {includes!r}.")
    merged: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for item in includes:
        folders = [path.parent, Path(), *real.parent.parents, package_root()]
        folders = [] if item.startswith(PREFIX) else folders
        places = [folder / item for folder in folders]
        found = next((place for place in places if place.is_file()), None)
        found = found or (places[0] if places else config_path(item))
        tree, origin = _read(found, (*including, path))
        _merge(merged, tree, found)
        sources.update(origin)
    _merge(merged, content, path)
    for key in _dotted(content):
        sources[key] = str(path)
    return merged, sources


def _why_no_yaml(error: Exception, included: bool) -> str:
    """The end of a message. Of an included file, which a stranger's YAML may choose, it shows no content."""
    if not included:
        return f": {' '.join(str(error).split())}"
    mark = getattr(error, "problem_mark", None)
    place = "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
    return f"{place}. It is included: expected a config there."


@functools.lru_cache(maxsize=256)  # many configs include the same files
def _content(path: Path, text: str) -> Any:
    """Parse a file. Raises UserError, and errors of YAML and OmegaConf."""
    _check_nodes(path, text)
    return OmegaConf.to_container(OmegaConf.load(io.StringIO(text)), resolve=False)


def _check_nodes(path: Path, text: str) -> None:
    """Refuse a file that is no mapping, or that aliases (`&a`, `*a`) make huge or endless.

    Raises UserError, and YAMLError.
    """
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is not None and not isinstance(root, yaml.MappingNode):  # OmegaConf takes text for a key
        what = "list" if isinstance(root, yaml.SequenceNode) else "text"
        raise UserError(f"{path}: expected a mapping of sections (dataset:, model:, ...), got {what}.")
    nodes, count = [root], 0
    while nodes:
        node = nodes.pop()
        count += 1
        if count > MAX_VALUES:
            raise UserError(
                f"{path}: it has over {MAX_VALUES} values, counting aliases: that is too large for a config."
            )
        if isinstance(node, yaml.SequenceNode):
            nodes += node.value
        elif isinstance(node, yaml.MappingNode):
            nodes += [part for pair in node.value for part in pair]


def _merge(base: dict[Any, Any], top: dict[Any, Any], where: Any, prefix: str = "") -> None:
    """Merge `top` from `where` into `base`. Raises UserError for an empty section over one with keys."""
    for key, value in top.items():
        below = base.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            _merge(below, value, where, f"{prefix}{key}.")
        elif value is None and isinstance(below, dict) and below:
            raise UserError(
                f"{where}: the section {prefix}{key} is empty, but would override {', '.join(below)}: remove "
                f"{prefix}{key} to keep those, or set the keys one by one."
            )
        else:
            for name in _SYNONYMS.get(f"{prefix}{key}", ()):  # later layers override aliases too
                if name not in top:
                    base.pop(name, None)
            base[key] = value


def _synonyms() -> dict[str, set[str]]:
    """Dotted key of a field or alias -> its other names."""
    found: dict[str, set[str]] = {}
    for part, cls in (("dataset.", DatasetConfig), ("model.", ModelConfig)):
        for alias, name in aliases(cls).items():
            found.setdefault(part + name, set()).add(alias)
            found.setdefault(part + alias, set()).add(name)
    return found


_SYNONYMS = _synonyms()


def _dotted(tree: dict[Any, Any], prefix: str = "") -> list[str]:
    keys = []
    for key, value in tree.items():
        keys.append(f"{prefix}{key}")
        if isinstance(value, dict):
            keys += _dotted(value, f"{prefix}{key}.")
    return keys


def _full_keys(name: str, tree: dict[str, Any]) -> list[str]:
    """Dotted keys that end with `name`: of the schema, and of fairseq, in the group where `tree` has it."""
    found = []
    for key, kind in get_type_hints(Config).items():
        if key == name:
            found.append(key)
        elif (
            isinstance(kind, type)
            and dataclasses.is_dataclass(kind)
            and name in get_type_hints(kind) | aliases(kind)
        ):
            found.append(f"{key}.{name}")
    if name in table() and name not in SET_BY_US:
        groups = [key for key in _dotted(tree) if re.fullmatch(rf"fairseq\.\w+\.{name}", key)]
        found += groups[:1] or [f"fairseq.optimization.{name}"]
    if name in GROUPS:
        found.append(f"fairseq.{name}")
    return found


def _apply_override(tree: dict[str, Any], sources: dict[str, str], override: str) -> None:
    key, equals, text = override.partition("=")
    where = f"override {override!r}"
    if not equals or not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", key):
        raise UserError(f"{where}: expected section.key=value, such as dataset.augment2d=true.")
    try:  # parsed by OmegaConf, because YAML reads 5e-5 as text
        parsed = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]), resolve=False)
        _refuse_comment(text, where)
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise UserError(
            f"{where}: the value is not readable as YAML: {' '.join(str(error).split())}"
        ) from error
    value = parsed["value"]  # type: ignore[index,call-overload]
    node: Any = tree
    *parents, last = key.split(".")
    for parent in parents:
        if not isinstance(node.get(parent), dict):
            node[parent] = {}
        node = node[parent]
    _merge(node, {last: value}, where, "".join(f"{parent}." for parent in parents))
    for made in _dotted({last: value}, ".".join(parents) + "." if parents else ""):
        sources[made] = where
    for depth in range(1, len(parents) + 1):
        sources.setdefault(".".join(parents[:depth]), where)


def _refuse_comment(text: str, where: str) -> None:
    """Raises UserError if YAML would drop the end of a value as a comment."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    end = 0 if node is None else node.end_mark.index
    if end < len(text.rstrip()):
        raise UserError(
            f"{where}: YAML would read {text[end:].strip()!r} as a comment: quote the value, as in "
            "\"key='a #b'\"."
        )


def _resolve(tree: dict[str, Any], path: str | Path, sources: dict[str, str]) -> dict[str, Any]:
    strings = _strings(tree)
    for key, value in strings:
        if "${" in _ALLOWED_INTERPOLATION.sub("", value):
            raise UserError(
                f"{sources.get(key, path)}: {key}: {value!r} may only refer to another key, as "
                "${dataset.max_len}, or to an environment variable whose name begins with SIGNCLIP_, as "
                "${oc.env:SIGNCLIP_DATA,data}."
            )
    if not any("${" in value for _, value in strings):
        return tree
    try:
        return OmegaConf.to_container(OmegaConf.create(tree), resolve=True)  # type: ignore[return-value]
    except (OmegaConfBaseException, RecursionError) as error:
        raise UserError(f"{path}: cannot be resolved: {' '.join(str(error).split())}") from error


def _strings(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    if isinstance(value, str):
        return [(prefix, value)]
    if isinstance(value, dict):
        return [
            found
            for key, item in value.items()
            for found in _strings(item, f"{prefix}.{key}" if prefix else str(key))
        ]
    if isinstance(value, list):
        return [found for item in value for found in _strings(item, prefix)]
    return []
