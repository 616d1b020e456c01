"""A GPU that is not there, which counts where the CPU would wait for it.

Tensors of the fake GPU are computed on the CPU, and tell Python code that they are on "cuda". Not simulated:
the kernels of a GPU, memory, time, autocast.
"""

import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

GPU = torch.device("cuda")
aten = torch.ops.aten
_WAITS = {
    *(aten._local_scalar_dense, aten.equal, aten.nonzero, aten.masked_select, aten.bincount),
    *(aten._unique2, aten.unique_dim, aten.unique_consecutive, aten.unique_dim_consecutive),
}
"""Operations whose result, or the shape of it, the CPU needs."""
_INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index}
_REPOSITORY = str(Path(__file__).parents[1])


class OnGPU(Tensor):
    """A tensor of the fake GPU, with its values in `held`, on the CPU."""

    held: Tensor
    device = property(lambda self: GPU)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor) -> "OnGPU":
        made = Tensor._make_wrapper_subclass(
            cls, held.shape, held.stride(), held.storage_offset(), dtype=held.dtype, requires_grad=False
        )
        made.held = held
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnGPU({self.held!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [args, kwargs or {}]
        tensors = [each for each in tree_leaves(given) if isinstance(each, Tensor)]
        of_cpu = [each for each in tensors if not isinstance(each, OnGPU) and each.ndim]
        op = func.overloadpacket
        if op is aten.copy_:
            _check_copy(*args, **(kwargs or {}))
        elif of_cpu and op not in _INDEXING:
            raise RuntimeError(f"{func} got tensors of the GPU, and of the CPU {[t.shape for t in of_cpu]}")
        elif _waits(op, args, kwargs or {}, of_cpu):
            _note(str(func))
        wrapped = {id(each.held): each for each in tensors if isinstance(each, OnGPU)}
        result = func(*tree_map_only(OnGPU, _held, args), **tree_map_only(OnGPU, _held, kwargs or {}))
        return tree_map_only(
            Tensor, lambda each: wrapped[id(each)] if id(each) in wrapped else OnGPU(each), result
        )


def _held(tensor: OnGPU) -> Tensor:
    return tensor.held


def _waits(op: Any, args: Sequence[Any], kwargs: dict[str, Any], of_cpu: list[Tensor]) -> bool:
    if op is aten.repeat_interleave:
        return kwargs.get("output_size") is None
    masks = (
        [i for i in args[1] if i is not None and i.dtype in (torch.bool, torch.uint8)]
        if (op in _INDEXING)
        else []
    )
    return op in _WAITS or bool(masks) or bool(of_cpu)


def _check_copy(to: Tensor, source: Tensor, non_blocking: bool = False) -> None:
    if isinstance(to, OnGPU) != isinstance(source, OnGPU) and source.ndim:
        _note_copy(source, non_blocking)


def _note_copy(source: Tensor, non_blocking: bool) -> None:
    if isinstance(source, OnGPU):
        _note("copy to the CPU")
    elif not (non_blocking and getattr(source, "pinned", False)):
        _note("copy to the GPU, not pinned or blocking")


class FakeGPU(TorchFunctionMode):
    """Within the block, Python code can put tensors on the fake GPU.

    Attributes:
        waits: what the CPU waited for, and in which line.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __enter__(self) -> "FakeGPU":
        _active.append(self)
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        _active.remove(self)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        special: Callable[..., Any] | None = _SPECIAL.get(func)
        if special is not None:
            return special(*args, **kwargs)
        if kwargs.get("device") is None or torch.device(kwargs["device"]).type != GPU.type:
            return func(*args, **kwargs)
        if func in (torch.tensor, torch.as_tensor):
            _note("copy of Python numbers to the GPU")
        made = func(*args, **{**kwargs, "device": "cpu"})
        return made if isinstance(made, OnGPU) else OnGPU(made)


_active: list[FakeGPU] = []


def _note(what: str) -> None:
    if not _active:
        return
    frames = [frame for frame in traceback.extract_stack() if frame.filename != __file__]
    own = [f for f in frames if f.filename.startswith(_REPOSITORY) or "/fairseq/" in f.filename]
    where = (own or frames)[-1]
    _active[-1].waits.append(f"{what}: {Path(where.filename).name}:{where.lineno} {where.line}")


def _to(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    if args and isinstance(args[0], Tensor):
        args = (args[0].device, args[0].dtype, *args[1:])
    device, dtype, non_blocking, _ = torch._C._nn._parse_to(*args, **kwargs)
    moved = tensor if dtype is None else tensor.type(dtype)
    if device is None or device.type == tensor.device.type:
        return moved
    _note_copy(tensor, non_blocking)
    return _moved(moved, device)


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type != GPU.type:
        return tensor.detach().held if isinstance(tensor, OnGPU) else tensor
    return OnGPU(tensor.detach().clone())


def _pinned(tensor: Tensor) -> Tensor:
    pinned = tensor.clone()
    pinned.pinned = True  # type: ignore[attr-defined]
    return pinned


def _read(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of Tensor that gives numbers to Python."""

    def read(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        if isinstance(tensor, OnGPU):
            _note(method.__name__)
            tensor = tensor.held
        return method(tensor, *args, **kwargs)

    return read


_SPECIAL: dict[Any, Callable[..., Any]] = {
    Tensor.to: _to,
    Tensor.cpu: lambda tensor: _to(tensor, "cpu"),
    Tensor.cuda: lambda tensor, device=None, non_blocking=False: _to(tensor, GPU, non_blocking=non_blocking),
    Tensor.pin_memory: _pinned,
    Tensor.tolist: _read(Tensor.tolist),
    Tensor.numpy: _read(Tensor.numpy),
}


def move_to_gpu(module: nn.Module) -> None:
    """Put the parameters and buffers of a module on the fake GPU."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                moved = nn.Parameter(OnGPU(parameter.detach()), parameter.requires_grad)
                vars(moved).update(vars(parameter))
                part._parameters[name] = moved
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = OnGPU(buffer)


def pinned_batch(value: Any) -> Any:
    """A batch in pinned memory, as torch's DataLoader returns it where there is a GPU."""
    return tree_map_only(Tensor, _pinned, value)
