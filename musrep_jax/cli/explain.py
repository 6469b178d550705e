"""`musrep explain`: shows over time what the tags of a recording rest on."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from musrep_jax.cli.common import EXIT_FAILED, EXIT_USAGE, Json, print_json, say
from musrep_jax.cli.model_choice import ModelOrRecordings, split_words, take_default

if TYPE_CHECKING:
    import numpy as np

    from musrep_jax.inference.explanation import Explanation
    from musrep_jax.inference.tagger import LoadedTagger

_NUM_TAGS, _NUM_MOMENTS = 3, 3


def explain(
    words: ModelOrRecordings,
    tags: Annotated[
        str | None,
        typer.Option(help="Labels to explain, comma separated; the most probable by default."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="attention, contribution, occlusion, gradients, comma separated; by default "
            "attention and contribution of a model with attention, occlusion of another."
        ),
    ] = None,
    start: Annotated[float, typer.Option(min=0, help="Where to begin, in seconds.")] = 0.0,
    seconds: Annotated[float, typer.Option(min=0.1, help="How much to explain.")] = 30.0,
    part: Annotated[
        float, typer.Option(min=0.01, help="Seconds that occlusion silences at once.")
    ] = 0.5,
    png: Annotated[Path | None, typer.Option(help="Draw the maps under the spectrogram.")] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a page that plays the moment one clicks on.")
    ] = None,
    faithfulness: Annotated[
        bool,
        typer.Option(
            "--faithfulness",
            help="Of many recordings: whether silencing parts in the order of the map lowers the "
            "most probable tag (of --tags) sooner than a random order does.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Show over time what the tags of a recording rest on.

    Attention shows where a transformer looks, contribution what it would say of each moment alone,
    occlusion what a tag loses when a moment is silenced, gradients how its logit is shared out over
    time and frequency. Of two recordings the starts are joined to one excerpt, so that one sees
    whether a map tells them apart.
    """
    from musrep_jax.config import split_list
    from musrep_jax.data.audio.reading import read_audio
    from musrep_jax.inference.explanation import compute_spectrogram, join_halves
    from musrep_jax.inference.folders import find_recordings
    from musrep_jax.inference.tagger import BackboneError, choose_methods, load_tagger, make_map

    model, places = split_words(words)
    paths = [Path(path) for path in find_recordings(places)]
    methods = _split_methods(method)
    if not faithfulness and len(paths) > 2:
        say(
            f"error: {len(paths)} recordings were given; explain one, or two that are joined, or "
            "measure many with --faithfulness."
        )
        raise typer.Exit(EXIT_USAGE)
    if faithfulness and (png or html):
        say("error: --faithfulness prints numbers; leave out --png and --html.")
        raise typer.Exit(EXIT_USAGE)
    model = take_default(model)
    tagger = load_tagger(model)
    if not tagger.has_head:
        raise BackboneError(f"{model} is a backbone without output layer: it has no tags.")
    wanted = list(split_list(tags or ""))
    methods = methods or choose_methods(tagger)
    rate = tagger.sample_rate

    def read(path: Path) -> "np.ndarray":
        begin, length = int(start * rate), int(seconds * rate)
        audio, _ = read_audio(path, sample_rate=rate, start=begin, num_frames=length)
        if not len(audio):
            raise typer.BadParameter(f"{path} ends before {start:g} s.")
        return audio

    if faithfulness:
        _measure(tagger, paths, read, methods, wanted, seconds=part, json=json)
        return
    audio, joint = read(paths[0]), None
    if len(paths) == 2:
        audio = join_halves((audio, rate), (read(paths[1]), rate), tagger)
        joint = len(audio) / 2 / rate
    scores = tagger.predict(audio, rate)
    wanted = wanted or sorted(scores, key=lambda label: -scores[label])[:_NUM_TAGS]
    found = [make_map(tagger, audio, one, wanted, part) for one in methods]
    title = " | ".join(path.name for path in paths)
    if png is not None or html is not None:
        from musrep_jax.inference.explanation import CAPTIONS

        spectrogram = compute_spectrogram(tagger, audio, rate)
        if png is not None:
            from musrep_jax.reporting.drawing import save_figure
            from musrep_jax.reporting.explanation_figure import draw_explanations

            values = [vars(one) for one in found]
            figure = draw_explanations(
                spectrogram, values, title=title, captions_of=CAPTIONS, joint=joint
            )
            save_figure(figure, png)
            say(f"wrote {png}")
        if html is not None:
            from musrep_jax.pages.explanation import make_page
            from musrep_jax.runtime.files import write_text

            page = make_page(tagger, audio, spectrogram, found, scores, title=title, joint=joint)
            html.parent.mkdir(parents=True, exist_ok=True)
            write_text(html, page)
            say(f"wrote {html}")
    if json:
        print_json({
            "recordings": [str(path) for path in paths],
            "joint": joint,
            "tags": {label: scores[label] for label in wanted},
            "maps": [one.to_dict() for one in found],
        })  # fmt: skip
    else:
        typer.echo("\n".join(_format(title, scores, found)))


def _split_methods(method: str | None) -> list[str]:
    """Returns the methods that were named."""
    from musrep_jax.config import split_list
    from musrep_jax.inference.explanation import METHODS
    from musrep_jax.runtime.suggestions import suggest_name

    names = split_list(method or "")
    for name in names:
        if name not in METHODS:
            raise typer.BadParameter(
                f"there is no method {name!r}.{suggest_name(name, METHODS)} Choose of "
                f"{', '.join(METHODS)}."
            )
    return list(names)


def _format(title: str, scores: Any, found: Sequence["Explanation"]) -> list[str]:
    """Returns for every map the moments with its greatest values."""
    from musrep_jax.inference.explanation import CAPTIONS

    lines = [title]
    for one in found:
        lines.append(f"{one.method}: {CAPTIONS[one.method]}")
        for name, values in zip(one.names, one.over_time(), strict=True):
            best = sorted((-values).argsort(kind="stable")[:_NUM_MOMENTS].tolist())
            moments = ", ".join(
                f"{one.spans[k, 0]:.2f}-{one.spans[k, 1]:.2f} s {values[k]:.2g}" for k in best
            )
            known = f" {scores[name]:.2f}" if name in scores else ""
            lines.append(f"  {name}{known}\tmost at {moments}")
        if one.error is not None:
            worst = float(one.error.max())
            lines.append(f"  the sums are the logit differences within {worst:.2g}")
    return lines


def _measure(
    tagger: "LoadedTagger",
    paths: Sequence[Path],
    read: Any,
    methods: Sequence[str],
    tags: Sequence[str],
    *,
    seconds: float,
    json: bool,
) -> None:
    """Prints the gains of every method over random orders, with intervals over recordings."""
    import numpy as np

    from musrep_jax.data.audio.reading import AudioError
    from musrep_jax.inference.chunks import AudioInputError
    from musrep_jax.inference.faithfulness import measure_faithfulness
    from musrep_jax.runtime.progress import Progress

    progress, failed = Progress("measured", "recordings"), 0
    gains: dict[str, list[tuple[float, float]]] = {name: [] for name in methods}
    for number, path in enumerate(paths, start=1):
        try:
            audio = read(path)
            for name in methods:
                make = _bind(tagger, name, seconds)
                curves = measure_faithfulness(
                    tagger, audio, tagger.sample_rate, make, tags=tags, seed=number
                )
                gains[name].append((curves.deletion_gain, curves.insertion_gain))
        except (AudioError, AudioInputError) as error:
            failed += 1
            say(f"{path}: {error}")
        progress(number, len(paths))
    progress.close()
    rows = []
    for name, values in gains.items():
        for what, column in (("deletion", 0), ("insertion", 1)):
            one = np.array([pair[column] for pair in values])
            rows.append({"method": name, "curve": what, **_summarize(one)})
    if json:
        print_json({"num_recordings": len(paths) - failed, "rows": rows})
    else:
        typer.echo(f"gain of mean probability over random orders, {len(paths) - failed} recordings")
        for row in rows:
            low, high = row["interval"] or (None, None)
            interval = "too few" if low is None else f"[{low:+.3f}, {high:+.3f}]"
            typer.echo(f"{row['method']}\t{row['curve']}\t{row['gain']:+.3f}\t{interval}")
    if failed:
        raise typer.Exit(EXIT_FAILED)


def _bind(tagger: "LoadedTagger", method: str, seconds: float) -> Any:
    """Returns the function that makes a map of one tag."""

    def make(audio: "np.ndarray", rate: int, tags: Sequence[str]) -> "Explanation":
        from musrep_jax.inference.explanation import ExplanationError
        from musrep_jax.inference.tagger import make_map

        if method == "attention":
            raise ExplanationError(
                "attention is of no tag, so that no tag can be followed: measure contribution, "
                "occlusion or gradients."
            )
        return make_map(tagger, audio, method, tags, seconds)

    return make


def _summarize(values: "np.ndarray") -> dict[str, Any]:
    """Returns the mean gain and its interval, of t's distribution, from five recordings on."""
    import numpy as np

    from musrep_jax.evaluation.support import t_quantile

    if not len(values):
        return {"gain": None, "interval": None}
    mean = float(values.mean())
    if len(values) < 5:
        return {"gain": mean, "interval": None}
    half = t_quantile(len(values) - 1) * float(values.std(ddof=1)) / np.sqrt(len(values))
    return {"gain": mean, "interval": [mean - half, mean + half]}
