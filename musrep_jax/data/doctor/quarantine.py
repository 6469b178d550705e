"""The list of files that no build may use, as `musrep doctor` writes it and anyone may edit it.

Tab separated UTF-8 with the header `path fault reason`, one line per file and fault. Paths are
relative to the corpus folder, with forward slashes. What a table or a terminal cannot show (a byte
that is not UTF-8, a tab, a line break) is written as `\\xff`, and a backslash as two.
"""

import csv
import hashlib
import os
import pathlib
import re
from collections.abc import Iterable

from musrep_jax.runtime.files import write_text

HEADER = ("path", "fault", "reason")
_ESCAPE = re.compile(r"\\(\\|x[0-9a-fA-F]{2})")
_DIGEST_LENGTH = 8


class QuarantineError(ValueError):
    """A quarantine list is not as it should be; the message is one sentence."""


def quarantine_path(data_dir: str | pathlib.Path, name: str | pathlib.Path) -> pathlib.Path:
    """Returns where the quarantine list of a corpus or of a folder is: never beside the audio.

    Args:
        data_dir: root folder of the built data sets.
        name: of a corpus, as text ("magnatagatune"); or a folder of recordings, as a
            `pathlib.Path`, whose list is called after its name and a digest of its resolved path.
    """
    return pathlib.Path(data_dir, "quarantine", f"{folder_key(name)}.tsv")


def folder_key(name: str | pathlib.Path) -> str:
    """Returns the name of a corpus as it is, and SLUG-DIGEST for the path of a folder.

    Example:
        >>> folder_key("lyra"), folder_key(pathlib.Path("/music/my ney"))
        ('lyra', 'my_ney-97ae2eae')
    """
    if isinstance(name, str):
        return name
    folder = name.expanduser().resolve()
    slug = re.sub(r"[^A-Za-z0-9_]+", "_", folder.name) or "folder"
    return f"{slug}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:_DIGEST_LENGTH]}"


def read_quarantine(path: str | pathlib.Path) -> dict[str, str]:
    """Returns relative path -> reason; {} when there is no such list.

    The paths are as `os.fsdecode` gives them: a byte that is not UTF-8 is a lone surrogate. The
    reasons are plain text. A file with several faults has their reasons joined.

    Raises:
        QuarantineError: if the list has another header, or a line without a path.
    """
    found: dict[str, str] = {}
    for name, _, reason in read_quarantine_rows(path):
        found[name] = f"{found[name]} {reason}" if name in found else reason
    return found


def read_quarantine_rows(path: str | pathlib.Path) -> list[tuple[str, str, str]]:
    """Returns (relative path, fault, reason) of each line; none when there is no such list.

    Raises:
        QuarantineError: as `read_quarantine`.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        return []
    rows = []
    with open(path, encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        header = next(lines, [])
        if tuple(header) != HEADER:
            raise QuarantineError(
                f"{path} is not a quarantine list: its first line must be {', '.join(HEADER)}, "
                "separated by tabs; mend it, or delete it and run musrep doctor again."
            )
        for cells in lines:
            if not cells:
                continue
            if len(cells) != len(HEADER) or not cells[0]:
                raise QuarantineError(
                    f"line {lines.line_num} of {path} has {len(cells)} column(s), not the three of "
                    f"its header ({', '.join(HEADER)}); mend the line or delete it."
                )
            name, fault, reason = cells
            rows.append((unescape_path(name), fault, reason))
    return rows


def write_quarantine(path: str | pathlib.Path, rows: Iterable[tuple[str, str, str]]) -> None:
    """Writes the list, sorted, in one step: a reader sees the old list or the new one.

    Args:
        path: as `quarantine_path` gives it; its folder is made.
        rows: (relative path, fault in a word, reason as a sentence) each.
    """
    lines = sorted((escape_path(name), fault, _one_line(why)) for name, fault, why in rows)
    text = "".join("\t".join(cells) + "\n" for cells in [HEADER, *lines])
    write_text(path, text)


def escape_path(name: str) -> str:
    """Returns a path as text that any table, terminal or JSON file can hold.

    Example:
        >>> escape_path("caf\\udce9.wav"), escape_path("ney çalışma.wav")
        ('caf\\\\xe9.wav', 'ney çalışma.wav')
    """
    return "".join(_escape(character) for character in name)


def unescape_path(text: str) -> str:
    """Returns the path that `escape_path` was given."""
    pieces = _ESCAPE.split(text)
    # Every second piece is what follows a backslash.
    for index in range(1, len(pieces), 2):
        code = pieces[index]
        value = ord("\\") if code == "\\" else int(code[1:], 16)
        pieces[index] = chr(value + 0xDC00 if value >= 0x80 else value)
    return "".join(pieces)


def _one_line(text: str) -> str:
    return " ".join(text.split()).encode("utf-8", "backslashreplace").decode("utf-8")


def _escape(character: str) -> str:
    code = ord(character)
    if character == "\\":
        return "\\\\"
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x20 or code == 0x7F else character
