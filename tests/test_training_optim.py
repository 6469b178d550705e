"""Optimizers against hand-stepped numpy, their schedules against their definitions, settings."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from musrep_jax.config import ConfigError
from musrep_jax.training import optim
from musrep_jax.training.optim import make_optimizer

NUM_STEPS = 100


def gradient_of(w: np.ndarray, step: int) -> np.ndarray:
    """The gradient of a noisy quadratic with curvatures from 0.1 to 3."""
    noise = np.random.default_rng(step).normal(size=w.shape) * 0.1
    return np.linspace(0.1, 3.0, w.size) * (w - 1.0) + noise


def start() -> np.ndarray:
    return np.random.default_rng(99).normal(size=6)


class NumpyAdam:
    def __init__(self, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-4):
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay
        self.m = self.v = 0.0
        self.t = 0

    def step(self, w, g, lr):
        g = g + self.weight_decay * w
        self.t += 1
        self.m = self.betas[0] * self.m + (1 - self.betas[0]) * g
        self.v = self.betas[1] * self.v + (1 - self.betas[1]) * g * g
        m = self.m / (1 - self.betas[0] ** self.t)
        v = self.v / (1 - self.betas[1] ** self.t)
        return w - lr * m / (np.sqrt(v) + self.eps)


class NumpySgd:
    """As torch.optim.SGD writes it."""

    def __init__(self, momentum=0.9, weight_decay=0.0, nesterov=False):
        self.momentum, self.weight_decay, self.nesterov = momentum, weight_decay, nesterov
        self.buffer = None

    def step(self, w, g, lr):
        g = g + self.weight_decay * w
        self.buffer = g if self.buffer is None else self.momentum * self.buffer + g
        return w - lr * (g + self.momentum * self.buffer if self.nesterov else self.buffer)


class NumpyNesterov:
    def __init__(self, momentum=0.9, weight_decay=1e-4):
        self.momentum, self.weight_decay = momentum, weight_decay
        self.buffer = 0.0

    def step(self, w, g, lr):
        g = g + self.weight_decay * w
        self.buffer = self.momentum * self.buffer + g
        return w - lr * (g + self.momentum * self.buffer)


def run(optimizer, num_steps=NUM_STEPS):
    """Returns the weights after each step, and how often the update was traced."""
    num_traces = 0

    @jax.jit
    def update(w, state, g):
        nonlocal num_traces
        num_traces += 1
        updates, state = optimizer.tx.update(g, state, w)
        return optax.apply_updates(w, updates), state

    w = jnp.array(start(), jnp.float32)
    state = optimizer.tx.init(w)
    path = []
    for step in range(num_steps):
        w, state = update(w, state, jnp.array(gradient_of(np.asarray(w), step), jnp.float32))
        path.append(np.asarray(w))
    return np.array(path), num_traces


def run_numpy(choose, num_steps=NUM_STEPS):
    """Returns the weights after each step of `choose(step) -> (optimizer, learning rate)`."""
    w, path = start(), []
    for step in range(num_steps):
        optimizer, lr = choose(step)
        w = optimizer.step(w, gradient_of(w, step), lr)
        path.append(w)
    return np.array(path)


def test_doctests():
    assert doctest.testmod(optim).failed == 0
    assert doctest.testmod(optim).attempted >= 2


def test_adam_equals_numpy_step_by_step():
    settings = {"name": "adam", "learning_rate": 0.01, "betas": (0.8, 0.99), "weight_decay": 0.1}
    reference = NumpyAdam(betas=(0.8, 0.99), weight_decay=0.1)
    path, _ = run(make_optimizer(settings, steps_per_epoch=1))
    np.testing.assert_allclose(path, run_numpy(lambda step: (reference, 0.01)), atol=5e-6)


def test_adam_sgd_equals_numpy_step_by_step_in_one_trace():
    settings = {
        "name": "adam_sgd",
        "learning_rate": 0.01,
        "weight_decay": 0.05,
        "sgd_weight_decay": 0.02,
        "sgd_learning_rates": (0.05, 0.005, 0.0005),
        "switch_at": (60, 75, 90),
        "switch_unit": "steps",
    }
    optimizer = make_optimizer(settings, steps_per_epoch=7)
    adam, sgd = NumpyAdam(weight_decay=0.05), NumpyNesterov(weight_decay=0.02)

    def choose(step):
        if step < 60:
            return adam, 0.01
        return sgd, 0.05 if step < 75 else 0.005 if step < 90 else 0.0005

    path, num_traces = run(optimizer)
    np.testing.assert_allclose(path, run_numpy(choose), atol=1e-5)
    assert num_traces == 1
    assert optimizer.switch_steps == (60, 75, 90)
    assert np.abs(np.diff(path[58:62], axis=0)).max() > 1e-3


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_sgd_equals_numpy_step_by_step(momentum, nesterov):
    settings = {"momentum": momentum, "nesterov": nesterov, "weight_decay": 0.1}
    optimizer = make_optimizer(
        {"name": "sgd", "learning_rate": 0.05, "step_decay": 0.01} | settings, steps_per_epoch=1
    )
    reference = NumpySgd(**settings)
    path, num_traces = run(optimizer)
    expected = run_numpy(lambda step: (reference, 0.05 / (1 + 0.01 * step)))
    np.testing.assert_allclose(path, expected, atol=5e-6)
    assert num_traces == 1
    rates = [float(optimizer.learning_rate(step)) for step in (0, 100)]
    np.testing.assert_allclose(rates, [0.05, 0.025], rtol=1e-6)


def test_momentum_is_kept_when_the_rate_drops():
    sgd = {"name": "adam_sgd", "switch_unit": "steps", "weight_decay": 0.0, "sgd_weight_decay": 0.0}
    optimizer = make_optimizer(
        {**sgd, "switch_at": (1, 5), "sgd_learning_rates": (0.1, 0.01)}, steps_per_epoch=1
    )
    w = jnp.zeros(())
    state = optimizer.tx.init(w)
    steps = []
    for step in range(6):
        gradient = 1.0 if step < 5 else 0.0
        update, state = optimizer.tx.update(jnp.float32(gradient), state, w)
        steps.append(float(update))
    buffer = sum(0.9**i for i in range(4))  # after four SGD steps with gradient 1
    assert steps[5] == pytest.approx(-0.01 * 0.9 * (0.9 * buffer), rel=1e-5)


@pytest.mark.parametrize(
    "unit, at, steps",
    [
        ("epochs", (80, 100, 120), (400, 500, 600)),
        ("epochs", (60, 80, 100), (300, 400, 500)),
        ("steps", (3, 5, 9), (3, 5, 9)),
        ("fraction", (0.4, 0.5, 0.6), (40, 50, 60)),
    ],
)
def test_switch_units(unit, at, steps):
    settings = {"name": "adam_sgd", "switch_at": at, "switch_unit": unit}
    optimizer = make_optimizer(settings, steps_per_epoch=5, num_steps=100)
    assert optimizer.switch_steps == steps
    rates = [float(optimizer.learning_rate(s + d)) for s in steps for d in (-1, 0)]
    np.testing.assert_allclose(rates, [1e-4, 1e-3, 1e-3, 1e-4, 1e-4, 1e-5], rtol=1e-6)


def test_warmup_decay_follows_its_definition():
    optimizer = make_optimizer({"name": "warmup_decay", "warmup_steps": 100}, steps_per_epoch=40)
    rate = optimizer.learning_rate
    np.testing.assert_allclose(rate(0), 1e-5 / 100, rtol=1e-5)
    np.testing.assert_allclose(rate(49), 1e-5 / 2, rtol=1e-5)
    np.testing.assert_allclose(rate(199), 1e-5, rtol=1e-5)
    np.testing.assert_allclose(rate(200), 1e-5 * 0.85, rtol=1e-5)  # epoch 5 begins
    np.testing.assert_allclose(rate(50 * 40 - 1), 6.7e-9, rtol=0.01)  # published, 50 epochs
    np.testing.assert_allclose(rate(70 * 40 - 1), 2.6e-10, rtol=0.01)  # published, 70 epochs


def test_decay_that_begins_after_the_warmup_reaches_the_full_rate():
    """A small data set of 40 batches per epoch: 1000 steps of warm-up are 25 epochs."""
    settings = {"warmup_steps": 1000, "decay_factor": 0.5, "decay_from_epoch": 2}
    both, after = (
        make_optimizer({"name": name} | settings, steps_per_epoch=40).learning_rate
        for name in ("warmup_decay", "warmup_then_decay")
    )
    steps = np.arange(3000)
    np.testing.assert_allclose(max(both(steps)), 8e-7, rtol=1e-5)  # 80 steps, then it falls
    rates = np.asarray(after(steps))
    assert np.argmax(rates) == 999
    np.testing.assert_allclose(rates[[0, 499, 999]], [1e-8, 5e-6, 1e-5], rtol=1e-5)
    np.testing.assert_allclose(rates[1000:1080], 1e-5, rtol=1e-5)  # two epochs at the full rate
    np.testing.assert_allclose(rates[[1080, 1119, 1120, 1160]], [5e-6, 5e-6, 2.5e-6, 1.25e-6],
                               rtol=1e-5)  # fmt: skip


@pytest.mark.parametrize("name", [name for name in optim.OPTIMIZERS if "plateau" in name])
def test_an_optimizer_that_starts_anew_is_as_it_was_made(name):
    """What `Plateau.lower_rate` relies on, and what it does."""
    optimizer = make_optimizer({"name": name, "drop_factor": 0.5}, steps_per_epoch=1)
    w = jnp.arange(1.0, 4.0)
    state = fresh = optimizer.tx.init(w)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(fresh))
    first, state = optimizer.tx.update(w, state, w)
    _, state = optimizer.tx.update(w, state, w)
    lowered = optimizer.plateau.lower_rate(state)
    assert int(lowered[-1].num_drops) == 1
    again, lowered = optimizer.tx.update(w, lowered, w)
    np.testing.assert_array_equal(again, 0.5 * first)
    twice, _ = optimizer.tx.update(w, optimizer.plateau.lower_rate(lowered), w)
    np.testing.assert_array_equal(twice, 0.25 * first)


def test_warmup_dips_follow_the_published_code():
    rate = make_optimizer({"name": "warmup_dips"}, steps_per_epoch=10).learning_rate
    for s in (1, 49, 51, 999, 1000, 1001, 1050, 5000):
        np.testing.assert_allclose(rate(s - 1), 1e-5, rtol=1e-6)
    for s in (50, 100, 500, 950):
        np.testing.assert_allclose(rate(s - 1), 1e-5 * s / 1000, rtol=1e-6)


def test_transformer_settings_use_their_own_betas_and_rate():
    reference = NumpyAdam(betas=(0.95, 0.999), weight_decay=5e-7)
    settings = {"name": "warmup_decay", "learning_rate": 0.02, "warmup_steps": 10}
    optimizer = make_optimizer(settings, steps_per_epoch=12)
    path, num_traces = run(optimizer)
    expected = run_numpy(lambda step: (reference, float(optimizer.learning_rate(step))))
    np.testing.assert_allclose(path, expected, atol=2e-5)
    assert num_traces == 1


def test_clipping_acts_on_the_gradient_before_weight_decay():
    settings = {
        "name": "adam_sgd",
        "switch_at": (1,),
        "switch_unit": "steps",
        "sgd_learning_rates": (1.0,),
        "sgd_weight_decay": 0.5,
        "clip_norm": 1.0,
    }
    optimizer = make_optimizer(settings, steps_per_epoch=1)
    w = jnp.array([2.0, 0.0])
    state = optimizer.tx.init(w)
    _, state = optimizer.tx.update(jnp.zeros(2), state, w)
    update, _ = optimizer.tx.update(jnp.array([30.0, 40.0]), state, w)
    np.testing.assert_allclose(update, -1.9 * np.array([0.6 + 1.0, 0.8]), rtol=1e-5)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"name": "adm"}, r"optimizer.name is 'adm'. Did you mean 'adam'"),
        ({}, r"optimizer.name is 'None'.*adam_sgd"),
        ({"name": "adam", "learning_rat": 1}, "learning_rat is not.*Did you mean 'learning_rate'"),
        ({"name": "adam", "switch_at": (1,)}, "switch_at is not a setting of 'adam'"),
        ({"name": "adam", "learning_rate": -1.0}, r"learning_rate is -1.0.*above 0"),
        ({"name": "adam", "learning_rate": "1e-3"}, r"learning_rate is '1e-3'.*a number"),
        ({"name": "adam", "learning_rate": float("nan")}, "learning_rate is nan"),
        ({"name": "adam", "betas": (0.9, 1.0)}, r"betas is 1.0.*in \[0, 1\)"),
        ({"name": "adam", "betas": (0.9,)}, "betas is"),
        ({"name": "adam_sgd", "switch_unit": "epoch"}, "switch_unit is 'epoch'.*epochs, steps"),
        ({"name": "adam_sgd", "switch_at": (3, 2, 5)}, "strictly increasing"),
        ({"name": "adam_sgd", "switch_at": (3, 5)}, "one learning rate for each SGD phase"),
        ({"name": "adam_sgd", "switch_unit": "fraction"}, "pass num_steps"),
        ({"name": "adam_sgd", "nesterov": 1}, "nesterov is 1.*bool"),
        ({"name": "sgd_plateau", "drop_factor": 1.0}, r"drop_factor is 1.0.*in \(0, 1\)"),
        ({"name": "sgd_plateau", "drop_after": 0}, "drop_after is 0.*above 0"),
        ({"name": "sgd", "betas": (0.9, 0.9)}, "betas is not a setting of 'sgd'"),
        ({"name": "warmup_decay", "warmup_steps": 1.5}, "warmup_steps is 1.5.*whole number"),
    ],
)
def test_wrong_settings_are_one_clear_sentence(settings, words):
    with pytest.raises(ConfigError, match=words):
        make_optimizer(settings, steps_per_epoch=10)


def test_settings_may_be_a_config_dict():
    from ml_collections import ConfigDict

    settings = ConfigDict({"name": "adam_sgd", "switch_at": (1, 2, 3), "learning_rate": 1e-2})
    optimizer = make_optimizer(settings, steps_per_epoch=10)
    assert optimizer.switch_steps == (10, 20, 30)
    assert optimizer.name == "adam_sgd"
