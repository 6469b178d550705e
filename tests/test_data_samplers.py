"""Samplers draw what they say, from the seed and the step only; joined streams keep their order."""

import collections
import itertools
import pickle

import numpy as np
import pytest

from musrep_jax.data.input import samplers, streams
from musrep_jax.data.input.samplers import (
    ONE_STREAM,
    EpochOrder,
    InTurn,
    LabelBalanced,
    SamplingError,
    Triplets,
)
from musrep_jax.runtime import rows
from musrep_jax.runtime.rows import RowShare

LABELS = np.array(
    # common, rare, of nobody, of everybody, of one
    [[1, 0, 0, 1, 0], [1, 0, 0, 1, 0], [1, 0, 0, 1, 0], [1, 1, 0, 1, 0], [0, 1, 0, 1, 1],
     [0, 0, 0, 1, 0]],
    np.float32,
)  # fmt: skip


def rng_of(step):
    return np.random.default_rng((7, step))


def test_doctests():
    import doctest

    assert doctest.testmod(samplers).failed == 0
    assert doctest.testmod(rows).failed == 0


def test_labels_are_balanced_however_rare():
    counts = collections.Counter()
    sampler = LabelBalanced(LABELS[:, :3], 1000)
    for step in range(20):
        counts.update(sampler(step, rng_of(step))[ONE_STREAM].tolist())
    shares = np.array([counts[track] for track in range(6)]) / 20_000
    # Half of the draws are of label 0 (four tracks), half of label 1 (two tracks).
    np.testing.assert_allclose(shares, [1 / 8, 1 / 8, 1 / 8, 3 / 8, 1 / 4, 0], atol=0.015)


def test_triplets_share_a_label_that_the_third_lacks():
    sampler = Triplets(LABELS, 500)
    drawn = sampler(3, rng_of(3))
    assert list(drawn) == ["anchor", "positive", "negative"]
    anchor, positive, negative = drawn.values()
    assert anchor.shape == positive.shape == negative.shape == (500,)
    assert (anchor != positive).all()
    usable = LABELS[:, :2] > 0  # the others are held by all, by one, or by nobody
    shared = usable[anchor] & usable[positive] & ~usable[negative]
    assert shared.any(axis=1).all()
    assert set(anchor) == set(positive) == {0, 1, 2, 3, 4}
    assert set(negative) == {0, 1, 2, 4, 5}  # track 3 has both labels
    pairs = collections.Counter(zip(anchor.tolist(), positive.tolist(), strict=True))
    assert len(pairs) == 4 * 3 + 2  # every ordered pair of each label


def test_data_sets_take_turns_and_count_their_own_steps():
    own = EpochOrder(5, 2, seed=1)
    sampler = InTurn({"a": own, "b": EpochOrder(4, 3, seed=2)})
    for step in range(6):
        drawn = sampler(step, rng_of(step))
        assert list(drawn) == ["ab"[step % 2]]
    np.testing.assert_array_equal(sampler(4, rng_of(4))["a"], own(2, rng_of(2))[ONE_STREAM])


@pytest.mark.parametrize(
    "sampler",
    [
        EpochOrder(6, 4, seed=3),
        LabelBalanced(LABELS, 4),
        Triplets(LABELS, 4),
        InTurn({"a": LabelBalanced(LABELS, 4), "b": EpochOrder(6, 4, seed=3)}),
    ],
    ids=lambda sampler: type(sampler).__name__,
)
def test_a_batch_depends_on_its_step_only_also_in_another_process(sampler):
    travelled = pickle.loads(pickle.dumps(sampler))
    for step in (5, 0, 5):
        ours, theirs = sampler(step, rng_of(step)), travelled(step, rng_of(step))
        assert ours.keys() == theirs.keys()
        for role in ours:
            np.testing.assert_array_equal(ours[role], theirs[role])
            assert np.issubdtype(ours[role].dtype, np.integer)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: EpochOrder(3, 0, 0), "batch_size is 0"),
        (lambda: EpochOrder(0, 3, 0), "no tracks"),
        (lambda: LabelBalanced(np.zeros((3, 2)), 4), "no track has a label"),
        (lambda: Triplets(np.ones((3, 2)), 4), "no triplets"),
        (lambda: Triplets(np.eye(3), 4), "no triplets"),
        (lambda: InTurn({}), "no data set"),
    ],
)
def test_what_cannot_be_drawn_is_refused_at_once(make, words):
    with pytest.raises(SamplingError, match=words):
        make()


class Counting:
    """An endless stream that says which batch it gives and whether it was closed."""

    def __init__(self, name, start):
        self.name, self.step, self.is_closed = name, start, False

    def __iter__(self):
        return self

    def __next__(self):
        self.step += 1
        return f"{self.name}{self.step - 1}"

    def close(self):
        self.is_closed = True


def sources(*names):
    opened = []

    def source(name):
        def batches(start):
            opened.append(Counting(name, start))
            return opened[-1]

        return batches

    return {name: source(name) for name in names}, opened


def test_zipped_streams_stand_side_by_side_and_resume():
    given, opened = sources("a", "b")
    whole = list(itertools.islice(streams.zip_streams(given)(0), 5))
    assert whole[2] == {"a": "a2", "b": "b2"}
    resumed = streams.zip_streams(given)(3)
    assert [next(resumed), next(resumed)] == whole[3:]
    resumed.close()
    assert [stream.is_closed for stream in opened] == [False, False, True, True]


@pytest.mark.parametrize("start", range(8))
def test_alternating_streams_resume_in_the_middle_of_a_round(start):
    given, _ = sources("a", "b", "c")
    whole = list(itertools.islice(streams.alternate(given)(0), 12))
    assert whole[:5] == [{"a": "a0"}, {"b": "b0"}, {"c": "c0"}, {"a": "a1"}, {"b": "b1"}]
    resumed = list(itertools.islice(streams.alternate(given)(start), 12 - start))
    assert resumed == whole[start:]


def test_a_stream_that_ends_ends_the_joined_one():
    joined = streams.zip_streams({"a": lambda start: iter([1, 2]), "b": lambda start: iter([3])})
    assert list(joined(0)) == [{"a": 1, "b": 3}]
    for join in (streams.zip_streams, streams.alternate):
        with pytest.raises(ValueError, match="at least one, by name"):
            join({})


@pytest.mark.parametrize("batch_size", [1, 7, 8, 9])
def test_shares_of_all_processes_are_the_padded_batch(batch_size):
    shares = [RowShare(0, 2, 8), RowShare(2, 5, 8), RowShare(5, 8, 8)]
    rows_of_all = [row for share in shares for row in share(batch_size)]
    assert rows_of_all == list(range(8 * -(-batch_size // 8)))
