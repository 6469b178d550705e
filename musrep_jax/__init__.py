"""Music representation learning and cross-cultural transfer in JAX.

`tag` tags a recording with a pretrained model, `load_tagger` opens one by name or an exported one,
and `load_encoder` any model:

    tags = musrep_jax.tag("song.mp3")
    tagger = musrep_jax.load_tagger("runs/transfer/exports/...")
    tags = tagger.predict(audio, sample_rate)
"""

import importlib
from pathlib import Path
from typing import Any

__version__ = "0.2.0"

# An installation holds `configs` and `tfds_builders` in this package, so that it claims no other
# import name. In a checkout they lie beside it.
_HERE = Path(__file__).resolve().parent
if not (_HERE / "configs").is_dir():
    __path__.append(str(_HERE.parent))

_MODULES = {
    "load_encoder": "musrep_jax.inference.tagger",
    "load_tagger": "musrep_jax.inference.tagger",
    "tag": "musrep_jax.inference.folders",
}

__all__ = ["__version__", "load_encoder", "load_tagger", "tag"]


def __getattr__(name: str) -> Any:
    """Imports what opens models on first use, so that `import musrep_jax` stays light."""
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'musrep_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Returns the public names, also those that are imported on first use."""
    return sorted({*globals(), *__all__})
