"""Suggests known names for mistyped ones."""

import difflib
from collections.abc import Callable, Iterable


def suggest_name(
    name: str,
    known: Iterable[str],
    *,
    num: int = 1,
    simplify: Callable[[str], str] = str,
) -> str:
    """Returns " Did you mean 'x'?" for the nearest known name, or an empty string.

    >>> suggest_name("musicn", ["musicnn", "vgg_ish"])
    " Did you mean 'musicnn'?"
    >>> suggest_name("guitar", ["Acoustic Guitar", "sitar"], num=2, simplify=str.lower)
    " Did you mean 'sitar' or 'Acoustic Guitar'?"

    Args:
        name: as it was typed.
        known: names that exist.
        num: maximum number of suggestions; if more than one, names that contain the typed one
            match, too.
        simplify: normalizes names before comparison.
    """
    plain: dict[str, str] = {}
    for other in known:
        plain.setdefault(simplify(other), other)
    typed = simplify(name)
    near = difflib.get_close_matches(typed, plain, n=num)
    if num > 1 and typed:
        near += [other for other in plain if typed in other and other not in near]
    meant = " or ".join(repr(plain[other]) for other in near[:num])
    return f" Did you mean {meant}?" if meant else ""
