"""A multilayer perceptron with one hidden layer, by scikit-learn."""

import dataclasses
import warnings
from typing import ClassVar

import numpy as np

from musrep_jax.evaluation.metrics import FloatArray
from musrep_jax.probing.classifiers import Classifier, Scorer, is_number, require


@dataclasses.dataclass(frozen=True)
class Mlp(Classifier):
    """One hidden layer of rectified units, trained by Adam.

    Of training examples that are all of one class, or all with or all without a single label, the
    same probability comes out everywhere.

    Attributes:
        width: of the hidden layer.
        strength: of the L2 penalty, `alpha` of scikit-learn.
        num_epochs: of training, at most; it ends before when the loss no longer falls.
    """

    width: int = 512
    strength: float = 1e-4
    num_epochs: int = 100

    choices: ClassVar = {"strength": (1e-4, 1e-2, 1.0)}
    gives_probabilities: ClassVar = True

    def __post_init__(self) -> None:
        """Checks the settings."""
        for setting in ("width", "num_epochs"):
            value = getattr(self, setting)
            require(type(value) is int and value > 0, setting, value, "a whole number from 1 on")
        require(is_number(self.strength, 0), "strength", self.strength, "a number from 0 on")

    def _solve(
        self,
        features: FloatArray,
        targets: FloatArray,
        weights: FloatArray,
        is_exclusive: bool,
        seed: int,
    ) -> Scorer:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPClassifier

        network = MLPClassifier(
            (self.width,), alpha=self.strength, max_iter=self.num_epochs, random_state=seed
        )
        given = targets.argmax(axis=1) if is_exclusive else targets.astype(np.int64)
        if not is_exclusive and targets.shape[1] == 1:
            given = given[:, 0]
        if given.ndim == 1 and (given == given[0]).all():  # of which scikit-learn makes two classes
            constant = targets[0]
            return lambda features: np.tile(constant, (len(features), 1))
        with warnings.catch_warnings():  # the number of epochs is a setting
            warnings.simplefilter("ignore", ConvergenceWarning)
            network.fit(features, given, sample_weight=weights * len(weights))
        columns = np.asarray(network.classes_) if is_exclusive else np.arange(targets.shape[1])

        def score(features: FloatArray) -> FloatArray:
            found = np.asarray(network.predict_proba(features))
            if not is_exclusive and targets.shape[1] == 1:
                found = found[:, 1:]
            scores = np.zeros((len(features), targets.shape[1]))
            scores[:, columns] = found
            return scores

        return score
