"""What a matrix of 100 probes costs: features x classifiers x numbers of training tracks x draws.

    python benchmarks/probe_matrix.py                        # 10,000 tracks, 100 probes
    python benchmarks/probe_matrix.py --tracks 1000 --seeds 1

Features, classes and groups are made up, as those of `benchmarks/scaling.py --kinds probes`; every
probe chooses its settings on validation tracks, as `configs/probe.py` with `probe.protocol=split`
does, and has its measures and their intervals. Printed are the CPU seconds by classifier and number
of training tracks, and of all together.
"""

import argparse
import itertools
import pathlib
import sys
import time

# So that it runs from a checkout that is not installed.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.probe_stages import make_examples, split_tracks
from musrep_jax.evaluation.subsets import draw_subset
from musrep_jax.probing import measures, protocol
from musrep_jax.probing.classifiers import load_classifier
from musrep_jax.probing.folds import Fold

CLASSIFIERS = ("ridge", "logistic", "svm", "neighbors", "mlp")
SIZES = ("5_per_class", "20_per_class", "100_per_class", "300_per_class", "all")


def probe(
    examples: protocol.Examples, name: str, size: str, seed: int, num_resamples: int
) -> tuple[float, float]:
    """Returns the accuracy of a probe and its CPU seconds.

    Args:
        examples: tracks with features.
        name: of the classifier.
        size: number of training tracks, one of `SIZES`.
        seed: of the draw and of the training.
        num_resamples: of the intervals.
    """
    start = time.process_time()
    train, validation, test = split_tracks(len(examples.targets))
    if size != "all":
        names = [f"{row:06d}" for row in train]
        train = train[draw_subset(examples.targets[train], size, seed, names)]
    classifier = load_classifier(name)
    done = protocol.probe_fold(
        protocol.list_choices(classifier), examples, Fold(train, test), validation=validation,
        seed=seed,
    )  # fmt: skip
    truth = examples.targets[test]
    options = {"is_exclusive": True, "are_probabilities": classifier.gives_probabilities}
    found = measures.measure(truth, done.scores, **options)
    groups = None if examples.groups is None else examples.groups[test]
    measures.measure_intervals(
        truth, done.scores, found, is_exclusive=True, groups=groups, num_resamples=num_resamples
    )
    return found["accuracy"], time.process_time() - start


def main(arguments: list[str] | None = None) -> float:
    """Runs the matrix, prints a table, and returns the CPU seconds of all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tracks", type=int, default=10_000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=4, help="draws of the training tracks")
    parser.add_argument("--classifiers", default=",".join(CLASSIFIERS))
    parser.add_argument("--bootstrap", type=int, default=1000, help="resamples of the intervals")
    settings = parser.parse_args(arguments)
    examples = make_examples(settings.tracks, settings.classes)
    names = settings.classifiers.split(",")
    print(f"| classifier | {' | '.join(SIZES)} |")
    print("|" + "---|" * (len(SIZES) + 1))
    total = 0.0
    for name in names:
        cells = []
        for size in SIZES:
            done = [
                probe(examples, name, size, seed, settings.bootstrap)
                for seed in range(settings.seeds)
            ]
            seconds = sum(one[1] for one in done)
            total += seconds
            cells.append(f"{seconds:.3g} s (accuracy {np.mean([one[0] for one in done]):.2f})")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    count = len(list(itertools.product(names, SIZES, range(settings.seeds))))
    print(f"\n{count} probes on {settings.tracks:,} tracks: {total:.0f} CPU seconds")
    return total


if __name__ == "__main__":
    main()
