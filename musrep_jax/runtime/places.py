"""Where files of this package lie that are not a user's own."""

import os
import pathlib


def default_data_dir() -> pathlib.Path:
    """Returns where data sets are built and pretrained models are kept: $MUSREP_DATA, else the
    user's cache directory."""
    if os.environ.get("MUSREP_DATA"):
        return pathlib.Path(os.environ["MUSREP_DATA"]).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or "~/.cache"
    return pathlib.Path(cache).expanduser() / "musrep_jax"
