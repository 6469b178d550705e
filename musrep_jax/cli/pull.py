"""`musrep pull`: fetches pretrained models into the cache."""

import sys
from typing import Annotated

import typer

from musrep_jax.cli.common import Json, complete, list_pretrained, print_json


def pull(
    names: Annotated[
        list[str],
        typer.Argument(
            help="Names of pretrained models; see `musrep models --pretrained`.",
            autocompletion=complete(list_pretrained),
        ),
    ],
    accept_licence: Annotated[
        bool,
        typer.Option(
            "--accept-licence",
            "--accept-license",
            help="Accept a license that allows no commercial use. Once is enough.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Fetch pretrained models, verify them, and keep them in the cache as exports.

    Other commands do the same when they are given such a name for the first time. What broke off
    resumes. A license that allows no commercial use is asked about before the download.
    """
    from musrep_jax.exports.cards import make_usage_lines
    from musrep_jax.training.checkpoints import read_card
    from musrep_jax.weights.fetching import describe_terms, fetch, is_accepted
    from musrep_jax.weights.pretrained import PREFIX, find_pretrained

    plain = [name.removeprefix(PREFIX) for name in names]
    for name in plain:
        find_pretrained(name)
    found = []
    for name in plain:
        accepts = accept_licence
        if not (accepts or is_accepted(name)) and sys.stdin.isatty() and not json:
            accepts = typer.confirm(f"{describe_terms(name)}. Accept that license?", err=True)
        path = fetch(name, accept_licence=accepts)
        found.append({"name": name, "export": str(path)})
        if not json:
            lines = make_usage_lines(read_card(path), name)
            code = "\n".join(f"    {line}" for line in lines)
            typer.echo(f"{name} is in {path}. In Python:\n\n{code}\n")
    if json:
        print_json(found)
