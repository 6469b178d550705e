"""Music representation learning and cross-cultural transfer in JAX.

`load_tagger(path)` opens an exported tagger, `load_encoder(path)` any exported model:

    tagger = musrep_jax.load_tagger("runs/transfer/exports/...")
    tags = tagger.predict(audio, sample_rate)
"""

from pathlib import Path
from typing import Any

__version__ = "0.2.0"

# An installation holds `configs` and `tfds_builders` in this package, so that it claims no other
# import name. In a checkout they lie beside it.
_HERE = Path(__file__).resolve().parent
if not (_HERE / "configs").is_dir():
    __path__.append(str(_HERE.parent))

__all__ = ["__version__", "load_encoder", "load_tagger"]


def __getattr__(name: str) -> Any:
    """Imports what opens models on first use, so that `import musrep_jax` stays light."""
    if name in ("load_encoder", "load_tagger"):
        from musrep_jax.inference import tagger

        return getattr(tagger, name)
    raise AttributeError(f"module 'musrep_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Returns the public names, also those that are imported on first use."""
    return sorted({*globals(), *__all__})
