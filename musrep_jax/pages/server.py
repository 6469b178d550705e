"""The local page of a model, `musrep serve`: drop a recording, hear it, see its tags.

Starlette, uvicorn and plain JavaScript: a few small packages whose interfaces have stayed the same
for years, where Gradio brings dozens, and fonts and telemetry from elsewhere. The page asks nothing
of other machines. It is called by its own script, or with commands such as

    curl http://127.0.0.1:8765/api/model
    curl --data-binary @song.mp3 "http://127.0.0.1:8765/api/tag?name=song.mp3&k=5"

GET /api/model
    model, fingerprint, labels, thresholds, label_groups, is_calibrated, trained_on, license,
    is_synthetic, sample_rate, chunk_seconds, max_seconds, max_upload_bytes, and store: path and
    tracks, or null.
POST /api/tag?name=NAME&k=K
    Of the recording in the body: name, seconds, is_silent, tags (label to probability), chosen
    (the labels that are tags: above their threshold, one of a group of exclusive ones), chunks
    (start, end, is_silent, tags, chosen); what is silent cannot be judged, and its tags are empty.
    And with a store similar, its K nearest tracks: row, name, path, score, seconds, is_playable.
    The recording itself is left out, if the store has it.
POST /api/explain?name=NAME&tag=LABEL&tag=LABEL
    Of the recording in the body, its first half minute: maps over time of what these tags (the most
    probable, if none is named) rest on, as `musrep explain` makes them: duration, spectrogram, maps
    (title, caption, names, spans, numRows, isSigned, range, special, bytes: 0 to 255, in base64).
POST /api/wav?name=NAME
    The recording in the body as the model hears it: for browsers that cannot play its format.
GET /api/tracks/ROW, GET /api/tracks/ROW/wav
    The file of a track of the store, and the same as the model hears it.

The body is the file itself, in any format that `musrep tag` reads; `name` is only shown; `k` is 10
if it is not said. The numbers are those of `musrep tag` and `musrep similar`. An error is an object
with the sentence `error`, and has status 400 (the request is wrong, or this recording cannot be
used), 403 (a page of another site asks), 404, 408 (the recording does not arrive), 413 (larger than
allowed: said before or while it comes, and the rest is thrown away) or 503 (too many at once, or
the server is being stopped).

One recording is computed at a time, the others wait in order.
"""

import asyncio
import contextlib
import errno
import ipaddress
import logging
import pathlib
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import IO, Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from musrep_jax.pages import read_static
from musrep_jax.pages.guard import RequestGuard
from musrep_jax.pages.tagging_service import RecordingError, RequestCanceledError, TaggingService
from musrep_jax.pages.uploads import Upload, receive
from musrep_jax.runtime.files import to_json_safe

MAX_PENDING_REQUESTS = 16
"""Recordings that are computed or waiting; further requests are asked to retry."""
MAX_UPLOADS = 64
"""Recordings being uploaded; stalled uploads are canceled, see `uploads`."""
_MAX_DIGITS = 18
_MAX_NEAREST = 100
_MAX_EXPLAINED = 8
_STATIC = {
    "maps.js": "text/javascript",
    "recordings.js": "text/javascript",
    "serve.js": "text/javascript",
    "taggram.js": "text/javascript",
    "serve.css": "text/css",
    "theme.css": "text/css",
    "icon.svg": "image/svg+xml",
}
_MEDIA_TYPES = {
    ".aac": "audio/aac", ".aif": "audio/aiff", ".aiff": "audio/aiff", ".flac": "audio/flac",
    ".m4a": "audio/mp4", ".mp3": "audio/mpeg", ".mp4": "audio/mp4", ".oga": "audio/ogg",
    ".ogg": "audio/ogg", ".opus": "audio/ogg", ".wav": "audio/wav",
}  # fmt: skip
"""Media types of a store's files; never that of a page."""
_BLOCK_BYTES = 1 << 16
_SHUTDOWN_SECONDS = 3
_TOO_MANY = "Too many recordings at once: try again in a moment."


class ServeError(ValueError):
    """The page cannot be served; the message is one sentence."""


class Page:
    """The page and its API.

    Attributes:
        app: for uvicorn, or any other ASGI server.
    """

    def __init__(
        self, service: TaggingService, folder: pathlib.Path, max_upload_bytes: int, host: str
    ) -> None:
        """Sets up the routes; computes nothing yet.

        Args:
            service: model and store.
            folder: for recordings while they are needed.
            max_upload_bytes: of a recording.
            host: name or address that the page is called by, beside all addresses in figures.
        """
        self._service, self._folder, self._max_upload_bytes = service, folder, max_upload_bytes
        self._compute_lock = asyncio.Lock()
        self._active_requests: set[threading.Event] = set()
        self._num_uploads = 0
        self._is_closing = False
        statics = [
            Route(f"/static/{name}", _make_static_handler(name, media_type))
            for name, media_type in _STATIC.items()
        ]
        self.app = Starlette(
            routes=[
                Route("/", _make_static_handler("serve.html", "text/html")),
                *statics,
                Route("/api/model", self._about),
                Route("/api/tag", self._tag, methods=["POST"]),
                Route("/api/explain", self._explain, methods=["POST"]),
                Route("/api/wav", self._wav, methods=["POST"]),
                Route("/api/tracks/{row}", self._track),
                Route("/api/tracks/{row}/wav", self._track_wav),
            ],
            middleware=[Middleware(RequestGuard, host=host)],
            exception_handlers={
                HTTPException: _refused,
                RecordingError: _handle_recording_error,
                ClientDisconnect: _handle_disconnect,
                RequestCanceledError: _handle_disconnect,
                Exception: _handle_internal_error,
            },
        )

    def about(self) -> dict[str, Any]:
        """Returns the response of `GET /api/model`."""
        return self._service.about() | {"max_upload_bytes": self._max_upload_bytes}

    def close(self) -> None:
        """Cancels pending work, so that the server can stop."""
        self._is_closing = True
        for is_over in self._active_requests:
            is_over.set()

    async def _about(self, _: Request) -> Response:
        return JSONResponse(self.about())

    async def _tag(self, request: Request) -> Response:
        asked = request.query_params.get("k", "10")
        if not (_is_number(asked) and 1 <= int(asked) <= _MAX_NEAREST):
            raise HTTPException(400, f"k is {asked[:20]!r}; it must be 1 to {_MAX_NEAREST}.")
        async with self._receive(request) as upload:
            with self._reserve_slot() as is_over:
                found = await self._run_exclusively(
                    request, is_over,
                    self._service.tag, upload.path, upload.name, int(asked), is_over,
                )  # fmt: skip
        return JSONResponse(found)

    async def _explain(self, request: Request) -> Response:
        tags = request.query_params.getlist("tag")
        if len(tags) > _MAX_EXPLAINED:
            raise HTTPException(
                400, f"{len(tags)} tags were asked for; {_MAX_EXPLAINED} at most are explained."
            )
        async with self._receive(request) as upload:
            with self._reserve_slot() as is_over:
                found = await self._run_exclusively(
                    request, is_over,
                    self._service.explain, upload.path, upload.name, tags, is_over,
                )  # fmt: skip
        return JSONResponse(to_json_safe(found))

    async def _wav(self, request: Request) -> Response:
        async with self._receive(request) as upload:
            with self._reserve_slot() as is_over:
                return await self._respond_with_wav(request, upload, is_over)

    @contextlib.asynccontextmanager
    async def _receive(self, request: Request) -> AsyncIterator[Upload]:
        """Yields the recording in a request; uploads do not block other requests."""
        self._check_slots()
        if self._num_uploads >= MAX_UPLOADS:
            raise HTTPException(503, _TOO_MANY)
        self._num_uploads += 1
        try:
            stack = contextlib.AsyncExitStack()
            upload = await stack.enter_async_context(
                receive(request, self._folder, self._max_upload_bytes)
            )
        finally:
            self._num_uploads -= 1
        async with stack:
            yield upload

    async def _track(self, request: Request) -> Response:
        path = self._find_track(request)
        media_type = _MEDIA_TYPES.get(path.suffix.lower(), "application/octet-stream")
        return FileResponse(path, media_type=media_type)

    async def _track_wav(self, request: Request) -> Response:
        path = self._find_track(request)
        with self._reserve_slot() as is_over:
            return await self._respond_with_wav(request, Upload(str(path), path.name), is_over)

    def _find_track(self, request: Request) -> pathlib.Path:
        row = request.path_params["row"]
        if len(row) > _MAX_DIGITS:
            raise HTTPException(400, "The number of the track has too many digits.")
        path = self._service.find_track(int(row)) if _is_number(row) else None
        if path is None:
            raise HTTPException(404, "The store has no such track, or its file is gone or changed.")
        return path

    async def _respond_with_wav(
        self, request: Request, upload: Upload, is_over: threading.Event
    ) -> Response:
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(tempfile.TemporaryFile(dir=self._folder))
            await self._run_exclusively(
                request, is_over, self._service.write_wav, upload.path, upload.name, file, is_over
            )
            stack.pop_all()  # the answer closes it
        headers = {"content-length": str(file.tell())}
        return StreamingResponse(_stream_file(file), media_type="audio/wav", headers=headers)

    @contextlib.contextmanager
    def _reserve_slot(self) -> Iterator[threading.Event]:
        """Yields what says that an answer is no longer wanted; refuses when there are too many."""
        self._check_slots()
        is_over = threading.Event()
        self._active_requests.add(is_over)
        try:
            yield is_over
        finally:
            is_over.set()
            self._active_requests.discard(is_over)

    def _check_slots(self) -> None:
        if self._is_closing or len(self._active_requests) >= MAX_PENDING_REQUESTS:
            raise HTTPException(503, _TOO_MANY)

    async def _run_exclusively(
        self, request: Request, is_over: threading.Event, work: Callable[..., Any], *args: Any
    ) -> Any:
        """Runs work in a thread, after all earlier work, and returns its result."""

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            is_over.set()

        watcher = asyncio.create_task(watch())
        try:
            async with self._compute_lock:
                if is_over.is_set():
                    raise RequestCanceledError
                return await asyncio.to_thread(work, *args)
        finally:
            watcher.cancel()


def _is_number(text: str) -> bool:
    """Returns whether text is a whole number that is worth reading."""
    return text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS


def _stream_file(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        file.seek(0)
        while part := file.read(_BLOCK_BYTES):
            yield part


def _make_static_handler(name: str, media_type: str) -> Callable[[Request], Response]:
    def answer(_: Request) -> Response:
        return Response(read_static(name), media_type=media_type)

    return answer


def _refused(_: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


def _handle_recording_error(_: Request, error: RecordingError) -> Response:
    return JSONResponse({"error": str(error)}, 400)


def _handle_disconnect(_: Request, error: Exception) -> Response:
    """Returns the response to requests that are pending when the server stops."""
    return JSONResponse({"error": "The server is being stopped."}, 503)


def _handle_internal_error(_: Request, error: Exception) -> Response:
    """Returns the response to an internal error, which the server's log has in full."""
    sentence = f"The server failed ({type(error).__name__}: {error}); its terminal says where."
    return JSONResponse({"error": sentence}, 500)


def bind(host: str, port: int) -> socket.socket:
    """Returns a socket that listens.

    Args:
        host: name or address of this machine.
        port: 0 for any that is free.

    Raises:
        ServeError: if that cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise ServeError(f"{host} is no name or address of this machine.") from error
    bound = socket.socket(family, kind, protocol)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
        bound.listen()
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise ServeError(
                f"port {port} of {host} is in use, perhaps by another musrep serve: take another "
                "with --port, or --port 0 for any that is free."
            ) from error
        raise ServeError(f"cannot listen on port {port} of {host}: {error.strerror}.") from error
    return bound


def get_page_url(bound: socket.socket) -> str:
    """Returns the address of the page that a socket serves."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def is_loopback(bound: socket.socket) -> bool:
    """Returns whether only this machine reaches a socket."""
    return ipaddress.ip_address(bound.getsockname()[0]).is_loopback


class Server(uvicorn.Server):
    """Serves a page until SIGINT or SIGTERM, which are then raised again; what is under way ends.

    `run(sockets=[bound])` does it.
    """

    def __init__(self, page: Page) -> None:
        """Prepares to serve.

        Args:
            page: that is served.
        """
        super().__init__(
            uvicorn.Config(
                page.app, http="h11", ws="none", lifespan="off", log_config=None, access_log=False,
                server_header=False, proxy_headers=False,
                timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
            )
        )  # fmt: skip
        self._page = page

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stops the server and notifies pending requests."""
        self._page.close()
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets)
