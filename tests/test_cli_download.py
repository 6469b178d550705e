"""The command `musrep download`."""

import dataclasses
import io
import json
import sys
import types

import numpy as np
import pytest
from local_server import (
    HOW,
    MEMBERS,
    LocalServer,
    ServedFile,
    digest,
    make_zip,
    put,
    serve,
    unpacked,
)

from musrep_jax.cli import app
from musrep_jax.data import datasets
from musrep_jax.data.corpora.dunya import SPLIT_LISTS
from musrep_jax.data.download import dunya_api
from musrep_jax.data.download.files import SourceFile

CONTENT = bytes(range(256)) * 400


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    local = LocalServer()
    yield local
    local.close()


def add_dataset(monkeypatch, name, **attributes):
    module = types.ModuleType(f"throw_away_{name}")
    module.Builder = type("Builder", (), attributes)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(datasets.DATASETS, name, f"{module.__name__}:Builder")


@pytest.fixture
def corpus(server, monkeypatch):
    """A data set `fake`: a file that can be fetched, an archive, and a file to get by hand."""
    files = (
        serve(server, CONTENT, "a/clip.bin"),
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
    assert f"When it is: musrep build fake --data-dir {tmp_path}" in err
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
        server.table[path] = ServedFile(json.dumps(value).encode(), "application/json")
    server.table[f"/document/by-id/{mbid}/mp3"] = ServedFile(b"sound")
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
