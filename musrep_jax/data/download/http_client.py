"""HTTP for large files: resumed after a break, retried, polite. Standard library only.

The downloaded part of a file is in `PATH.part`, and the server's metadata are in `PATH.part.json`.
After a break, also when the process was killed, the rest is asked for (`Range`, with `If-Range`,
so that a file that has changed meanwhile comes whole); a server that ignores this sends all again.
"""

import datetime
import email.utils
import errno
import http.client
import pathlib
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from musrep_jax import __version__
from musrep_jax.data.download.partial_files import (
    DownloadError,
    PartialFile,
    TransferInterruptedError,
    check_free_space,
)

Result = TypeVar("Result")
Show = Callable[[int, int | None], None]
"""Takes (bytes so far, bytes in all or None)."""

CHUNK_BYTES = 1 << 18

_TRANSIENT_STATUSES = {408, 425, 429, 500, 502, 503, 504}
"""Statuses of an answer that may be another one a moment later."""
_UNREACHABLE_ERRNOS = {errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN}
_MAX_WAIT_SECONDS = 900.0


class _RedirectHandler(urllib.request.HTTPRedirectHandler):
    """Follows redirections; the authorization goes along to the same host only."""

    def redirect_request(self, req: Any, *args: Any) -> Any:
        new = super().redirect_request(req, *args)
        secret = req.unredirected_hdrs.get("Authorization")
        if new is not None and secret and _origin(new.full_url) == _origin(req.full_url):
            new.add_unredirected_header("Authorization", secret)
        return new


class HttpClient:
    """Makes requests, with patience and politeness."""

    def __init__(
        self,
        *,
        authorization: str | None = None,
        timeout_seconds: float = 60.0,
        num_attempts: int = 6,
        backoff_seconds: float = 1.0,
        pause_seconds: float = 0.0,
        say: Callable[[str], None] | None = None,
    ) -> None:
        """Keeps the settings; nothing is asked yet.

        Args:
            authorization: header of that name, sent to the host that is asked and to no other.
            timeout_seconds: of silence.
            num_attempts: in a row without a byte gained, after which a request has failed.
            backoff_seconds: wait after the first failure; it doubles with each further one.
            pause_seconds: between the beginnings of two requests.
            say: takes a line about each wait.
        """
        self._authorization = authorization
        self._timeout_seconds = timeout_seconds
        self._num_attempts = num_attempts
        self._backoff_seconds = backoff_seconds
        self._pause_seconds = pause_seconds
        self._say = say or (lambda text: None)
        self._next_request_time = 0.0
        self._reached_origins: set[str] = set()
        self._opener = urllib.request.build_opener(_RedirectHandler)

    def read(self, url: str) -> bytes:
        """Returns a small answer as a whole.

        Args:
            url: http or https.

        Raises:
            DownloadError: if it cannot be had.
        """

        def attempt() -> bytes:
            with self._open(url, {}) as response:
                _reject_html_page(url, response)
                return response.read()

        return self._retry(url, attempt, lambda: 0)

    def save(
        self,
        url: str,
        path: pathlib.Path,
        *,
        size: int | None = None,
        find_error: Callable[[pathlib.Path], str] | None = None,
        show: Show | None = None,
    ) -> None:
        """Fetches a file, which gets its final name only when it is complete.

        Args:
            url: http or https.
            path: of the file; its folder is made.
            size: expected, in bytes.
            find_error: returns what is wrong with the content of a file, "" if nothing. With it, a
                partial file is continued even if the server states no version of the file.
            show: takes the progress.

        Raises:
            DownloadError: if it cannot be had, is not what is expected, or does not fit on the
                disk.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with PartialFile(path) as part:
            for is_last in (False, True):
                had = part.size
                self._retry(
                    url,
                    lambda: self._resume_download(url, part, size, find_error is not None, show),
                    lambda: part.size,
                )
                if size is not None and part.size != size:
                    fault = f"{url} has {part.size} bytes instead of {size}"
                else:
                    fault = find_error(part.path) if find_error else ""
                if not fault:
                    part.rename(path)
                    return
                part.restart()
                if is_last or not had:
                    part.remove()
                    raise DownloadError(f"{fault}; nothing was kept.")
                self._say(f"{path.name}: {fault}; beginning anew")

    def _resume_download(
        self, url: str, part: "PartialFile", size: int | None, is_checked: bool, show: Show | None
    ) -> None:
        """Fetches the missing part of a file."""
        is_same_url = part.note.get("url") == url
        if part.size and part.size == (size or (is_same_url and part.note.get("size"))):
            return
        validator = part.note.get("etag") or part.note.get("modified") if is_same_url else None
        headers = {}
        if part.size and (validator or is_checked):
            headers["Range"] = f"bytes={part.size}-"
            if validator:
                headers["If-Range"] = validator
        try:
            response = self._open(url, headers)
        except urllib.error.HTTPError as error:
            if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not part.size:
                raise
            part.restart()
            raise TransferInterruptedError("the server has less than what had come") from error
        with response:
            _reject_html_page(url, response)
            total = part.accept(response)
            if None not in (size, total) and size != total:
                raise DownloadError(
                    f"{url} has {total} bytes instead of {size}: it is not the file it was."
                )
            part.write_metadata(url, response.headers, total)
            total = size if total is None else total
            if total is not None:
                check_free_space(part.path.parent, total - part.size, part.path.name)
            while total is None or part.size < total:
                limit = CHUNK_BYTES if total is None else min(CHUNK_BYTES, total - part.size)
                chunk = response.read1(limit)
                if not chunk:
                    break
                if not part.size and re.match(rb"\s*<(!doctype html|html)", chunk.lower()):
                    raise _make_html_page_error(url)
                part.append(chunk)
                if show:
                    show(part.size, total)
            if total is not None and part.size < total:
                raise TransferInterruptedError(f"after {part.size} of {total} bytes")
            part.sync()

    def _open(self, url: str, headers: dict[str, str]) -> Any:
        if urlsplit(url).scheme not in {"http", "https"}:
            raise DownloadError(f"{url} is not an http or https address.")
        request = urllib.request.Request(url, headers=headers)
        request.add_header("User-Agent", f"musrep_jax/{__version__}")
        request.add_header("Accept-Encoding", "identity")
        if self._authorization:
            request.add_unredirected_header("Authorization", self._authorization)
        time.sleep(max(0.0, self._next_request_time - time.monotonic()))
        self._next_request_time = time.monotonic() + self._pause_seconds
        response = self._opener.open(request, timeout=self._timeout_seconds)
        self._reached_origins.add(_origin(url))
        return response

    def _retry(self, url: str, attempt: Callable[[], Result], gained: Callable[[], int]) -> Result:
        """Returns what `attempt` returns, after as many failures as patience allows."""
        num_failures, most = 0, gained()
        while True:
            try:
                return attempt()
            except (
                urllib.error.URLError,
                http.client.HTTPException,
                ConnectionError,
                TimeoutError,
                ssl.SSLError,
                TransferInterruptedError,
            ) as error:
                reason, may_pass = self._classify_error(url, error)
                status = getattr(error, "code", None)
                wait = _retry_after(error)
                num_failures = 1 if gained() > most else num_failures + 1
                most = max(most, gained())
                if not may_pass or num_failures >= self._num_attempts:
                    raise DownloadError(f"{reason}.", status=status) from error
            if wait is not None and wait > _MAX_WAIT_SECONDS:
                raise DownloadError(
                    f"{reason} and asks to wait {wait / 60:.0f} minutes; run the same command "
                    "again then.",
                    status=status,
                )
            seconds = max(wait or 0.0, self._backoff_seconds * 2 ** (num_failures - 1))
            self._say(f"{reason}; trying again in {seconds:.0f} s")
            time.sleep(seconds)

    def _classify_error(self, url: str, error: Exception) -> tuple[str, bool]:
        """Returns what happened in words, and whether it may pass by itself."""
        host = urlsplit(url).hostname
        if isinstance(error, urllib.error.HTTPError):
            error.close()
            reason = " ".join(str(error.reason).split())  # of a loop of redirects it has lines
            return (
                f"{url} was answered with {error.code} ({reason})",
                error.code in _TRANSIENT_STATUSES,
            )
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        has_answered = _origin(url) in self._reached_origins
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the certificate of {host} is not valid ({cause.verify_message})", False
        if isinstance(cause, socket.gaierror):
            return f"{host} is not known: the host has gone, or there is no network", has_answered
        if isinstance(cause, OSError) and cause.errno in _UNREACHABLE_ERRNOS:
            return f"{host} cannot be reached ({cause.strerror})", has_answered
        if isinstance(cause, TimeoutError):
            return f"{host} says nothing", True
        return f"the transfer from {host} broke off ({cause})", True


def _reject_html_page(url: str, response: Any) -> None:
    is_html_page = response.headers.get_content_type() in {"text/html", "application/xhtml+xml"}
    if is_html_page and not urlsplit(url).path.endswith((".html", ".htm")):
        raise _make_html_page_error(url)


def _make_html_page_error(url: str) -> DownloadError:
    return DownloadError(
        f"{url} sent a web page instead of the file: a login, a confirmation or an error page.",
        is_html_page=True,
    )


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _retry_after(error: Exception) -> float | None:
    """Returns how many seconds the server asks to wait, or None."""
    text = error.headers.get("Retry-After") if isinstance(error, urllib.error.HTTPError) else None
    if text is None:
        return None
    if text.strip().isdigit():
        return float(text)
    try:
        date = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None  # what cannot be read asks for nothing: our own waits hold
    date = date if date.tzinfo else date.replace(tzinfo=datetime.UTC)
    return max(0.0, (date - datetime.datetime.now(datetime.UTC)).total_seconds())
