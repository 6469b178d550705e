"""Pages for a browser: the report of a run and the local page of a model.

Their look (`static/theme.css`) and the map of tags over time (`static/taggram.js`) are shared. Both
pages are plain HTML, CSS and JavaScript: no framework to keep up with, no request to elsewhere, and
a report written today will still open in ten years.
"""

import functools
from importlib import resources


@functools.cache
def read_static(name: str) -> str:
    """Returns the text of a file of `musrep_jax/pages/static/`.

    Args:
        name: of the file, for example "theme.css".
    """
    return (resources.files(__name__) / "static" / name).read_text(encoding="utf-8")
