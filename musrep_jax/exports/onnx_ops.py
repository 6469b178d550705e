"""The ONNX equivalents of JAX primitives: the table `OPERATIONS`, by name of primitive.

A function takes the graph, the equation (for shapes and parameters) and the inputs, and returns the
output or a list of them. Images are channels-last here and channels-first there.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from musrep_jax.exports.onnx_graph import (
    Complex,
    DynamicArray,
    Graph,
    LoweringError,
    Operation,
    Value,
)


def same(operator: str) -> Operation:
    """Returns the function of an operation that ONNX has too, on the same inputs."""

    def apply(graph: Graph, equation: Any, given: list[Value]) -> Value:
        return graph.add(operator, *given)

    return apply


def nothing(graph: Graph, equation: Any, given: list[Value]) -> Value:
    """Returns the input of an operation that changes no number."""
    return given[0]


def _shape(variable: Any) -> tuple[Any, ...]:
    return variable.aval.shape


def _number(value: float, equation: Any) -> np.ndarray:
    return np.asarray(value, equation.outvars[0].aval.dtype)


def _refuse(equation: Any, why: str) -> LoweringError:
    return LoweringError(
        f"The operation {equation.primitive.name!r} {why}, which has no form here."
    )


def maximum(graph: Graph, equation: Any, given: list[Value]) -> Value:
    """Returns the larger of two; programs join a rectifier with the convolution before it."""
    for value, other in (given, given[::-1]):
        if isinstance(other, np.ndarray) and other.ndim == 0 and other == 0:
            return graph.add("Relu", value)
    return graph.add("Max", *given)


def integer_pow(graph: Graph, equation: Any, given: list[Value]) -> Value:
    """Returns a power, the second as a product."""
    exponent = equation.params.get("y", 2)
    if exponent == 2:
        return graph.add("Mul", given[0], given[0])
    return graph.add("Pow", given[0], _number(exponent, equation))


def rsqrt(graph: Graph, equation: Any, given: list[Value]) -> Value:
    """Returns one over the square root."""
    return graph.add("Reciprocal", graph.add("Sqrt", given[0]))


def erfc(graph: Graph, equation: Any, given: list[Value]) -> Value:
    """Returns one minus the error function."""
    return graph.add("Sub", _number(1, equation), graph.add("Erf", given[0]))


_FLOAT, _FLOAT16 = 1, 10
"""Numbers of onnx.TensorProto.FLOAT and FLOAT16."""


def convert(graph: Graph, equation: Any, given: list[Value]) -> Value:
    """Returns the numbers in another type."""
    source, target = equation.invars[0].aval.dtype, np.dtype(equation.params["new_dtype"])
    if target == source:
        return given[0]
    if target == np.float32 and source in (np.bool_, np.float16):
        return graph.add("Cast", given[0], to=_FLOAT)
    if (source, target) == (np.float32, np.float16):  # numbers are rounded, and cast back
        return graph.add("Cast", given[0], to=_FLOAT16)
    raise _refuse(equation, f"gives {target}")


def reshape(graph: Graph, equation: Any, given: list[Value]) -> Value:
    """Returns the numbers in the shape of the output."""
    return graph.reshape(given[0], _shape(equation.outvars[0]))


def broadcast(graph: Graph, equation: Any, given: list[Value]) -> Value:
    """Returns an array with further axes, and repeated along them unless it is known."""
    before, after = _shape(equation.invars[0]), _shape(equation.outvars[0])
    if isinstance(given[0], np.ndarray):
        before = given[0].shape
    middle: list[Any] = [1] * len(after)
    for size, axis in zip(before, equation.params["broadcast_dimensions"], strict=True):
        middle[axis] = size
    if isinstance(given[0], np.ndarray):
        return given[0].reshape(middle)
    value = given[0] if tuple(before) == tuple(middle) else graph.reshape(given[0], middle)
    return graph.expand(value, middle, after)


def transpose(graph: Graph, equation: Any, given: list[Value]) -> Value:
    """Returns the axes in another order."""
    return graph.transpose(given[0], equation.params["permutation"])


def concatenate(graph: Graph, equation: Any, given: list[Value]) -> Value:
    """Returns arrays one after the other."""
    return graph.add("Concat", *given, axis=equation.params["dimension"])


def stack(graph: Graph, equation: Any, given: list[Value]) -> Value:
    """Returns arrays side by side along a new axis."""
    axis = equation.params["axis"]
    return graph.add("Concat", *(graph.add("Unsqueeze", v, [axis]) for v in given), axis=axis)


def split(graph: Graph, equation: Any, given: list[Value]) -> list[Value]:
    """Returns consecutive parts."""
    sizes = equation.params["sizes"]
    if len(sizes) == 1:
        return given
    axis = equation.params["axis"]
    return graph.add("Split", given[0], list(map(int, sizes)), outputs=len(sizes), axis=axis)


def reduce(operator: str) -> Operation:
    """Returns the function of a sum, or another, over axes."""

    def apply(graph: Graph, equation: Any, given: list[Value]) -> Value:
        axes = [int(axis) for axis in equation.params["axes"]]
        return graph.add(operator, given[0], axes, keepdims=0)

    return apply


def reverse(graph: Graph, equation: Any, given: list[Value]) -> Value:
    """Returns an array from its end to its beginning, along some axes."""
    axes = list(equation.params["dimensions"])
    ends = [np.iinfo(np.int64).min] * len(axes)
    return graph.add("Slice", given[0], [-1] * len(axes), ends, axes, [-1] * len(axes))


def cut(graph: Graph, equation: Any, given: list[Value]) -> Value:
    """Returns a slice with fixed bounds."""
    starts, ends = equation.params["start_indices"], equation.params["limit_indices"]
    strides = equation.params["strides"] or (1,) * len(starts)
    whole = _shape(equation.invars[0])
    axes = [a for a, n in enumerate(whole) if (starts[a], ends[a], strides[a]) != (0, n, 1)]
    bounds = ([int(values[axis]) for axis in axes] for values in (starts, ends))
    return graph.add("Slice", given[0], *bounds, axes, [int(strides[axis]) for axis in axes])


def pad(graph: Graph, equation: Any, given: list[Value]) -> Value:
    """Returns an array with a number around it, or without its edges."""
    array, number = given
    edges = equation.params["padding_config"]
    if any(between for _, _, between in edges) or not isinstance(number, np.ndarray):
        raise _refuse(equation, "spreads an array, or pads by a number that is computed")
    axes = [axis for axis, (low, high, _) in enumerate(edges) if low or high]
    if not axes:
        return array
    amounts = [int(edges[axis][side]) for side in (0, 1) for axis in axes]
    value = np.asarray(number, equation.outvars[0].aval.dtype)
    return graph.add("Pad", array, amounts, value.reshape(()), axes)


def gather(graph: Graph, equation: Any, given: list[Value]) -> Value:
    """Returns the entries of one axis at known places: one slice, or single entries."""
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    whole, places = _shape(equation.invars[0]), given[1]
    (axis, *others), collapsed = numbers.start_index_map, tuple(numbers.collapsed_slice_dims)
    rest = [a for a in range(len(whole)) if a != axis]
    if others or not isinstance(places, np.ndarray) or any(sizes[a] != whole[a] for a in rest):
        raise _refuse(equation, "takes entries of several axes, or at places that are computed")
    places = places[..., 0].astype(np.int64)
    if places.min() < 0 or places.max() + int(sizes[axis]) > whole[axis]:
        raise _refuse(equation, "reaches outside its array")
    if collapsed == ():
        if places.ndim:
            raise _refuse(equation, "takes several slices")
        start = int(places)
        return graph.add("Slice", given[0], [start], [start + int(sizes[axis])], [axis])
    found = graph.add("Gather", given[0], places, axis=axis)
    rank, places_at = len(rest) + places.ndim, range(axis, axis + places.ndim)
    old, new = iter([a for a in range(rank) if a not in places_at]), iter(places_at)
    return graph.transpose(
        found, [next(old if a in numbers.offset_dims else new) for a in range(rank)]
    )


def product(graph: Graph, equation: Any, given: list[Value]) -> Value:
    """Returns a product of matrices, or a more general one as a sum over letters."""
    (left_sum, right_sum), (left_batch, right_batch) = equation.params["dimension_numbers"]
    left, right = (len(_shape(variable)) for variable in equation.invars)
    if (left_sum, right_sum, right) == ((left - 1,), (0,), 2) and not left_batch:
        return graph.add("MatMul", *given)
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    first = [next(letters) for _ in range(left)]
    second = [next(letters) for _ in range(right)]
    for a, b in zip((*left_batch, *left_sum), (*right_batch, *right_sum), strict=True):
        second[b] = first[a]
    result = [first[a] for a in left_batch]
    result += [first[a] for a in range(left) if a not in {*left_batch, *left_sum}]
    result += [second[a] for a in range(right) if a not in {*right_batch, *right_sum}]
    rule = f"{''.join(first)},{''.join(second)}->{''.join(result)}"
    return graph.add("Einsum", *given, equation=rule)


def convolution(graph: Graph, equation: Any, given: list[Value]) -> Value:
    """Returns a convolution."""
    facts = equation.params
    numbers = facts["dimension_numbers"]
    if any(d != 1 for d in facts["lhs_dilation"]) or facts["batch_group_count"] != 1:
        raise _refuse(equation, "is transposed")
    found = graph.add(
        "Conv",
        graph.transpose(given[0], numbers.lhs_spec),
        graph.transpose(given[1], numbers.rhs_spec),
        strides=list(facts["window_strides"]),
        dilations=list(facts["rhs_dilation"]),
        pads=_pads(facts["padding"]),
        group=facts["feature_group_count"],
    )
    return graph.transpose(found, np.argsort(numbers.out_spec))


def max_pool(graph: Graph, equation: Any, given: list[Value]) -> Value:
    """Returns the maximum over windows of the axes between batch and channels."""
    facts, last = equation.params, len(_shape(equation.invars[0])) - 1
    window, padding = facts["window_dimensions"], facts["padding"]
    dilated = any(d != 1 for d in (*facts["base_dilation"], *facts["window_dilation"]))
    if dilated or any(window[a] != 1 or any(padding[a]) for a in (0, last)):
        raise _refuse(equation, "has windows over the batch or the channels, or with holes")
    found = graph.add(
        "MaxPool",
        graph.transpose(given[0], (0, last, *range(1, last))),
        kernel_shape=list(window[1:last]),
        strides=list(facts["window_strides"][1:last]),
        pads=_pads(padding[1:last]),
    )
    return graph.transpose(found, (0, *range(2, last + 1), 1))


def _pads(padding: Sequence[tuple[int, int]]) -> list[int]:
    """Returns the zeros before every axis, then those after."""
    return [int(pair[side]) for side in (0, 1) for pair in padding]


def fft(graph: Graph, equation: Any, given: list[Value]) -> Value:
    """Returns the spectrum of real numbers, as products with cosines and sines.

    ONNX has an operation for it. In onnxruntime 1.32 it is slower than the products (1.5 times with
    512 samples, 7 times with 400), and with 400 samples off by 1.7e-4 where these are by 3e-6.
    """
    (length,) = equation.params["fft_lengths"] or (0,)
    if equation.params["fft_type"].name != "RFFT":
        raise _refuse(equation, f"is of the kind {equation.params['fft_type'].name}")
    turns = np.outer(np.arange(length), np.arange(length // 2 + 1)) % length / length
    parts = (np.cos(2 * np.pi * turns), -np.sin(2 * np.pi * turns))
    return Complex(*(graph.add("MatMul", given[0], part.astype(np.float32)) for part in parts))


def real(graph: Graph, equation: Any, given: list[Complex]) -> DynamicArray:
    """Returns the real part."""
    return given[0].real


def imaginary(graph: Graph, equation: Any, given: list[Complex]) -> DynamicArray:
    """Returns the imaginary part."""
    return given[0].imag


OPERATIONS: dict[str, Operation] = {
    "abs": same("Abs"),
    "add": same("Add"),
    "broadcast_in_dim": broadcast,
    "concatenate": concatenate,
    "conv_general_dilated": convolution,
    "convert_element_type": convert,
    "copy": nothing,
    "div": same("Div"),
    "dot_general": product,
    "erf": same("Erf"),
    "erfc": erfc,
    "exp": same("Exp"),
    "fft": fft,
    "gather": gather,
    "ge": same("GreaterOrEqual"),
    "gt": same("Greater"),
    "imag": imaginary,
    "integer_pow": integer_pow,
    "le": same("LessOrEqual"),
    "log": same("Log"),
    "logistic": same("Sigmoid"),
    "lt": same("Less"),
    "max": maximum,
    "min": same("Min"),
    "mul": same("Mul"),
    "neg": same("Neg"),
    "pad": pad,
    "real": real,
    "reduce_max": reduce("ReduceMax"),
    "reduce_sum": reduce("ReduceSum"),
    "reduce_window_max": max_pool,
    "reshape": reshape,
    "rev": reverse,
    "rsqrt": rsqrt,
    "slice": cut,
    "split": split,
    "sqrt": same("Sqrt"),
    "square": integer_pow,
    "squeeze": reshape,
    "stack": stack,
    "stop_gradient": nothing,
    "sub": same("Sub"),
    "tanh": same("Tanh"),
    "transpose": transpose,
}
"""Name of a primitive -> what it becomes."""
