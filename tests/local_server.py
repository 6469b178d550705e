"""A web server on this machine that misbehaves as it is told, and what it serves."""

import dataclasses
import hashlib
import http.server
import io
import pathlib
import re
import threading
import zipfile
from typing import Any

from musrep_jax.data.download.files import SourceFile

HOW = "Ask the authors for it at example.org."


@dataclasses.dataclass
class ServedFile:
    """What stands at an address.

    Attributes:
        content: the bytes.
        content_type: of the answer.
        headers: further ones.
        etag: names the version of the content; None for a server that names none.
        has_ranges: whether a part can be asked for.
        has_length: whether the answer states its length.
        break_after: bytes after which the next answers break off, one answer each.
        statuses: (status, headers) of the next answers, which come instead of the content.
        seconds_per_kilobyte: how slowly it comes.
        needs: value that the header `Authorization` must have, else 401.
    """

    content: bytes = b""
    content_type: str = "application/octet-stream"
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    etag: str | None = '"one"'
    has_ranges: bool = True
    has_length: bool = True
    break_after: list[int] = dataclasses.field(default_factory=list)
    statuses: list[tuple[int, dict[str, str]]] = dataclasses.field(default_factory=list)
    seconds_per_kilobyte: float = 0.0
    needs: str | None = None


class LocalServer:
    """Serves a table of addresses and remembers who asked what.

    Attributes:
        url: of the server, without a final slash.
        table: path with query -> `ServedFile`.
        requests: (path, headers) of every request.
    """

    def __init__(self) -> None:
        """Starts to serve."""
        self.table: dict[str, ServedFile] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        """Stops."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def asked(self, path: str) -> list[dict[str, str]]:
        """Returns the headers of the requests for a path."""
        return [headers for where, headers in self.requests if where == path]

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                """Says nothing."""

            def do_GET(self) -> None:
                owner.requests.append((self.path, dict(self.headers)))
                served = owner.table.get(self.path)
                if served is None:
                    return self.send_error(404)
                if served.needs and self.headers.get("Authorization") != served.needs:
                    return self.send_error(401)
                if served.statuses:
                    status, headers = served.statuses.pop(0)
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    return self.end_headers()
                return self.give(served)

            def give(self, served: ServedFile) -> None:
                start, size = 0, len(served.content)
                asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
                is_same = self.headers.get("If-Range", served.etag) == served.etag
                if asked and served.has_ranges and is_same:
                    start = int(asked[1])
                    if start >= size:
                        self.send_response(416)
                        self.send_header("Content-Range", f"bytes */{size}")
                        return self.end_headers()
                    self.send_response(206)
                    self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
                else:
                    self.send_response(200)
                if served.has_length:
                    self.send_header("Content-Length", str(size - start))
                self.send_header("Content-Type", served.content_type)
                if served.etag:
                    self.send_header("ETag", served.etag)
                for name, value in served.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                rest = served.content[start:]
                if served.break_after:
                    rest = rest[: served.break_after.pop(0)]
                self.trickle(rest, served.seconds_per_kilobyte)

            def trickle(self, content: bytes, seconds: float) -> None:
                try:
                    if not seconds:
                        self.wfile.write(content)
                        return
                    for at in range(0, len(content), 1024):
                        self.wfile.write(content[at : at + 1024])
                        threading.Event().wait(seconds)
                except ConnectionError:
                    """Whoever asked has gone."""

        return Handler


def digest(content: bytes) -> str:
    """Returns the sha256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def serve(
    server: LocalServer, content: bytes, path: str, *, pinned: bool = True, **settings: Any
) -> SourceFile:
    """Serves a file and returns its description, with size and sha256 if it is pinned."""
    server.table[f"/{path}"] = ServedFile(content, **settings)
    facts = (len(content), digest(content)) if pinned else (None, None)
    return SourceFile(path, f"{server.url}/{path}", *facts, how=HOW)


def names(folder: pathlib.Path) -> list[str]:
    """Returns the files under a folder."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def put(folder: pathlib.Path, path: str, content: bytes) -> None:
    """Writes a file, with its folders."""
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(content)


MEMBERS = {f"{n % 3}/clip {n}.mp3": bytes([n]) * (3000 + n) for n in range(9)}
"""What the archives hold."""


def make_zip(members: dict[str, bytes] = MEMBERS) -> bytes:
    """Returns a zip."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return file.getvalue()


def unpacked(folder: pathlib.Path) -> dict[str, bytes]:
    """Returns what of `MEMBERS` is there."""
    return {name: (folder / name).read_bytes() for name in MEMBERS if (folder / name).is_file()}
