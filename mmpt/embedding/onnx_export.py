"""Export both towers as ONNX, and compare them with the model in onnxruntime.

The folder holds video.onnx (features and mask -> embedding), text.onnx (token ids and mask -> embedding), the
tokenizer, and preprocessing.json, which describes the inputs. Batch size and length are dynamic.
"""

import copy
import logging
import os
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmpt.embedding.embedder import SignCLIP
from mmpt.embedding.onnx_preprocessing import OUTPUT, describe
from mmpt.models.dual_encoder import WithTextTower
from mmpt.models.folder import TOKENIZER_DIR
from mmpt.models.packing import set_packed
from mmpt.signwriting.ids import END_ID, FIRST_ID
from mmpt.utils.errors import UserError
from mmpt.utils.files import write_json
from mmpt.utils.output_kinds import ONNX_EXPORT
from mmpt.utils.outputs import check_output, replace_output
from mmpt.utils.packages import need_packages

log = logging.getLogger(__name__)
TOLERANCE = 1e-5
"""Largest difference from the model, relative to the largest value of its embeddings if that is over 1."""
_RUNS = 20
_LONG = 64
"""Frames or token ids of the example that is timed, if the model reads as many."""
_EXTERNAL_BYTES = 1_800_000_000
"""From this size, weights go into a file of their own: a protobuf message holds at most 2 GB."""


@dataclass(frozen=True)
class Exported:
    """One exported tower: largest difference from the model, size, and milliseconds for one example."""

    name: str
    difference: float
    size: int
    length: int
    onnx_ms: float
    torch_ms: float


@dataclass(frozen=True)
class Tower:
    """A side of the model: inputs, shortest and longest example, and a random example of a length."""

    name: str
    inputs: tuple[str, str]
    encode: Callable[[Any], Callable[[Tensor, Tensor], Tensor]]
    lengths: tuple[int, int]
    example: Callable[[np.random.Generator, int], NDArray[Any]]

    def batch(self, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Random examples of these lengths, with padding that must have no influence, and their mask."""
        rng = np.random.default_rng(0)
        width = max(lengths)
        padded = [np.concatenate([self.example(rng, n), self.example(rng, width)])[:width] for n in lengths]
        mask = np.arange(width) < np.array(lengths)[:, None]
        return torch.from_numpy(np.stack(padded)), torch.from_numpy(mask)

    def mixed(self) -> list[int]:
        """Lengths from the shortest to the longest."""
        shortest, longest = self.lengths
        return sorted({shortest, min(shortest + 1, longest), max(shortest, longest // 3), longest})


def export_onnx(model: SignCLIP, out: str | os.PathLike[str], force: bool = False) -> list[Exported]:
    """Write the ONNX folder of a model; nothing is written if a tower differs from it by over TOLERANCE.

    Weights and results are float32, whatever model.autocast. force: replace the export of another model.
    Raises UserError, also if the packages are missing.
    """
    need_packages("export", ("onnx", "onnxruntime", "onnxscript"), "onnx")
    if model.model.windows is not None:
        raise UserError(
            "this model pools the windows of long clips (dataset.long_video: windows), and their number is "
            "not known to an ONNX graph: export a model that was converted with dataset.long_video=truncate, "
            "uniform or error, which embeds clips of at most "
            f"{model.model.windows.length} frames in the same way."
        )
    of = {"model": model.fingerprint}
    check_output(out, ONNX_EXPORT, of, force)
    original = copy.deepcopy(model.model).cpu().float().eval()
    original.autocast = None
    if isinstance(original, WithTextTower):
        original.freeze_text = False  # a cached prompt would be timed
    plain = copy.deepcopy(original)
    set_packed(plain, False)
    exported = []
    with replace_output(out, ONNX_EXPORT, of, force) as fresh:
        for tower in _towers(model):
            path = fresh / f"{tower.name}.onnx"
            log.info("exporting the %s tower (for an ensemble of eight, this takes minutes)", tower.name)
            _export(tower, plain, path)
            exported.append(_check(tower, original, path))
        model.tokenizer.save_pretrained(str(fresh / TOKENIZER_DIR))
        tokenizer = sorted(f"{TOKENIZER_DIR}/{file.name}" for file in (fresh / TOKENIZER_DIR).iterdir())
        write_json(fresh / ONNX_EXPORT.record, describe(model, tokenizer))
    return exported


def _towers(model: SignCLIP) -> list[Tower]:
    width, ids = model.model_cfg.vfeat_dim, model.model.text_settings.vocab_size
    text = model.text_processor
    longest = min(text.max_len, model.model.text_settings.max_position_embeddings + 1)

    def clip(rng: np.random.Generator, length: int) -> NDArray[Any]:
        return rng.normal(size=(length, width)).astype(np.float32)

    def prompt(rng: np.random.Generator, length: int) -> NDArray[Any]:
        cls, sep = model.tokenizer.cls_token_id, model.tokenizer.sep_token_id
        symbols = rng.integers(FIRST_ID, END_ID, (length - 3) // 2 if text.reads_signs else 0)
        words = rng.integers(0, ids, length - 3 - len(symbols))
        return np.array([cls, sep, *words, sep, *symbols], dtype=np.int64)

    return [
        Tower(
            "video", ("vfeats", "vmasks"), lambda m: m.encode_video, (1, model.aligner.max_video_len), clip
        ),
        Tower("text", ("caps", "cmasks"), lambda m: m.encode_text, (3, longest), prompt),
    ]


class _Side(nn.Module):
    """A side of a model as a module, for export."""

    def __init__(self, model: nn.Module, tower: Tower):
        super().__init__()
        self.model = model
        self.encode = tower.encode

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        return self.encode(self.model)(values, mask)


def _export(tower: Tower, model: nn.Module, path: Path) -> None:
    """Write one tower, without the names of source files of this machine."""
    shortest, longest = tower.lengths
    sizes = {0: torch.export.Dim("batch", min=1)}
    if longest > shortest:
        sizes[1] = torch.export.Dim("length", min=shortest, max=longest)
    example = tower.batch([longest, max(shortest, longest - 1)])
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # the exporter prints graphs of hundreds of lines
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # strict: the other mode fails at sizes that depend on the masks
            side = torch.export.export(
                _Side(model, tower), example, dynamic_shapes=(sizes, sizes), strict=True
            )
            program = torch.onnx.export(
                side,
                dynamo=True,
                input_names=tower.inputs,
                output_names=[OUTPUT],
                verbose=False,
            )
    finally:
        logging.disable(disabled)
    assert program is not None
    for graph in (program.model.graph, *(function.graph for function in program.model.functions.values())):
        for node in graph.all_nodes():
            node.metadata_props.clear()
    size = sum(parameter.nbytes for parameter in model.parameters())
    program.save(str(path), external_data=size > _EXTERNAL_BYTES)


def _check(tower: Tower, model: nn.Module, path: Path) -> Exported:
    """Compare with the model, in one batch and one by one, and time both. Raises UserError if they differ."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(values: Tensor, mask: Tensor) -> NDArray[np.float32]:
        return session.run(None, dict(zip(tower.inputs, (values.numpy(), mask.numpy()))))[0]

    encode = torch.no_grad()(tower.encode(model))
    lengths = tower.mixed()
    values, mask = tower.batch(lengths)
    expected = encode(values, mask).numpy()
    single = [run(values[i : i + 1, :n], mask[i : i + 1, :n]) for i, n in enumerate(lengths)]
    difference = max(
        float(np.abs(got - expected).max()) for got in (run(values, mask), np.concatenate(single))
    )
    if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise UserError(
            f"the exported {tower.name} tower differs from the model by {difference:.1e}, more than "
            f"{TOLERANCE:g}: nothing was written. Try another version of torch or onnxruntime."
        )
    long = max(tower.lengths[0], min(_LONG, tower.lengths[1]))
    one = tower.batch([long])
    size = sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))
    return Exported(tower.name, difference, size, long, _ms(run, one), _ms(encode, one))


def _ms(run: Callable[[Tensor, Tensor], Any], example: tuple[Tensor, Tensor]) -> float:
    """Median time of a call on one thread, in milliseconds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        run(*example)
        times = []
        for _ in range(_RUNS):
            start = time.perf_counter()
            run(*example)
            times.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return 1000 * statistics.median(times)
