"""Linear regression and logistic regression above frozen features."""

import dataclasses
from typing import ClassVar

import numpy as np

from musrep_jax.evaluation.linear import fit_logistic, fit_ridge
from musrep_jax.evaluation.metrics import FloatArray
from musrep_jax.probing.classifiers import Classifier, Scorer, is_number, require


@dataclasses.dataclass(frozen=True)
class Ridge(Classifier):
    """Linear regression of targets coded -1 and 1; scores are the regression's values.

    Attributes:
        strength: of the L2 penalty beside the sum of squares, `alpha` of scikit-learn; 0 is linear
            regression, of the least norm where several fit alike.
    """

    strength: float = 1.0

    choices: ClassVar = {"strength": tuple(10.0**power for power in range(-2, 6))}

    def __post_init__(self) -> None:
        """Checks the settings."""
        require(is_number(self.strength, 0), "strength", self.strength, "a number from 0 on")

    def _solve(
        self,
        features: FloatArray,
        targets: FloatArray,
        weights: FloatArray,
        is_exclusive: bool,
        seed: int,
    ) -> Scorer:
        (found,) = fit_ridge(features, targets, weights, (self.strength / len(features),))
        return found.logits


@dataclasses.dataclass(frozen=True)
class Logistic(Classifier):
    """Logistic regression: multinomial for exclusive classes, else one for every class.

    Attributes:
        cost: of errors beside half the sum of squared weights, `C` of scikit-learn.
    """

    cost: float = 1.0

    choices: ClassVar = {"cost": tuple(10.0**power for power in range(-4, 3))}
    gives_probabilities: ClassVar = True

    def __post_init__(self) -> None:
        """Checks the settings."""
        require(is_number(self.cost, 0, above=True), "cost", self.cost, "a number above 0")

    def _solve(
        self,
        features: FloatArray,
        targets: FloatArray,
        weights: FloatArray,
        is_exclusive: bool,
        seed: int,
    ) -> Scorer:
        strength = 1 / (self.cost * len(features))
        (found,) = fit_logistic(features, targets, weights, (strength,), is_exclusive=is_exclusive)

        def score(features: FloatArray) -> FloatArray:
            logits = found.logits(features)
            if not is_exclusive:
                return 0.5 * (1 + np.tanh(0.5 * logits))
            powers = np.exp(logits - logits.max(axis=1, keepdims=True))
            return powers / powers.sum(axis=1, keepdims=True)

        return score
