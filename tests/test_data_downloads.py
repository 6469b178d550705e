"""Downloads against a server on this machine that breaks off, lies and refuses; unpacking."""

import dataclasses
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import types
import zipfile

import numpy as np
import pytest
from local_server import LocalServer, Served

from musrep_jax.cli import app
from musrep_jax.data import archives, datasets, dunya_api, partial_files
from musrep_jax.data.downloads import (
    SUMS_FILE,
    SourceFile,
    SumBook,
    check_file,
    check_files,
    delete_unpacked,
    fetch_file,
    fetch_files,
    missing_files,
)
from musrep_jax.data.dunya import SPLIT_LISTS
from musrep_jax.data.partial_files import DownloadError
from musrep_jax.data.progress import Progress
from musrep_jax.data.web import Web

CONTENT = bytes(range(256)) * 400
HOW = "Ask the authors for it at example.org."


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    local = LocalServer()
    yield local
    local.close()


@pytest.fixture
def web():
    return Web(backoff_seconds=0.001, num_attempts=3, timeout_seconds=5.0)


def digest(content):
    return hashlib.sha256(content).hexdigest()


def serve(server, content=CONTENT, path="a/clip.bin", *, pinned=True, **settings):
    """Serves a file and returns its description."""
    server.table[f"/{path}"] = Served(content, **settings)
    facts = (len(content), digest(content)) if pinned else (None, None)
    return SourceFile(path, f"{server.url}/{path}", *facts, how=HOW)


def names(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def ranges(server, file):
    path = file.url.removeprefix(server.url)
    return [headers.get("Range") for headers in server.asked(path)]


# Fetching.


def test_a_file_comes_whole_and_once(server, web, tmp_path):
    file = serve(server)
    assert fetch_file(file, tmp_path, web=web).state == "downloaded"
    assert (tmp_path / file.path).read_bytes() == CONTENT
    assert names(tmp_path) == [SUMS_FILE, file.path]
    assert fetch_file(file, tmp_path, web=web).state == "present"
    assert len(server.requests) == 1


@pytest.mark.parametrize("pinned", [True, False])
def test_after_a_break_the_rest_comes(server, web, tmp_path, pinned):
    file = serve(server, pinned=pinned, break_after=[30_000, 20_000])
    assert fetch_file(file, tmp_path, web=web).is_ready
    assert (tmp_path / file.path).read_bytes() == CONTENT
    assert ranges(server, file) == [None, "bytes=30000-", "bytes=50000-"]
    assert server.requests[1][1]["If-Range"] == '"one"'


def test_progress_keeps_patience_alive(server, web, tmp_path):
    file = serve(server, break_after=[10_000] * 9)
    assert fetch_file(file, tmp_path, web=web).is_ready
    assert len(server.requests) == 10


def test_a_server_that_ignores_ranges_sends_all_again(server, web, tmp_path):
    file = serve(server, break_after=[30_000], has_ranges=False)
    assert fetch_file(file, tmp_path, web=web).is_ready
    assert (tmp_path / file.path).read_bytes() == CONTENT


def test_a_file_that_changed_meanwhile_comes_whole(server, tmp_path):
    impatient = Web(backoff_seconds=0.001, num_attempts=1)
    file = serve(server, pinned=False, break_after=[30_000])
    with pytest.raises(DownloadError, match="broke off"):
        fetch_file(file, tmp_path, web=impatient)
    assert "MB of it have come" in check_file(file, tmp_path).note
    served = server.table[f"/{file.path}"]
    served.content, served.etag = CONTENT[::-1], '"two"'
    assert fetch_file(file, tmp_path, web=impatient).is_ready
    assert (tmp_path / file.path).read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("pinned", [True, False])
def test_without_a_version_only_a_checksum_allows_to_continue(server, web, tmp_path, pinned):
    file = serve(server, pinned=pinned, break_after=[30_000], etag=None)
    assert fetch_file(file, tmp_path, web=web).is_ready
    assert ranges(server, file) == [None, "bytes=30000-" if pinned else None]


def test_a_wrong_continuation_is_noticed_and_all_is_fetched_again(server, web, tmp_path):
    file = serve(server, etag=None)
    (tmp_path / "a").mkdir()
    (tmp_path / f"{file.path}.part").write_bytes(b"something else")
    assert fetch_file(file, tmp_path, web=web).is_ready
    assert ranges(server, file) == ["bytes=14-", None]
    assert (tmp_path / file.path).read_bytes() == CONTENT


def test_what_is_longer_than_the_file_is_fetched_again(server, web, tmp_path):
    file = serve(server)
    (tmp_path / "a").mkdir()
    (tmp_path / f"{file.path}.part").write_bytes(CONTENT + b"more")
    assert fetch_file(file, tmp_path, web=web).is_ready
    assert (tmp_path / file.path).read_bytes() == CONTENT


def test_a_killed_download_goes_on(server, tmp_path):
    file = serve(server, pinned=False, seconds_per_kilobyte=0.01)
    code = (
        "import sys; from musrep_jax.data.downloads import SourceFile, fetch_file; "
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
    file = serve(server, statuses=[(status, {})])
    assert fetch_file(file, tmp_path, web=web).is_ready
    assert len(server.requests) == 2


def test_the_server_says_how_long_to_wait(server, tmp_path):
    said = []
    web = Web(backoff_seconds=0.001, say=said.append)
    start = time.monotonic()
    past = "Mon, 02 Jan 2006 15:04:05 GMT"
    statuses = [(429, {"Retry-After": "1"}), (503, {"Retry-After": past}),
                (503, {"Retry-After": "soon"})]  # fmt: skip
    assert fetch_file(serve(server, statuses=statuses), tmp_path, web=web).is_ready
    assert 1.0 <= time.monotonic() - start < 2.0
    assert "429" in said[0]
    assert "trying again in 1 s" in said[0]
    file = serve(server, path="b.bin", statuses=[(429, {"Retry-After": "7200"})])
    with pytest.raises(DownloadError, match="asks to wait 120 minutes"):
        fetch_file(file, tmp_path, web=web)


def test_patience_ends(server, web, tmp_path):
    file = serve(server, statuses=[(503, {})] * 9)
    with pytest.raises(DownloadError, match=r"answered with 503.*By hand: Ask the authors"):
        fetch_file(file, tmp_path, web=web)
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_dead_link_names_the_manual_way(server, web, tmp_path, status):
    file = serve(server, statuses=[(status, {})])
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
    file = serve(server, page, pinned=False, content_type=content_type)
    with pytest.raises(DownloadError, match="sent a web page instead of the file") as caught:
        fetch_file(file, tmp_path, web=web)
    assert caught.value.is_page
    assert names(tmp_path) == []


def test_a_wrong_checksum_names_both_and_keeps_nothing(server, web, tmp_path):
    file = serve(server)
    server.table[f"/{file.path}"].content = CONTENT[::-1]
    with pytest.raises(DownloadError) as caught:
        fetch_file(file, tmp_path, web=web)
    assert digest(CONTENT) in str(caught.value)
    assert digest(CONTENT[::-1]) in str(caught.value)
    assert set(names(tmp_path)) <= {SUMS_FILE}
    assert len(server.requests) == 1


def test_a_file_of_another_size_is_not_even_fetched(server, web, tmp_path):
    file = serve(server)
    server.table[f"/{file.path}"].content = CONTENT * 2
    with pytest.raises(DownloadError, match=f"{2 * len(CONTENT)} bytes instead of {len(CONTENT)}"):
        fetch_file(file, tmp_path, web=web)
    assert names(tmp_path) == []


def test_what_is_there_and_wrong_is_left_alone(server, web, tmp_path):
    file = serve(server)
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
    file = serve(server)
    with pytest.raises(DownloadError, match=r"needs 0\.1 MB more.* has 0\.1 MB free") as caught:
        fetch_file(file, tmp_path, web=web)
    assert HOW not in str(caught.value)
    (tmp_path / "a").mkdir(exist_ok=True)
    (tmp_path / f"{file.path}.part").write_bytes(CONTENT[:60_000])
    assert fetch_file(file, tmp_path, web=web).is_ready  # what is missing fits


def test_a_full_disk_is_said_when_it_happens(server, tmp_path):
    file = serve(server)
    code = (
        "import resource, sys; from musrep_jax.data.downloads import SourceFile, fetch_file\n"
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


# Checking.


def test_a_second_check_reads_nothing(server, web, tmp_path, monkeypatch):
    file = serve(server)
    fetch_file(file, tmp_path, web=web)
    monkeypatch.setattr(hashlib, "sha256", None)
    assert check_files(tmp_path, [file])[0].state == "present"
    monkeypatch.undo()
    path = tmp_path / file.path
    status = path.stat()
    path.write_bytes(CONTENT[::-1])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert check_files(tmp_path, [file])[0].state == "wrong checksum"
    (tmp_path / SUMS_FILE).write_text("half a ta")
    assert SumBook(tmp_path).sha256(file.path) == digest(CONTENT[::-1])


def test_what_is_missing(tmp_path):
    (tmp_path / "audio").mkdir()
    (tmp_path / "b").write_bytes(b"12")
    files = [SourceFile("a", None, None, None), SourceFile("b", None, 3, None),
             SourceFile("b", None, 2, "0" * 64), SourceFile("audio", None, None, None)]  # fmt: skip
    assert missing_files(tmp_path, files) == [files[0], files[1], files[3]]
    (tmp_path / "audio" / "x.mp3").touch()
    assert missing_files(tmp_path, files) == files[:2]


# Unpacking.

MEMBERS = {f"{n % 3}/clip {n}.mp3": bytes([n]) * (3000 + n) for n in range(9)}


def make_zip(members=MEMBERS):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return file.getvalue()


def make_tar(mode="w:gz", **links):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as opened:
        for name, content in MEMBERS.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content))
        for name, target in links.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            opened.addfile(info)
    return file.getvalue()


def packed(content, path, pinned=True):
    sha256 = digest(content) if pinned else None
    return SourceFile(path, None, len(content), sha256, unpack=True)


def put(folder, path, content):
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(content)


def unpacked(folder):
    return {name: (folder / name).read_bytes() for name in MEMBERS if (folder / name).is_file()}


@pytest.mark.parametrize(
    ("path", "content"),
    [("x.zip", make_zip()), ("x.tar.gz", make_tar()), ("x.TGZ", make_tar()),
     ("x.tar", make_tar("w"))],
)  # fmt: skip
def test_archives_are_unpacked_beside_themselves(tmp_path, path, content):
    put(tmp_path, f"audio/{path}", content)
    file = packed(content, f"audio/{path}")
    assert check_file(file, tmp_path).note == "It is not unpacked yet."
    assert missing_files(tmp_path, [file]) == [file]
    states = fetch_files(tmp_path, [file])
    assert states[0].is_ready
    assert unpacked(tmp_path / "audio") == MEMBERS
    assert delete_unpacked(tmp_path, states) == [tmp_path / "audio" / path]
    assert check_files(tmp_path, [file])[0].is_ready
    assert not missing_files(tmp_path, [file])
    other = packed(content + b"1", f"audio/{path}")
    assert check_file(other, tmp_path).state == "missing"  # what was unpacked was another one


def test_parts_of_a_zip_are_read_as_one(tmp_path):
    content = make_zip()
    parts = [content[:10_000], content[10_000:10_001], content[10_001:]]
    files = [packed(part, f"mp3.zip.{n:03d}") for n, part in enumerate(parts, start=1)]
    for file, part in zip(files[:2], parts, strict=False):
        put(tmp_path, file.path, part)
    assert not any(state.is_ready for state in fetch_files(tmp_path, files))
    assert not unpacked(tmp_path)
    put(tmp_path, files[2].path, parts[2])
    assert all(state.is_ready for state in fetch_files(tmp_path, files))
    assert unpacked(tmp_path) == MEMBERS
    assert not (tmp_path / "mp3.zip").exists()


def test_a_killed_unpacking_is_done_again(tmp_path, monkeypatch):
    content = make_zip()
    put(tmp_path, "x.zip", content)
    file = packed(content, "x.zip")

    def stop(have, total):
        if have > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        archives.unpack([tmp_path / "x.zip"], [digest(content)], stop)
    assert 0 < len(unpacked(tmp_path)) < len(MEMBERS)
    assert not check_file(file, tmp_path).is_ready
    # What is there already needs no further room.
    free = sum(map(len, MEMBERS.values())) - sum(map(len, unpacked(tmp_path).values()))
    usage = types.SimpleNamespace(total=1, used=1, free=free - 1)
    monkeypatch.setattr(partial_files.shutil, "disk_usage", lambda _: usage)
    assert "unpacking x.zip needs" in fetch_files(tmp_path, [file])[0].note
    usage.free += 1
    assert fetch_files(tmp_path, [file])[0].is_ready
    assert unpacked(tmp_path) == MEMBERS


def link_in_zip():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        info = zipfile.ZipInfo("link")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        opened.writestr(info, "/etc")
    return file.getvalue()


@pytest.mark.parametrize(
    ("path", "content", "reason"),
    [
        ("x.zip", make_zip({"good": b"1", "../bad": b"2"}), "would write outside"),
        ("x.zip", make_zip({"good": b"1", "/bad": b"2"}), "would write outside"),
        ("x.zip", make_zip({"good": b"1", "a\\..\\..\\bad": b"2"}), "would write outside"),
        ("x.zip", make_zip({"good": b"1", "C:/bad": b"2"}), "would write outside"),
        ("x.zip", link_in_zip(), "holds a link or a device"),
        ("x.tar.gz", make_tar(out="/etc"), "holds a link or a device"),
        ("x.zip", make_zip()[:-2000], "is damaged"),
        ("x.zip", make_zip().replace(bytes([4]) * 3004, bytes([5]) * 3004, 1), "is damaged"),
        ("x.tar.gz", make_tar()[:-60], "is damaged"),
        ("x.tar", make_tar("w")[:20_000], "is damaged"),
        ("x.rar", b"1", "is no archive that can be unpacked"),
    ],
)
def test_bad_archives_are_refused(tmp_path, path, content, reason):
    folder = tmp_path / "corpus"
    put(folder, path, content)
    state = fetch_files(folder, [packed(content, path, pinned=False)])[0]
    assert reason in state.note
    assert not state.is_ready
    assert not missing_files(folder, []) and missing_files(folder, [state.file])
    if "damaged" not in reason:
        assert set(names(folder)) == {path, SUMS_FILE}
    assert names(tmp_path) == [f"corpus/{name}" for name in names(folder)]


# The command.


def add_dataset(monkeypatch, name, **attributes):
    module = types.ModuleType(f"throw_away_{name}")
    module.Builder = type("Builder", (), attributes)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(datasets.DATASETS, name, f"{module.__name__}:Builder")


@pytest.fixture
def corpus(server, monkeypatch):
    """A data set `fake`: a file that can be fetched, an archive, and a file to get by hand."""
    files = (
        serve(server),
        dataclasses.replace(serve(server, make_zip(), "audio.zip"), unpack=True),
        SourceFile("labels.csv", None, 5, digest(b"a,b,c"), how=HOW),
    )
    add_dataset(monkeypatch, "fake", FILES=files)
    return files


@pytest.fixture
def run(capsys):
    """Runs a command in this process; returns (exit code, standard output, standard error)."""

    def run_here(*words):
        with pytest.raises(SystemExit) as ended:
            app([str(word) for word in words], prog_name="musrep")
        return (int(ended.value.code or 0), *capsys.readouterr())

    return run_here


def test_the_command_fetches_and_says_what_is_left(run, corpus, tmp_path):
    code, out, err = run("download", "fake", "--data-dir", tmp_path)
    folder = tmp_path / "corpora" / "fake"
    assert code == 1
    assert (folder / "a/clip.bin").read_bytes() == CONTENT
    assert unpacked(folder) == MEMBERS
    rows = {line.split()[0]: line for line in out.splitlines() if line and "  " in line}
    assert "downloaded" in rows["a/clip.bin"]
    assert "102,400" in rows["a/clip.bin"]
    assert "missing" in rows["labels.csv"] and "by hand" in rows["labels.csv"]
    assert f"{HOW} Save it as {folder / 'labels.csv'} (5 bytes" in out
    assert "When it is: musrep build fake" in err
    put(folder, "labels.csv", b"a,b,c")
    code, out, err = run("download", "fake", "--data-dir", tmp_path, "--json")
    assert code == 0
    result = json.loads(out)
    assert result["is_ready"]
    assert [file["state"] for file in result["files"]] == ["present"] * 3
    assert "Next: musrep build fake" in err


def test_the_command_only_looks(run, corpus, server, tmp_path):
    put(tmp_path, "labels.csv", b"a,b,d")
    code, out, _ = run("download", "fake", "--folder", tmp_path, "--check", "--json")
    assert code == 1
    assert not server.requests
    states = [file["state"] for file in json.loads(out)["files"]]
    assert states == ["missing", "missing", "wrong checksum"]


def test_a_part_can_be_chosen(run, corpus, server, tmp_path):
    code, out, err = run("download", "fake", "--folder", tmp_path, "--only", "a/*", "--json")
    assert code == 0
    assert [file["path"] for file in json.loads(out)["files"]] == ["a/clip.bin"]
    assert "What was asked for is there" in err
    assert [path for path, _ in server.requests] == ["/a/clip.bin"]


def test_archives_can_be_deleted(run, corpus, tmp_path):
    put(tmp_path, "labels.csv", b"a,b,c")
    code, _, err = run("download", "fake", "--folder", tmp_path, "--delete-archives")
    assert code == 0
    assert "deleted" in err
    assert not (tmp_path / "audio.zip").exists()
    assert run("download", "fake", "--folder", tmp_path)[0] == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["fak"], "there is no data set 'fak'"),
        (["audio_folder"], "has no files to download"),
        (["fake", "--all"], "does not come from Dunya"),
        (["fake", "--only", "b/*"], "has no file b/*; it has a/clip.bin, audio.zip, labels.csv"),
    ],
)
def test_the_command_is_wrong(run, corpus, words, sentence):
    code, out, err = run("download", *words)
    assert code == 2
    assert out == ""
    assert sentence in err
    assert len(err.strip().splitlines()) == 1


def test_the_command_and_dunya(run, server, tmp_path, monkeypatch):
    mbid = "00000000-0000-4000-8000-000000000000"
    ids = io.BytesIO()
    np.save(ids, np.array([mbid]))
    lists = [serve(server, ids.getvalue(), path) for path in SPLIT_LISTS.values()]
    add_dataset(monkeypatch, "ney", FILES=lists, TRADITION="makam")
    api = "/api/makam/recording"
    for path, value in ((api, {}), (f"{api}/{mbid}", {"mbid": mbid})):
        server.table[path] = Served(json.dumps(value).encode(), "application/json")
    server.table[f"/document/by-id/{mbid}/mp3"] = Served(b"sound")
    monkeypatch.setattr(dunya_api, "HOST", server.url)
    monkeypatch.delenv("DUNYA_TOKEN", raising=False)
    words = ["download", "ney", "--folder", tmp_path, "--pause", "0", "--json"]
    code, out, err = run(*words, "--check")
    assert code == 1
    assert "come from Dunya, once the lists are there" in err
    assert not server.requests
    code, _, err = run(*words)
    assert code == 2
    assert "DUNYA_TOKEN is not set" in err
    monkeypatch.setenv("DUNYA_TOKEN", "s3cret")
    code, out, err = run(*words)
    assert code == 0
    assert json.loads(out)["recordings"]["with_audio"] == 1
    assert (tmp_path / f"audio/{mbid}.mp3").read_bytes() == b"sound"
    assert "s3cret" not in out + err
    (tmp_path / "ids.txt").write_text(f"{mbid}\n")
    code, out, _ = run(*words[:-1], "--ids", tmp_path / "ids.txt")
    assert code == 0
    assert "with audio" in out
    kept = (path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert not any(b"s3cret" in content for content in kept)


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
    assert line.endswith("MB/s, 0:00:35 left")
