"""A self-contained HTML file: its styles and its script stand in it, and nothing else may run."""

import base64
import hashlib
from collections.abc import Sequence

from musrep_jax import __version__
from musrep_jax.pages import read_static
from musrep_jax.pages.markup import Markup, element


def make_document(title: str, body: Markup, styles: Sequence[str], script: str) -> str:
    """Returns an HTML file that makes no requests to any server.

    Args:
        title: of the page.
        body: the element `body`, which contains the script.
        styles: files of `static/`.
        script: the one script in the body that may run.
    """
    style = Markup("\n".join(read_static(name) for name in styles))
    head = element(
        "head",
        element("meta", charset="utf-8"),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{_policy(style, script)}">'),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="generator", content=f"musrep_jax {__version__}"),
        element("link", rel="icon", href="data:,"),
        element("title", title),
        element("style", style),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _policy(style: str, script: str) -> str:
    """Returns a policy that allows this style, this script and data of the page, nothing else."""
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in (style, script)
    ]
    return (
        f"default-src 'none'; style-src {hashes[0]}; script-src {hashes[1]}; img-src data:; "
        "media-src data:; base-uri 'none'; form-action 'none'"
    )
