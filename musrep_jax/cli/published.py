"""`musrep compare --published`: results of a run among the published ones of the same corpora."""

from pathlib import Path

import typer

from musrep_jax.cli.common import print_json


def print_published(path: Path, *, as_json: bool) -> None:
    """Prints the results of a run among the published ones, and what differs in protocol.

    Args:
        path: a workdir, or a results file.
        as_json: whether JSON is printed.

    Raises:
        ConfigError: if there are none on a corpus that others have published results on.
    """
    from musrep_jax.config import ConfigError
    from musrep_jax.experiments.reading import read_run
    from musrep_jax.reporting import published

    run = read_run(path.parent if path.is_file() else path)
    rows = published.compare_with_published(run.results.values())
    if not rows:
        raise ConfigError(
            f"{path} has no result on a corpus with published ones: "
            f"{', '.join(dict.fromkeys(row.target for row in published.PUBLISHED))}."
        )
    if as_json:
        print_json({"results": rows, "differences": list(published.DIFFERENCES)})
        return
    typer.echo(published.format_comparison(rows))
    typer.echo("\nWhat differs in protocol:")
    for sentence in published.DIFFERENCES:
        typer.echo(f"- {sentence}")
