"""The loop: selection, stopping, reloading, faults, signals, resuming, and what it logs."""

import contextlib
import functools
import io
import itertools
import math
import os
import signal
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_training import assert_trees_close, assert_trees_equal, make_batch, make_batches, setup

from musrep_jax.runtime.signals import StopSignalReceived, raise_on_signals
from musrep_jax.training import logs, loop
from musrep_jax.training.checkpoints import TrainCheckpoints
from musrep_jax.training.loop import Interrupted, fit
from musrep_jax.training.meter import NonFiniteLossError
from musrep_jax.training.sharding import make_mesh, replicate

KEY = jax.random.key(1)


class Script:
    """An evaluation that returns the values of a script and remembers the states it saw."""

    def __init__(self, *values, metric="roc_auc"):
        self.values = iter(values)
        self.metric = metric
        self.states = {}

    def __call__(self, state):
        self.states[int(state.step)] = jax.tree.map(np.array, state)
        return {self.metric: next(self.values)}


@functools.cache
def compiled():
    """A state that is only ever copied, and a train step that every test shares."""
    return setup(has_batch_norm=True, dropout_rate=0.2)[1:]


def fresh_state():
    return jax.tree.map(jnp.copy, compiled()[0])


def run(evaluate, *, num_steps=20, eval_every=5, batches=make_batches, state=None, **options):
    return fit(
        fresh_state() if state is None else state,
        options.pop("train_step", compiled()[1]),
        batches,
        key=KEY,
        num_steps=num_steps,
        eval_every=eval_every,
        evaluate=evaluate,
        select_by=options.pop("select_by", ("roc_auc", "max")),
        **options,
    )


def test_doctests():
    import doctest

    assert doctest.testmod(loop).failed == 0
    assert doctest.testmod(logs).failed == 0


def test_the_best_state_is_the_one_that_was_evaluated():
    evaluate = Script(0.6, 0.9, 0.8, 0.7)
    result = run(evaluate)
    assert (result.best_step, result.best_metrics) == (10, {"roc_auc": 0.9})
    assert_trees_equal(jax.tree.map(np.array, result.best_state.params), evaluate.states[10].params)
    assert_trees_equal(
        jax.tree.map(np.array, result.best_state.model_state), evaluate.states[10].model_state
    )
    assert result.best_state.opt_state is None
    assert int(result.state.step) == 20
    assert [row["step"] for row in result.history] == [5, 10, 15, 20]
    assert not result.stopped_early
    assert result.seconds > 0


def test_the_last_step_is_always_evaluated():
    assert [row["step"] for row in run(Script(1, 2, 3), num_steps=12).history] == [5, 10, 12]


def test_selection_by_loss_takes_the_smallest():
    result = run(Script(0.6, 0.2, 0.4, 0.3, metric="loss"), select_by=("loss", "min"))
    assert result.best_step == 10


def test_nan_is_never_better_but_does_not_block_what_follows():
    assert run(Script(math.nan, 0.2, math.nan, 0.1)).best_step == 10
    assert run(Script(math.nan, math.nan, math.nan, math.nan)).best_step == 5


@pytest.mark.parametrize(("direction", "best"), [("max", 10), ("min", 15)])
@pytest.mark.parametrize("name", ["median_rank", "eer", "loss", "x_loss"])
def test_the_direction_is_told_and_not_guessed(name, direction, best):
    evaluate = Script(0.6, 0.9, 0.2, 0.7, metric=name)
    assert run(evaluate, select_by=(name, direction)).best_step == best


@pytest.mark.parametrize("select_by", ["roc_auc", ("roc_auc", "larger"), ("roc_auc", None)])
def test_a_direction_that_is_none_is_refused(select_by):
    with pytest.raises(ValueError, match="'max' or 'min'"):
        run(Script(0.5), select_by=select_by)


class Rows(Script):
    """An evaluation that returns rows of (roc_auc, loss)."""

    def __call__(self, state):
        return dict(zip(("roc_auc", "loss"), super().__call__(state)["roc_auc"], strict=True))


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        (((1, 0.42), (1, 0.30), (1, 0.14), (1, 0.20)), 15),  # the lowest loss
        (((1, 0.42), (1, 0.14), (1, 0.14), (0.9, 0.1)), 15),  # then the later step
        (((0.9, 0.1), (1, 0.42), (0.9, 0.05), (1, 0.5)), 10),  # only of equals
        (((1, math.nan), (1, 0.5), (1, math.nan), (1, 0.6)), 10),
    ],
)
def test_ties_are_broken_by_loss_and_then_by_the_later_step(rows, best):
    assert run(Rows(*rows)).best_step == best
    assert run(Script(*([1.0] * 4))).best_step == 20  # no loss is returned


def test_a_lower_loss_of_equals_is_an_improvement_for_patience():
    falling = [(1, 1 - step / 10) for step in range(4)]
    assert not run(Rows(*falling), patience=1).stopped_early
    assert run(Rows(*[(1, 0.5)] * 4), patience=2).stopped_early


def test_a_missing_metric_is_named():
    with pytest.raises(ValueError, match=r"select_by is 'pr_auc'.*choose one of roc_auc"):
        run(Script(0.5), select_by=("pr_auc", "max"))


@pytest.mark.parametrize("name", ["num_steps", "eval_every", "log_every", "patience"])
def test_counts_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} is 0; it must be at least 1"):
        run(Script(), **{name: 0})


def test_patience_ends_the_training():
    result = run(Script(0.5, 0.8, 0.7, 0.8, 0.9), num_steps=100, patience=2)
    assert result.stopped_early
    assert int(result.state.step) == 20
    assert result.best_step == 20  # the later of equals, which is no improvement


def test_time_ends_the_training_with_an_evaluation(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(loop.time, "perf_counter", lambda: next(clock))
    result = run(lambda state: {"roc_auc": 0.5}, num_steps=1000, eval_every=900, max_seconds=40)
    (row,) = result.history
    assert result.ran_out_of_time and not result.stopped_early
    assert row["step"] == int(result.state.step) < 41
    assert not run(lambda state: {"roc_auc": 0.5}, max_seconds=10**9).ran_out_of_time


def test_a_resumed_training_is_not_charged_for_compiling_again(monkeypatch, tmp_path):
    """Every part's first step takes a thousand seconds, all else one each time it is looked at."""
    now, made = [0.0], compiled()[1]
    monkeypatch.setattr(loop.time, "perf_counter", lambda: now.append(now.pop() + 1) or now[0])

    def run_part(num_steps):
        is_first = [True]

        def train_step(state, batch, key):
            now[0] += 1000 * is_first[0]
            is_first[0] = False
            return made(state, batch, key)

        with TrainCheckpoints(tmp_path, {"model": "toy"}) as checkpointer:
            return run(
                lambda state: {"roc_auc": 0.5}, num_steps=num_steps, eval_every=4,
                train_step=train_step, checkpointer=checkpointer, max_seconds=300,
            )  # fmt: skip

    parts = [run_part(num_steps) for num_steps in (8, 16, 24)]
    assert [int(part.state.step) for part in parts] == [8, 16, 24]
    assert not any(part.ran_out_of_time for part in parts)
    assert 3000 < parts[-1].seconds < 3300
    assert run_part(1000).ran_out_of_time


def test_best_weights_and_statistics_are_reloaded_at_a_switch():
    evaluate = Script(0.5, 0.9, 0.6, 0.4, 0.3)
    seen = {}
    train_step = compiled()[1]

    def watched(state, batch, key):
        seen[int(state.step)] = jax.tree.map(np.array, state)
        return train_step(state, batch, key)

    run(evaluate, num_steps=20, reload_best_at=(13,), train_step=watched)
    before, after = evaluate.states[13], seen[13]
    assert_trees_equal(after.params, evaluate.states[10].params)
    assert_trees_equal(after.model_state, evaluate.states[10].model_state)
    assert_trees_equal(after.opt_state, before.opt_state)  # the optimizer goes on
    assert int(after.step) == 13
    assert np.abs(before.params["head"]["kernel"] - after.params["head"]["kernel"]).max() > 0


def test_a_switch_step_that_is_the_best_keeps_its_own_weights():
    evaluate = Script(0.5, 0.6, 0.9, 0.4)
    result = run(evaluate, num_steps=14, reload_best_at=(12,))
    assert result.best_step == 12
    assert_trees_equal(jax.tree.map(np.array, result.best_state.params), evaluate.states[12].params)


def test_reloading_starts_patience_anew():
    result = run(
        Script(0.9, 0.1, 0.1, 0.1), num_steps=40, eval_every=10, patience=2, reload_best_at=(20,)
    )
    assert int(result.state.step) == 40
    assert result.stopped_early


def test_a_loss_that_is_not_finite_stops_before_evaluation_and_names_the_step(tmp_path):
    def batches(start):
        for step in itertools.count(start):
            batch = make_batch(8, step)
            if step == 12:  # the 13th update
                batch["audio"][0, 0] = np.inf
            yield batch

    evaluate = Script(0.5, 0.6, 0.7, 0.8)
    with (
        TrainCheckpoints(tmp_path / "checkpoints", {}) as checkpointer,
        pytest.raises(NonFiniteLossError, match=r"step 13.*learning rate 0.001.*clip_norm") as info,
    ):
        run(
            evaluate,
            batches=batches,
            log_every=100,
            learning_rate=lambda step: 1e-3,
            checkpointer=checkpointer,
        )
    assert info.value.step == 13
    assert info.value.learning_rate == pytest.approx(1e-3)
    assert "step 10" in str(info.value)  # the best so far
    assert set(evaluate.states) == {5, 10}
    assert checkpointer.steps == [5, 10]


def test_metrics_are_fetched_once_per_row_and_not_per_step(monkeypatch):
    calls = []
    device_get = jax.device_get
    monkeypatch.setattr(jax, "device_get", lambda tree: calls.append(1) or device_get(tree))
    run(Script(1, 2), num_steps=40, eval_every=20, log_every=10)
    assert len(calls) == 4


def test_the_step_is_compiled_once_by_the_loop():
    _, _, train_step = setup(has_batch_norm=True, dropout_rate=0.2)
    run(Script(1, 2, 3, 4, 5), train_step=train_step, reload_best_at=(7,))
    assert train_step._cache_size() == 1


def test_an_error_of_the_data_reaches_the_caller_and_the_thread_ends():
    def batches(start):
        yield make_batch(8)
        raise OSError("shard 3 has vanished")

    with pytest.raises(OSError, match="shard 3"):
        run(Script(), batches=batches)
    with pytest.raises(ValueError, match="ended before the last step"):
        run(Script(), batches=lambda start: iter([make_batch(8)]))
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]


@pytest.mark.parametrize(
    "data_seconds, step_seconds, least, most", [(0.03, 0, 0.5, 1.0), (0.005, 0.03, 0.0, 0.4)]
)
def test_time_waiting_for_data_is_measured(tmp_path, data_seconds, step_seconds, least, most):
    def batches(start):
        for step in itertools.count(start):
            time.sleep(data_seconds)
            yield make_batch(8, step)

    def sleep(x):
        time.sleep(step_seconds)
        return x

    @jax.jit
    def train_step(state, batch, key):
        loss = jax.pure_callback(sleep, jax.ShapeDtypeStruct((), jnp.float32), batch["audio"].sum())
        metrics = {"loss": loss, "grad_norm": loss, "is_finite": True}
        return state.replace(step=state.step + 1), metrics

    with logs.MetricsLog(tmp_path / "metrics.jsonl") as log:
        run(Script(1), batches=batches, train_step=train_step, eval_every=20, log=log)
    row = logs.read_rows(log.path)[0]
    assert least <= row["data_wait"] <= most


def send_once_at(steps, signal_number):
    """Batches that send this process a signal when they reach a step, the first time."""

    def batches(start):
        for step, batch in enumerate(make_batches(start), start):
            if step in steps:
                steps.remove(step)
                os.kill(os.getpid(), signal_number)
            yield batch

    return batches


def evaluate_for_real(state):
    total = sum(float(jnp.sum(leaf)) for leaf in jax.tree.leaves(state.params))
    return {"roc_auc": math.sin(total), "loss": total}


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_runs_resume_bit_for_bit(tmp_path, signal_number):
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    options = {"num_steps": 40, "eval_every": 7, "log_every": 1, "reload_best_at": (20, 30)}
    with logs.MetricsLog(tmp_path / "whole.jsonl") as log:
        whole = run(evaluate_for_real, log=log, **options)

    batches = send_once_at([9, 22, 33], signal_number)
    num_interruptions = 0
    while True:
        with (
            logs.MetricsLog(tmp_path / "parts.jsonl", cell="a") as parts,
            TrainCheckpoints(tmp_path / "checkpoints", {"model": "toy"}) as checkpointer,
        ):
            try:
                result = run(
                    evaluate_for_real,
                    batches=batches,
                    log=parts,
                    checkpointer=checkpointer,
                    **options,
                )
            except Interrupted as interrupted:
                num_interruptions += 1
                assert interrupted.signal_number == signal_number
                assert int(interrupted.result.state.step) == checkpointer.steps[-1]
            else:
                break
    assert num_interruptions == 3
    assert_trees_equal(result.state, whole.state)
    assert_trees_equal(result.best_state.params, whole.best_state.params)
    assert result.history == whole.history
    assert result.best_step == whole.best_step
    losses = [
        {row["step"]: row["loss"] for row in logs.read_rows(file) if row["kind"] == "train"}
        for file in (log.path, parts.path)
    ]
    assert losses[0] == losses[1]
    assert len(logs.read_rows(parts.path)) == len(logs.read_rows(log.path))
    assert handlers == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))

    with TrainCheckpoints(tmp_path / "checkpoints", {"model": "toy"}) as checkpointer:
        again = run(Script(), checkpointer=checkpointer, **options)  # finished: nothing is run
    assert_trees_equal(again.state, whole.state)
    assert again.best_metrics == whole.best_metrics


def test_what_an_earlier_version_remembered_is_enough_to_go_on():
    """It knew nothing of plateaus."""

    class Kept:
        def restore(self, template):
            memory = {
                "best_step": 5, "best_metrics": {"roc_auc": 0.9}, "num_bad_evaluations": 1,
                "history": [{"step": 5, "roc_auc": 0.9}, {"step": 10, "roc_auc": 0.8}],
                "seconds": 3.0, "stopped_early": False,
            }  # fmt: skip
            state = template.replace(step=jnp.int32(10))
            return loop.Restored(state, memory, state.replace(opt_state=None), [])

        def save(self, *saved):
            pass

        def wait(self):
            pass

    result = run(Script(0.7, 0.6), patience=3, checkpointer=Kept())
    assert [row["step"] for row in result.history] == [5, 10, 15, 20]
    assert result.best_step == 5 and result.stopped_early


def test_a_sigterm_that_was_swallowed_stops_the_training():
    with raise_on_signals():
        with contextlib.suppress(StopSignalReceived):  # as in a callback of the garbage collector
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Interrupted) as caught:
            run(evaluate_for_real)
    assert caught.value.signal_number == signal.SIGTERM
    assert int(run(evaluate_for_real).state.step) == 20  # it is forgotten afterwards


def test_ctrl_c_without_a_checkpointer_carries_the_best_so_far():
    batches = send_once_at([12], signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="SIGINT") as info:
        run(Script(0.3, 0.9, 0.5, 0.7, 0.2, 0.1, 0.1), num_steps=1000, batches=batches)
    assert info.value.result.best_step == 10
    assert np.isfinite(np.asarray(info.value.result.best_state.params["head"]["bias"])).all()


def test_training_over_a_mesh_equals_training_on_one_device():
    mesh = make_mesh(8)
    sharded = run(Script(1, 2), num_steps=10, state=replicate(fresh_state(), mesh), mesh=mesh)
    single = run(Script(1, 2), num_steps=10)
    assert_trees_close(sharded.state.params, single.state.params, rtol=1e-3, atol=1e-5)
    assert len(sharded.state.params["head"]["kernel"].sharding.device_set) == 8


def test_rows_of_the_log(tmp_path):
    with logs.MetricsLog(tmp_path / "deep" / "metrics.jsonl", cell="a->b") as log:
        run(Script(0.5, math.nan), eval_every=10, log_every=4, log=log, learning_rate=lambda s: 0.1)
    rows = logs.read_rows(log.path)
    steps = [(row["kind"], row["step"]) for row in rows]
    train = [("train", step) for step in (4, 8, 10, 12, 16, 20)]
    assert [row for row in steps if row[0] == "train"] == train
    assert steps[3] == ("validation", 10)
    assert rows[-1]["roc_auc"] is None
    assert all(row["cell"] == "a->b" for row in rows)
    names = {"loss", "grad_norm", "learning_rate", "steps_per_second", "data_wait"}
    assert names <= rows[0].keys()
    assert rows[0]["learning_rate"] == 0.1


def test_metrics_whose_names_alternate_are_averaged_over_the_steps_that_have_them(tmp_path):
    """As when data sets take turns, each with a head of its own."""

    def step_of(name, value):
        metrics = {name: value, "loss": value, "grad_norm": 0.0, "is_finite": True}
        return {key: jnp.asarray(number) for key, number in metrics.items()}

    def train_step(state, batch, key):
        step = int(state.step)
        metrics = step_of("loss_of_a" if step % 2 else "loss_of_b", float(step))
        return state.replace(step=state.step + 1), metrics

    with logs.MetricsLog(tmp_path / "metrics.jsonl") as log:
        run(Script(1), train_step=train_step, num_steps=7, eval_every=7, log_every=4, log=log)
    rows = [row for row in logs.read_rows(log.path) if row["kind"] == "train"]
    found = [{k: row.get(k) for k in ("loss_of_a", "loss_of_b", "loss")} for row in rows]
    assert found == [
        {"loss_of_a": 2.0, "loss_of_b": 1.0, "loss": 1.5},  # steps 0 to 3
        {"loss_of_a": 5.0, "loss_of_b": 5.0, "loss": 5.0},  # steps 4 to 6
    ]
    assert not any("is_finite" in row for row in rows)


def test_a_trace_of_a_few_steps(tmp_path):
    stream = io.StringIO()
    progress = logs.Progress(20, stream=stream)
    run(Script(1, 2, 3, 4), trace=tmp_path, progress=progress)
    assert len(list(tmp_path.rglob("perfetto_trace.json.gz"))) == 1
    assert "trace of 5 steps" in stream.getvalue()
    run(Script(1), num_steps=5, trace=tmp_path / "short", progress=progress)
    assert "trace of 2 steps" in stream.getvalue()


def test_of_the_two_sighups_of_a_closed_terminal_one_counts(tmp_path):
    before = signal.getsignal(signal.SIGHUP)
    checkpointer = TrainCheckpoints(tmp_path / "checkpoints", {"model": "toy"})
    saved, save = [], checkpointer.save

    def save_while_it_comes_again(step, *arguments):
        os.kill(os.getpid(), signal.SIGHUP)
        save(step, *arguments)
        saved.append(step)

    checkpointer.save = save_while_it_comes_again
    try:
        with checkpointer, raise_on_signals(), pytest.raises(Interrupted) as caught:
            batches = send_once_at([12], signal.SIGHUP)
            run(evaluate_for_real, batches=batches, checkpointer=checkpointer, num_steps=1000)
        assert caught.value.signal_number == signal.SIGHUP
        assert saved[-1] == int(caught.value.result.state.step)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_sighup_stays_ignored_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with raise_on_signals():
            signal.raise_signal(signal.SIGHUP)
            assert int(run(evaluate_for_real).state.step) == 20
    finally:
        signal.signal(signal.SIGHUP, before)
