"""Downloads recordings and audio from Dunya: rate-limited, resumable, with a list of refusals.

Every answer is kept at once, so that a run that is broken off loses one recording at most. The
token is taken from the environment by the command; it is sent to Dunya only, and never shown.

Source: the API's requests are those of MTG/pycompmusic and the fields those of MTG/dunya.
"""

import contextlib
import csv
import dataclasses
import datetime
import json
import pathlib
import re
from collections.abc import Callable, Collection
from typing import Any
from urllib.parse import urlsplit

from musrep_jax.data.corpora.dunya import AUDIO_FILE, RECORDING_FILE, REFUSED_FILE, DunyaError
from musrep_jax.data.download.http_client import HttpClient
from musrep_jax.data.download.partial_files import (
    DownloadError,
    reraise_disk_full_as_download_error,
)
from musrep_jax.runtime.files import write_json, write_text
from musrep_jax.runtime.progress import Progress

HOST = "https://dunya.compmusic.upf.edu"
TOKEN_VARIABLE = "DUNYA_TOKEN"

LISTING_FILE = "recordings/.listing.json"
"""In the corpus' folder: which page of the list of recordings comes next."""

_HEADER = ("mbid", "status", "reason", "date")
_MBID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_FORBIDDEN_STATUSES = {401, 403}
_GONE_STATUSES = {400, 404, 410}
_MAX_CONSECUTIVE_REFUSALS = 10
"""Refusals in a row, before anything was given, after which no more is asked."""
_MAX_CONSECUTIVE_FAILURES = 3
"""Failures of the server in a row after which no more is asked."""
_MIN_IDS_FOR_LISTING = 100
"""Recordings; fewer are asked for one by one."""


@dataclasses.dataclass(frozen=True)
class DunyaState:
    """The local state of a corpus from Dunya.

    Attributes:
        wanted: ids of the recordings that were asked for.
        described: those of them whose metadata are there.
        heard: those of them whose audio is present.
        refused: id -> (status, reason, date), of those that Dunya would not give.
    """

    wanted: tuple[str, ...]
    described: tuple[str, ...]
    heard: tuple[str, ...]
    refused: dict[str, tuple[str, str, str]]

    @property
    def missing(self) -> tuple[str, ...]:
        """Those that are still to be asked for."""
        done = {*self.heard, *self.refused}
        return tuple(mbid for mbid in self.wanted if mbid not in done)


def make_dunya_http_client(
    token: str | None, *, pause_seconds: float = 1.0, **settings: Any
) -> HttpClient:
    """Returns what asks Dunya.

    Args:
        token: of the user's account.
        pause_seconds: between two requests.
        **settings: of `HttpClient`.

    Raises:
        DunyaError: if the token is missing or malformed.
    """
    where = f"make an account at {HOST}, and copy the token that your profile page there shows"
    if not token or not token.strip():
        raise DunyaError(f"the environment variable {TOKEN_VARIABLE} is not set: {where} into it.")
    if not re.fullmatch(r"[\x21-\x7e]+", token.strip()):
        raise DunyaError(f"{TOKEN_VARIABLE} holds more than a token: {where}, and nothing else.")
    return HttpClient(
        authorization=f"Token {token.strip()}", pause_seconds=pause_seconds, **settings
    )


def look(folder: pathlib.Path, ids: Collection[str] | None) -> DunyaState:
    """Returns the local state, without a request to Dunya.

    Args:
        folder: of the corpus.
        ids: of the recordings that are wanted; None for all whose metadata are there.

    Raises:
        DunyaError: if an id is not a MusicBrainz id, or the list of refusals is damaged.
    """
    there = {path.stem for path in (folder / "recordings").glob("*.json") if path.stem[0] != "."}
    for mbid in ids or ():
        if not _MBID.fullmatch(mbid):
            raise DunyaError(f"{mbid!r} is not the id of a recording (a MusicBrainz id).")
    wanted = sorted(there if ids is None else set(ids))
    refused = read_refused(folder)
    return DunyaState(
        wanted=tuple(wanted),
        described=tuple(mbid for mbid in wanted if mbid in there),
        heard=tuple(m for m in wanted if (folder / AUDIO_FILE.format(mbid=m)).is_file()),
        refused={mbid: refused[mbid] for mbid in wanted if mbid in refused},
    )


def read_refused(folder: pathlib.Path) -> dict[str, tuple[str, str, str]]:
    """Returns mbid -> (status, reason, date) of refused recordings; {} if there is no list.

    Args:
        folder: of the corpus.

    Raises:
        DunyaError: if the list is damaged.
    """
    path = folder / REFUSED_FILE
    if not path.is_file():
        return {}
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    if not rows or tuple(rows[0]) != _HEADER or any(len(row) != len(_HEADER) for row in rows):
        raise DunyaError(f"{path} is damaged; delete it, and what it lists is asked for again.")
    return {mbid: (status, reason, date) for mbid, status, reason, date in rows[1:]}


class DunyaClient:
    """One tradition of Dunya, and the folder that it is fetched into."""

    def __init__(
        self,
        tradition: str,
        folder: pathlib.Path,
        web: HttpClient,
        *,
        host: str | None = None,
        say: Callable[[str], None] | None = None,
        make_progress: Callable[[str, str], Progress] = Progress,
    ) -> None:
        """Stores the settings; sends no request yet.

        Args:
            tradition: "makam", "hindustani" or "carnatic".
            folder: of the corpus; it is made.
            web: as `make_dunya_http_client` makes it.
            host: where Dunya is; None for `HOST`.
            say: takes a line about what goes wrong on the way.
            make_progress: makes what shows the progress, from a name and a unit.
        """
        self._host = host or HOST
        self._api = f"{self._host}/api/{tradition}/recording"
        self._folder = pathlib.Path(folder)
        self._web = web
        self._say = say or (lambda text: None)
        self._make_progress = make_progress
        self._refused: dict[str, tuple[str, str, str]] = {}

    def fetch(self, ids: Collection[str] | None, *, retry_refused: bool = False) -> DunyaState:
        """Fetches missing recordings; returns the resulting state.

        Args:
            ids: of the recordings that are wanted; None for all that Dunya has.
            retry_refused: whether what was refused before is asked for again, and all recordings
                are listed anew.

        Raises:
            DunyaError: if the token is not accepted, or may not fetch audio.
            DownloadError: if Dunya cannot be reached or fails, or the disk is full.
        """
        (self._folder / "recordings").mkdir(parents=True, exist_ok=True)
        self._refused = {} if retry_refused else read_refused(self._folder)
        state = look(self._folder, ids)
        lacking = self._select_pending(state.wanted, state.described)
        if retry_refused:
            (self._folder / LISTING_FILE).unlink(missing_ok=True)
        if ids is None or lacking or self._select_pending(state.described, state.heard):
            self._verify_token()
        if ids is None or len(lacking) > _MIN_IDS_FOR_LISTING:
            self._list_recordings(is_all=ids is None)
            state = look(self._folder, ids)
            lacking = self._select_pending(state.wanted, state.described)
        self._fetch_each("metadata", lacking, self._describe, has_succeeded=True)
        described = look(self._folder, ids).described
        unheard = self._select_pending(described, state.heard)
        self._fetch_each("audio", unheard, self._fetch_audio, has_succeeded=bool(state.heard))
        return look(self._folder, ids)

    def _select_pending(self, wanted: Collection[str], there: Collection[str]) -> list[str]:
        done = {*there, *self._refused}
        return [mbid for mbid in wanted if mbid not in done]

    def _list_recordings(self, *, is_all: bool) -> None:
        """Keeps every recording of the list, page by page, from the page that comes next."""
        path = self._folder / LISTING_FILE
        following = f"{urlsplit(self._api).path}?detail=1"
        if path.is_file():
            following = json.loads(path.read_text(encoding="utf-8"))["next"]
        num_listed = 0
        with contextlib.closing(self._make_progress("listing", "recordings")) as show:
            while following:
                try:
                    page = self._get_json(f"{self._host}{following}")
                except DownloadError as error:
                    if is_all or error.status is None:
                        raise
                    self._say(f"{error} The recordings are asked for one by one.")
                    return
                for recording in page.get("results") or ():
                    num_listed += 1
                    if _MBID.fullmatch(str(recording.get("mbid"))):
                        self._keep(recording["mbid"], recording)
                    else:
                        self._say(f"Dunya lists a recording with the id {recording.get('mbid')!r}.")
                show(num_listed, page.get("count"))
                # Only path and query: behind its proxy Dunya may name itself otherwise.
                parts = urlsplit(page.get("next") or "")
                following = f"{parts.path}?{parts.query}" if page.get("next") else None
                with reraise_disk_full_as_download_error(path):
                    write_json(path, {"next": following})

    def _describe(self, mbid: str) -> None:
        self._keep(mbid, self._get_json(f"{self._api}/{mbid}"))

    def _fetch_audio(self, mbid: str) -> None:
        path = self._folder / AUDIO_FILE.format(mbid=mbid)
        self._web.save(f"{self._host}/document/by-id/{mbid}/mp3", path)

    def _verify_token(self) -> None:
        """Asks for what every account may see, so that later refusals are not the token's."""
        try:
            self._get_json(self._api)
        except DownloadError as error:
            if error.status not in _FORBIDDEN_STATUSES and not error.is_html_page:
                raise
            raise DunyaError(
                f"Dunya does not accept the token in {TOKEN_VARIABLE}: {error} Your profile page "
                f"at {HOST} shows the right one."
            ) from error

    def _get_json(self, url: str) -> dict[str, Any]:
        """Returns an answer of the API."""
        try:
            answer = json.loads(self._web.read(url))
        except ValueError as error:
            raise DunyaError(f"{url} did not give JSON; is Dunya well?") from error
        if not isinstance(answer, dict):
            raise DunyaError(f"{url} did not give what the API of Dunya gives.")
        return answer

    def _keep(self, mbid: str, recording: dict[str, Any]) -> None:
        path = self._folder / RECORDING_FILE.format(mbid=mbid)
        with reraise_disk_full_as_download_error(path):
            write_json(path, recording)

    def _fetch_each(
        self,
        what: str,
        ids: Collection[str],
        fetch: Callable[[str], None],
        *,
        has_succeeded: bool,
    ) -> None:
        """Fetches recordings one by one, and records confirmed refusals."""
        doubted: dict[str, DownloadError] = {}
        num_failures = 0
        with contextlib.closing(self._make_progress(what, "recordings")) as show:
            for number, mbid in enumerate(ids, start=1):
                try:
                    fetch(mbid)
                except DownloadError as error:
                    if error.is_local or (error.status is None and not error.is_html_page):
                        raise
                    if error.status in _GONE_STATUSES:
                        self._refuse({mbid: error})
                    elif error.status in _FORBIDDEN_STATUSES or error.is_html_page:
                        doubted[mbid] = error
                    else:
                        num_failures += 1
                        self._say(f"{error} It is left for another time.")
                        if num_failures >= _MAX_CONSECUTIVE_FAILURES:
                            raise
                else:
                    has_succeeded, num_failures = True, 0
                if doubted and has_succeeded:
                    self._refuse(doubted)
                    doubted = {}
                if len(doubted) >= _MAX_CONSECUTIVE_REFUSALS:
                    break
                show(number, len(ids))
        if doubted:
            error = next(iter(doubted.values()))
            raise DunyaError(
                f"the account of this token may not fetch audio from Dunya: {error} Ask for "
                f"access on your profile page at {HOST}, then run the same command again; the "
                "metadata are there."
            ) from error

    def _refuse(self, errors: dict[str, DownloadError]) -> None:
        """Writes the list of refusals."""
        date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for mbid, error in errors.items():
            self._refused[mbid] = (str(error.status or "page"), " ".join(str(error).split()), date)
        rows = [_HEADER, *((mbid, *row) for mbid, row in sorted(self._refused.items()))]
        text = "".join("\t".join(row) + "\n" for row in rows)
        with reraise_disk_full_as_download_error(self._folder / REFUSED_FILE):
            write_text(self._folder / REFUSED_FILE, text)
