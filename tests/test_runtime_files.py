"""Files and folders that are replaced as a whole: failures, kills, rights, numbers in JSON."""

import ast
import json
import os
import socket
import stat
import subprocess
import sys
import time

import numpy as np
import pytest

from musrep_jax.runtime import files, folders, processes

KILLED = """
import os, sys, pathlib
from musrep_jax.runtime.files import replace_file
from musrep_jax.runtime.folders import replace_folder
target = pathlib.Path(sys.argv[1])
replace = replace_folder if sys.argv[2] == "folder" else replace_file
with replace(target) as temporary:
    (temporary / "a" if sys.argv[2] == "folder" else temporary).write_text("half")
    os.kill(os.getpid(), 9)
"""


@pytest.fixture
def usual_rights():
    previous = os.umask(0o027)
    yield 0o640
    os.umask(previous)


def test_a_file_is_the_old_one_until_it_is_whole(tmp_path):
    path = tmp_path / "new" / "card.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), files.replace_file(path) as temporary:
        temporary.write_text("half")
        assert json.loads(path.read_text()) == {"a": 1}
        raise RuntimeError
    assert json.loads(path.read_text()) == {"a": 1}
    assert os.listdir(path.parent) == ["card.json"]
    files.write_text(path, "çalışma\r\n\n")
    assert path.read_bytes() == "çalışma\r\n\n".encode()


def test_content_is_on_the_disk_before_its_name_and_the_name_before_the_return(
    tmp_path, monkeypatch
):
    done = []
    for name in ("sync_file", "sync_folder"):
        real = getattr(files, name)
        monkeypatch.setattr(
            files, name, lambda path, name=name, real=real: (done.append((name, path)), real(path))
        )
    real_replace = type(tmp_path).replace
    monkeypatch.setattr(
        type(tmp_path),
        "replace",
        lambda self, target: (done.append(("rename", target)), real_replace(self, target))[1],
    )
    files.write_text(tmp_path / "a", "text")
    assert [name for name, _ in done] == ["sync_file", "rename", "sync_folder"]
    assert done[2][1] == tmp_path
    done.clear()
    files.write_bytes(tmp_path / "a", b"bytes", is_synced=False)
    assert [name for name, _ in done] == ["rename"]


def test_rights_are_the_usual_ones_whoever_writes(tmp_path, usual_rights):
    with files.replace_file(tmp_path / "file") as temporary:
        temporary.unlink()
        os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))  # as safetensors does
    with folders.replace_folder(tmp_path / "folder") as temporary:
        os.close(os.open(temporary / "inside", os.O_CREAT | os.O_WRONLY, 0o600))
    for path in (tmp_path / "file", tmp_path / "folder" / "inside"):
        assert stat.S_IMODE(path.stat().st_mode) == usual_rights


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_is_removed_by_the_next(kind, tmp_path, repository):
    target = tmp_path / "model.v2"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(target), kind], cwd=repository, check=False
    )
    assert done.returncode == -9
    assert len(os.listdir(tmp_path)) == 1
    if kind == "file":
        files.write_text(target, "whole")
    else:
        (tmp_path / f".model.v2.{2**22 + 1}.tmp").mkdir()  # as earlier versions named them
        with folders.replace_folder(target) as folder:
            files.write_text(folder / "a", "whole")
    assert os.listdir(tmp_path) == ["model.v2"]


def test_a_folder_that_a_killed_process_had_moved_aside_comes_back(tmp_path):
    dead = f"{processes.host_token()}-{2**22 + 1}-0123abcd"
    (tmp_path / f".model.{dead}.old").mkdir()
    (tmp_path / f".model.{dead}.old" / "weights").write_text("dear")
    (tmp_path / f".model.v2.{dead}.old").mkdir()  # of another folder
    with pytest.raises(RuntimeError), folders.replace_folder(tmp_path / "model"):
        raise RuntimeError
    assert (tmp_path / "model" / "weights").read_text() == "dear"
    assert sorted(os.listdir(tmp_path)) == [f".model.v2.{dead}.old", "model"]


def test_what_may_still_be_in_use_or_is_not_ours_stays(tmp_path):
    ours = processes.host_token()
    kept = {
        f".a.{ours}-{os.getpid()}-0123abcd.tmp",  # alive
        ".a.00000000-1-0123abcd.tmp",  # of another host, and young
        f".a.{2**22 + 1}.tmp",  # perhaps of another program
        ".hidden.tmp",
        "a.tmp",
    }
    old = tmp_path / ".b.00000000-1-0123abcd.tmp"
    for path in (*(tmp_path / name for name in kept), old):
        path.write_text("")
    a_while_ago = time.time() - files.ABANDONED_SECONDS - 60
    os.utime(old, (a_while_ago, a_while_ago))
    files.write_text(tmp_path / "new", "")
    assert set(os.listdir(tmp_path)) == kept | {"new"}


def test_two_hosts_and_long_names_do_not_meet(tmp_path, monkeypatch):
    path = tmp_path / ("ş" * 125)  # 250 bytes of at most 255
    files.write_text(path, "whole")
    assert path.read_text() == "whole"
    here = processes.host_token()
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    assert processes.host_token() != here
    assert files.temporary_path(path) != files.temporary_path(path)


def test_numbers_without_json_become_null(tmp_path):
    value = {
        "auc": np.float32("nan"),
        3: [np.int64(3), (float("inf"), True, None)],
        "table": np.array([[0.5, -np.inf]]),
        "name": b"caf\xe9".decode("utf-8", "surrogateescape"),
    }
    files.write_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {
        "auc": None,
        "3": [3, [None, True, None]],
        "table": [[0.5, None]],
        "name": "caf\udce9",
    }


def test_nobody_else_replaces_files(repository):
    """Write-then-rename stands in `runtime/` alone."""
    found = []
    for path in sorted((repository / "musrep_jax").rglob("*.py")):
        if path.parent.name == "runtime":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in (
                "NamedTemporaryFile",
                "getpid",
                "uuid4",
            ):
                found.append(f"{path.relative_to(repository)}:{node.lineno} {node.attr}")
    allowed = {
        ("musrep_jax/data/build/lock.py", "getpid"),  # names the holder of a lock
        ("musrep_jax/pages/uploads.py", "getpid"),  # names a folder of the system's own
        ("musrep_jax/store/approximate.py", "uuid4"),  # names an index, which is never replaced
    }
    assert {(f.partition(":")[0], f.split()[1]) for f in found} <= allowed, found
