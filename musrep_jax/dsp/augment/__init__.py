"""Augmentation of waveforms in JAX: pure functions of a key and a batch, run within the train step.

`make_augment` makes one function of a named chain or of names of operations. The files hold: the
chains and who is augmented (`chains`), what operations draw (`operations`), and the operations on
one waveform (`waveform`, `filters`, `reverb`, `splicing`).
"""

from musrep_jax.dsp.augment.chains import (
    AUGMENT_WORDS,
    CHAINS,
    Augment,
    Step,
    compose,
    is_chain,
    make_augment,
    parse_chain,
)
from musrep_jax.dsp.augment.operations import OPERATIONS, make_operation

__all__ = [
    "AUGMENT_WORDS", "CHAINS", "OPERATIONS", "Augment", "Step", "compose", "is_chain",
    "make_augment", "make_operation", "parse_chain",
]  # fmt: skip
