"""`musrep serve`: serves a local page that tags recordings dropped on it."""

import webbrowser
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from musrep_jax.cli.common import EXIT_USAGE, format_json, say
from musrep_jax.cli.model_choice import OptionalModel, take_default

_MEGABYTE = 1_000_000


def serve(
    model: OptionalModel = None,
    store: Annotated[
        Path | None,
        typer.Option(help="Store that musrep embed made with this model; shows nearest tracks."),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 uses any free port.")] = 8765,
    host: Annotated[
        str,
        typer.Option(help="Any address other than this machine's own opens the page to others."),
    ] = "127.0.0.1",
    max_upload_mb: Annotated[float, typer.Option(min=0, help="Maximum size of a recording.")] = 200,
    max_minutes: Annotated[float, typer.Option(min=0, help="Maximum length of a recording.")] = 60,
    open_browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in the browser.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print address, model and store as one line of JSON.")
    ] = False,
) -> None:
    """Serve a local page: drop a recording, hear it, see its tags over time and nearest tracks.

    It runs until Ctrl-C. Nothing leaves this machine, and recordings are kept only until the
    response is sent. Programs can use its API (see musrep_jax/pages/server.py): curl --data-binary
    @song.mp3 "http://127.0.0.1:8765/api/tag?name=song.mp3"
    """
    from musrep_jax.inference.tagger import load_tagger
    from musrep_jax.runtime.signals import raise_on_signals, raise_on_signals_while_loading
    from musrep_jax.store import Store

    try:
        from musrep_jax.pages import server
        from musrep_jax.pages.tagging_service import TaggingService
        from musrep_jax.pages.uploads import temporary_folder
    except ModuleNotFoundError as error:
        how = 'install it with pip install "musrep_jax[serve]"'
        say(f"error: The package {error.name} is missing: {how}.")
        raise typer.Exit(EXIT_USAGE) from error

    with raise_on_signals(), server.bind(host, port) as bound, temporary_folder() as folder:
        opened = None if store is None else Store(store)
        place = take_default(model)
        say(f"loading {place}")
        with raise_on_signals_while_loading():
            service = TaggingService(load_tagger(place), opened, 60 * max_minutes)
            service.warm_up()
        page = server.Page(service, folder, int(max_upload_mb * _MEGABYTE), host)
        address = server.get_page_url(bound)
        if not server.is_loopback(bound):
            say(
                "warning: everybody who reaches this machine can use this page, and hear what the "
                "store lists: leave --host away unless that is meant."
            )
        facts = {"address": address, **page.about()}
        if json:
            typer.echo(format_json(facts))
        else:
            typer.echo(f"{address}  {describe(facts)}; Ctrl-C ends it")
        if open_browser:
            webbrowser.open(address)
        server.Server(page).run(sockets=[bound])


def describe(facts: Mapping[str, Any]) -> str:
    """Returns a one-line description of model and store.

    Args:
        facts: as `GET /api/model` answers.
    """
    line = f"{facts['model']} trained on {facts['trained_on']}, {len(facts['labels'])} labels"
    if facts["store"] is not None:
        line += f"; nearest of {facts['store']['tracks']:,} tracks in {facts['store']['path']}"
    return line
