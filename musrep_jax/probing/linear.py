"""Linear regression and logistic regression above frozen features."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

from musrep_jax.evaluation.aggregation import sigmoid, softmax
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

    @classmethod
    def _solve_all(
        cls,
        classifiers: "Sequence[Any]",
        features: FloatArray,
        targets: FloatArray,
        weights: FloatArray,
        is_exclusive: bool,
        seed: int,
    ) -> list[Scorer]:
        strengths = [one.strength / len(features) for one in classifiers]
        return [found.logits for found in fit_ridge(features, targets, weights, strengths)]


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

    @classmethod
    def _solve_all(
        cls,
        classifiers: "Sequence[Any]",
        features: FloatArray,
        targets: FloatArray,
        weights: FloatArray,
        is_exclusive: bool,
        seed: int,
    ) -> list[Scorer]:
        strengths = [1 / (one.cost * len(features)) for one in classifiers]
        found = fit_logistic(features, targets, weights, strengths, is_exclusive=is_exclusive)
        by_strength = {one.strength: one for one in found}  # which are solved in another order
        activate = softmax if is_exclusive else sigmoid
        return [
            lambda features, one=by_strength[strength]: activate(one.logits(features))
            for strength in strengths
        ]
