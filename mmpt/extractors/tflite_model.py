"""TFLite models with operators added to their graph. The schema is in mediapipe, of any version."""

from collections.abc import Sequence
from typing import Any

import numpy as np


class TFLiteModel:
    """A model that is changed in memory. Tensors are named by their number in the graph."""

    def __init__(self, content: bytes) -> None:
        from mediapipe.tasks.metadata import schema_py_generated as schema

        self._schema = schema
        self._tree = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
        self._graph = self._tree.subgraphs[0]

    @property
    def outputs(self) -> list[int]:
        """The tensors that the model gives back."""
        return list(self._graph.outputs)

    def shape(self, tensor: int) -> list[int]:
        """The shape of a tensor."""
        return list(self._graph.tensors[tensor].shape)

    def output_of(self, *shape: int) -> int:
        """The output of this shape."""
        return next(tensor for tensor in self.outputs if self.shape(tensor) == list(shape))

    def replace_output(self, old: int, new: int, name: str) -> None:
        """Give back `new` where `old` was given back, under a name."""
        self._graph.outputs = [new if tensor == old else tensor for tensor in self._graph.outputs]
        self._graph.tensors[new].name = name

    def add(
        self,
        operator: str,
        *inputs: int | np.ndarray,
        shape: Sequence[int] | None = None,
        kind: str = "FLOAT32",
        options: dict[str, dict[str, Any]] | None = None,
    ) -> int:
        """Add an operator of TFLite and return its output.

        inputs: tensors, or values that become constants. shape, kind: of the output; without a shape, that
        of the inputs broadcast. options: name of its table in the schema -> its fields.
        """
        tensors = [self._constant(value) if isinstance(value, np.ndarray) else value for value in inputs]
        if shape is None:
            shape = np.broadcast_shapes(*(tuple(self.shape(tensor)) for tensor in tensors))
        made = self._schema.OperatorT()
        made.opcodeIndex = self._opcode(operator)
        made.inputs, made.outputs = tensors, [self._tensor(shape, kind, None)]
        for table, fields in (options or {}).items():
            made.builtinOptionsType = getattr(self._schema.BuiltinOptions, table)
            made.builtinOptions = getattr(self._schema, f"{table}T")()
            for field, value in fields.items():
                setattr(made.builtinOptions, field, value)
        self._graph.operators.append(made)
        return int(made.outputs[0])

    def add_metadata(self, name: str, content: bytes) -> None:
        """Add a named buffer of metadata."""
        entry = self._schema.MetadataT()
        entry.name, entry.buffer = name, self._buffer(content)
        self._tree.metadata = [*(self._tree.metadata or []), entry]

    def content(self) -> bytes:
        """The bytes of the model file."""
        return packed(self._tree, b"TFL3")

    def _opcode(self, operator: str) -> int:
        code = self._schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(self._schema.BuiltinOperator, operator)
        code.version = 1
        self._tree.operatorCodes.append(code)
        return len(self._tree.operatorCodes) - 1

    def _constant(self, values: np.ndarray) -> int:
        kind = "INT32" if values.dtype.kind == "i" else "FLOAT32"
        stored = values.astype("<i4" if kind == "INT32" else "<f4")
        return self._tensor(values.shape, kind, stored.tobytes())

    def _tensor(self, shape: Sequence[int], kind: str, content: bytes | None) -> int:
        made = self._schema.TensorT()
        made.name, made.shape = "", list(shape)
        made.type, made.buffer = getattr(self._schema.TensorType, kind), self._buffer(content)
        self._graph.tensors.append(made)
        return len(self._graph.tensors) - 1

    def _buffer(self, content: bytes | None) -> int:
        buffer = self._schema.BufferT()
        buffer.data = None if content is None else list(content)
        self._tree.buffers.append(buffer)
        return len(self._tree.buffers) - 1


def packed(tree: Any, identifier: bytes) -> bytes:
    """The bytes of a table of a flatbuffers schema."""
    import flatbuffers

    builder = flatbuffers.Builder(1 << 22)
    builder.Finish(tree.Pack(builder), identifier)
    return bytes(builder.Output())
