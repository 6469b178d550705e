"""Stores that were damaged or edited: our own errors with the file's name, and nothing mapped."""

import json

import numpy as np
import pytest

from musrep_jax.store import Store, StoreError, StoreWriter

ABOUT = {"model": "m", "labels": ["ney", "oud"], "width": 3, "per_chunk": True}


@pytest.fixture
def path(tmp_path):
    random = np.random.default_rng(0)
    with StoreWriter(tmp_path / "s", ABOUT) as writer:
        for number in range(4):
            writer.add(
                path=f"{number}.wav", sha256=f"{number:064}", size=9, mtime_ns=1, seconds=2.0,
                spans=np.array([[0.0, 1.0], [1.0, 2.0]]), embedding=random.random(3),
                probabilities=random.random(2), chunk_embeddings=random.random((2, 3)),
                chunk_probabilities=random.random((2, 2)),
            )  # fmt: skip
        writer.record_location("moved.wav", f"{1:064}", 9, 1, lambda place: False)
    return tmp_path / "s"


def read_everything(path):
    store = Store(path)
    for row, _ in enumerate(store.tracks()):
        store.chunks(row)
    store.is_present()
    store.find("moved.wav")
    store.find_by_suffix("1")
    return len(store), float(np.nansum(store.embeddings) + np.nansum(store.probabilities))


FILES = ("store.json", "tracks.jsonl", "places.jsonl", "embeddings.npy", "probabilities.npy",
         "chunk_spans.npy", "chunk_embeddings.npy", "chunk_probabilities.npy")  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_whatever_stands_in_a_file_is_read_or_is_our_error_with_its_name(path, name):
    file, crashed = path / name, []
    content = file.read_bytes()
    random = np.random.default_rng(1)
    edits = [b"", b"[]", b"{}", b"null\n", b"\0" * 200, b"[" * 100_000, content[:-10], content * 2]
    edits += [content.replace(b"<f4", b"|O "), content.replace(b"<f4", b"<f8")]
    edits += [content.replace(b"<f4", b"<i4"), content.replace(b"(4, ", b"(9999999999999, ")]
    edits += [content.replace(b"False", b"True "), content.replace(b"3", b"5")]
    edits += [content.replace(b'"path"', b'"pfad"'), content.replace(b"row", b"rou")]
    edits += [content.replace(b": ", b": -1"), content.replace(b"1", b"1e9"), content[3:]]
    for _ in range(40):
        changed = bytearray(content)
        changed[random.integers(min(len(content), 200))] = random.integers(256)
        edits.append(bytes(changed))
    for edit in edits:
        file.write_bytes(edit)
        try:
            read_everything(path)
        except StoreError as error:
            if "\n" in str(error) or str(path) not in str(error):
                crashed.append(f"{edit[:60]!r}: {error}")
        except Exception as error:  # what must not be
            crashed.append(f"{edit[:60]!r}: {type(error).__name__}: {error}")
    assert not crashed, "\n".join(crashed)
    file.write_bytes(content)
    assert read_everything(path)[0] == 4


def test_pointers_are_never_read(path):
    file = path / "embeddings.npy"
    np.save(file, np.array([[object()] * 3] * 4, object), allow_pickle=True)
    with pytest.raises(StoreError, match=r"embeddings.npy is no array of numbers"):
        Store(path)


def test_an_array_that_was_cut_is_told_and_not_fewer_tracks(path):
    file = path / "embeddings.npy"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(StoreError, match=r"embeddings.npy was cut: it holds 3 of its 4 rows"):
        Store(path)


def test_arrays_of_an_earlier_copy_are_told(path):
    file = path / "embeddings.npy"
    np.save(file, np.load(file)[:2])
    with pytest.raises(StoreError, match=r"tracks.jsonl has 4 tracks, and the arrays have 2 rows"):
        Store(path)


@pytest.mark.parametrize("about", [{"labels": ["a", "a"]}, {"width": -1}, {"per_chunk": 1}])
def test_store_json_names_the_field(path, about):
    (path / "store.json").write_text(json.dumps({"format": 1, **ABOUT, **about}), encoding="utf-8")
    with pytest.raises(StoreError, match=f"store.json is damaged: {next(iter(about))} is"):
        Store(path)
