"""Approximate search: what it finds, and that its index is never an old one."""

import json
import shutil
import sys

import numpy as np
import pytest

from benchmarks.nearest import make_store
from musrep_jax.cli import app
from musrep_jax.store import Store, StoreError, StoreWriter, rank_by_vector
from musrep_jax.store.approximate import rank_approximately

NUM_TRACKS, WIDTH, K = 3000, 16, 10


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path / "store", NUM_TRACKS, WIDTH)


@pytest.fixture
def told():
    """Sentences about indexes that were made."""
    return []


def append(path, vectors):
    """Adds tracks with these embeddings."""
    old = Store(path)
    with StoreWriter(path, old.about) as writer:
        for number, vector in enumerate(vectors, start=len(old)):
            writer.add(path=f"/new/{number}.wav", sha256=f"{number:064x}", size=1, mtime_ns=1,
                       seconds=1.0, spans=np.array([[0.0, 1.0]]), embedding=vector,
                       probabilities=np.zeros(0), chunk_embeddings=vector[None],
                       chunk_probabilities=np.zeros((1, 0)))  # fmt: skip
    return Store(path)


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_it_finds_the_nearest_with_their_exact_scores(store, metric):
    present = np.arange(NUM_TRACKS) % 3 > 0
    common = 0
    for row in range(0, NUM_TRACKS, 100):
        asked = {"metric": metric, "present": present}
        rows, scores = rank_approximately(store, store.embeddings[row], K, **asked)
        exact_rows, exact = rank_by_vector(store.embeddings, store.embeddings[row], K, **asked)
        assert present[rows].all()
        assert (np.diff(scores) <= 0).all()
        known = dict(zip(exact_rows.tolist(), exact.tolist(), strict=True))
        shared = [r for r in rows.tolist() if r in known]
        common += len(shared)
        assert np.allclose([known[r] for r in shared],
                           [s for r, s in zip(rows, scores, strict=True) if r in known],
                           atol=1e-5)  # fmt: skip
    assert common / (K * NUM_TRACKS / 100) > 0.9
    assert len(list(store.path.glob("nearest-*"))) == 2


def test_rows_that_were_added_are_found_without_a_new_index(store, told):
    vector = np.full(WIDTH, 9.0, np.float32)
    rank_approximately(store, vector, 1, tell=told.append)
    store = append(store.path, [vector])
    rows, scores = rank_approximately(store, vector, 1, tell=told.append)
    assert (rows.tolist(), len(told)) == ([NUM_TRACKS], 1)
    assert scores[0] == pytest.approx(1)
    store = append(store.path, np.tile(-vector, (NUM_TRACKS // 5, 1)))
    assert rank_approximately(store, vector, 1, tell=told.append)[0].tolist() == [NUM_TRACKS]
    assert len(told) == 2
    assert len(list(store.path.glob("nearest-*"))) == 2


def cut_file(store):
    (file,) = store.path.glob("*.faiss")
    file.write_bytes(file.read_bytes()[:-100])


def drop_file(store):
    (file,) = store.path.glob("*.faiss")
    file.unlink()


def cut_facts(store):
    file = store.path / "nearest-cosine.json"
    file.write_bytes(file.read_bytes()[:20])


def make_again(store):
    kept = {file.name: file.read_bytes() for file in store.path.glob("nearest-*")}
    shutil.rmtree(store.path)
    make_store(store.path, 10, WIDTH)
    vectors = np.random.default_rng(5).standard_normal((NUM_TRACKS - 10, WIDTH))
    append(store.path, vectors.astype(np.float32))
    for name, content in kept.items():
        (store.path / name).write_bytes(content)


def cut_rows(store):
    file = store.path / "tracks.jsonl"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:100]))


@pytest.mark.parametrize("change", [cut_file, drop_file, cut_facts, make_again, cut_rows])
def test_an_index_that_does_not_fit_is_made_anew(store, told, change):
    rank_approximately(store, store.embeddings[7], K, tell=told.append)
    rank_approximately(store, store.embeddings[7], K, tell=told.append)
    assert len(told) == 1
    change(store)
    store = Store(store.path)
    rows, _ = rank_approximately(store, store.embeddings[7], K, tell=told.append)
    assert rows[0] == 7
    assert len(told) == 2
    facts = json.loads((store.path / "nearest-cosine.json").read_text(encoding="utf-8"))
    assert facts["rows"] == len(store)
    assert [file.name for file in store.path.glob("*.faiss")] == [facts["file"]]


def test_more_than_there_is(tmp_path):
    store = make_store(tmp_path / "store", 30, WIDTH)
    rows, _ = rank_approximately(store, store.embeddings[3], 100)
    assert sorted(rows) == list(range(30))


def test_the_command_says_which_search_it_was(store, capsys, monkeypatch):
    def ask(*words):
        with pytest.raises(SystemExit) as ended:
            app(["similar", str(store.path), "track_0000007.flac", *words], prog_name="musrep")
        return int(ended.value.code or 0), *capsys.readouterr()

    answers = {way: json.loads(ask(f"--{way}", "--json")[1]) for way in ("exact", "approximate")}
    assert [answers[way]["search"] for way in answers] == list(answers)
    assert answers["exact"]["tracks"][0] == answers["approximate"]["tracks"][0]
    assert "exact search of 3,000 tracks" in ask()[1]
    monkeypatch.setattr("musrep_jax.store.approximate.MIN_APPROXIMATE_TRACKS", 3000)
    code, out, error = ask("--metric", "dot")
    assert (code, "approximate search of 3,000 tracks" in out) == (0, True)
    assert "Making the index of 3,000 tracks" in error
    monkeypatch.setitem(sys.modules, "faiss", None)
    code, out, error = ask("--approximate")
    assert (code, out) == (2, "")
    assert 'install it with pip install "musrep_jax[ann]"' in error


def test_a_folder_that_cannot_be_written_is_one_sentence(store, monkeypatch):
    import faiss

    def fail(*_):
        raise RuntimeError("could not open for writing")

    monkeypatch.setattr(faiss, "write_index", fail)
    with pytest.raises(StoreError, match=r"cannot be written .* search with --exact"):
        rank_approximately(store, store.embeddings[7], K)
