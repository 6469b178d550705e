"""Downloads against a server on this machine that breaks off, lies, refuses; checks."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import time
import types

import pytest
from local_server import HOW, LocalServer, digest, names, serve

from musrep_jax.data.download import partial_files
from musrep_jax.data.download.files import (
    CHECKSUMS_FILE,
    ChecksumCache,
    SourceFile,
    check_file,
    check_files,
    fetch_file,
    find_missing_files,
)
from musrep_jax.data.download.http_client import HttpClient
from musrep_jax.data.download.partial_files import DownloadError
from musrep_jax.runtime.progress import Progress

CONTENT = bytes(range(256)) * 400


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    local = LocalServer()
    yield local
    local.close()


@pytest.fixture
def web():
    return HttpClient(backoff_seconds=0.001, num_attempts=3, timeout_seconds=5.0)


def serve_clip(server, **settings):
    return serve(server, CONTENT, "a/clip.bin", **settings)


def ranges(server, file):
    path = file.url.removeprefix(server.url)
    return [headers.get("Range") for headers in server.asked(path)]


def test_a_file_comes_whole_and_once(server, web, tmp_path):
    file = serve_clip(server)
    assert fetch_file(file, tmp_path, web=web).state == "downloaded"
    assert (tmp_path / file.path).read_bytes() == CONTENT
    assert names(tmp_path) == [CHECKSUMS_FILE, file.path]
    assert fetch_file(file, tmp_path, web=web).state == "present"
    assert len(server.requests) == 1


@pytest.mark.parametrize("pinned", [True, False])
def test_after_a_break_the_rest_comes(server, web, tmp_path, pinned):
    file = serve_clip(server, pinned=pinned, break_after=[30_000, 20_000])
    assert fetch_file(file, tmp_path, web=web).is_ready
    assert (tmp_path / file.path).read_bytes() == CONTENT
    assert ranges(server, file) == [None, "bytes=30000-", "bytes=50000-"]
    assert server.requests[1][1]["If-Range"] == '"one"'


def test_progress_keeps_patience_alive(server, web, tmp_path):
    file = serve_clip(server, break_after=[10_000] * 9)
    assert fetch_file(file, tmp_path, web=web).is_ready
    assert len(server.requests) == 10


def test_a_file_that_shrank_ends_patience(server, web, tmp_path):
    """The server breaks off at the end of a shorter file, names no length, and has no more."""
    file = serve(server, CONTENT, "a/clip.bin", has_length=False)
    server.table["/a/clip.bin"].content = CONTENT[:5000]
    with pytest.raises(DownloadError, match=r"broke off .*after 5000 of 102400 bytes|less than"):
        fetch_file(file, tmp_path, web=web)
    assert len(server.requests) < 9


def test_a_server_that_ignores_ranges_sends_all_again(server, web, tmp_path):
    file = serve_clip(server, break_after=[30_000], has_ranges=False)
    assert fetch_file(file, tmp_path, web=web).is_ready
    assert (tmp_path / file.path).read_bytes() == CONTENT


def test_a_file_that_changed_meanwhile_comes_whole(server, tmp_path):
    impatient = HttpClient(backoff_seconds=0.001, num_attempts=1)
    file = serve_clip(server, pinned=False, break_after=[30_000])
    with pytest.raises(DownloadError, match="broke off"):
        fetch_file(file, tmp_path, web=impatient)
    assert "MB of it have come" in check_file(file, tmp_path).note
    served = server.table[f"/{file.path}"]
    served.content, served.etag = CONTENT[::-1], '"two"'
    assert fetch_file(file, tmp_path, web=impatient).is_ready
    assert (tmp_path / file.path).read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("pinned", [True, False])
def test_without_a_version_only_a_checksum_allows_to_continue(server, web, tmp_path, pinned):
    file = serve_clip(server, pinned=pinned, break_after=[30_000], etag=None)
    assert fetch_file(file, tmp_path, web=web).is_ready
    assert ranges(server, file) == [None, "bytes=30000-" if pinned else None]


def test_a_wrong_continuation_is_noticed_and_all_is_fetched_again(server, web, tmp_path):
    file = serve_clip(server, etag=None)
    (tmp_path / "a").mkdir()
    (tmp_path / f"{file.path}.part").write_bytes(b"something else")
    assert fetch_file(file, tmp_path, web=web).is_ready
    assert ranges(server, file) == ["bytes=14-", None]
    assert (tmp_path / file.path).read_bytes() == CONTENT


def test_what_is_longer_than_the_file_is_fetched_again(server, web, tmp_path):
    file = serve_clip(server)
    (tmp_path / "a").mkdir()
    (tmp_path / f"{file.path}.part").write_bytes(CONTENT + b"more")
    assert fetch_file(file, tmp_path, web=web).is_ready
    assert (tmp_path / file.path).read_bytes() == CONTENT


def test_a_killed_download_goes_on(server, tmp_path):
    file = serve_clip(server, pinned=False, seconds_per_kilobyte=0.05)
    code = (
        "import sys; from musrep_jax.data.download.files import SourceFile, fetch_file; "
        "fetch_file(SourceFile(sys.argv[1], sys.argv[2], None, None), sys.argv[3])"
    )
    words = [sys.executable, "-c", code, file.path, file.url, str(tmp_path)]
    child = subprocess.Popen(words)
    part = tmp_path / f"{file.path}.part"
    deadline = time.monotonic() + 20.0
    while not (part.is_file() and part.stat().st_size > 10_000):
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.005)
    with pytest.raises(DownloadError, match="another process is fetching"):
        fetch_file(file, tmp_path)
    child.send_signal(signal.SIGKILL)
    child.wait()
    had = part.stat().st_size
    assert not (tmp_path / file.path).exists()
    server.table[f"/{file.path}"].seconds_per_kilobyte = 0.0
    assert fetch_file(file, tmp_path).is_ready
    assert (tmp_path / file.path).read_bytes() == CONTENT
    assert ranges(server, file) == [None, f"bytes={had}-"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_may_pass_is_tried_again(server, web, tmp_path, status):
    file = serve_clip(server, statuses=[(status, {})])
    assert fetch_file(file, tmp_path, web=web).is_ready
    assert len(server.requests) == 2


def test_the_server_says_how_long_to_wait(server, tmp_path):
    said = []
    web = HttpClient(backoff_seconds=0.001, say=said.append)
    start = time.monotonic()
    past = "Mon, 02 Jan 2006 15:04:05 GMT"
    statuses = [(429, {"Retry-After": "1"}), (503, {"Retry-After": past}),
                (503, {"Retry-After": "soon"})]  # fmt: skip
    assert fetch_file(serve_clip(server, statuses=statuses), tmp_path, web=web).is_ready
    assert time.monotonic() - start >= 1.0
    assert "429" in said[0]
    assert "trying again in 1 s" in said[0]
    file = serve(server, CONTENT, "b.bin", statuses=[(429, {"Retry-After": "7200"})])
    with pytest.raises(DownloadError, match="asks to wait 120 minutes"):
        fetch_file(file, tmp_path, web=web)


def test_patience_ends(server, web, tmp_path):
    file = serve_clip(server, statuses=[(503, {})] * 9)
    with pytest.raises(DownloadError, match=r"answered with 503.*By hand: Ask the authors"):
        fetch_file(file, tmp_path, web=web)
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_dead_link_names_the_manual_way(server, web, tmp_path, status):
    file = serve_clip(server, statuses=[(status, {})])
    with pytest.raises(DownloadError) as caught:
        fetch_file(file, tmp_path, web=web)
    message = str(caught.value)
    assert str(status) in message
    assert HOW in message
    assert str(tmp_path / file.path) in message
    assert f"{file.size} bytes, sha256 {file.sha256}" in message
    assert caught.value.status == status
    assert len(server.requests) == 1
    assert names(tmp_path) == []


def test_redirects_in_a_circle_are_one_sentence(server, web, tmp_path):
    file = serve_clip(server, statuses=[(302, {"Location": "/a/clip.bin"})] * 20)
    with pytest.raises(DownloadError, match=r"answered with 302 \(.*infinite loop") as caught:
        fetch_file(file, tmp_path, web=web)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://no.such.host.invalid/x", "no.such.host.invalid is not known"),
        ("http://127.0.0.1:9/x", "127.0.0.1 cannot be reached"),
        ("ftp://example.org/x", "is not an http or https address"),
    ],
)
def test_no_server_at_all(web, tmp_path, monkeypatch, url, reason):
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(DownloadError, match=f"{reason}.*By hand"):
        fetch_file(SourceFile("x", url, None, None, how=HOW), tmp_path, web=web)


@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", "application/zip"])
def test_a_page_instead_of_the_file(server, web, tmp_path, content_type):
    page = b"\n <!DOCTYPE html><title>Virus scan warning</title>"
    file = serve(server, page, "a/clip.bin", pinned=False, content_type=content_type)
    with pytest.raises(DownloadError, match="sent a web page instead of the file") as caught:
        fetch_file(file, tmp_path, web=web)
    assert caught.value.is_html_page
    assert names(tmp_path) == []


def test_a_wrong_checksum_names_both_and_keeps_nothing(server, web, tmp_path):
    file = serve_clip(server)
    server.table[f"/{file.path}"].content = CONTENT[::-1]
    with pytest.raises(DownloadError) as caught:
        fetch_file(file, tmp_path, web=web)
    assert digest(CONTENT) in str(caught.value)
    assert digest(CONTENT[::-1]) in str(caught.value)
    assert set(names(tmp_path)) <= {CHECKSUMS_FILE}
    assert len(server.requests) == 1


def test_a_file_of_another_size_is_not_even_fetched(server, web, tmp_path):
    file = serve_clip(server)
    server.table[f"/{file.path}"].content = CONTENT * 2
    with pytest.raises(DownloadError, match=f"{2 * len(CONTENT)} bytes instead of {len(CONTENT)}"):
        fetch_file(file, tmp_path, web=web)
    assert names(tmp_path) == []


def test_what_is_there_and_wrong_is_left_alone(server, web, tmp_path):
    file = serve_clip(server)
    (tmp_path / "a").mkdir()
    for content, state in ((b"short", "wrong size"), (CONTENT[::-1], "wrong checksum")):
        (tmp_path / file.path).write_bytes(content)
        assert check_file(file, tmp_path).state == state
        with pytest.raises(DownloadError, match="Move it away"):
            fetch_file(file, tmp_path, web=web)
        assert (tmp_path / file.path).read_bytes() == content
    assert not server.requests


def test_a_full_disk_is_said_before(server, web, tmp_path, monkeypatch):
    usage = types.SimpleNamespace(total=1, used=1, free=50_000)
    monkeypatch.setattr(partial_files.shutil, "disk_usage", lambda _: usage)
    file = serve_clip(server)
    with pytest.raises(DownloadError, match=r"needs 0\.1 MB more.* has 0\.1 MB free") as caught:
        fetch_file(file, tmp_path, web=web)
    assert HOW not in str(caught.value)
    (tmp_path / "a").mkdir(exist_ok=True)
    (tmp_path / f"{file.path}.part").write_bytes(CONTENT[:60_000])
    assert fetch_file(file, tmp_path, web=web).is_ready  # what is missing fits


def test_a_full_disk_is_said_when_it_happens(server, tmp_path):
    file = serve_clip(server)
    code = (
        "import resource, sys; from musrep_jax.data.download.files import SourceFile, fetch_file\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50000, 50000))\n"
        "try: fetch_file(SourceFile(sys.argv[1], sys.argv[2], None, None), sys.argv[3])\n"
        "except OSError as error: print(error)"
    )
    words = [sys.executable, "-c", code, file.path, file.url, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("no room left on the disk while writing")
    assert done.stdout.count("\n") == 1
    assert fetch_file(file, tmp_path).is_ready
    assert (tmp_path / file.path).read_bytes() == CONTENT


def test_a_second_check_reads_nothing(server, web, tmp_path, monkeypatch):
    file = serve_clip(server)
    fetch_file(file, tmp_path, web=web)
    monkeypatch.setattr(hashlib, "sha256", None)
    assert check_files(tmp_path, [file])[0].state == "present"
    monkeypatch.undo()
    path = tmp_path / file.path
    status = path.stat()
    path.write_bytes(CONTENT[::-1])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert check_files(tmp_path, [file])[0].state == "wrong checksum"
    (tmp_path / CHECKSUMS_FILE).write_text("half a ta")
    assert ChecksumCache(tmp_path).sha256(file.path) == digest(CONTENT[::-1])


def test_what_is_missing(tmp_path):
    (tmp_path / "audio").mkdir()
    (tmp_path / "b").write_bytes(b"12")
    files = [SourceFile("a", None, None, None), SourceFile("b", None, 3, None),
             SourceFile("b", None, 2, "0" * 64), SourceFile("audio", None, None, None)]  # fmt: skip
    assert find_missing_files(tmp_path, files) == [files[0], files[1], files[3]]
    (tmp_path / "audio" / "x.mp3").touch()
    assert find_missing_files(tmp_path, files) == files[:2]


def test_progress_tells_rate_and_time_left():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    show = Progress("mp3.zip", stream=stream)
    show(10_000_000, 100_000_000)
    show._start -= 10.0
    show._last -= 10.0
    show(30_000_000, 100_000_000)
    show.close()
    line = stream.getvalue().strip()
    assert line.startswith("mp3.zip: 30.0 of 100.0 MB (30%), ")
    assert line.endswith("MB/s, 35s left")


def test_an_empty_answer_is_no_file(server, web, tmp_path):
    """Of a file of unknown size and checksum, too."""
    file = serve(server, b"", "a/clip.bin", pinned=False)
    with pytest.raises(DownloadError, match=r"The answer of http.* is empty\. By hand:"):
        fetch_file(file, tmp_path, web=web)
    assert not (tmp_path / file.path).exists()
