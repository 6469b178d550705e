"""The interface between training and a training scheme.

`training/` knows steps, states and streams of batches; it knows no model and no data set. A way of
learning (tagging, a student and its teacher, triplets) hands it an `Objective`.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, get_args

from musrep_jax.types import Array, Batch, LossFn, PyTree, TrainState

Direction = Literal["max", "min"]
"""Whether the larger or the smaller value of a metric is the better one."""

IsTrainable = Callable[[tuple[str, ...]], bool]
"""Path of a parameter, such as `("head", "kernel")` -> whether the optimizer updates it."""

UpdateState = Callable[[TrainState, Batch, Array], TrainState]
"""`(state, batch, key) -> state`, called inside the compiled step after the optimizer's update."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Objective:
    """A training scheme, as the training loop sees it.

    Attributes:
        variables: `{"params": {...}, **collections}`, nested dicts of arrays. With several networks
            `params` and every collection have one subtree per network, such as
            `params/student/...` and `params/teacher/...`.
        loss_fn: `(params, model_state, batch, key) -> (loss, (model_state, metrics))`, see
            `musrep_jax.types.LossFn`. Metrics are scalars; their names may differ from batch to
            batch. Functions are compared by identity: objectives that share `loss_fn`,
            `is_trainable` and `update_state` share one compiled program, so make them once per
            model (`functools.lru_cache`).
        batches: number of updates made -> endless iterator of host batches from there on, each one
            stream or named streams, see `musrep_jax.types.Batch`. Batch i must depend on the seed
            and i only, so that a resumed run sees the same data; of several processes each reads
            its own rows of every stream, see `musrep_jax.training.sharding.local_rows`.
        evaluate: state -> validation metrics by name, as numbers. It must not donate the state.
        select_by: (metric, "max" or "min"): the metric of `evaluate` that chooses the best weights,
            and whether the largest or the smallest value is the best.
        steps_per_epoch: updates in one pass over the data, for what is counted in epochs.
        is_trainable: which parameters the optimizer moves; None trains every parameter.
        update_state: `(state, batch, key) -> state` inside the compiled step, after the
            optimizer's update: averaged weights, projections of weights, queues. It sees the new
            parameters, the model state that the loss returned, and the number of updates made as
            `state.step`; it returns a state of the same shapes and types and leaves `step` and
            `opt_state` alone. None changes nothing.
        solve: () -> variables of what is not trained step by step: a solution in closed form, or by
            an optimizer of its own. Then `batches`, `loss_fn` and the settings of training are not
            used; `evaluate` judges the solution. None trains.
    """

    variables: PyTree
    loss_fn: LossFn
    batches: Callable[[int], Iterator[Mapping[str, Any]]]
    evaluate: Callable[[TrainState], Mapping[str, float]]
    select_by: tuple[str, Direction]
    steps_per_epoch: int
    is_trainable: IsTrainable | None = None
    update_state: UpdateState | None = None
    solve: Callable[[], PyTree] | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for values that no training can use."""
        check_select_by(self.select_by)
        if "params" not in self.variables:
            raise ValueError(
                "variables of an objective lack 'params'; they have "
                f"{', '.join(map(repr, self.variables)) or 'nothing'}. Give what model.init "
                "returns, with one subtree per network in 'params' and in every other collection."
            )
        if self.steps_per_epoch < 1:
            raise ValueError(f"steps_per_epoch is {self.steps_per_epoch}; it must be at least 1.")


def _refuse(*args: Any) -> Any:
    raise NotImplementedError("This objective is not trained.")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Untrained(Objective):
    """What has no parameters: `Task.finish` does all of the work, from the fields of a subclass."""

    variables: PyTree = dataclasses.field(default_factory=lambda: {"params": {}})
    loss_fn: LossFn = _refuse
    batches: Callable[[int], Iterator[Mapping[str, Any]]] = _refuse
    evaluate: Callable[[TrainState], Mapping[str, float]] = lambda state: {}
    select_by: tuple[str, Direction] = ("loss", "min")
    steps_per_epoch: int = 1
    solve: Callable[[], PyTree] | None = lambda: {"params": {}}


def check_select_by(select_by: Any) -> tuple[str, Direction]:
    """Returns `select_by` if it is a metric and a direction.

    Args:
        select_by: such as `("roc_auc", "max")` or `("loss", "min")`.

    Raises:
        ValueError: if it is not.
    """
    if (
        not isinstance(select_by, tuple | list)
        or len(select_by) != 2
        or not isinstance(select_by[0], str)
        or select_by[1] not in get_args(Direction)
    ):
        raise ValueError(
            f"select_by is {select_by!r}; it must be the name of a metric and 'max' or 'min', such "
            "as ('roc_auc', 'max')."
        )
    return select_by[0], select_by[1]
