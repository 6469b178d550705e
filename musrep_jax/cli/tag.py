"""`musrep tag`: tags whole recordings, or tags them over time."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from musrep_jax.cli.common import EXIT_FAILED, EXIT_USAGE, Json, format_json, say
from musrep_jax.cli.embed import FailureTable, Workers
from musrep_jax.cli.model_choice import ModelOrRecordings, split_words, take_default

if TYPE_CHECKING:
    from musrep_jax.inference.folders import FileResult
    from musrep_jax.inference.tag_output import TagPredictor


def tag(
    words: ModelOrRecordings,
    top: Annotated[int, typer.Option(min=1, help="Number of tags to show per recording.")] = 5,
    over_time: Annotated[
        bool | None,
        typer.Option(
            "--over-time/--whole",
            help="Show the tags of every chunk, with its times; without a model and for one "
            "recording that is the default.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write a table with a line per recording (or chunk) and a column per label."
        ),
    ] = None,
    png: Annotated[
        Path | None, typer.Option(help="Draw the tags of one recording over time.")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Print uncalibrated network outputs.")] = False,
    workers: Workers = None,
    json: Json = False,
) -> None:
    """Print the most probable tags of recordings; with --over-time, those of every few seconds.

    Probabilities are calibrated if the export has a calibration, which is fitted on validation
    data; labels above their threshold are marked with *. Silence cannot be judged and has no tags.
    Files that cannot be used are reported and skipped, and the exit code is 1. For a large folder
    use `musrep embed`, which can be interrupted and resumed.
    """
    from musrep_jax.data.build.shard_builds import count_cores
    from musrep_jax.data.doctor.quarantine import escape_path
    from musrep_jax.inference.folders import SILENT, find_recordings, run_files
    from musrep_jax.inference.tag_output import TagPredictor, describe
    from musrep_jax.inference.tagger import BackboneError, load_tagger
    from musrep_jax.runtime.progress import Progress

    model, places = split_words(words)
    paths = find_recordings(places)
    if over_time is None:
        over_time = model is None and len(paths) == 1 and not (json or out or png)
    if png is not None and len(paths) != 1:
        say(f"error: --png draws one recording, and {len(paths)} were given.")
        raise typer.Exit(EXIT_USAGE)
    model = take_default(model)
    tagger = load_tagger(model)
    if not tagger.has_head:
        raise BackboneError(
            f"{model} is a backbone without output layer: `musrep embed` it; it has no tags."
        )
    progress = Progress("tagged", "tracks")
    with contextlib.ExitStack() as stack:
        stack.callback(progress.close)
        tags = TagPredictor(tagger, raw)
        printer = JsonPrinter(tags) if json else None
        table = None if out is None else stack.enter_context(TableFile(out, tags, over_time))
        failed = []
        heard_files = run_files(tagger, paths, workers or count_cores(), progress=progress)
        for heard in heard_files:
            path = escape_path(heard.path)
            if heard.failure:
                failed.append((path, heard.failure))
                say(f"{path}: {heard.failure}")
                if table is not None:
                    table.failed.add(path, heard.failure)
                continue
            if table is not None:
                table.add(path, heard)
            if png is not None and heard.is_silent:
                say(f"{path}: {SILENT}")
            elif png is not None:
                save_taggram(tags, heard, path, png)
            if printer is not None:
                printer.add(describe(tags, path, heard, over_time))
            elif table is None and (png is None or over_time):
                typer.echo("\n".join(format_tags(tags, path, heard, top, over_time)))
        if printer is not None:
            printer.close(failed)
    for written in filter(None, (out, png)):
        say(f"wrote {written}" if written.exists() else f"nothing to write to {written}")
    if failed:
        say(f"{len(failed):,} of {len(paths):,} files cannot be used.")
        raise typer.Exit(EXIT_FAILED)


def format_tags(
    tags: "TagPredictor", path: str, heard: "FileResult", top: int, over_time: bool
) -> Iterator[str]:
    """Yields the lines of a recording: one, or with `over_time` one more for every chunk."""
    _, scores = tags.of(heard, over_time=False)
    yield f"{path}\t{format_row(tags, scores[0], top, heard.is_silent)}"
    if over_time:
        spans, scores = tags.of(heard, over_time)
        for (start, end), row, is_silent in zip(spans, scores, heard.silent, strict=True):
            yield f"  {start:.1f}-{end:.1f} s\t{format_row(tags, row, top, is_silent)}"


def format_row(tags: "TagPredictor", scores: Sequence[float], top: int, is_silent: bool) -> str:
    """Returns the most probable tags in a line; * marks those that `tags` chooses."""
    if is_silent:
        return "cannot be judged (silence)"
    (is_tag,) = tags.choose([scores])
    best = sorted(zip(tags.labels, scores, is_tag, strict=True), key=lambda row: -row[1])[:top]
    return ", ".join(f"{label} {score:.2f}{'*' if is_one else ''}" for label, score, is_one in best)


class JsonPrinter:
    """Prints one JSON object, recording by recording, to use little memory."""

    def __init__(self, tags: "TagPredictor") -> None:
        """Begins the object."""
        from musrep_jax.inference.tag_output import about

        typer.echo(f'{format_json(about(tags))[:-1]}, "tracks": [', nl=False)
        self._separator = "\n "

    def add(self, track: Mapping[str, Any]) -> None:
        """Prints a recording."""
        text = format_json(track)
        typer.echo(f"{self._separator}{text}", nl=False)
        self._separator = ",\n "

    def close(self, failed: Sequence[tuple[str, str]]) -> None:
        """Ends the object with the files that could not be used."""
        rows = [{"path": path, "reason": reason} for path, reason in failed]
        typer.echo(f'],\n"failed": {format_json(rows)}}}')


class TableFile:
    """A tab-separated table of probabilities, written line by line, with a table of failures.

    It gets its name when it is complete; until then, and after an error, it is `NAME.partial`.

    Attributes:
        failed: `NAME.failed.tsv`.
    """

    def __init__(self, path: Path, tags: "TagPredictor", over_time: bool) -> None:
        """Begins the table.

        Args:
            path: of the table.
            tags: the output format of the tags.
            over_time: whether there is a line per chunk.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._tags, self._over_time = tags, over_time
        self._path = path.resolve()
        is_file = self._path.is_file() or not self._path.exists()  # and no pipe or terminal
        self._partial = self._path.with_name(f"{path.name}.partial") if is_file else self._path
        self._file = self._partial.open("w", encoding="utf-8")
        self.failed = FailureTable(path.with_suffix(".failed.tsv"))
        own = ("path", "start", "end")
        self._write(*own, *(f"label {x}" if x in own else x for x in tags.labels))

    def _write(self, *cells: str) -> None:
        self._file.write("\t".join(" ".join(cell.split("\t")) for cell in cells) + "\n")

    def add(self, path: str, heard: "FileResult") -> None:
        """Writes the line or lines of a recording; the cells of silence are empty."""
        spans, scores = self._tags.of(heard, self._over_time)
        silent = heard.silent if self._over_time else [heard.is_silent]
        for (start, end), row, is_silent in zip(spans, scores, silent, strict=True):
            cells = ("" if is_silent else f"{score:.6g}" for score in row)
            self._write(path, f"{start:.3f}", f"{end:.3f}", *cells)

    def __enter__(self) -> "TableFile":
        return self

    def __exit__(self, *error: Any) -> None:
        self.failed.__exit__(*error)
        is_complete = False
        try:
            self._file.close()
            is_complete = error[0] is None
        finally:
            if self._partial == self._path:
                pass
            elif is_complete:
                self._partial.replace(self._path)
            else:
                say(f"What was tagged so far is in {self._partial}.")


def save_taggram(tags: "TagPredictor", heard: "FileResult", path: str, png: Path) -> None:
    """Draws the tags of a recording over time.

    Args:
        tags: the output format of the tags.
        heard: the tagger's result for the recording.
        path: of the recording, for the title.
        png: the file.
    """
    import numpy as np

    from musrep_jax.reporting.drawing import save_figure
    from musrep_jax.reporting.taggram import taggram

    spans, scores = tags.of(heard, over_time=True)
    scores = np.where(np.asarray(heard.silent)[:, None], np.nan, scores)
    save_figure(taggram(spans, scores, tags.labels, title=Path(path).name), png)
