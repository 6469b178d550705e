"""Short names of data sets, for tables and axes."""

import re
from collections.abc import Iterable

_NO_SOURCE = "scratch"
_STORED_FORM = re.compile(r"-(pcm16|encoded|log_mel)$")
_DEFORMATION = re.compile(r"@\w+:[^@/]*$")
"""Of all tracks of a data set, behind its name."""


def make_display_names(names: Iterable[str | None]) -> dict[str | None, str]:
    """Returns short names of data sets for tables and axes, all different.

    >>> make_display_names(["synthetic_cultures/makam", "audio_folder:/data/fsdd", None])
    {'synthetic_cultures/makam': 'makam', 'audio_folder:/data/fsdd': 'fsdd', None: 'scratch'}

    Args:
        names: as in configs; None stands for no source.

    Returns:
        name -> last part of the name, or the whole name where last parts coincide. Of the config of
        a real corpus (CORPUS/LABELS-SPLIT-FORM) only the stored form is left out.
    """
    different = list(dict.fromkeys(names))
    short = {name: _NO_SOURCE if name is None else _short_name(name) for name in different}
    taken = list(short.values())
    return {
        name: part if name is None or taken.count(part) == 1 else name
        for name, part in short.items()
    }


def _short_name(name: str) -> str:
    """Returns the last part of a name, with its deformation behind it.

    >>> _short_name("synthetic_cultures/makam@pitch:-5"), _short_name("audio_folder:/a/b@c")
    ('makam@pitch:-5', 'b@c')
    """
    plain = _DEFORMATION.sub("", name)
    deformation = name[len(plain) :]
    if _STORED_FORM.search(plain) and ":" not in plain:
        return _STORED_FORM.sub("", plain) + deformation
    return plain.rstrip("/").replace(":", "/").rsplit("/", 1)[-1] + deformation


def find_common_collection(names: Iterable[str | None]) -> str:
    """Returns what data set names have in common before the slash, or an empty text.

    >>> find_common_collection(["synthetic_cultures/makam", "synthetic_cultures/greek", None])
    'synthetic_cultures'

    Args:
        names: as in configs; None is passed over.
    """
    plain = [_DEFORMATION.sub("", name) for name in names if name is not None]
    heads = {name.rpartition("/")[0] for name in plain if ":" not in name}
    has_folder = any(":" in name for name in plain)
    return heads.pop() if len(heads) == 1 and not has_folder else ""
