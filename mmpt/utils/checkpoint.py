"""Read weights safely: fairseq checkpoints, plain state dicts and safetensors.

A PyTorch file is a pickle, which can run code. Only tensors, containers, numbers, strings and
`argparse.Namespace` (fairseq's options) are unpickled; a file with other classes is refused unless it is
trusted explicitly.
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

from mmpt.utils.errors import UserError
from mmpt.utils.files import check_regular
from mmpt.utils.logging import some_of

log = logging.getLogger(__name__)

PREFIXES = ("module.", "mmmodel.")
OLD_BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")
"""Buffers that older transformers versions saved among the weights."""
_MOST = 12
"""Maximum number of keys that an error lists."""
_BASE = ".base_layer."
_A, _B = ".lora_A.default.weight", ".lora_B.default.weight"


def load_state_dict_file(path: str | os.PathLike[str], trust: bool = False) -> dict[str, Tensor]:
    """Weights by parameter name, on the CPU, as float32 or wider.

    Reads a fairseq checkpoint (weights under "model"), a dict with "state_dict", a bare state dict, or a
    `.safetensors` file. Removes the prefixes `module.` and `mmmodel.` and old position buffers, and merges
    low-rank adapters (model.lora_rank) into their weights.

    Args:
        path: the file.
        trust: unpickle any class, which may run any code.

    Raises UserError if the file is missing or damaged, has no weights, has weights that are NaN or infinite,
    or has classes that need `trust`.
    """
    path = Path(path)
    check_regular(path)
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
            raise UserError(f"{path} has {name!r} twice, with and without a prefix.")
        half = tensor.is_floating_point() and tensor.element_size() < 4
        # a copy, because a tensor of the file keeps the whole file mapped
        state[name] = tensor.detach().to(torch.float32 if half else tensor.dtype, copy=True)
    broken = [name for name, tensor in state.items() if not _is_finite(tensor)]
    if broken:
        raise UserError(
            f"{path} has weights that are NaN or infinite ({len(broken)} of {len(state)}: "
            f"{some_of(broken, _MOST)}): the training diverged, or the file is damaged. Use an earlier "
            "checkpoint."
        )
    return merge_adapters(state, str(path))


def _is_finite(tensor: Tensor) -> bool:
    if not tensor.is_floating_point():
        return True
    return bool(tensor.sum().isfinite() or tensor.isfinite().all())  # the sum is fast, but may overflow


def load_torch_file(path: str | os.PathLike[str], trust: bool = False) -> Any:
    """The whole content of a PyTorch file, on the CPU, with the checks of load_state_dict_file."""
    path = Path(path)
    try:
        mapped = zipfile.is_zipfile(path)  # mmap skips the optimizer state
        # torch removes these classes from its list afterwards, even if they were in it before
        needed = {argparse.Namespace} - set(torch.serialization.get_safe_globals())
        with torch.serialization.safe_globals(list(needed)):
            return torch.load(path, map_location="cpu", weights_only=not trust, mmap=mapped)
    except Exception as error:  # a damaged pickle can raise nearly any exception
        wanted = _refused_classes(str(error))
        if wanted and not trust:
            raise UserError(
                f"{path} is refused: it contains objects of {', '.join(wanted)}, which can run code. If you "
                "trust the author of the file, load it with --trust-checkpoint."
            ) from error
        # torch's own message advises weights_only=False
        raise UserError(
            f"{path} cannot be read as a checkpoint: it is damaged, truncated or of another format "
            f"({path.stat().st_size:,} bytes; {type(error).__name__})."
        ) from error


def find_weights(content: Any, where: str) -> dict[str, Tensor]:
    """The state dict in a checkpoint's content; the EMA weights (fairseq.ema.store_ema) if there are any."""
    averaged = content.get("extra_state") if isinstance(content, Mapping) else None
    if isinstance(averaged, Mapping) and isinstance(averaged.get("ema"), Mapping):
        log.info("%s: using the EMA weights", where)
        content = {"model": averaged["ema"]}
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content:
        got = "an empty dict" if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise UserError(f"{where} has no weights: expected a dict of tensors, got {got}.")
    invalid = [str(key) for key, value in content.items() if not isinstance(key, str) or not _is_plain(value)]
    if invalid:
        raise UserError(
            f"{where} has invalid weights: {some_of(invalid, _MOST)} {'is' if len(invalid) == 1 else 'are'} "
            "not a named dense tensor with all its values in the file."
        )
    return dict(content)


def _is_plain(value: Any) -> bool:
    """Whether it is a dense tensor with all its values in the file (not expanded to a huge shape)."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and not value.is_meta
        and not value.is_quantized
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )


def strip_prefixes(key: str) -> str:
    """A parameter's name without `module.` and `mmmodel.`."""
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
    """Copy weights into a model, strictly; position tables are enlarged to the size in the file.

    Args:
        model: unchanged if the weights do not fit.
        state: weights by parameter name (load_state_dict_file).
        ignore: patterns (`video_encoder.videomlp.*`) of names that may be missing, unexpected or of another
        shape; the model keeps its values for them.
        where: names the file in errors.
        assign: use the tensors of `state` as parameters instead of copying them (for the meta device).

    Returns the names skipped because of `ignore`. Raises UserError, which names the other differences.
    """
    patterns = list(ignore)
    larger = _larger_position_tables(model, state)
    wanted = model.state_dict() | {name: state[name] for name in larger}
    missing = [key for key in wanted if key not in state]
    unexpected = [key for key in state if key not in wanted]
    misshaped = [key for key in wanted if key in state and wanted[key].shape != state[key].shape]

    def tolerated(key: str) -> bool:
        return any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns)

    problems = []
    for kind, keys in (("missing", missing), ("unexpected", unexpected)):
        keys = [key for key in keys if not tolerated(key)]
        if keys:
            problems.append(f"{len(keys)} {kind}: {some_of(keys, _MOST)}")
    shapes = [
        f"{key} ({list(state[key].shape)} in the file, {list(wanted[key].shape)} in the model)"
        for key in misshaped
        if not tolerated(key)
    ]
    if shapes:
        problems.append(f"{len(shapes)} of another shape: {some_of(shapes, _MOST)}")
    if problems:
        raise UserError(
            f"{where} does not fit the model. Parameters {'; '.join(problems)}. Compare the model section of "
            "the config with the one it was trained with; list names that may differ (fine-tuning) in "
            "model.init_ignore."
        )
    skipped = [key for key in [*missing, *unexpected, *misshaped] if tolerated(key)]
    if skipped:
        log.info(
            "%s: %d parameters skipped (model.init_ignore): %s", where, len(skipped), some_of(skipped, _MOST)
        )
    fit_position_tables(model, state)
    fitting = {  # in the model's dtype, because `assign` keeps the file's
        key: tensor.to(wanted[key].dtype)
        for key, tensor in state.items()
        if key in wanted and key not in misshaped
    }
    model.load_state_dict(fitting, strict=False, assign=assign)
    return skipped


def fit_position_tables(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Enlarge position tables to their size in a state dict: training may have interpolated them."""
    for name, module in _larger_position_tables(model, state).items():
        rows, width = state[name].shape
        log.info("%s: the position table was enlarged to %d in training", name, rows)
        old = module.position_embeddings.weight
        module.position_embeddings = nn.Embedding(rows, width, device=old.device, dtype=old.dtype)
        module.position_embeddings.weight.requires_grad_(old.requires_grad)


def _larger_position_tables(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Name of a position table's weight -> its module."""
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
            f"{path} cannot be read as safetensors: it is damaged or truncated ({error})."
        ) from error


def _refused_classes(message: str) -> list[str]:
    """Classes that PyTorch's safe unpickler refused."""
    found = re.findall(r"GLOBAL ([\w.]+)", message) + re.findall(r"class ([\w.]+) (?:was|is) not", message)
    return sorted(set(found))


def merge_adapters(state: Mapping[str, Tensor], where: str = "the checkpoint") -> dict[str, Tensor]:
    """Add each low-rank adapter (LoRA) to its weight, W + B A; returns weights by parameter name.

    Reads peft's names without peft. A state dict without adapters is returned unchanged. Raises UserError if
    an adapter is incomplete.
    """
    merged = {name.replace(_BASE, "."): tensor for name, tensor in state.items() if ".lora_" not in name}
    for name in (name for name in state if ".lora_" in name):
        layer, _, _ = name.partition(".lora_")
        down, up, weight = (state.get(layer + part) for part in (_A, _B, f"{_BASE}weight"))
        if name not in (layer + _A, layer + _B) or down is None or up is None or weight is None:
            raise UserError(
                f"{where} has {name}, of a LoRA adapter that is incomplete or of an unknown kind "
                "(expected those of model.lora_rank)."
            )
        if name.endswith(_A):
            merged[f"{layer}.weight"] = weight + up @ down
    return merged
