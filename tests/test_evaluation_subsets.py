"""Sizes of training sets: how they are written, and which tracks they take."""

import numpy as np
import pytest

from musrep_jax.evaluation.subsets import (
    are_sizes,
    covering_order,
    describe_size,
    draw_subset,
    parse_size,
    rank_size,
)
from musrep_jax.reporting.results import get_condition, sort_cells, summarize

EXCLUSIVE = np.eye(4)[np.repeat(np.arange(4), [40, 12, 5, 2])]


@pytest.mark.parametrize("seed", [0, 7])
def test_exactly_so_many_of_every_class_and_all_of_rare_ones(seed):
    counts = [EXCLUSIVE[draw_subset(EXCLUSIVE, f"{n}_per_class", seed)].sum(0) for n in (3, 10, 99)]
    np.testing.assert_array_equal(counts, [[3, 3, 3, 2], [10, 10, 5, 2], [40, 12, 5, 2]])


def test_larger_sizes_hold_the_smaller_ones_and_seeds_differ():
    few, more, most = (
        set(draw_subset(EXCLUSIVE, f"{n}_per_class", seed=1).tolist()) for n in (3, 10, 30)
    )
    assert few < more < most
    assert few != set(draw_subset(EXCLUSIVE, "3_per_class", seed=2).tolist())
    drawn = [tuple(draw_subset(EXCLUSIVE, "1_per_class", seed=s)) for s in range(40)]
    assert len({rows[0] for rows in drawn}) > 15  # any track of a class may be the first


def test_which_tracks_are_taken_follows_from_their_names():
    labels = np.random.default_rng(0).random((40, 8)) < 0.15
    names = [f"track {index}" for index in range(40)]
    shuffle = np.random.default_rng(1).permutation(40)
    there = [names[row] for row in shuffle]
    for size in ("2_per_class", 20):
        one = {names[row] for row in draw_subset(labels, size, 1, names)}
        assert one == {there[row] for row in draw_subset(labels[shuffle], size, 1, there)}
    order, again = covering_order(labels, names, 1), covering_order(labels[shuffle], there, 1)
    assert sorted(order) == list(range(40))
    assert [names[row] for row in order] == [there[row] for row in again]
    assert order.tolist() != covering_order(labels, names, 2).tolist()


def test_with_several_labels_every_label_has_its_number_and_few_tracks_are_taken():
    labels = np.random.default_rng(3).random((300, 10)) < np.linspace(0.01, 0.4, 10)
    wanted = np.minimum(5, labels.sum(axis=0))
    rows = draw_subset(labels, "5_per_class", seed=0)
    assert (labels[rows].sum(axis=0) >= wanted).all()
    assert len(rows) < wanted.sum()  # one track stands for several labels
    assert labels[rows].any(axis=1).all() and len(set(rows.tolist())) == len(rows)
    smaller = draw_subset(labels, "2_per_class", seed=0)
    assert set(smaller.tolist()) < set(rows.tolist())


def test_sizes_that_cannot_be_are_refused():
    for text in ("0", "0_per_class", "-1_per_class", "3_per_clas", "per_class", "many", "", "1.5"):
        with pytest.raises(ValueError, match="10_per_class, or 'all'"):
            parse_size(text)
        assert not are_sizes(f"10,{text}")
    assert are_sizes("3_per_class, 10_per_class,40,all") and not are_sizes(3)
    with pytest.raises(ValueError, match="60 of 59 tracks were asked for; ask for 1 to 59, or all"):
        draw_subset(EXCLUSIVE, 60, seed=0)


def test_results_of_sizes_per_class_are_in_order_and_say_how_many_tracks():
    sizes = [0, "10_per_class", 12, "3_per_class", None]
    assert sorted(sizes[:4], key=rank_size) == [12, "3_per_class", "10_per_class", 0]
    assert rank_size(None) == rank_size(0)
    cells = [
        {"source": None, "target": "t", "model": "fcn", "mode": "scratch", "seed": seed,
         "num_train_tracks": size, "num_train_tracks_used": 20 + 2 * seed, "roc_auc": 0.5,
         "pr_auc": 0.5, "error": None}
        for size in sizes[:4] for seed in (0, 1)
    ]  # fmt: skip
    assert [cell["num_train_tracks"] for cell in sort_cells(cells)][::2] == [
        12, "3_per_class", "10_per_class", 0,
    ]  # fmt: skip
    found = summarize(cells, "roc_auc")[get_condition(cells[2])]
    assert found.num_train_tracks_used == 21
    assert describe_size(found.condition.num_train_tracks) == "10 training tracks per class"
