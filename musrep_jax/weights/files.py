"""Weight files and lists of labels, read without executing anything that is in them."""

import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from musrep_jax.runtime.names import normalize_name
from musrep_jax.weights.errors import WeightFileError as WeightFileError
from musrep_jax.weights.state_dicts import strip_prefixes
from musrep_jax.weights.tensorflow_bundle import INDEX_SUFFIX, read_bundle

TORCH_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin")
SAFETENSORS_SUFFIX = ".safetensors"
WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Under which training scripts keep the state dictionary next to other things."""

TEACHER_PREFIX = "teacher_network."
"""Of the teacher's weights inside a student's checkpoint. Source: the public music tagging
transformer."""

SAFE_TORCH = (2, 6)
"""First version whose `weights_only` reader keeps its promise. Source: CVE-2025-32434."""

INERT = (
    ("argparse", "Namespace"),
    ("pytorch_lightning.callbacks.early_stopping", "EarlyStopping"),
    ("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"),
    ("pytorch_lightning.utilities.parsing", "AttributeDict"),
)
"""Settings and counters that Lightning's checkpoints hold beside the weights. An empty class of
that name is put in their place: nothing of theirs is imported."""

_REFUSED = re.compile(r"GLOBAL ([\w.]+)")
# What PyTorch's readers raise for a file that is cut short or of another kind.
_BROKEN = (
    pickle.UnpicklingError,
    OSError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
)


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a weight file, without wrappers, prefixes and teachers.

    Args:
        path: a PyTorch file (`.pth`, `.pt`, `.ckpt`, `.bin`; zip or the older format), a
            `.safetensors` file, or the `.index` of a TensorFlow checkpoint.

    Returns:
        Key -> array in PyTorch's layout; floating-point arrays are float32.

    Raises:
        FileNotFoundError: if there is no such file.
        WeightFileError: if it is of another kind, damaged, holds anything but arrays and plain
            values, or the package that reads it is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no weight file {path}.")
    suffix = path.suffix.lower()
    if suffix == SAFETENSORS_SUFFIX:
        arrays = _read_safetensors(path)
    elif suffix in TORCH_SUFFIXES:
        arrays = _read_torch(path)
    elif path.name.endswith(INDEX_SUFFIX):
        arrays = read_bundle(path)
    else:
        allowed = ", ".join((*TORCH_SUFFIXES, SAFETENSORS_SUFFIX, INDEX_SUFFIX))
        raise WeightFileError(f"{path} is not a weight file by its name; allowed: {allowed}.")
    cleaned: dict[str, np.ndarray] = {}
    for name, value in arrays.items():
        short = strip_prefixes(name)
        if short.startswith(TEACHER_PREFIX):
            continue
        if short in cleaned:
            raise WeightFileError(
                f"{path} has two arrays for {short!r}, one with a prefix (as in {name!r}): keep "
                "one of them."
            )
        cleaned[short] = value
    return cleaned


def read_labels(path: str | Path) -> tuple[str, ...]:
    """Returns the label names of a file, in order.

    Args:
        path: `.json` with a list of names, or a text file with one name per line (UTF-8; empty
            lines are left out). Names come in one spelling, see `runtime.names`.

    Raises:
        FileNotFoundError: if there is no such file.
        WeightFileError: if it is something else, empty, or names a label twice.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no label file {path}.")
    try:
        text = path.read_text(encoding="utf-8-sig")
        is_json = path.suffix.lower() == ".json"
        labels = json.loads(text) if is_json else text.splitlines()
    except ValueError as error:
        raise WeightFileError(f"The label file {path} cannot be read: {error}.") from error
    if isinstance(labels, list):
        labels = [normalize_name(x) if isinstance(x, str) else x for x in labels]
    if not is_json:
        labels = [label for label in labels if label]
    if not isinstance(labels, list) or not all(isinstance(x, str) and x for x in labels):
        raise WeightFileError(
            f"The label file {path} must hold a JSON list of names, such as "
            '["rock", "pop"], in the order of the output units.'
        )
    if not labels:
        raise WeightFileError(f"The label file {path} is empty.")
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise WeightFileError(f"The label file {path} names twice: {', '.join(twice)}.")
    return tuple(labels)


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise _missing(path, "safetensors") from error
    try:
        # JAX's reader, because numpy alone has no bfloat16.
        with safe_open(path, framework="flax") as file:
            return {name: _to_float32(np.asarray(file.get_tensor(name))) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightFileError(f"{path} is damaged or not a safetensors file: {error}.") from error


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError as error:
        raise _missing(path, "PyTorch") from error
    version = tuple(int(n) for n in re.findall(r"\d+", torch.__version__)[:2])
    if version < SAFE_TORCH:
        raise WeightFileError(
            f"PyTorch {torch.__version__} can be made to execute code by a weight file "
            f'(CVE-2025-32434): install 2.6 or later, pip install "musrep_jax[torch]".'
        )
    inert = [type(name, (dict,), {"__module__": module}) for module, name in INERT]
    try:
        with torch.serialization.safe_globals(inert):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except _BROKEN as error:
        refused = _REFUSED.search(str(error))
        if refused and isinstance(error, pickle.UnpicklingError):
            raise WeightFileError(
                f"{path} holds more than arrays ({refused[1]}), and reading it would execute code "
                "of the file: refused. Where you trust it, save the arrays alone: "
                "torch.save(model.state_dict(), ...)."
            ) from error
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else "cut short"
        raise WeightFileError(f"{path} is damaged or not a PyTorch file: {reason}") from error
    found = {}
    for name, value in _unwrap(loaded, path).items():
        if not isinstance(value, torch.Tensor):
            raise WeightFileError(
                f"{path} has a {type(value).__name__} under {str(name)!r} where an array of the "
                "state dictionary is expected."
            )
        value = value.detach()
        found[str(name)] = (value.float() if value.is_floating_point() else value).numpy()
    return found


def _unwrap(loaded: Any, path: Path) -> Mapping[str, Any]:
    """Returns the innermost mapping behind the wrappers' keys."""
    while isinstance(loaded, Mapping):
        inside = [loaded[key] for key in WRAPPERS if isinstance(loaded.get(key), Mapping)]
        if not inside:
            break
        loaded = inside[0]
    if not isinstance(loaded, Mapping) or not any(hasattr(v, "shape") for v in loaded.values()):
        kind = type(loaded).__name__
        keys = f" with the keys {', '.join(map(str, loaded))}" if kind == "dict" and loaded else ""
        raise WeightFileError(
            f"{path} holds a {kind}{keys} and no state dictionary; expected one at the top or "
            f"under {', '.join(WRAPPERS)}."
        )
    return loaded


def _to_float32(value: np.ndarray) -> np.ndarray:
    """Returns floating-point values as float32, bfloat16 included; others as they are."""
    return value if value.dtype.kind in "iub" else value.astype(np.float32)


def _missing(path: Path, package: str) -> WeightFileError:
    return WeightFileError(
        f"Reading {path.name} needs {package}, which is not installed: "
        'pip install "musrep_jax[torch]".'
    )
