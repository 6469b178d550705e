"""Reads published pickles (split lists, label tables) as plain data; nothing in them is executed.

A pickle may name any function and have it called. Here it may name the few that make a numpy array
and nothing else: what comes out is lists, dictionaries, text, numbers and arrays.
"""

import os
import pickle
from typing import Any

import numpy as np

from musrep_jax.data.build.builder import BuildError

_ARRAY_MODULES = {"numpy.core.multiarray", "numpy._core.multiarray"}
_ARRAY_CONSTRUCTORS = {
    maker.__name__: maker
    for maker in (np.zeros((), object).__reduce__()[0], np.float64(0).__reduce__()[0])
}
"""The globals that numpy writes into a pickle of an array or a number."""


class _RestrictedUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in _ARRAY_MODULES and name in _ARRAY_CONSTRUCTORS:
            return _ARRAY_CONSTRUCTORS[name]
        if module == "numpy" and name in {"ndarray", "dtype"}:
            return getattr(np, name)
        raise pickle.UnpicklingError(f"it wants to call {module}.{name}, which no data need")


def load_restricted_pickle(path: str | os.PathLike) -> Any:
    """Returns the content of a pickle, of Python 2 as well, or of an `.npy` file that holds one.

    Args:
        path: of the file.

    Returns:
        The pickled value; text of Python 2 as str (Latin-1), an array without axes as its item.

    Raises:
        BuildError: if it is no pickle, is cut short, or holds more than plain data.
    """
    try:
        with open(path, "rb") as file:
            if file.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX:
                file.seek(0)
                version = np.lib.format.read_magic(file)
                if version == (1, 0):
                    np.lib.format.read_array_header_1_0(file)
                else:
                    np.lib.format.read_array_header_2_0(file)
            else:
                file.seek(0)
            content = _RestrictedUnpickler(file, encoding="latin1").load()
    # A damaged pickle can fail in any of these ways.
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, LookupError) as error:
        raise BuildError(f"{path} cannot be read as a pickle of plain data: {error}.") from error
    if isinstance(content, np.ndarray) and content.ndim == 0:
        return content.item()
    return content
