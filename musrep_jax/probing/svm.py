"""Support vector machines with a radial basis function, by scikit-learn."""

import dataclasses
from typing import ClassVar

import numpy as np

from musrep_jax.evaluation.metrics import FloatArray
from musrep_jax.probing.classifiers import Classifier, Scorer, is_number, require


@dataclasses.dataclass(frozen=True)
class RbfSvm(Classifier):
    """One machine for all exclusive classes (pairs of classes vote), else one for every class.

    Scores are values of the decision function, not probabilities. A class that no example or every
    example of the training has is given the same score everywhere.

    Attributes:
        cost: of errors, `C` of scikit-learn.
        gamma: of `exp(-gamma * distance ** 2)`; None is 1 / (features * their variance).
    """

    cost: float = 1.0
    gamma: float | None = None

    choices: ClassVar = {"cost": tuple(10.0**power for power in range(-2, 4))}

    def __post_init__(self) -> None:
        """Checks the settings."""
        require(is_number(self.cost, 0, above=True), "cost", self.cost, "a number above 0")
        is_gamma = self.gamma is None or is_number(self.gamma, 0, above=True)
        require(is_gamma, "gamma", self.gamma, "a number above 0, or left out")

    def _solve(
        self,
        features: FloatArray,
        targets: FloatArray,
        weights: FloatArray,
        is_exclusive: bool,
        seed: int,
    ) -> Scorer:
        from sklearn.svm import SVC

        sample_weight = weights * len(weights)
        gamma = self.gamma
        if gamma is None:  # "scale" of scikit-learn, with weights
            mean = weights @ features
            variance = float((weights @ features**2).mean() - mean.mean() ** 2)
            gamma = 1 / (features.shape[1] * variance) if variance > 0 else 1.0
        num_classes = targets.shape[1]

        def fit(classes: np.ndarray) -> SVC:
            machine = SVC(C=self.cost, gamma=gamma, decision_function_shape="ovr")
            return machine.fit(features, classes, sample_weight=sample_weight)

        if is_exclusive:
            classes = targets.argmax(axis=1)
            present = np.unique(classes)
            machine = fit(classes) if len(present) > 1 else None

            def score(features: FloatArray) -> FloatArray:
                if machine is None:
                    found = np.ones((len(features), 1))
                else:
                    found = machine.decision_function(features)
                if found.ndim == 1:
                    found = np.stack([-found, found], axis=1)
                scores = np.full((len(features), num_classes), found.min() - 1)
                scores[:, present] = found
                return scores

            return score

        machines = [fit(c) if 0 < c.sum() < len(c) else None for c in targets.T]

        def score_each(features: FloatArray) -> FloatArray:
            nothing = np.zeros(len(features))
            return np.stack(
                [nothing if one is None else one.decision_function(features) for one in machines],
                axis=1,
            )

        return score_each
