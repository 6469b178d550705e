"""Normalizes names: Unicode forms, whitespace, upper and lower case, commas.

Names that look the same are the same: macOS writes accents decomposed and most other systems
composed, spreadsheets add no-break spaces, and Turkish has two letters i.
"""

import os
import pathlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

LABEL_SEPARATOR, ESCAPE, QUOTE = ",", "\\", '"'
_COMMA = re.compile(LABEL_SEPARATOR)
_INVISIBLE = "\u200b\u2060\ufeff"
"""Zero-width space, word joiner, byte order mark. Joiners and non-joiners stay: Persian needs
them."""
_TURKISH_I = "ıİ"


def normalize_name(text: str) -> str:
    """Returns a normalized name: NFC, each run of blanks as one space, none at the ends.

    No-break spaces count as blanks; invisible characters (zero-width spaces, byte order marks) are
    removed.

    Example:
        >>> normalize_name(" hip\\u00a0hop ")
        'hip hop'

    Args:
        text: name of a label, group or person.
    """
    visible = text.translate(dict.fromkeys(map(ord, _INVISIBLE)))
    return " ".join(unicodedata.normalize("NFC", visible).split())


def normalize_path(text: str) -> str:
    """Returns a normalized path from a list: NFC, forward slashes, no blanks at the ends.

    Blanks within stay: they are part of the file's name. `find_path` finds the file.

    Args:
        text: path relative to a folder.
    """
    path = unicodedata.normalize("NFC", text.strip().strip(_INVISIBLE).strip())
    return os.path.normpath(path.replace("\\", "/")).replace(os.sep, "/") if path else ""


def leads_outside(path: str) -> bool:
    """Returns whether a path of a list leads out of the folder that it should be relative to.

    Example:
        >>> leads_outside("../a.wav"), leads_outside("/a.wav"), leads_outside("C:a.wav")
        (True, True, False)

    Args:
        path: as the list has it.
    """
    drive, rest = os.path.splitdrive(os.path.normpath(path))
    return bool(drive) or rest.startswith(os.sep) or rest.split(os.sep)[0] == os.pardir


def list_forms(text: str) -> list[str]:
    """Returns the distinct forms of a text: as given, composed and decomposed.

    Args:
        text: such as a path, which may have another form on a disk or in a store.
    """
    forms = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))
    return list(dict.fromkeys([text, *forms]))


def find_path(folder: pathlib.Path, path: str) -> pathlib.Path:
    """Returns the location of a listed file, whatever the Unicode form of its name and folders.

    Args:
        folder: that the path is relative to.
        path: with forward slashes.

    Returns:
        The file's own path, or `folder / path` if there is none.
    """
    if path.isascii():
        return folder / path
    for form in list_forms(path):
        if os.path.exists(folder / form):
            return folder / form
    found = folder  # Forms may be mixed, for example if a folder was renamed on another system.
    for part in pathlib.PurePosixPath(path).parts:
        if not os.path.exists(found / part):
            wanted = unicodedata.normalize("NFC", part)
            names = os.listdir(found) if os.path.isdir(found) else ()
            alike = [name for name in names if unicodedata.normalize("NFC", name) == wanted]
            if not alike:
                return folder / path
            part = min(alike)
        found = found / part
    return found


def split_labels(text: str) -> list[str]:
    r"""Returns the labels of a comma-separated list, normalized, without duplicates.

    A comma within a label is escaped with a backslash, or the label is quoted.

    Example:
        >>> split_labels('ney, "Air horn, truck horn", Folk\\, World')
        ['ney', 'Air horn, truck horn', 'Folk, World']

    Args:
        text: the list; empty parts are skipped.
    """
    names = (normalize_name(unquote(part)) for part in split_outside_quotes(text))
    return list(dict.fromkeys(name for name in names if name))


def join_labels(labels: Iterable[str]) -> str:
    r"""Returns labels as a comma-separated list that `split_labels` can parse.

    Example:
        >>> join_labels(["Folk, World", "Rock"])
        'Folk\\, World,Rock'

    Args:
        labels: their names.
    """
    escaped = (name.replace(ESCAPE, ESCAPE * 2).replace(LABEL_SEPARATOR, r"\,") for name in labels)
    return ",".join(
        ESCAPE + name if name.startswith(QUOTE) and name.endswith(QUOTE) else name
        for name in escaped
    )


def split_outside_quotes(text: str, separator: re.Pattern = _COMMA) -> list[str]:
    """Returns the unchanged parts between separators, ignoring quoted and escaped separators.

    A quotation mark opens a quote only at the beginning of a word, and only if another one closes
    it before a comma or the end: inch marks are not quotes.

    Args:
        text: to split.
        separator: the separator.
    """
    parts, start, at = [], 0, 0
    while at < len(text):
        if text[at] == ESCAPE:
            at += 2
        elif text[at] == QUOTE and (end := _find_closing_quote(text, start, at)):
            at = end
        elif found := separator.match(text, at):
            parts.append(text[start:at])
            start = at = found.end()
        else:
            at += 1
    return [*parts, text[start:]]


def unquote(text: str) -> str:
    r"""Returns a part without the quotation marks around it and the backslashes of its escapes.

    Example:
        >>> unquote(' "a, b" '), unquote("a\\, b")
        ('a, b', 'a, b')

    Args:
        text: from `split_outside_quotes`.
    """
    text = text.strip()
    if len(text) > 1 and text[0] == QUOTE and _find_closing_quote(text, 0, 0) == len(text):
        text = text[1:-1]
    out, at = [], 0
    while at < len(text):
        if text[at] == ESCAPE and text[at + 1 : at + 2] in (LABEL_SEPARATOR, ESCAPE, QUOTE):
            at += 1
        out.append(text[at : at + 1] or ESCAPE)
        at += 1
    return "".join(out)


def _find_closing_quote(text: str, start: int, at: int) -> int:
    """Returns the index after the mark that closes the one at `at`, or 0 if it opens no quote."""
    if at > start and text[at - 1] not in " -!":
        return 0
    end = at + 1
    while end < len(text):
        if text[end] == ESCAPE:
            end += 1
        elif text[end] == QUOTE:
            rest = text[end + 1 :].lstrip()
            if not rest or rest[0] in ",^" or rest.startswith("AND "):
                return end + 1
        end += 1
    return 0


def is_same_but_for_case(first: str, second: str) -> bool:
    """Returns whether two names differ at most in case.

    If one of them has a letter that only Turkic languages have (ı, İ), I is the capital
    of ı and İ that of i; elsewhere I is the capital of i.

    Example:
        >>> is_same_but_for_case("İsfahan", "isfahan"), is_same_but_for_case("ısı", "isi")
        (True, False)

    Args:
        first: a normalized name.
        second: another one.
    """
    is_turkish = any(letter in first + second for letter in _TURKISH_I)
    return fold_case(first, is_turkish=is_turkish) == fold_case(second, is_turkish=is_turkish)


def fold_case(name: str, *, is_turkish: bool = False) -> str:
    """Returns a name without upper case.

    Args:
        name: normalized.
        is_turkish: whether I is the capital of ı, and İ that of i.
    """
    if is_turkish:
        name = name.replace("I", "ı").replace("İ", "i")
    return unicodedata.normalize("NFC", name.casefold())


def find_case_variants(names: Iterable[str]) -> list[list[str]]:
    """Returns sets of names that differ only by case, each sorted; empty if there are none.

    Args:
        names: normalized.
    """
    alike = defaultdict(set)
    for name in names:
        alike[fold_case(name, is_turkish=True).replace("ı", "i")].add(name)
    found = []
    for candidates in alike.values():
        left = sorted(candidates)
        while left:
            first, *rest = left
            same = [name for name in rest if is_same_but_for_case(first, name)]
            if same:
                found.append([first, *same])
            left = [name for name in rest if name not in same]
    return sorted(found)
