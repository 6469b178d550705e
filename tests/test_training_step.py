"""The train step: frozen leaves cost nothing and never move, one compilation, many devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_training import (
    NUM_CLASSES,
    NUM_SAMPLES,
    Toy,
    assert_trees_close,
    is_head,
    make_apply,
    make_batch,
    setup,
)

from musrep_jax.losses import make_tagging_loss
from musrep_jax.training.sharding import make_mesh, pad_batch, replicate, shard_batch
from musrep_jax.training.step import (
    FrozenChangedError,
    assert_frozen_identical,
    make_eval_step,
    merge_params,
    split_params,
)


def test_training_reduces_the_loss_and_reports_what_it_did():
    _, state, step = setup(has_batch_norm=True, dropout_rate=0.1)
    losses = []
    for index in range(60):
        state, metrics = step(state, make_batch(32, index), jax.random.key(1))
        losses.append(float(metrics["loss"]))
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:5])
    assert int(state.step) == 60
    assert set(metrics) == {"loss", "grad_norm", "is_finite"}
    assert bool(metrics["is_finite"])


def test_one_compilation_also_across_the_optimizer_switch():
    settings = {"name": "adam_sgd", "switch_at": (3, 5, 7), "switch_unit": "steps"}
    _, state, step = setup(settings, has_batch_norm=True)
    for index in range(9):
        state, _ = step(state, make_batch(4, index), jax.random.key(1))
    assert step._cache_size() == 1


def test_state_is_donated_but_the_callers_variables_live():
    variables, state, step = setup()
    step(state, make_batch(4), jax.random.key(1))
    assert state.params["head"]["kernel"].is_deleted()
    assert np.isfinite(np.asarray(variables["params"]["head"]["kernel"])).all()


def test_randomness_depends_on_the_step_and_repeats():
    def losses():
        _, state, step = setup({"name": "adam", "learning_rate": 1e-12}, dropout_rate=0.5)
        out = []
        for _ in range(3):
            state, metrics = step(state, make_batch(16), jax.random.key(7))
            out.append(float(metrics["loss"]))
        return out

    first = losses()
    assert first == losses()
    assert len(set(first)) == 3


def test_head_only_step_never_computes_the_backbones_gradient():
    def flops(is_trainable):
        _, state, step = setup(is_trainable=is_trainable, width=256)
        cost = step.lower(state, make_batch(64), jax.random.key(0)).compile().cost_analysis()
        return (cost[0] if isinstance(cost, list) else cost)["flops"]

    forward = 2 * 64 * (NUM_SAMPLES * 256 + 2 * 256 * 256 + 256 * NUM_CLASSES)
    assert flops(is_head) < 1.2 * forward
    assert flops(None) > 2.5 * forward


def test_head_only_jaxpr_holds_fewer_matrix_products():
    def num_products(is_trainable):
        _, state, step = setup(is_trainable=is_trainable)
        return str(jax.make_jaxpr(step)(state, make_batch(4), jax.random.key(0))).count(
            "dot_general["
        )

    assert num_products(is_head) == 4 + 1  # forward, and the head's kernel
    assert num_products(None) == 4 + 4 + 3  # forward, kernels, inputs of all but the first layer


def test_frozen_leaves_stay_bit_identical_and_have_no_moments():
    variables, state, step = setup(
        {"name": "adam", "weight_decay": 0.1, "clip_norm": 0.1},
        is_trainable=is_head,
        has_batch_norm=True,
    )
    num_moments = sum(leaf.size for leaf in jax.tree.leaves(state.opt_state))
    num_head = 16 * NUM_CLASSES + NUM_CLASSES
    assert num_moments == 2 * num_head + 2  # two moments, and the counts of Adam and schedule
    for index in range(5):
        state, _ = step(state, make_batch(8, index), jax.random.key(1))
    assert_frozen_identical(variables["params"], state.params, is_head)
    moved = variables["params"]["head"]["kernel"] - state.params["head"]["kernel"]
    assert np.abs(moved).max() > 1e-4
    statistics = (
        variables["batch_stats"]["bn0"]["mean"] - state.model_state["batch_stats"]["bn0"]["mean"]
    )
    assert np.abs(statistics).max() > 0  # frozen weights do not freeze statistics


def test_clipping_of_the_head_does_not_depend_on_the_backbone():
    """The update has the norm of the clipped gradient of the head alone."""
    settings = {"name": "adam_sgd", "switch_at": (1,), "switch_unit": "steps", "clip_norm": 1e-3}
    settings |= {"sgd_learning_rates": (1.0,), "sgd_weight_decay": 0.0}
    _, state, step = setup(settings, is_trainable=is_head)
    before = None
    for index in range(2):
        before = state.params["head"]["kernel"].copy(), state.params["head"]["bias"].copy()
        state, _ = step(state, make_batch(8, index), jax.random.key(1))
    after = state.params["head"]["kernel"], state.params["head"]["bias"]
    norm = np.sqrt(sum(np.sum(np.square(a - b)) for a, b in zip(after, before, strict=True)))
    np.testing.assert_allclose(norm, 1.9e-3, rtol=1e-3)  # Nesterov's first step is 1.9 gradients


def test_a_changed_frozen_leaf_is_named():
    params = {"body": {"kernel": np.zeros(3)}, "head": {"kernel": np.zeros(3)}}
    changed = {"body": {"kernel": np.array([0.0, -0.0, 0.0])}, "head": {"kernel": np.ones(3)}}
    assert_frozen_identical(params, params, is_head)
    assert_frozen_identical(params, changed, None)
    with pytest.raises(FrozenChangedError, match="body/kernel changed"):
        assert_frozen_identical(params, changed, is_head)
    with pytest.raises(FrozenChangedError, match="body/kernel exists only before"):
        assert_frozen_identical(params, {"head": params["head"]}, is_head)


def test_split_and_merge_are_inverse_and_nothing_trainable_is_refused():
    params = {"a": {"b": {"kernel": 1, "bias": 2}}, "head": {"kernel": 3}}
    trained, frozen = split_params(params, is_head)
    assert trained == {"head": {"kernel": 3}}
    assert frozen == {"a": {"b": {"kernel": 1, "bias": 2}}}
    assert merge_params(trained, frozen) == params
    with pytest.raises(ValueError, match=r"all 3 leaves of a, head"):
        split_params(params, lambda path: False)


@pytest.mark.parametrize("is_trainable", [None, is_head])
def test_accumulated_gradient_equals_that_of_the_large_batch(is_trainable):
    batch = make_batch(24)
    batch["mask"][[1, 5, 23]] = 0
    states = []
    for num_microbatches in (1, 4):
        _, state, step = setup(is_trainable=is_trainable, num_microbatches=num_microbatches)
        state, metrics = step(state, batch, jax.random.key(1))
        states.append((state.params, metrics["loss"], metrics["grad_norm"]))
    assert_trees_close(*states, rtol=1e-5, atol=1e-7)


def test_microbatches_must_divide_the_batch():
    _, state, step = setup(num_microbatches=5)
    with pytest.raises(ValueError, match=r"num_microbatches is 5.*batch of 24"):
        step(state, make_batch(24), jax.random.key(1))


def test_a_loss_that_is_not_finite_is_flagged():
    _, state, step = setup()
    batch = make_batch(4)
    batch["audio"][0, 0] = np.nan
    _, metrics = step(state, batch, jax.random.key(1))
    assert not bool(metrics["is_finite"])


def test_eval_step_uses_running_statistics():
    model = Toy(has_batch_norm=True, dropout_rate=0.9)
    variables = model.init(jax.random.key(0), jnp.zeros((2, NUM_SAMPLES)), train=False)
    variables = dict(variables)
    params = variables.pop("params")
    evaluate = make_eval_step(make_apply(model))
    inputs = make_batch(4)["audio"]
    whole = evaluate(params, variables, inputs)
    assert_trees_close(whole[:2], evaluate(params, variables, inputs[:2]), rtol=1e-5)


@pytest.mark.parametrize("num_devices", [1, 4, 8])
def test_results_do_not_depend_on_the_number_of_devices(num_devices):
    """BatchNorm statistics and dropout masks are those of the global batch."""

    def train(mesh):
        settings = {"name": "adam_sgd", "switch_at": (5,), "switch_unit": "steps"}
        settings |= {"sgd_learning_rates": (0.01,)}
        _, state, step = setup(settings, has_batch_norm=True, dropout_rate=0.3)
        if mesh is not None:
            state = replicate(state, mesh)
        for index in range(15):
            batch = make_batch(16, index)
            batch = batch if mesh is None else shard_batch(batch, mesh)
            state, metrics = step(state, batch, jax.random.key(1))
        assert step._cache_size() == 1
        return state.params, state.model_state, metrics["loss"]

    assert_trees_close(train(make_mesh(num_devices)), train(None), rtol=2e-4, atol=2e-5)


def test_sharded_gradient_equals_pmap_with_pmean():
    num_devices = 8
    mesh = make_mesh(num_devices)
    model = Toy()
    params = model.init(jax.random.key(0), jnp.zeros((2, NUM_SAMPLES)), train=False)["params"]
    loss_fn = make_tagging_loss(make_apply(model))
    batch = make_batch(32)

    def loss(params, batch):
        return loss_fn(params, {}, batch, jax.random.key(0))[0]

    def shard_gradient(params, batch):
        return jax.lax.pmean(jax.grad(loss)(params, batch), "data")

    sharded = jax.jit(jax.grad(loss))(replicate(params, mesh), shard_batch(batch, mesh))
    parts = jax.tree.map(lambda x: x.reshape(num_devices, -1, *x.shape[1:]), batch)
    mapped = jax.pmap(shard_gradient, axis_name="data", in_axes=(None, 0))(params, parts)
    single = jax.grad(loss)(params, batch)
    assert_trees_close(sharded, jax.tree.map(lambda x: x[0], mapped), rtol=1e-5, atol=1e-7)
    assert_trees_close(sharded, single, rtol=1e-5, atol=1e-7)


def test_a_batch_that_devices_do_not_divide_is_padded_with_mask_zero():
    batch = make_batch(5)
    batch["mask"][1] = 0
    sharded = shard_batch(batch, make_mesh(4))
    assert sharded["audio"].shape == (8, NUM_SAMPLES)
    assert len(sharded["audio"].sharding.device_set) == 4
    np.testing.assert_array_equal(sharded["mask"], [1, 0, 1, 1, 1, 0, 0, 0])
    np.testing.assert_array_equal(sharded["audio"][5:], batch["audio"][:3])
    without_mask = pad_batch({"audio": batch["audio"]}, 4)
    np.testing.assert_array_equal(without_mask["mask"], [1] * 5 + [0] * 3)

    _, state, step = setup()
    _, padded = step(replicate(state, make_mesh(4)), sharded, jax.random.key(0))
    _, state, step = setup()
    _, plain = step(state, batch, jax.random.key(0))
    assert_trees_close(padded, plain, rtol=1e-5)


def test_too_many_devices_are_refused():
    with pytest.raises(ValueError, match=r"num_devices is 99.*ask for 1 to"):
        make_mesh(99)
