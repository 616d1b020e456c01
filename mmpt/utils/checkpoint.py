"""The one loader of weights: fairseq checkpoints, plain state dicts and safetensors, from whoever made them.

A PyTorch file is a pickle, and a pickle can run code when it is read. Here nothing but tensors, containers,
numbers, strings and `argparse.Namespace` (in which fairseq keeps its options) is rebuilt; a file that asks
for more is refused by name, unless it is trusted explicitly.
"""

import argparse
import fnmatch
import logging
import os
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmpt.utils.adapters import merge_adapters
from mmpt.utils.errors import UserError

log = logging.getLogger(__name__)

PREFIXES = ("module.", "mmmodel.")
OLD_BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")
"""Counters that older transformers versions saved as if they were weights."""
MAX_NAMED = 12
"""Keys of one kind that an error names before it only counts."""


def load_state_dict_file(path: str | os.PathLike[str], trust: bool = False) -> dict[str, Tensor]:
    """Weights by parameter name, on the CPU, floating-point ones as float32 or wider.

    Reads a fairseq checkpoint (weights under "model"), a dict with "state_dict", a bare state dict, or a
    `.safetensors` file. The prefixes `module.` and `mmmodel.` are taken off; old position counters are left
    out; low-rank adapters (model.lora_rank) are added to the weights they belong to.

    Args:
        path: the file.
        trust: let a PyTorch file build any object, which may run any code.

    Raises UserError if the file is missing, damaged, holds no weights or weights that are NaN or infinite, or
    needs more than `trust=False` allows.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}.")
    if path.suffix == ".safetensors":
        weights = _read_safetensors(path)
    else:
        weights = find_weights(load_torch_file(path, trust), str(path))
    state: dict[str, Tensor] = {}
    for key, tensor in weights.items():
        name = strip_prefixes(key)
        if name.endswith(OLD_BUFFERS):
            continue
        if name in state:
            raise UserError(f"{path} holds {name!r} twice, with and without a prefix.")
        half = tensor.is_floating_point() and tensor.element_size() < 4
        # a copy: the file stays mapped, and whole, as long as one of its own tensors lives
        state[name] = tensor.detach().to(torch.float32 if half else tensor.dtype, copy=True)
    broken = [name for name, tensor in state.items() if not _is_finite(tensor)]
    if broken:
        raise UserError(
            f"{path} holds weights that are NaN or infinite ({len(broken)} of {len(state)}: "
            f"{_listed(broken)}): its training came apart, or the file is damaged. Take an earlier one."
        )
    return merge_adapters(state, str(path))


def _is_finite(tensor: Tensor) -> bool:
    if not tensor.is_floating_point():
        return True
    return bool(tensor.sum().isfinite() or tensor.isfinite().all())  # the sum alone is fast, but may overflow


def load_torch_file(path: str | os.PathLike[str], trust: bool = False) -> Any:
    """The whole content of a PyTorch file, on the CPU, with the same care (and errors) as
    load_state_dict_file."""
    path = Path(path)
    try:
        mapped = zipfile.is_zipfile(path)  # so that a large optimizer state is not read for nothing
        # torch would take the class off its list afterwards, whoever had put it there
        needed = {argparse.Namespace} - set(torch.serialization.get_safe_globals())
        with torch.serialization.safe_globals(list(needed)):
            return torch.load(path, map_location="cpu", weights_only=not trust, mmap=mapped)
    except Exception as error:  # a damaged pickle can fail with nearly any exception
        wanted = _refused_classes(str(error))
        if wanted and not trust:
            raise UserError(
                f"{path} is refused: to read it, objects of {', '.join(wanted)} would have to be built, "
                "which can "
                "run code. If you trust whoever made the file, load it with --trust-checkpoint."
            ) from error
        # not torch's own words: they advise to read it with weights_only=False, whatever it is
        raise UserError(
            f"{path} cannot be read as a checkpoint: it is damaged, cut off or of another format "
            f"({path.stat().st_size:,} bytes; {type(error).__name__})."
        ) from error


def find_weights(content: Any, where: str) -> dict[str, Tensor]:
    """The state dict in what a checkpoint holds; `where` names the file in errors.

    Where fairseq has kept a running mean of the weights (`fairseq.ema.store_ema`), it is that mean.
    """
    averaged = content.get("extra_state") if isinstance(content, Mapping) else None
    if isinstance(averaged, Mapping) and isinstance(averaged.get("ema"), Mapping):
        log.info("%s: taking the running mean of the weights (EMA)", where)
        content = {"model": averaged["ema"]}
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content:
        raise UserError(
            f"{where} holds no weights: a dict of tensors was expected, got {_describe(content)}."
        )
    strangers = [
        str(key) for key, value in content.items() if not isinstance(key, str) or not _is_plain(value)
    ]
    if strangers:
        raise UserError(
            f"{where} holds no plain weights: {_listed(strangers)} {'is' if len(strangers) == 1 else 'are'} "
            "not tensors with a name and all their numbers."
        )
    return dict(content)


def _is_plain(value: Any) -> bool:
    """Whether it is a tensor whose numbers are all in the file: neither sparse nor without storage, nor a few
    numbers that are spread over a size which would fill the memory."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and not value.is_meta
        and not value.is_quantized
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )


def strip_prefixes(key: str) -> str:
    """A parameter's name without what wrappers put before it."""
    while key.startswith(PREFIXES):
        key = key.split(".", 1)[1]
    return key


def load_into(
    model: nn.Module,
    state: Mapping[str, Tensor],
    ignore: Iterable[str] = (),
    where: str = "the checkpoint",
    assign: bool = False,
) -> list[str]:
    """Copy weights into a model, strictly; position tables take the number of rows that the file's have, if
    these have more.

    Args:
        model: takes the weights; nothing is changed if they do not fit.
        state: weights by parameter name (load_state_dict_file).
        ignore: patterns (`video_encoder.videomlp.*`) of names that may be missing, unexpected or of another
            shape; such parameters of the model keep the values they have.
        where: names the file in errors.
        assign: make the tensors of `state` the model's own instead of copying them (for a model built on the
            meta device, which has none).

    Returns the names that were left out because of `ignore`. Raises UserError that names every other
    difference.
    """
    patterns = list(ignore)
    taller = _taller_position_tables(model, state)
    wanted = model.state_dict() | {name: state[name] for name in taller}
    missing = [key for key in wanted if key not in state]
    unexpected = [key for key in state if key not in wanted]
    misshaped = [key for key in wanted if key in state and wanted[key].shape != state[key].shape]

    def tolerated(key: str) -> bool:
        return any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns)

    problems = []
    for kind, keys in (("missing", missing), ("unexpected", unexpected)):
        keys = [key for key in keys if not tolerated(key)]
        if keys:
            problems.append(f"{len(keys)} {kind}: {_listed(keys)}")
    shapes = [
        f"{key} ({list(state[key].shape)} in the file, {list(wanted[key].shape)} in the model)"
        for key in misshaped
        if not tolerated(key)
    ]
    if shapes:
        problems.append(f"{len(shapes)} of another shape: {_listed(shapes)}")
    if problems:
        raise UserError(
            f"{where} does not fit the model. Parameters {'; '.join(problems)}. Check the model section of "
            "the config "
            "against the one it was trained with; names that may differ (fine-tuning) go into "
            "model.init_ignore."
        )
    skipped = [key for key in [*missing, *unexpected, *misshaped] if tolerated(key)]
    if skipped:
        log.info("%s: %d parameters left out as told: %s", where, len(skipped), _listed(skipped))
    fit_position_tables(model, state)
    fitting = {  # of the model's dtype: `assign` would keep the file's
        key: tensor.to(wanted[key].dtype)
        for key, tensor in state.items()
        if key in wanted and key not in misshaped
    }
    model.load_state_dict(fitting, strict=False, assign=assign)
    return skipped


def fit_position_tables(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give the position tables of a model as many rows as those of a state dict have, where these have more.

    The ancestor stretches its table for a longer clip and keeps it so: what it then saves has that many rows.
    """
    for name, module in _taller_position_tables(model, state).items():
        rows, width = state[name].shape
        log.info("%s: a table of %d positions, as it was stretched in training", name, rows)
        old = module.position_embeddings.weight
        module.position_embeddings = nn.Embedding(rows, width, device=old.device, dtype=old.dtype)
        module.position_embeddings.weight.requires_grad_(old.requires_grad)


def _taller_position_tables(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Name of a table's weights -> module that holds it."""
    found = {}
    for name, module in model.named_modules():
        table = getattr(module, "position_embeddings", None)
        key = f"{name}.position_embeddings.weight"
        if not isinstance(table, nn.Embedding) or key not in state or state[key].ndim != 2:
            continue
        rows, width = state[key].shape
        if rows > table.num_embeddings and width == table.embedding_dim:
            found[key] = module
    return found


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path, device="cpu")
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read as safetensors: it is damaged or cut off ({error})."
        ) from error


def _refused_classes(message: str) -> list[str]:
    """Classes that PyTorch's safe unpickler names in its refusal."""
    found = re.findall(r"GLOBAL ([\w.]+)", message) + re.findall(r"class ([\w.]+) (?:was|is) not", message)
    return sorted(set(found))


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:MAX_NAMED])
    return shown if len(names) <= MAX_NAMED else f"{shown} and {len(names) - MAX_NAMED} more"


def _describe(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"a dict with {_listed([str(key) for key in content])}" if content else "an empty dict"
    return f"a {type(content).__name__}"
