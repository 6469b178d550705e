"""musrep serve: what the page and its answers say, what they refuse, and how the server ends."""

import base64
import contextlib
import http.client
import io
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import numpy as np
import pytest
import soundfile
from browser import browser  # noqa: F401 (a fixture)
from compact_models import build
from encoded_audio import encode
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from toy_exports import LABELS, card_of

from musrep_jax.data.audio.reading import read_audio
from musrep_jax.inference.folders import describe_model, embed_files
from musrep_jax.inference.tag_output import TagPredictor
from musrep_jax.inference.tagger import LoadedTagger
from musrep_jax.pages import server as pages_server
from musrep_jax.pages import tagging_service, uploads
from musrep_jax.pages.guard import is_allowed_host
from musrep_jax.pages.tagging_service import TaggingService
from musrep_jax.pages.uploads import temporary_folder
from musrep_jax.runtime.signals import StopSignalReceived, raise_on_signals_while_loading
from musrep_jax.store import Store, StoreError, StoreWriter, rank_by_vector
from musrep_jax.training.checkpoints import save_export

MAX_BYTES = 3_000_000
MAX_SECONDS = 20
FILES = [("a.wav", 16000, 0.05, 1), ("b.flac", 96000, 2.5, 2), ("c.ogg", 48000, 3.0, 1),
         ("d.mp3", 44100, 9.7, 2), ("e.aiff", 8000, 4.2, 1)]  # fmt: skip
"""Name, rate, seconds, channels."""


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """Recordings of several formats, rates and lengths."""
    folder = tmp_path_factory.mktemp("music")
    for index, (name, rate, seconds, channels) in enumerate(FILES):
        random = np.random.default_rng(index)
        tone = np.sin(2 * np.pi * 200 * (index + 1) * np.arange(int(rate * seconds)) / rate)
        noise = random.standard_normal((len(tone), channels))
        soundfile.write(folder / name, 0.3 * tone[:, None] + 0.05 * noise, rate)
    return folder


@pytest.fixture(scope="module")
def tagger():
    """A model with random parameters, thresholds and a calibration."""
    built = build("fcn")
    calibration = {label: [0.5, number - 2.0] for number, label in enumerate(LABELS)}
    thresholds = {"ney": 0.0, "oud": 1.0}
    card = card_of(built.model, "fcn", calibration=calibration, thresholds=thresholds)
    return LoadedTagger(built.model, built.variables, card)


@pytest.fixture(scope="module")
def store(tagger, music, tmp_path_factory):
    """A store of copies of the recordings, with one row more: a file that is gone."""
    folder = tmp_path_factory.mktemp("stored")
    for name, *_ in FILES:
        (folder / name).write_bytes((music / name).read_bytes())
    soundfile.write(folder / "gone.wav", 0.1 * np.sin(np.arange(8000)), 16000)
    path = tmp_path_factory.mktemp("store") / "s"
    with StoreWriter(path, describe_model(tagger, "m") | {"per_chunk": False}) as writer:
        embed_files(writer, tagger, sorted(map(str, folder.iterdir())), 1)
    (folder / "gone.wav").unlink()
    return Store(path)


@contextlib.contextmanager
def serving(tagger, store):
    """Serves a page from a thread, and yields (port, page, folder of its temporary files)."""
    service = TaggingService(tagger, store, MAX_SECONDS)
    service.warm_up()
    with temporary_folder() as folder, pages_server.bind("127.0.0.1", 0) as bound:
        port = bound.getsockname()[1]
        page = pages_server.Page(service, folder, MAX_BYTES, "127.0.0.1")
        server = pages_server.Server(page)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            yield port, page, folder
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def served(tagger, store):
    with serving(tagger, store) as found:
        yield found


@pytest.fixture(scope="module")
def port(served):
    return served[0]


def ask(port, method, path, body=None, **headers):
    """Returns status, headers and body of an answer; JSON is parsed."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    if answer.headers.get_content_type() == "application/json":
        content = json.loads(content)
    return answer.status, answer.headers, content


def until(is_true, seconds=30):
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_uploads_that_never_end_keep_nobody_waiting_and_are_given_up(served, music, monkeypatch):
    port, page, folder = served
    monkeypatch.setattr(uploads, "MAX_IDLE_SECONDS", 1.0)
    head = b"POST /api/tag HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: 9000\r\n\r\nx" % port
    with contextlib.ExitStack() as stack:
        stuck = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
                 for _ in range(pages_server.MAX_PENDING_REQUESTS + 2)]  # fmt: skip
        for connection in stuck:
            connection.sendall(head)
        status, _, found = ask(port, "POST", "/api/tag?name=c.ogg", (music / "c.ogg").read_bytes())
        assert status == 200 and found["name"] == "c.ogg"
        for connection in stuck:
            assert b" 408 " in connection.recv(100)
    until(lambda: page._num_uploads == 0 and not list(folder.iterdir()))


def test_an_upload_that_drips_is_given_up(served, monkeypatch):
    port, page, _ = served
    monkeypatch.setattr(uploads, "MAX_IDLE_SECONDS", 1.0)
    head = b"POST /api/tag HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: 9000\r\n\r\n" % port
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(head)
        started = time.monotonic()
        while not select.select([connection], [], [], 0.2)[0]:
            connection.sendall(b"x")
            assert time.monotonic() - started < 20
        assert b" 408 " in connection.recv(100)
    until(lambda: page._num_uploads == 0)


def test_tags_and_nearest_tracks_are_those_of_the_tagger_and_the_store(
    port, tagger, store, music, served
):
    for name, *_ in FILES:
        path = music / name
        status, _, found = ask(port, "POST", f"/api/tag?name={name}&k=2", path.read_bytes())
        assert status == 200, found
        audio, rate = read_audio(path, sample_rate=16000)
        expected = tagger.calibrate(np.array(list(tagger.predict(audio, rate).values())))
        assert found["name"] == name
        assert found["seconds"] == len(audio) / rate
        assert found["tags"] == dict(zip(LABELS, expected.tolist(), strict=True))
        times, scores = tagger.predict_over_time(audio, rate)
        assert [[c["start"], c["end"]] for c in found["chunks"]] == times.tolist()
        rows = [list(chunk["tags"].values()) for chunk in found["chunks"]]
        assert rows == tagger.calibrate(scores).tolist()
        names = [os.path.basename(track["path"]) for track in store.tracks()]
        others = np.array([other != name for other in names])
        best, scores = rank_by_vector(
            store.embeddings, tagger.embed(audio, rate), 2, present=others
        )
        assert [track["row"] for track in found["similar"]] == best.tolist()
        assert [track["score"] for track in found["similar"]] == scores.tolist()
        assert all(t["is_playable"] == (t["name"] != "gone.wav") for t in found["similar"])
    assert tagger._forward._cache_size() == 1  # one program, whatever is sent
    assert not list(served[2].iterdir())


def test_maps_are_those_of_the_tagger(port, tagger, music):
    body = (music / "c.ogg").read_bytes()
    status, _, answer = ask(port, "POST", "/api/explain?name=c.ogg&tag=oud", body)
    assert status == 200
    found = answer
    audio, rate = read_audio(music / "c.ogg", sample_rate=tagger.sample_rate)
    expected = tagger.occlusion(audio, rate, ["oud"])
    (one,) = found["maps"]
    np.testing.assert_allclose(one["spans"], expected.spans, atol=1e-3)
    bytes_ = np.frombuffer(base64.b64decode(one["bytes"]), np.uint8)
    largest = np.abs(expected.values).max()
    np.testing.assert_allclose(
        2 * largest * (bytes_ / 255 - 0.5), expected.values[0], atol=largest / 120
    )
    for words, sentence in (
        ("&tag=zurna", "c.ogg: The model has no label 'zurna'."),
        ("&tag=oud" * 9, "9 tags were asked for; 8 at most are explained."),
    ):
        status, _, answer = ask(port, "POST", f"/api/explain?name=c.ogg{words}", body)
        assert status == 400
        assert answer["error"].startswith(sentence)


def test_what_is_said_of_the_model(port, tagger, store, monkeypatch):
    with monkeypatch.context() as patch:  # a pretrained model goes by the name that was asked for
        patch.setitem(tagger.card, "published", {"name": "musicnn-msd"})
        assert ask(port, "GET", "/api/model")[2]["model"] == "musicnn-msd"
    _, headers, about = ask(port, "GET", "/api/model")
    assert about["model"] == tagger.card["model"]["name"]
    assert about["labels"] == list(LABELS)
    assert about["fingerprint"] == tagger.fingerprint
    assert about["is_calibrated"] is True
    assert about["thresholds"] == TagPredictor(tagger, is_raw=False).thresholds
    assert about["store"] == {"path": str(store.path), "tracks": len(FILES) + 1}
    assert (about["max_upload_bytes"], about["max_seconds"]) == (MAX_BYTES, MAX_SECONDS)
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "sentence"),
    [
        ("GET", "/api/model", {"Host": "evil.example"}, 403, "does not answer to the name"),
        ("POST", "/api/tag", {"Origin": "http://evil.example"}, 403, "page of another site"),
        ("POST", "/api/tag", {"Origin": "null"}, 403, "page of another site"),
        ("POST", "/api/tag", {"Origin": "http://["}, 400, "Origin is no address"),
        ("POST", "/api/tag", {"Origin": "http://127.0.0.1:9"}, 403, "page of another site"),
        ("POST", "/api/tag", {"Origin": "http://127.0.0.1"}, 403, "page of another site"),
        ("GET", "/api/model", {"Host": "["}, 403, "does not answer to the name"),
        ("POST", f"/api/tag?k={'9' * 5000}", {}, 400, "must be 1 to 100"),
        ("POST", "/api/tag?k=%C2%B2", {}, 400, "must be 1 to 100"),
        ("GET", f"/api/tracks/{'9' * 5000}", {}, 400, "too many digits"),
        ("GET", f"/api/tracks/{'9' * 5000}/wav", {}, 400, "too many digits"),
        ("GET", "/api/tracks/x", {}, 404, ""),
        ("POST", "/api/tag?k=0", {}, 400, "must be 1 to 100"),
        ("POST", "/api/tag?k=-1", {}, 400, "must be 1 to 100"),
        ("POST", "/api/tag?name=empty.wav", {}, 400, "empty.wav cannot be read: the file is empty"),
        ("GET", "/api/tag", {}, 405, ""),
        ("GET", "/api/tracks/-1", {}, 404, ""),
        ("GET", "/api/tracks/99", {}, 404, "no such track"),
        ("GET", "/api/tracks/..%2f..%2fetc%2fpasswd", {}, 404, ""),
        ("GET", "/static/../../../setup.cfg", {}, 404, ""),
        ("GET", "/static/%2e%2e/server.py", {}, 404, ""),
        ("GET", "/static//etc/passwd", {}, 404, ""),
    ],
)
def test_refusals(port, method, path, headers, status, sentence):
    found = ask(port, method, path, **headers)
    assert found[0] == status
    assert sentence in found[2]["error"]


@pytest.mark.parametrize(
    ("host", "is_own"),
    [("127.0.0.1:80", True), ("localhost", True), ("[::1]:9", True), ("192.168.1.2:8765", True),
     ("studio.local:1", True), ("evil.example", False), ("127.0.0.1.evil.example", False),
     ("", False), ("[::1", False), ("localhost.evil.example:8765", False)],
)  # fmt: skip
def test_names_that_no_other_site_can_have(host, is_own):
    assert is_allowed_host(host, "studio.local") is is_own


def test_recordings_that_cannot_be_used_are_told_by_their_own_name(port, served, tmp_path):
    text = b"<html>not music</html>" * 20
    _, _, found = ask(port, "POST", "/api/tag?name=..%2F..%2Fpage%0A.mp3", text)
    assert found["error"].startswith("page\\x0a.mp3 cannot be read: ")
    soundfile.write(tmp_path / "long.flac", np.zeros(16000 * (MAX_SECONDS + 60)), 16000)
    status, _, found = ask(
        port, "POST", "/api/tag?name=long.flac", (tmp_path / "long.flac").read_bytes()
    )
    assert status == 400
    assert found["error"].startswith("long.flac cannot be used: it is longer than 0.333333 minutes")
    soundfile.write(tmp_path / "one.wav", np.full(1, 0.5), 44100)
    one = (tmp_path / "one.wav").read_bytes()
    status, _, found = ask(port, "POST", "/api/tag?name=one.wav", one)
    assert status == 400 and "one.wav cannot be used: it is too short" in found["error"]
    text = f"#EXTM3U\n#EXTINF:9,x\nfile://{tmp_path / 'one.wav'}\n".encode()
    for path in ("/api/tag?name=song.m4a", "/api/wav?name=song.m4a"):
        status, _, found = ask(port, "POST", path, text)
        assert status == 400
        assert found["error"] == "song.m4a cannot be read: it is a playlist, not a recording."
    assert str(served[2]) not in found["error"]
    assert not list(served[2].iterdir())


def test_a_recording_that_says_it_is_too_long_is_not_decoded(port, tmp_path, monkeypatch):
    path = encode(tmp_path / "long.m4a", np.zeros(16000 * (MAX_SECONDS + 60)), 16000)
    monkeypatch.setattr(tagging_service, "decode_files", None)
    for address in ("/api/tag?name=long.m4a", "/api/wav?name=long.m4a"):
        status, _, found = ask(port, "POST", address, path.read_bytes())
        assert status == 400 and "longer than 0.333333 minutes" in found["error"]


def test_silence_is_not_judged(port, tmp_path):
    for level, rate in ((0.0, 16000), (0.4, 44100)):
        soundfile.write(tmp_path / "silence.wav", np.full(rate * 8, level), rate)
        content = (tmp_path / "silence.wav").read_bytes()
        status, _, found = ask(port, "POST", "/api/tag?name=silence.wav", content)
        assert (status, found["is_silent"], found["tags"], found["similar"]) == (200, True, {}, [])
        assert found["chunks"] and all(c["is_silent"] and not c["tags"] for c in found["chunks"])


def test_a_large_upload_is_refused_before_or_while_it_comes(port, served):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"POST /api/tag?name=x.wav HTTP/1.1\r\nHost: localhost\r\n"
                           b"Content-Length: 300000000\r\n\r\n")  # fmt: skip
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")

    # Nothing is known beforehand: the answer comes in the middle, and nothing is kept.
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"POST /api/tag?name=x.wav HTTP/1.1\r\nHost: localhost\r\n"
                           b"Transfer-Encoding: chunked\r\n\r\n")  # fmt: skip
        sent = 0
        while not select.select([connection], [], [], 0.001)[0]:
            connection.sendall(b"10000\r\n" + bytes(0x10000) + b"\r\n")
            sent += 0x10000
            assert sent < 30 * MAX_BYTES
        answer = connection.recv(10_000)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"x.wav is larger than 3 MB" in answer
    until(lambda: not list(served[2].iterdir()))


def test_only_files_of_the_store_are_handed_out_and_only_as_they_were(port, store, music):
    for row, track in enumerate(store.tracks()):
        status, headers, content = ask(port, "GET", f"/api/tracks/{row}")
        if track["path"].endswith("gone.wav"):
            assert status == 404
            continue
        assert status == 200
        with open(track["path"], "rb") as file:
            assert content == file.read()
        assert headers["content-type"].startswith("audio/")
    status, _, part = ask(port, "GET", "/api/tracks/0", Range="bytes=4-7")
    assert (status, part) == (206, content_of(store, 0)[4:8])
    path = store.track(0)["path"]
    before = content_of(store, 0)
    with open(path, "ab") as file:
        file.write(b"more")
    try:
        assert ask(port, "GET", "/api/tracks/0")[0] == 404
    finally:
        with open(path, "wb") as file:
            file.write(before)


def content_of(store, row):
    with open(store.track(row)["path"], "rb") as file:
        return file.read()


def test_what_a_browser_cannot_play_comes_as_the_model_hears_it(port, store, music, served):
    expected, rate = read_audio(music / "e.aiff", sample_rate=16000)
    row = next(r for r, t in enumerate(store.tracks()) if t["path"].endswith("e.aiff"))
    for answer in (
        ask(port, "POST", "/api/wav?name=e.aiff", (music / "e.aiff").read_bytes()),
        ask(port, "GET", f"/api/tracks/{row}/wav"),
    ):
        assert answer[0] == 200
        audio, found_rate = soundfile.read(io.BytesIO(answer[2]))
        assert found_rate == rate
        assert np.allclose(audio, expected, atol=1e-4)
    status, _, found = ask(port, "POST", "/api/wav?name=e.aiff", b"nothing")
    assert status == 400
    assert found["error"].startswith("e.aiff cannot be read")
    assert not list(served[2].iterdir())


def test_several_at_once_wait_for_each_other_and_too_many_are_told(port, music, monkeypatch):
    body, answers = (music / "d.mp3").read_bytes(), []

    def send():
        answers.append(ask(port, "POST", "/api/tag", body))

    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [status for status, *_ in answers] == [200] * 3
    assert answers[0][2] == answers[1][2] == answers[2][2]
    monkeypatch.setattr(pages_server, "MAX_PENDING_REQUESTS", 0)
    status, _, found = ask(port, "POST", "/api/tag", b"RIFF")
    assert status == 503
    assert "try again" in found["error"]


def test_who_hangs_up_is_worked_for_no_longer(port, served, music):
    _, page, folder = served
    body = (music / "d.mp3").read_bytes()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        head = f"POST /api/tag HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        until(lambda: list(folder.iterdir()))
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head.encode() + body[:1000])  # and no more
        until(lambda: page._active_requests)
    until(lambda: not page._active_requests and not list(folder.iterdir()))
    assert ask(port, "POST", "/api/tag", body)[0] == 200


def test_what_a_killed_process_left_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left, held = (tmp_path / f"musrep-serve-{pid}-abc" for pid in (ended.pid, os.getppid()))
    for folder in (left, held):
        folder.mkdir()
        (folder / "upload").write_bytes(b"music")
    with temporary_folder() as own:
        assert own.is_dir()
        assert not left.exists()
        assert held.exists()
    assert not own.exists()


def test_models_and_stores_that_do_not_fit(tagger, store):
    other = LoadedTagger(tagger.model, tagger.variables, {**tagger.card, "aggregate": "logit"})
    with pytest.raises(StoreError, match="made by another model"):
        TaggingService(other, store, 60)
    built = build("fcn")
    backbone = LoadedTagger(
        built.model.clone(num_classes=0), built.variables, {**tagger.card, "labels": []}
    )
    with pytest.raises(StoreError, match="no tags to show: give --store"):
        TaggingService(backbone, None, 60)


@pytest.mark.programs
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
def test_the_command_from_start_to_end(run, tagger, store, tmp_path, repository, number, code):
    export = save_export(tmp_path / "m", tagger.variables, dict(tagger.card))
    words = ["serve", export, "--store", store.path, "--port", "0", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-c", "import signal; from musrep_jax.cli import run\n"
         "signal.signal(signal.SIGINT, signal.default_int_handler); run()", *map(str, words)],
        cwd=repository, env={**os.environ, "XLA_FLAGS": "", "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        facts = json.loads(process.stdout.readline())
        with urllib.request.urlopen(f"{facts['address']}api/model") as answer:
            assert {"address": facts["address"], **json.load(answer)} == facts
        port = int(re.fullmatch(r"http://127\.0\.0\.1:(\d+)/", facts["address"])[1])
        told = run("serve", export, "--port", port)
        assert (told.exit_code, told.stdout) == (2, "")
        assert told.stderr.startswith(f"error: port {port} of 127.0.0.1 is in use")
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"POST /api/tag HTTP/1.1\r\nHost: localhost\r\n"
                               b"Content-Length: 9999\r\n\r\nRIFF")  # fmt: skip
            until(lambda: list(tmp_path.glob("musrep-serve-*/*")))
            process.send_signal(number)
            _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code
    assert said.splitlines()[-1] == "Stopped."
    assert "Traceback" not in said
    assert not list(tmp_path.glob("musrep-serve-*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_that_is_swallowed_while_loading_counts_at_its_end(number):
    went_on = False
    with pytest.raises(StopSignalReceived) as stopped, raise_on_signals_while_loading():
        with contextlib.suppress(KeyboardInterrupt):  # as Python does in the garbage collector
            os.kill(os.getpid(), number)
            time.sleep(1)
        went_on = True
    assert went_on
    assert stopped.value.signal_number == number


def test_wrong_commands(run, tmp_path):
    for words, sentence in [
        ([tmp_path / "none"], "none"),
        ([tmp_path, "--host", "nowhere.invalid"], "no name or address of this machine"),
        ([tmp_path, "--port", "0", "--store", tmp_path], "is no store"),
    ]:
        told = run("serve", *words)
        assert (told.exit_code, told.stdout) == (2, "")
        assert sentence in told.stderr


# In a browser.


@pytest.fixture
def page(browser, port):  # noqa: F811
    """The page, opened; at the end its console and its requests are looked at."""
    address = f"http://127.0.0.1:{port}/"
    browser.open(address)
    browser.wait("document.body.dataset.ready")
    yield browser
    assert not [line for line in browser.console() if "Failed to load resource" not in line]
    requests = browser.requests()
    assert requests
    assert all(request.startswith(address) for request in requests), requests


def choose(page, path):
    """Chooses a file, and waits for its result or what is said against it."""
    page.driver.find_element(By.ID, "file").send_keys(str(path))
    page.wait("document.getElementById('work').hidden && "
              "(document.getElementById('name').textContent || "
              "document.getElementById('problem').textContent)")  # fmt: skip


def test_a_recording_in_the_page(page, tagger, music, store, port):
    file = page.driver.find_element(By.ID, "file")
    page.driver.switch_to.active_element.send_keys(Keys.TAB)
    assert page.driver.switch_to.active_element == file
    choose(page, music / "d.mp3")
    assert page.text("#name") == "d.mp3"
    assert "9.7 s, heard in 10 chunks" in page.text("#length")
    _, _, found = ask(port, "POST", "/api/tag?name=d.mp3", (music / "d.mp3").read_bytes())
    rows = page.run(
        "return [...document.querySelectorAll('#tags tr')].map((row) => "
        "[row.querySelector('th').firstChild.data, row.querySelector('.number').textContent, "
        "row.className])"
    )
    shown = {label: f"{score:.2f}" for label, score in found["tags"].items()}
    assert {label: score for label, score, _ in rows} == shown
    assert rows[0][::2] == ["ney", "is-tag"]  # above its threshold
    assert not any(is_tag for *_, is_tag in rows[1:])
    status = page.run("return document.querySelector('[role=status]').textContent")
    assert status.startswith("Done: d.mp3 is ")
    # The map follows the player, and moves it by keys.
    assert page.wait("document.getElementById('audio').readyState > 0")
    slider = page.driver.find_element(By.CSS_SELECTOR, "#taggram [role=slider]")
    slider.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert page.wait("document.getElementById('audio').currentTime > 1.5")
    names = page.run("return [...document.querySelectorAll('#similar tr')].map((row) => "
                     "row.querySelector('th').firstChild.data)")  # fmt: skip
    assert names == [track["name"] for track in found["similar"]]
    assert "d.mp3" not in names
    # A track of the store plays, and pauses.
    button = page.driver.find_element(
        By.XPATH, "//tbody[@id='similar']//button[contains(., 'b.flac')]"
    )
    page.run("document.getElementById('other').defaultPlaybackRate = 0.1")
    button.send_keys(Keys.ENTER)
    page.wait("document.getElementById('other').currentTime > 0")
    assert button.text.startswith("Pause")
    button.send_keys(Keys.ENTER)
    assert page.wait("document.getElementById('other').paused")
    assert button.text.startswith("Play")
    assert page.text("#player-name") == "b.flac"


def test_why_in_the_page(page, tagger, music):
    choose(page, music / "d.mp3")
    page.wait("!document.getElementById('result').hidden")
    page.wait("document.querySelectorAll('#why button').length > 1")
    page.click(page.driver.find_element(By.ID, "explain"))
    page.wait("document.querySelectorAll('#maps canvas').length == 2")  # spectrogram and occlusion
    names = page.run(
        "return [...document.querySelectorAll('#maps .taggram-labels li')].map(e => e.textContent)"
    )
    pressed = page.run(
        "return [...document.querySelectorAll('#why [aria-pressed=true]')].map(e => e.textContent)"
    )
    assert names == pressed
    assert len(names) == 2
    maps = page.driver.find_elements(By.CSS_SELECTOR, "#maps .maps-map")
    page.wait("document.getElementById('audio').readyState >= 1")
    page.click(maps[1])  # in its middle
    page.wait("Math.abs(document.getElementById('audio').currentTime - 4.85) < 1.5")
    assert page.console() == []


def test_a_format_that_the_browser_cannot_play_is_dropped(page, music):
    page.run(
        "const bytes = Uint8Array.from(atob(arguments[0]), (c) => c.charCodeAt(0));"
        "const data = new DataTransfer();"
        "data.items.add(new File([bytes], 'e.aiff'));"
        "window.dispatchEvent(new DragEvent('drop', { dataTransfer: data }));",
        base64.b64encode((music / "e.aiff").read_bytes()).decode(),
    )
    page.wait("document.getElementById('name').textContent === 'e.aiff'")
    page.wait("document.getElementById('audio').readyState > 0")
    assert "this is what the model hears, mono at 16 kHz" in page.text("#audio-note")
    assert abs(page.run("return document.getElementById('audio').duration") - 4.2) < 0.01


def test_several_recordings_have_a_list_with_a_result_or_an_error_each(page, music, tmp_path):
    (tmp_path / "page.mp3").write_bytes(b"<html>not music</html>" * 20)
    soundfile.write(tmp_path / "silence.wav", np.zeros(16000 * 3), 16000)
    files = [music / "b.flac", tmp_path / "page.mp3", tmp_path / "silence.wav", music / "d.mp3"]
    page.driver.find_element(By.ID, "file").send_keys("\n".join(map(str, files)))
    page.wait("document.getElementById('list-count').textContent.startsWith('4 of 4 done')")
    page.wait("document.getElementById('work').hidden")
    assert page.text("#list-count") == "4 of 4 done, 1 of them cannot be used"
    rows = page.driver.find_elements(By.CSS_SELECTOR, "#list li")
    words = [row.text.replace("\n", " ") for row in rows]
    assert [row.get_attribute("class") for row in rows] == ["done", "failed", "done", "done"]
    assert words[0].startswith("b.flac ") and re.search(r"\w+ 0\.\d\d, ", words[0])
    assert "page.mp3 cannot be read: " in words[1]
    assert words[2] == "silence.wav silent, cannot be judged"
    assert page.text("#name") == "b.flac"  # the first is shown at once
    page.click(rows[3].find_element(By.TAG_NAME, "button"))
    assert page.text("#name") == "d.mp3"
    assert rows[3].find_element(By.TAG_NAME, "button").get_attribute("aria-current") == "true"
    # The silent one has neither tags nor a map, and says why.
    page.click(rows[2].find_element(By.TAG_NAME, "button"))
    assert page.text("#silence").startswith("Cannot be judged: the recording is silent")
    for place in ("tags-table", "over-time", "meaning"):
        assert not page.driver.find_element(By.ID, place).is_displayed()
    results = page.run(
        "const kept = []; const make = URL.createObjectURL;"
        "URL.createObjectURL = (blob) => { kept.push(blob); return make(blob); };"
        "document.getElementById('save-all').click(); URL.createObjectURL = make;"
        "return kept[0].text();"
    )
    names = [result["name"] for result in json.loads(results)["results"]]
    assert names == ["b.flac", "silence.wav", "d.mp3"]
    page.open(page.run("return location.href"), width=320, height=700)
    page.wait("document.body.dataset.ready")
    page.driver.find_element(By.ID, "file").send_keys("\n".join(map(str, files[:2])))
    page.wait("document.getElementById('list-count').textContent.startsWith('2 of 2 done')")
    assert page.run("return document.documentElement.scrollWidth") <= 320


def test_silence_within_a_recording_is_no_probability(page, music, tmp_path):
    sound, rate = soundfile.read(music / "b.flac")
    mono = sound if sound.ndim == 1 else sound[:, 0]
    soundfile.write(tmp_path / "half.wav", np.concatenate([np.zeros(rate * 3), mono]), rate)
    choose(page, tmp_path / "half.wav")
    slider = page.driver.find_element(By.CSS_SELECTOR, "#taggram [role=slider]")
    assert slider.get_attribute("aria-valuetext") == "0:00: silence, not judged"
    slider.send_keys(Keys.END)
    assert re.search(r": \w+ 0\.\d\d, ", slider.get_attribute("aria-valuetext"))
    assert "gray line: silence, not judged" in page.text("#taggram")
    page.run("document.querySelector('#taggram details').open = true")
    page.wait("document.querySelector('#taggram table')")
    rows = page.run("return [...document.querySelectorAll('#taggram tbody tr')]"
                    ".map((row) => row.cells[1].textContent)")  # fmt: skip
    assert rows[0] == "silence" and re.fullmatch(r"\d\.\d\d", rows[-1])


def test_problems_in_the_page_and_a_narrow_dark_one(page, port, music, tmp_path):
    (tmp_path / "page.mp3").write_bytes(b"<html>not music</html>" * 20)
    (tmp_path / "big.wav").write_bytes(bytes(MAX_BYTES + 1))
    for name, sentence in [
        ("page.mp3", "page.mp3 cannot be read: "),
        ("big.wav", "big.wav has 3 MB; this page takes 3 MB"),
    ]:
        page.driver.find_element(By.ID, "file").send_keys(str(tmp_path / name))
        page.wait(f"document.querySelector('[role=alert]').textContent.includes('{name}')")
        assert sentence in page.text("[role=alert]")
    sent = [request for request in page.requests() if "api/tag" in request]
    assert len(sent) == 1  # the large one was not sent
    page.open(f"http://127.0.0.1:{port}/", width=360, height=700, dark=True)
    page.wait("document.body.dataset.ready")
    choose(page, music / "b.flac")
    assert page.run("return document.documentElement.scrollWidth") <= 360
    colours = page.run("const s = getComputedStyle(document.body); return [s.color, s.background]")
    assert colours[0] == "rgb(230, 232, 235)"


def test_a_name_of_one_long_word_does_not_make_a_narrow_page_scroll(
    port,
    music,
    browser,  # noqa: F811
    tmp_path,
):
    long = tmp_path / f"{'W' * 150}.wav"
    long.write_bytes((music / "a.wav").read_bytes())
    page = browser
    page.open(f"http://127.0.0.1:{port}/", width=320, height=700)
    page.wait("document.body.dataset.ready")
    choose(page, long)
    assert "W" * 100 in page.run("return document.body.innerText")
    assert page.run("return document.documentElement.scrollWidth") <= 320
