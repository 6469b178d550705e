"""A jaxpr as an ONNX graph: equations that no input reaches are computed, others become nodes.

What depends on the parameters alone (the factors of a BatchNorm, windows, filter banks, indices) is
computed by jax itself while the graph is made, and stands in it as an array. Calls are written out
where they are, loops as often as they run. Sizes are numbers, but for the batch, which has a name.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core

OPSET = 18
"""Operators of ONNX 1.13 (December 2022), which onnxruntime runs from 1.14 on."""
IR_VERSION = 8
"""File format of the same release: what newer programs write by default older ones do not open."""

ELEMENTWISE = frozenset(
    ("abs", "add", "convert_element_type", "copy", "div", "erf", "erfc", "exp", "integer_pow",
     "log", "logistic", "max", "min", "mul", "neg", "rsqrt", "sqrt", "square", "sub", "tanh")
)  # fmt: skip
"""Primitives that take a known array of size 1 along an axis for one that is repeated along it."""


class LoweringError(ValueError):
    """A computation has no form in ONNX; the message is one sentence."""


class DynamicArray(NamedTuple):
    """An array of the graph: it depends on the input.

    Attributes:
        name: in the graph.
    """

    name: str


class Complex(NamedTuple):
    """A complex array of the graph, as two real ones.

    Attributes:
        real: its real part.
        imag: its imaginary part.
    """

    real: DynamicArray
    imag: DynamicArray


Value = np.ndarray | DynamicArray | Complex
Operation = Callable[["Graph", Any, list[Any]], Value | Sequence[Value]]
"""(graph, equation, its inputs) -> its outputs."""


class Graph:
    """Nodes and arrays of an ONNX graph while it is being made.

    Attributes:
        batch: the symbolic size of the batch.
        nodes: so far.
        arrays: name -> array stored in the file.
    """

    def __init__(self, onnx: Any, waveforms: str, batch: Any) -> None:
        """Begins a graph.

        Args:
            onnx: the package.
            waveforms: name of the input, whose first axis is the batch.
            batch: its symbolic size.
        """
        self.batch = batch
        self.nodes: list[Any] = []
        self.arrays: dict[str, np.ndarray] = {}
        self._onnx = onnx
        self._waveforms = DynamicArray(waveforms)
        self._batch_size: DynamicArray | None = None
        self._known: dict[tuple[Any, ...], str] = {}

    def add(
        self, operator: str, *inputs: Value | Sequence[int], outputs: int = 1, **attributes: Any
    ) -> Any:
        """Adds a node; returns its output, or a list of several.

        Args:
            operator: of ONNX.
            inputs: arrays, computed or known; sequences of numbers are known arrays of int64.
            outputs: how many it has.
            attributes: of the node.
        """
        names = [f"{operator.lower()}_{len(self.nodes)}_{i}" for i in range(outputs)]
        given = [self._name(value) for value in inputs]
        self.nodes.append(self._onnx.helper.make_node(operator, given, names, **attributes))
        found = [DynamicArray(name) for name in names]
        return found if outputs > 1 else found[0]

    def transpose(self, value: Value, order: Sequence[int]) -> Value:
        """Returns an array with its axes in another order, a known one at once."""
        order = [int(axis) for axis in order]
        if order == sorted(order):
            return value
        if isinstance(value, np.ndarray):
            return np.transpose(value, order)
        return self.add("Transpose", value, perm=order)

    def reshape(self, value: Value, shape: Sequence[Any]) -> Value:
        """Returns an array in another shape, of which the batch may be a factor of one size."""
        unknown = [size for size in shape if not is_number(size)]
        if len(unknown) > 1:
            raise LoweringError(f"The shape {tuple(shape)} has more than one unknown size.")
        return self.add("Reshape", value, [int(n) if is_number(n) else -1 for n in shape])

    def whole(self, value: Value, shape: Sequence[Any]) -> Value:
        """Returns an array in its full shape, of which a known one may have kept 1 in places."""
        return self.expand(value, value.shape, shape) if isinstance(value, np.ndarray) else value

    def expand(self, value: Value, before: Sequence[Any], after: Sequence[Any]) -> Value:
        """Returns an array repeated along axes of size 1.

        Args:
            value: the array.
            before: its shape.
            after: of the same rank.
        """
        if tuple(before) == tuple(after):
            return value
        sizes: list[Any] = []
        for old, new in zip(before, after, strict=True):
            if is_number(new) or not is_number(old):
                sizes.append([int(new) if is_number(new) else 1])  # 1 keeps what is there
            elif new == self.batch:
                sizes.append(self._add_batch_size())
            else:
                raise LoweringError(f"The size {new} is not the batch's {self.batch}.")
        if all(isinstance(size, list) for size in sizes):
            return self.add("Expand", value, [n for size in sizes for n in size])
        return self.add("Expand", value, self.add("Concat", *sizes, axis=0))

    def _add_batch_size(self) -> DynamicArray:
        if self._batch_size is None:
            self._batch_size = self.add("Shape", self._waveforms, start=0, end=1)
        return self._batch_size

    def _name(self, value: Value | Sequence[int]) -> str:
        """Returns the name of an array; equal arrays are stored once."""
        if isinstance(value, DynamicArray):
            return value.name
        if isinstance(value, Complex):
            raise LoweringError("A complex number goes where ONNX has none.")
        array = np.ascontiguousarray(value if isinstance(value, np.ndarray) else np.int64(value))
        shape = np.shape(value)  # which ascontiguousarray makes (1,) of ()
        key = (array.dtype.str, shape, hashlib.sha256(array.tobytes()).digest())
        name = self._known.setdefault(key, f"array_{len(self._known)}")
        self.arrays[name] = array.reshape(shape)
        return name


def is_number(size: Any) -> bool:
    """Returns whether a size is a number and not a symbol."""
    return isinstance(size, int | np.integer)


def lower_jaxpr(
    graph: Graph,
    operations: Mapping[str, Operation],
    jaxpr: Any,
    constants: Sequence[Any],
    inputs: Sequence[Value],
) -> list[Value]:
    """Adds the equations of a jaxpr to a graph.

    Args:
        graph: that they are added to.
        operations: name of a primitive -> what it becomes.
        jaxpr: the computation.
        constants: its own.
        inputs: arrays, computed or known.

    Returns:
        The outputs.

    Raises:
        LoweringError: if a primitive, or what it is asked for, has no form in ONNX.
    """
    values: dict[Any, Value] = dict(zip(jaxpr.constvars, map(np.asarray, constants), strict=True))
    values |= dict(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Value:
        if isinstance(atom, core.Literal):
            return np.asarray(atom.val, atom.aval.dtype)
        return values[atom]

    for equation in jaxpr.eqns:
        given, name = [read(atom) for atom in equation.invars], equation.primitive.name
        inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
        if name == "scan":
            outputs = _repeat(graph, operations, equation, given)
        elif inner is not None:
            body, own = getattr(inner, "jaxpr", inner), getattr(inner, "consts", ())
            outputs = lower_jaxpr(graph, operations, body, own, given)
        elif _is_known(equation, given):
            outputs = equation.primitive.bind(*given, **equation.params)
            outputs = outputs if equation.primitive.multiple_results else [outputs]
            outputs = [np.asarray(output) for output in jax.device_get(outputs)]
        elif name in operations:
            if name not in ELEMENTWISE and name != "broadcast_in_dim":
                shapes = [atom.aval.shape for atom in equation.invars]
                given = [graph.whole(*pair) for pair in zip(given, shapes, strict=True)]
            outputs = operations[name](graph, equation, given)
            outputs = outputs if isinstance(outputs, list) else [outputs]
        else:
            raise LoweringError(
                f"The operation {name!r} is not in the table of exports/onnx_ops.py."
            )
        values |= dict(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _is_known(equation: Any, given: Sequence[Value]) -> bool:
    """Returns whether an equation's outputs are the same for every input and batch."""
    sizes = [size for variable in equation.outvars for size in variable.aval.shape]
    return all(isinstance(value, np.ndarray) for value in given) and (
        equation.primitive.name in ELEMENTWISE or all(is_number(size) for size in sizes)
    )


def _repeat(
    graph: Graph, operations: Mapping[str, Operation], equation: Any, given: list[Value]
) -> list[Value]:
    """Returns the outputs of a loop over the first axis of arrays, written out."""
    facts, body = equation.params, equation.params["jaxpr"]
    num_fixed, num_carried = facts["num_consts"], facts["num_carry"]
    fixed, carried = given[:num_fixed], given[num_fixed : num_fixed + num_carried]
    arrays = given[num_fixed + num_carried :]
    steps: list[list[Value]] = []
    for step in range(facts["length"]):
        at = np.int64(facts["length"] - 1 - step if facts["reverse"] else step)
        seen = [
            value[at] if isinstance(value, np.ndarray) else graph.add("Gather", value, at, axis=0)
            for value in arrays
        ]
        found = lower_jaxpr(graph, operations, body.jaxpr, body.consts, [*fixed, *carried, *seen])
        carried = found[:num_carried]
        rows = zip(found[num_carried:], body.jaxpr.outvars[num_carried:], strict=True)
        whole = [graph.whole(value, variable.aval.shape) for value, variable in rows]
        steps.append([graph.add("Unsqueeze", value, [0]) for value in whole])
    if facts["reverse"]:
        steps.reverse()
    stacked = [graph.add("Concat", *parts, axis=0) for parts in zip(*steps, strict=True)]
    return [*carried, *stacked]
