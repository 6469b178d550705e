"""The table of classifiers above frozen features, and what all of them share.

A classifier is a frozen dataclass of its settings. `fit` standardizes the features and returns a
`Fitted`, whose `scores` are larger the more likely a class is.
"""

import dataclasses
import importlib
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from musrep_jax.config import ConfigError, choose
from musrep_jax.evaluation.metrics import EvaluationError, FloatArray

CLASSIFIERS = {
    "ridge": "musrep_jax.probing.linear:Ridge",
    "logistic": "musrep_jax.probing.linear:Logistic",
    "svm": "musrep_jax.probing.svm:RbfSvm",
    "neighbors": "musrep_jax.probing.neighbors:Neighbors",
    "mlp": "musrep_jax.probing.mlp:Mlp",
    "prototypes": "musrep_jax.probing.prototypes:Prototypes",
}
"""Name -> "module:Class", a subclass of `Classifier`."""

PER_FEATURE, SCALAR, NONE = "features", "scalar", "none"
STANDARDIZATIONS = (PER_FEATURE, SCALAR, NONE)
"""One mean and deviation for every feature, one for all features together, or none at all."""

Scorer = Callable[[FloatArray], FloatArray]
"""Standardized features, (examples, features) -> scores, (examples, classes)."""


@dataclasses.dataclass(frozen=True)
class Standardization:
    """What is subtracted from features, and what they are multiplied by after that.

    Attributes:
        mean: float64 (features,) or ().
        scale: float64 (features,) or (); 0 for a feature that did not vary.
    """

    mean: FloatArray
    scale: FloatArray

    def apply(self, features: np.ndarray) -> FloatArray:
        """Returns standardized features, float64 (examples, features)."""
        return (np.asarray(features, np.float64) - self.mean) * self.scale


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A classifier after training.

    Attributes:
        standardization: of the features.
        scorer: of standardized features.
        classifier: what was fitted, with all its settings.
    """

    standardization: Standardization
    scorer: Scorer
    classifier: "Classifier"

    def scores(self, features: np.ndarray) -> FloatArray:
        """Returns scores, float64 (examples, classes); the larger, the more likely.

        They are probabilities where `classifier.gives_probabilities`.

        Args:
            features: (examples, features), as many features as in training.
        """
        return self.scorer(self.standardization.apply(features))


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A way to learn classes from features, with its settings.

    Attributes:
        standardize: "features" (every feature has mean 0 and deviation 1 in training), "scalar"
            (one mean and deviation for all of them, as in Lee et al., MIREX 2017), or "none".
        choices: setting -> values to choose from on validation data where it is not given.
        gives_probabilities: whether scores lie between 0 and 1 and can be judged as such.
    """

    standardize: str = PER_FEATURE

    choices: ClassVar[dict[str, tuple[Any, ...]]] = {}
    gives_probabilities: ClassVar[bool] = False

    def fit(
        self,
        features: np.ndarray,
        targets: np.ndarray,
        *,
        is_exclusive: bool,
        seed: int = 0,
        weights: np.ndarray | None = None,
    ) -> Fitted:
        """Returns the classifier after training.

        Args:
            features: (examples, features), finite.
            targets: (examples, classes), 0 or 1.
            is_exclusive: whether every example has exactly one class.
            seed: of what is drawn in training; the same seed gives the same classifier.
            weights: (examples,), how much each counts; None counts all alike.

        Raises:
            EvaluationError: if the arrays do not fit together.
        """
        (found,) = self.fit_all(
            [self], features, targets, is_exclusive=is_exclusive, seed=seed, weights=weights
        )
        return found

    @classmethod
    def fit_all(
        cls,
        classifiers: "Sequence[Classifier]",
        features: np.ndarray,
        targets: np.ndarray,
        *,
        is_exclusive: bool,
        seed: int = 0,
        weights: np.ndarray | None = None,
    ) -> list[Fitted]:
        """Returns several classifiers after training, which share what they can.

        Args:
            classifiers: of this class, with one standardization.
            features: see `fit`.
            targets: see `fit`.
            is_exclusive: see `fit`.
            seed: see `fit`.
            weights: see `fit`.
        """
        features, targets = np.asarray(features, np.float64), np.asarray(targets, np.float64)
        _check_examples(features, targets)
        if weights is None:
            weights = np.ones(len(features))
        weights = np.asarray(weights, np.float64) / np.sum(weights)
        standardization = fit_standardization(features, classifiers[0].standardize, weights)
        features = standardization.apply(features)
        scorers = cls._solve_all(classifiers, features, targets, weights, is_exclusive, seed)
        return [
            Fitted(standardization, scorer, classifier)
            for scorer, classifier in zip(scorers, classifiers, strict=True)
        ]

    @classmethod
    def _solve_all(
        cls,
        classifiers: "Sequence[Classifier]",
        features: FloatArray,
        targets: FloatArray,
        weights: FloatArray,
        is_exclusive: bool,
        seed: int,
    ) -> list[Scorer]:
        """Returns what `_solve` does of each; classes override this or that."""
        return [one._solve(features, targets, weights, is_exclusive, seed) for one in classifiers]

    def _solve(
        self,
        features: FloatArray,
        targets: FloatArray,
        weights: FloatArray,
        is_exclusive: bool,
        seed: int,
    ) -> Scorer:
        """Returns what gives scores to standardized features; weights sum to 1."""
        raise NotImplementedError


def fit_standardization(
    features: FloatArray, kind: str, weights: FloatArray | None = None
) -> Standardization:
    """Returns the standardization of training features.

    Args:
        features: (examples, features).
        kind: one of `STANDARDIZATIONS`.
        weights: (examples,), how much each counts; they sum to 1. None counts all alike.

    Raises:
        ConfigError: if there is no such kind.
    """
    choose(kind, STANDARDIZATIONS, "standardize")
    if kind == NONE:
        return Standardization(np.zeros(()), np.ones(()))
    if weights is None:
        weights = np.full(len(features), 1 / len(features))
    mean = weights @ features
    variance = weights @ (features - mean) ** 2
    if kind == SCALAR:
        center = np.asarray(mean.mean())
        variance = np.asarray(variance.mean() + ((mean - center) ** 2).mean())
        mean = center
    # A feature that never varied but for rounding says nothing, whatever it is in other examples.
    deviation = np.sqrt(variance)
    varies = deviation > 1e-7 * np.abs(mean)
    return Standardization(mean, np.where(varies, 1 / np.where(varies, deviation, 1.0), 0.0))


def load_classifier(name: str, **settings: Any) -> Classifier:
    """Returns a classifier of the table.

    Args:
        name: a key of `CLASSIFIERS`.
        settings: of the classifier; those that are left out have their defaults.

    Raises:
        ConfigError: if there is none of that name, or it has no such setting.
    """
    module, _, attribute = CLASSIFIERS[choose(name, sorted(CLASSIFIERS), "classifier")].partition(
        ":"
    )
    kind = getattr(importlib.import_module(module), attribute)
    known = [field.name for field in dataclasses.fields(kind)]
    for setting in settings:
        choose(setting, known, f"a setting of the classifier {name}")
    return kind(**settings)


def require(is_allowed: bool, setting: str, value: Any, allowed: str) -> None:
    """Raises unless a setting of a classifier has an allowed value.

    Args:
        is_allowed: whether it has.
        setting: its name.
        value: its value.
        allowed: what it must be, in words.

    Raises:
        ConfigError: one sentence.
    """
    if not is_allowed:
        raise ConfigError(f"{setting} of a classifier is {value!r}; it must be {allowed}.")


def is_number(value: Any, low: float, *, above: bool = False) -> bool:
    """Returns whether a value is a finite number from `low` on, or above it."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    return value > low if above else value >= low


def _check_examples(features: FloatArray, targets: FloatArray) -> None:
    if features.ndim != 2 or targets.ndim != 2 or len(features) != len(targets):
        raise EvaluationError(
            f"features have shape {features.shape} and targets {targets.shape}; a classifier needs "
            "(examples, features) and (examples, classes) of the same examples."
        )
    if 0 in features.shape or 0 in targets.shape:
        raise EvaluationError(
            f"features have shape {features.shape} and targets {targets.shape}; a classifier needs "
            "at least one example, one feature and one class."
        )
    is_finite = np.isfinite(features)
    if not is_finite.all():
        row, column = np.argwhere(~is_finite)[0]
        raise EvaluationError(
            f"feature {column} of example {row} is {features[row, column]}; a classifier needs "
            "finite numbers."
        )
