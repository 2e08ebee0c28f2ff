"""A graph under construction: operators are called like functions, names follow the model's own scopes.

It wraps onnx_ir and nothing else; which operators a model needs is for the modules above.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from moedge.export.checkpoint.matrix import Matrix
from moedge.export.writing.weights_file import WeightsFile
from moedge.quant.scheme import FP32
from moedge.runtime.manifest import GroupName

MICROSOFT = "com.microsoft"
MOEDGE = "moedge"  # the domain of our own kernels
Attributes = dict[str, int | float | str | list[int] | ir.Graph]


class Builder:
    """Nodes and initializers of one graph; branches are builders of their own that share the file and the names."""

    def __init__(self, weights: WeightsFile, parent: "Builder | None" = None) -> None:
        self.weights = weights
        self.nodes: list[ir.Node] = []
        self._initializers: dict[str, ir.Value] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}
        self._made: dict[str, ir.Value] = {}
        self._scope: list[str] = list(parent._scope) if parent else []
        self._used: dict[str, int] = parent._used if parent else {}

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Names of what is built inside begin with `name`."""
        self._scope.append(name)
        try:
            yield
        finally:
            self._scope.pop()

    def branch(self) -> "Builder":
        """A builder for a subgraph, which may refer to this one's values."""
        return Builder(self.weights, self)

    def op(
        self,
        op_type: str,
        *inputs: ir.Value | None,
        attributes: Attributes | None = None,
        output: str | None = None,
        domain: str = "",
    ) -> ir.Value:
        """Add a node with one output, named `output` or after the node."""
        return self.ops(op_type, *inputs, attributes=attributes, outputs=[output], domain=domain)[0]

    def ops(
        self,
        op_type: str,
        *inputs: ir.Value | None,
        outputs: int | Sequence[str | None],
        attributes: Attributes | None = None,
        domain: str = "",
    ) -> tuple[ir.Value, ...]:
        """Add a node with several outputs: their number, or their names (None: after the node)."""
        name = self._unique(op_type)
        wanted = [None] * outputs if isinstance(outputs, int) else outputs
        values = [ir.Value(name=n or (f"{name}.{i}" if i else name)) for i, n in enumerate(wanted)]
        made = make_attributes(attributes or {})
        self.nodes.append(ir.Node(domain, op_type, inputs, made, outputs=values, name=name))
        return tuple(values)

    def constant(self, value: NDArray[Any]) -> ir.Value:
        """A small tensor kept in the model file, once however often it is asked for."""
        key = (str(value.dtype), value.shape, value.tobytes())
        if key not in self._constants:
            scope, self._scope = self._scope, []
            self._constants[key] = self.initializer(ir.tensor(value, name=self._unique("constant")))
            self._scope = scope
        return self._constants[key]

    def ints(self, *values: int) -> ir.Value:
        """A constant int64 vector: shapes, axes, sizes."""
        return self.constant(np.array(values, np.int64))

    def vector(self, name: str, value: NDArray[np.float32], group: GroupName) -> ir.Value:
        """A named fp32 parameter kept in the model file: norms, biases, the router's."""
        self.weights.account.add(group, FP32, value.size, value.nbytes)
        return self.initializer(ir.tensor(np.ascontiguousarray(value), name=name))

    def matrix(self, name: str, value: NDArray[np.float32], group: GroupName) -> ir.Value:
        """A named fp32 parameter kept in the weights file."""
        return self.read_matrix(name, value.shape, lambda: value, group)

    def read_matrix(
        self,
        name: str,
        shape: tuple[int, ...],
        read: Callable[[], NDArray[np.float32]],
        group: GroupName,
        matrices: Sequence[Matrix] = (),
    ) -> ir.Value:
        """Like `matrix`, but read only where it must be written; `matrices` are those it comes from."""
        region = self.weights.region(name, ir.DataType.FLOAT, shape)
        if not region.kept:
            region.write(read())
        self.weights.account.add(group, FP32, int(np.prod(shape)), region.nbytes, matrices)
        return self.initializer(region.tensor)

    def initializer(self, tensor: ir.TensorProtocol) -> ir.Value:
        """Register a tensor, once a name; the value that stands for it."""
        name = tensor.name or self._unique("tensor")
        if name not in self._initializers:
            kind = ir.TensorType(tensor.dtype)
            self._initializers[name] = ir.Value(
                name=name, shape=ir.Shape(list(tensor.shape.numpy())), type=kind, const_value=tensor
            )
        return self._initializers[name]

    def floats(self, tensor: ir.TensorProtocol) -> ir.Value:
        """A registered tensor as fp32: cast where it is kept as another type.

        ONNX Runtime does the cast when it loads the model, so that kernels see a constant.
        """
        value, name = self.initializer(tensor), f"{tensor.name}.fp32"
        if tensor.dtype == ir.DataType.FLOAT:
            return value
        attributes: Attributes = {"to": ir.DataType.FLOAT.value}
        return self.once(name, lambda: self.op("Cast", value, attributes=attributes, output=name))

    def once(self, name: str, make: Callable[[], ir.Value]) -> ir.Value:
        """What `make` gives, made when it is first asked for by that name."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def graph(self, inputs: Sequence[ir.Value], outputs: Sequence[ir.Value], name: str) -> ir.Graph:
        """The finished graph."""
        return ir.Graph(inputs, outputs, nodes=self.nodes, initializers=[*self._initializers.values()], name=name)

    def full_name(self, what: str) -> str:
        """A name within the present scope."""
        return ".".join([*self._scope, what])

    def _unique(self, what: str) -> str:
        name = "/".join([*self._scope, what])
        count = self._used.get(name, 0)
        self._used[name] = count + 1
        return name if count == 0 else f"{name}_{count}"


def drop_absent_last(inputs: Sequence[ir.Value | None]) -> list[ir.Value | None]:
    """An operator's inputs without the absent ones after the last that is there."""
    last = max(place for place, value in enumerate(inputs) if value is not None)
    return [*inputs[: last + 1]]


def make_attributes(attributes: Attributes) -> list[ir.Attr]:
    """The attributes as onnx_ir holds them, typed by their values."""
    return [ir.Attr(name, *_type_of(value)) for name, value in attributes.items()]


def _type_of(value: Any) -> tuple[ir.AttributeType, Any]:
    kinds: list[tuple[type, ir.AttributeType]] = [
        (int, ir.AttributeType.INT),
        (float, ir.AttributeType.FLOAT),
        (str, ir.AttributeType.STRING),
        (ir.Graph, ir.AttributeType.GRAPH),
        (list, ir.AttributeType.INTS),
    ]
    for kind, attribute in kinds:
        if isinstance(value, kind):
            return attribute, value
    raise AssertionError(f"no attribute type for {value!r}")
