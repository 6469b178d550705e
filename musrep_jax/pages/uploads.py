"""Uploads of recordings: limited in size, and on disk only while they are needed."""

import asyncio
import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator

from starlette.exceptions import HTTPException
from starlette.requests import Request

from musrep_jax.data.doctor.quarantine import escape_path
from musrep_jax.runtime.processes import is_running

MAX_IDLE_SECONDS = 20.0
"""Seconds without new data after which an upload is canceled."""

MIN_BYTES_PER_SECOND = 32_000.0
"""That have to come on the whole, beyond the first `MAX_IDLE_SECONDS`."""

_PREFIX = "musrep-serve-"
_MAX_NAME_LENGTH = 200
_MEGABYTE = 1e6


@dataclasses.dataclass(frozen=True)
class Upload:
    """A recording that has arrived.

    Attributes:
        path: its temporary location, whose name is generated here.
        name: what it is called.
    """

    path: str
    name: str


@contextlib.contextmanager
def temporary_folder() -> Iterator[pathlib.Path]:
    """Yields a folder that is removed at the end, after removing those that killed processes left.

    The name of a folder tells its process.
    """
    for left in pathlib.Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        found = re.fullmatch(rf"{_PREFIX}(\d+)-\w+", left.name)
        if found and not is_running(int(found[1])) and left.stat().st_uid == os.getuid():
            shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-") as folder:
        yield pathlib.Path(folder)


@contextlib.asynccontextmanager
async def receive(request: Request, folder: pathlib.Path, max_bytes: int) -> AsyncIterator[Upload]:
    """Yields the recording in the body of a request; it is removed at the end.

    Args:
        request: with the recording as its body, and its name in the query.
        folder: where it is kept.
        max_bytes: that are taken.

    Raises:
        HTTPException: 413 as soon as it is known to be larger, 408 when nothing comes any more,
            or too little.
    """
    name = os.path.basename(request.query_params.get("name", "").replace("\\", "/"))
    name = escape_path(name[:_MAX_NAME_LENGTH]) or "The recording"
    refusal = HTTPException(
        413, f"{name} is larger than {max_bytes / _MEGABYTE:g} MB: send a shorter part of it, or "
        "start the page with a larger --max-upload-mb.",
    )  # fmt: skip
    declared = request.headers.get("content-length", "0")
    if not (declared.isascii() and declared.isdigit() and len(declared) < 20):
        raise HTTPException(400, "the header Content-Length is no number of bytes.")
    if int(declared) > max_bytes:
        raise refusal
    too_slow = HTTPException(
        408, f"{name} does not arrive: send it again, or a shorter part of it.",
        {"connection": "close"},
    )  # fmt: skip
    descriptor, path = tempfile.mkstemp(dir=folder)
    try:
        size, started, parts = 0, time.monotonic(), aiter(request.stream())
        with open(descriptor, "wb") as file:
            while True:
                allowed = MAX_IDLE_SECONDS + size / MIN_BYTES_PER_SECOND
                left = min(MAX_IDLE_SECONDS, started + allowed - time.monotonic())
                try:
                    part = await asyncio.wait_for(anext(parts, None), max(left, 0.0))
                except TimeoutError:
                    raise too_slow from None
                if part is None:
                    break
                size += len(part)
                if size > max_bytes:
                    raise refusal
                file.write(part)
        yield Upload(path, name)
    finally:
        os.unlink(path)
