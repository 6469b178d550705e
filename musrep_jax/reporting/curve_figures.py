"""Learning curves over the number of training examples of every class."""

from collections.abc import Mapping, Sequence

from musrep_jax.reporting import captions, drawing
from musrep_jax.reporting.drawing import CHANCE_COLOR, EXTRA_COLORS, canvas

_MARKERS = ("o", "s", "^", "D")


def draw_curves(
    counts: Sequence[int],
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    title: str,
    chance: float,
    metric: str = "accuracy",
) -> drawing.Figure:
    """Returns a figure with one line per kind of features, with bars of one standard error.

    Args:
        counts: examples of every class; 0, the last, is all.
        curves: name of a line -> its values, and their standard errors, one per count.
        title: of the panel.
        chance: value of a guess, a dotted line.
        metric: name of the vertical axis.
    """
    places = range(len(counts))
    with canvas(4.6, 3.6) as figure:
        panel = figure.subplots()
        colors = ("#000000", *EXTRA_COLORS)
        middle = (len(curves) - 1) / 2
        for number, (name, (values, errors)) in enumerate(curves.items()):
            x = [place + 0.06 * (number - middle) for place in places]  # bars side by side
            panel.errorbar(
                x, values, errors, label=name, color=colors[number % len(colors)], ms=5,
                marker=_MARKERS[number % len(_MARKERS)], elinewidth=1.2,
            )  # fmt: skip
        panel.axhline(chance, color=CHANCE_COLOR, ls=":", label="most frequent label")
        panel.set_xticks(list(places), [str(count or "all") for count in counts])
        panel.set_xlabel("training tracks of every class")
        panel.set_ylabel(metric)
        panel.set_title(captions.wrap(title, 44))
        panel.set_ylim(0, 1)
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8.5)
    return figure
