"""Archives: unpacked safely, across parts, again after a break."""

import io
import tarfile
import types
import zipfile

import pytest
from local_server import MEMBERS, digest, make_zip, names, put, unpacked

from musrep_jax.data.download import archives, partial_files
from musrep_jax.data.download.files import (
    CHECKSUMS_FILE,
    SourceFile,
    check_file,
    check_files,
    delete_unpacked,
    fetch_files,
    find_missing_files,
)


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


@pytest.mark.parametrize(
    ("path", "content"),
    [("x.zip", make_zip()), ("x.tar.gz", make_tar()), ("x.TGZ", make_tar()),
     ("x.tar", make_tar("w"))],
)  # fmt: skip
def test_archives_are_unpacked_beside_themselves(tmp_path, path, content):
    put(tmp_path, f"audio/{path}", content)
    file = packed(content, f"audio/{path}")
    assert check_file(file, tmp_path).note == "It is not unpacked yet."
    assert find_missing_files(tmp_path, [file]) == [file]
    states = fetch_files(tmp_path, [file])
    assert states[0].is_ready
    assert unpacked(tmp_path / "audio") == MEMBERS
    assert delete_unpacked(tmp_path, states) == [tmp_path / "audio" / path]
    assert check_files(tmp_path, [file])[0].is_ready
    assert not find_missing_files(tmp_path, [file])
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


def make_odd_tar(name):
    """A tar whose one member has a name of these bytes, which need not be text."""
    info = tarfile.TarInfo("x" * len(name))
    info.size = 1
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[: len(name)] = name
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + b"1" + bytes(511) + bytes(1024)


@pytest.mark.parametrize(
    ("path", "content", "reason"),
    [
        ("x.zip", make_zip({"good": b"1", "../bad": b"2"}), "would write outside"),
        ("x.zip", make_zip({"good": b"1", "/bad": b"2"}), "would write outside"),
        ("x.zip", make_zip({"good": b"1", "a\\..\\..\\bad": b"2"}), "would write outside"),
        ("x.zip", make_zip({"good": b"1", "C:/bad": b"2"}), "would write outside"),
        ("x.zip", make_zip({".": b"2", "good": b"1"}), "has a name that no file can have"),
        ("x.zip", make_zip({"a": b"1", "a/b": b"2"}), "both 'a' and 'a/b', a file and a folder"),
        ("x.zip", make_zip({"a/b": b"1", "a/./b": b"2"}), "holds 'a/b' under two names"),
        ("x.zip", make_zip({"good": b"1", "x" * 5000: b"2"}), "has a name that no file can have"),
        ("x.tar", make_odd_tar(b"bad\xff"), "has a name that no file can have"),
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
    assert not find_missing_files(folder, []) and find_missing_files(folder, [state.file])
    if "damaged" not in reason:
        assert set(names(folder)) == {path, CHECKSUMS_FILE}
    assert names(tmp_path) == [f"corpus/{name}" for name in names(folder)]
