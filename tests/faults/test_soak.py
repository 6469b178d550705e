"""The short form of the long run; `python tests/faults/soak.py` is the half hour."""

import random

import pytest
from experiments import Experiment
from soak import FLAGS, soak


@pytest.mark.slow
def test_a_minute_of_stops_and_kills(tmp_path, repository):
    random.seed(1)
    experiment = Experiment(tmp_path / "data", repository, FLAGS)
    single, *lives = soak(experiment, tmp_path, minutes=1, stops=3, seeds=2)
    assert [life.end for life in lives][-1] == "its own"
    assert len(lives) == 4 and len(single.memory) > 1
