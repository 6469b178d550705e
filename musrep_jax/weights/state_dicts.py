"""PyTorch state dictionaries of the public taggers, turned into this package's variables.

A model declares in `TORCH_NAMES` how the public code's names become paths of its own; the rest is
the same for all. After the renaming, `layer1.conv.weight` is looked for at `layer1/conv`:

    weight                  kernel, scale (normalization) or embedding, whichever the layer has
    bias                    bias
    running_mean / _var     batch_stats mean / var
    weight_ih_l0 ...        a recurrent layer: `layer_0/ih/kernel`, `layer_0/hh/kernel` and biases
                            (gates in PyTorch's order: reset, update, new)
    anything else           a parameter of that name, as it is (class tokens, positions)

    Conv2d (out, in, frequency, time) -> (time, frequency, in, out)
    Conv1d (out, in, time)            -> (time, in, out)
    Linear (out, in)                  -> (in, out)

Nothing is guessed: a key without a place, a place without a key and a wrong shape are all listed.
"""

import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from musrep_jax.kernels.formulations import get_single_run_compiler_options
from musrep_jax.models.base import Encoder, Tagger

PREFIXES = ("module.", "network.", "model.")
"""Put before every key by data-parallel wrappers and training frameworks."""

CONSTANTS = r"(^|\.)(num_batches_tracked|window|fb)$"
"""Keys that hold counters and front-end constants, which are computed here."""

_RECURRENT = (r"\.(weight|bias)_(ih|hh)_l(\d+)$", r".layer_\3.\2.\1")
_WEIGHT_LEAVES = ("kernel", "scale", "embedding")

Path = tuple[str, ...]


class WeightsError(ValueError):
    """The weights do not fit the model; the message lists every key that does not."""


def strip_prefixes(name: str) -> str:
    """Returns a key without the wrappers' prefixes.

    Example:
        >>> strip_prefixes("module.network.layer1.conv.bias")
        'layer1.conv.bias'
    """
    while name.startswith(PREFIXES):
        name = name.partition(".")[2]
    return name


def rename(name: str, pairs: tuple[tuple[str, str], ...]) -> str:
    """Returns a key after the (regular expression, replacement) pairs, applied in order.

    Example:
        >>> rename("dense2.weight", ((r"^dense2\\.", "head."),))
        'head.weight'
    """
    for pattern, replacement in (*pairs, _RECURRENT):
        name = re.sub(pattern, replacement, name)
    return name


def torch_name(path: Path, pairs: tuple[tuple[str, str], ...]) -> str:
    """Returns the key under which the public code has a variable, for messages.

    The pairs are read backwards; where that does not lead back to the variable (a rule that is not
    one to one), the variable's own path is returned.

    Args:
        path: of the variable, with its collection: ("params", "head", "kernel").
        pairs: the model's `TORCH_NAMES`.

    Returns:
        For example "dense2.weight".
    """
    leaf = {"kernel": "weight", "scale": "weight", "embedding": "weight"}.get(path[-1], path[-1])
    if path[0] == "batch_stats":
        leaf = f"running_{leaf}"
    own = ".".join((*path[1:-1], leaf))
    name = own
    for pattern, replacement in reversed((*pairs, _RECURRENT)):
        groups = re.findall(r"\([^()]*\)", pattern)
        backwards = re.sub(
            r"\\\\(\d)", lambda m, g=groups: g[int(m[1]) - 1], re.escape(replacement)
        )
        order = [int(n) for n in re.findall(r"\\(\d)", replacement)]
        if sorted(order) != list(range(1, len(groups) + 1)):
            continue
        counter = iter(order.index(n + 1) + 1 for n in range(len(groups)))
        forwards = re.sub(r"\([^()]*\)", lambda _, c=counter: f"\\{next(c)}", pattern)
        forwards = forwards.replace("\\.", ".").lstrip("^").rstrip("$")
        anchored = ("^" if pattern.startswith("^") else "") + backwards
        name = re.sub(anchored + ("$" if pattern.endswith("$") else ""), forwards, name)
    return name if rename(name, pairs) == own else "/".join(path)


def variable_shapes(model: Encoder) -> dict[Path, jax.ShapeDtypeStruct]:
    """Returns the shape of every variable of a model, without computing anything.

    Args:
        model: unbound.

    Returns:
        (collection, module, ..., name) -> shape and dtype.
    """
    shapes = jax.eval_shape(
        lambda x: model.init(jax.random.key(0), x, train=False), model.batch_shape(1)
    )
    return traverse_util.flatten_dict(shapes)


def initial_variables(model: Encoder, paths: set[Path], key: jax.Array) -> dict[Path, np.ndarray]:
    """Returns the initial values of some variables; the others are not computed.

    Args:
        model: unbound.
        paths: of the variables wanted.
        key: of the random numbers.

    Returns:
        path -> value.
    """
    if not paths:
        return {}

    def wanted(key: jax.Array, inputs: jax.Array) -> dict[str, jax.Array]:
        flat = traverse_util.flatten_dict(model.init(key, inputs, train=False))
        return {"/".join(path): flat[path] for path in paths}

    wanted = jax.jit(wanted, compiler_options=get_single_run_compiler_options())
    example = model.batch_shape(1)
    values = wanted(key, np.zeros(example.shape, example.dtype))
    return {path: np.asarray(values["/".join(path)]) for path in paths}


def find_variable_path(name: str, shapes: Mapping[Path, Any]) -> Path | None:
    """Returns the path of the variable that a renamed key belongs to, or None.

    Args:
        name: for example "layer1.bn.running_mean".
        shapes: the model's variables.

    Returns:
        For example ("batch_stats", "layer1", "bn", "mean").
    """
    *modules, leaf = name.split(".")
    if leaf in ("running_mean", "running_var"):
        candidates = [("batch_stats", *modules, leaf.removeprefix("running_"))]
    elif leaf == "weight":
        candidates = [("params", *modules, kind) for kind in (*_WEIGHT_LEAVES, "weight")]
    else:
        candidates = [("params", *modules, leaf)]
    return next((path for path in candidates if path in shapes), None)


def convert_axis_order(value: np.ndarray, path: Path, spatial: str) -> np.ndarray:
    """Returns an array with its axes in this package's order.

    Args:
        value: as PyTorch has it.
        path: of the variable it goes to.
        spatial: order of the two last axes of a 2-D convolution's kernel.

    Returns:
        The array, transposed if it is a kernel.
    """
    if path[-1] != "kernel":
        return value
    if value.ndim == 4 and spatial == "time_frequency":
        return value.transpose(2, 3, 1, 0)
    return value.transpose()


def convert_state_dict(
    state_dict: Mapping[str, np.ndarray],
    model: Encoder,
    *,
    spatial: str = "frequency_time",
    keep_head: bool = True,
    key: jax.Array | None = None,
) -> dict[str, Any]:
    """Turns the arrays of a PyTorch checkpoint into the variables of a model.

    Args:
        state_dict: key -> array. Wrappers' prefixes, counters and front-end constants are ignored,
            and so are keys that the model declares as unused (`TORCH_IGNORED`).
        model: unbound; its `TORCH_NAMES` and, where it has special cases, `adapt_torch_weights`
            are used.
        spatial: what the checkpoint's network saw: "frequency_time" (the public taggers) or
            "time_frequency" (the VGG-ish model of the cross-cultural code).
        keep_head: False leaves the output layer out and initializes it afresh: for a label set that
            differs from the checkpoint's.
        key: for what is not in the checkpoint (that output layer); default `jax.random.key(0)`.

    Returns:
        Variables for `model.apply`, float32 arrays.

    Raises:
        WeightsError: if a key is unknown, missing or wrongly shaped; the message names all of them.
        ValueError: if `spatial` is neither of the two.
    """
    if spatial not in ("frequency_time", "time_frequency"):
        raise ValueError(
            f"spatial is {spatial!r}; it must be 'frequency_time' or 'time_frequency'."
        )
    arrays = {strip_prefixes(name): np.asarray(value) for name, value in state_dict.items()}
    arrays = model.adapt_torch_weights(arrays)
    ignored = re.compile("|".join((CONSTANTS, *model.TORCH_IGNORED)))
    arrays = {name: value for name, value in arrays.items() if not ignored.search(name)}
    shapes = variable_shapes(model)
    values: dict[Path, np.ndarray] = {}
    problems = {"unknown keys": [], "missing keys": [], "wrong shapes": []}
    for name, value in arrays.items():
        renamed = rename(name, model.TORCH_NAMES)
        if not keep_head and model.is_head_path(renamed.split(".")):
            continue
        path = find_variable_path(renamed, shapes)
        if path is None:
            problems["unknown keys"].append(name)
            continue
        converted = convert_axis_order(value, path, spatial)
        expected = shapes[path].shape
        if _without_ones(converted.shape) != _without_ones(expected):
            problems["wrong shapes"].append(
                f"{name} {value.shape} gives {converted.shape}, the model has {expected}"
            )
        values[path] = np.asarray(converted, np.float32).reshape(
            expected if converted.size == np.prod(expected, dtype=int) else converted.shape
        )
    fresh = {
        path
        for path in shapes
        if path[0] not in ("params", "batch_stats")
        or (not keep_head and model.is_head_path(path[1:]))
    }
    problems["missing keys"] = [
        torch_name(path, model.TORCH_NAMES) for path in shapes if path not in {*values, *fresh}
    ]
    if any(problems.values()):
        listing = "; ".join(f"{kind}: {', '.join(n)}" for kind, n in problems.items() if n)
        raise WeightsError(
            f"The weights do not fit {_describe(model)}: {listing}. Choose the model and "
            "the settings that the weights were made with; for another label set, leave the output "
            "layer out (keep_head=False; --backbone)."
        )
    values |= initial_variables(model, fresh, jax.random.key(0) if key is None else key)
    return traverse_util.unflatten_dict(values)


def _describe(model: Encoder) -> str:
    """Returns a model's class and, of a tagger, its number of classes."""
    name = type(model).__name__
    return f"{name} with {model.num_classes} classes" if isinstance(model, Tagger) else name


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)
