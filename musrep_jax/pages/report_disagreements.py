"""The test tracks on which a transfer and its training from scratch disagree most, to hear."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from musrep_jax.config import ConfigError
from musrep_jax.data.datasets import DatasetError
from musrep_jax.experiments.reading import Run, read_scores
from musrep_jax.inference.tagger import load_tagger
from musrep_jax.pages.markup import Markup, element, join
from musrep_jax.pages.report_tracks import (
    PlayableTrack,
    find_best_cells,
    open_built_dataset,
    play_track,
)
from musrep_jax.reporting.results import get_condition, is_failed
from musrep_jax.training.checkpoints import ExportError

_FLOOR = 1e-3
"""Of a probability, so that one sure mistake is not all that counts."""


@dataclasses.dataclass(frozen=True)
class Disagreement:
    """A track as two models hear it.

    Attributes:
        gain: how much more probable the transfer makes what holds, the mean over labels of the
            difference of log-likelihoods in nats; above 0 transfer helped.
        transfer: the track, tagged and explained by the transfer.
        scratch: the same by the training from scratch.
    """

    gain: float
    transfer: PlayableTrack
    scratch: PlayableTrack


def find_pair(run: Run, cell: str | None = None) -> tuple[str, str] | None:
    """Returns the transfer that is listened to and its training from scratch, None without one.

    Args:
        run: the workdir.
        cell: name of the transfer; None is the best that has both models.
    """
    names = [cell] if cell else find_best_cells(run)
    there = {
        name: get_condition(result)
        for name, result in run.results.items()
        if not is_failed(result) and run.export_dir(name).is_dir()
    }
    for name in names:
        result = run.results[name]
        twins = {
            other: condition
            for other, condition in there.items()
            if run.results[other].get("seed") == result.get("seed")
        }
        if name not in there or not result.get("source"):
            continue
        wanted = there[name].find_scratch(twins.values())
        for other, condition in twins.items():
            if condition == wanted:
                return name, other
    return None


def measure_gains(labels: np.ndarray, transfer: np.ndarray, scratch: np.ndarray) -> np.ndarray:
    """Returns how much more probable the first model makes what holds, of every track.

    Args:
        labels: (tracks, classes), what holds.
        transfer: (tracks, classes), probabilities.
        scratch: the same of the other model.

    Returns:
        float64 (tracks,), in nats per label.

    Example:
        >>> labels, scratch = np.array([[1, 0]]), np.array([[0.4, 0.5]])
        >>> measure_gains(labels, np.array([[0.8, 0.5]]), scratch).round(3).tolist()
        [0.347]
    """

    def likelihood(scores: np.ndarray) -> np.ndarray:
        right = np.where(labels > 0, scores, 1.0 - np.asarray(scores, np.float64))
        return np.log(np.clip(right, _FLOOR, 1.0)).mean(axis=1)

    return likelihood(transfer) - likelihood(scratch)


def choose_rows(gains: np.ndarray, count: int) -> list[int]:
    """Returns the tracks with the greatest gains and losses, the greatest gain first.

    Args:
        gains: of every track.
        count: of tracks at most; half of them gains, rounded up.
    """
    order = np.argsort(-gains, kind="stable").tolist()
    helped = [row for row in order if gains[row] > 0][: -(-count // 2)]
    hurt = [row for row in reversed(order) if gains[row] < 0][: count - len(helped)]
    return [*helped, *reversed(hurt)]


def find_disagreements(
    run: Run, count: int, cell: str | None = None
) -> tuple[list[Disagreement], str]:
    """Returns tracks on which transfer and scratch disagree most, or why there are none.

    Args:
        run: the workdir.
        count: of tracks at most.
        cell: name of the transfer; None is the best one.

    Returns:
        The tracks, the most helped first, and what is compared or why nothing is.
    """
    pair = find_pair(run, cell)
    if pair is None:
        return (
            [],
            "There is no transfer with a training from scratch beside it whose models are here.",
        )
    try:
        ours, theirs = (read_scores(run, name) for name in pair)
        if ours.track_ids != theirs.track_ids:
            return [], f"{pair[0]} and {pair[1]} were tested on different tracks."
        taggers = [load_tagger(run.export_dir(name)) for name in pair]
        target = run.results[pair[0]]["target"]
        datasets = [open_built_dataset(run, target, tagger) for tagger in taggers]
    except (ConfigError, DatasetError, ExportError, ValueError, OSError) as error:
        return [], " ".join(str(error).split())
    gains = measure_gains(ours.labels, ours.scores, theirs.scores)
    rows = [
        {track_id: row for row, track_id in enumerate(dataset.tracks("test").track_ids)}
        for dataset in datasets
    ]
    found = []
    for place in choose_rows(gains, count):
        track_id = ours.track_ids[place]
        if any(track_id not in known for known in rows):
            return [], f"The data set {target} was built anew: it has no test track {track_id}."
        heard = [
            play_track(tagger, dataset, known[track_id], is_explained=True)
            for tagger, dataset, known in zip(taggers, datasets, rows, strict=True)
        ]
        found.append(Disagreement(float(gains[place]), heard[0], heard[1]))
    helped = int((gains > 0).sum())
    return found, (
        f"Of {len(gains)} test tracks {pair[0]} makes what holds more probable than {pair[1]} on "
        f"{helped}, and less on {int((gains < 0).sum())}. Below are those with the greatest "
        "differences. They are extremes: what they have in common is an idea to test, not a result."
    )


def make_section(found: Sequence[Disagreement], sentence: str, first: int) -> Markup:
    """Returns the section of a report.

    Args:
        found: the tracks.
        sentence: what is compared, or why nothing is.
        first: number of the first taggram of the section among those of the page.
    """
    cards = []
    for number, one in enumerate(found):
        track, name = one.transfer, f"disagreement-{number}"
        verdict = "transfer helped" if one.gain > 0 else "transfer hurt"
        truth = ", ".join(track.true_labels) or "none"
        heard = []
        for place, title in enumerate(("By the transfer", "From scratch")):
            index = first + 2 * number + place
            maps = (track, one.scratch)[place].maps
            heard += [
                element("h4", title),
                element("div", class_="taggram", data_track=index),
                element(
                    "details",
                    element("summary", "What the tags rest on"),
                    element("div", class_="maps", data_track=index),
                )
                if maps
                else None,
            ]
        cards.append(
            element(
                "article",
                element("h3", f"{track.track_id}: {verdict}", id=name),
                element(
                    "p",
                    f"{one.gain:+.2f} nats per label. Labels in the data set: {truth}.",
                    class_="small",
                ),
                element(
                    "audio", controls=True, preload="metadata", src=track.url, aria_labelledby=name
                ),
                heard,
            )
        )
    return join([element("p", sentence, class_=None if found else "note"), cards])
