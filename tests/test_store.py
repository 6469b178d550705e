"""The store: read without us, whole at any moment, found again; files decoded ahead of use."""

import json
import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from musrep_jax.cli.tag import format_row
from musrep_jax.data.audio.decoders import _Decoder, decode_files, stream_audio
from musrep_jax.data.audio.reading import AudioError, read_audio
from musrep_jax.inference.chunks import chunk_blocks, cut
from musrep_jax.inference.tag_output import TagPredictor
from musrep_jax.store import (
    Store,
    StoreError,
    StoreWriter,
    parse_tags,
    rank_by_tags,
    rank_by_vector,
)
from musrep_jax.store.search import top
from musrep_jax.types import Chunking

LABELS = ["ney", "voice", "female vocal", "-lo-fi"]
ABOUT = {"model": "abc", "name": "a model", "labels": LABELS, "width": 3, "per_chunk": True}
RNG = np.random.default_rng(0)


def values(seed: int) -> dict:
    """Returns what is added of a track; as many chunks as its seed says, and one more."""
    random = np.random.default_rng(seed)
    embeddings = random.standard_normal((seed + 1, 3)).astype(np.float32)
    scores = random.random((seed + 1, len(LABELS))).astype(np.float32)
    return {
        "path": f"/music/{seed}.wav",
        "sha256": f"{seed:064x}",
        "size": 10 + seed,
        "mtime_ns": seed,
        "seconds": seed + 1.0,
        "spans": np.stack([np.arange(seed + 1.0), np.arange(1.0, seed + 2)], axis=1),
        "embedding": embeddings.mean(axis=0),
        "probabilities": scores.mean(axis=0),
        "chunk_embeddings": embeddings,
        "chunk_probabilities": scores,
    }


def fill(path, seeds=range(5), about=ABOUT):
    with StoreWriter(path, about) as writer:
        for seed in seeds:
            writer.add(**values(seed))
    return path


def same_as(store: Store, seeds) -> None:
    assert len(store) == len(seeds)
    for row, seed in enumerate(seeds):
        expected = values(seed)
        assert store.track(row)["path"] == expected["path"]
        assert np.array_equal(store.embeddings[row], expected["embedding"])
        assert np.array_equal(store.probabilities[row], expected["probabilities"])
        for found, name in zip(
            store.chunks(row), ("spans", "chunk_embeddings", "chunk_probabilities"), strict=True
        ):
            assert np.array_equal(found, expected[name])


def test_what_was_added_is_there_and_more_can_be_added(tmp_path):
    fill(tmp_path / "store", range(3))
    fill(tmp_path / "store", range(3, 6))
    same_as(Store(tmp_path / "store"), range(6))


def test_three_lines_of_numpy_read_a_store(tmp_path):
    path = fill(tmp_path / "store")
    embeddings = np.load(path / "embeddings.npy", mmap_mode="r")
    probabilities = np.load(path / "probabilities.npy", mmap_mode="r")
    tracks = [json.loads(line) for line in open(path / "tracks.jsonl")]  # noqa: SIM115
    assert len(embeddings) == len(probabilities) == len(tracks) == 5
    assert embeddings.dtype == probabilities.dtype == np.float32
    assert np.array_equal(embeddings[4], values(4)["embedding"])
    chunks = np.load(path / "chunk_embeddings.npy", mmap_mode="r")
    first, number = tracks[4]["first_chunk"], tracks[4]["chunks"]
    assert np.array_equal(chunks[first : first + number], values(4)["chunk_embeddings"])


def test_without_chunks(tmp_path):
    path = fill(tmp_path / "store", about=ABOUT | {"per_chunk": False})
    assert not list(path.glob("chunk_*"))
    with pytest.raises(StoreError, match="--per-chunk"):
        Store(path).chunks(0)


@pytest.mark.parametrize("name", ["tracks.jsonl", "embeddings.npy", "chunk_probabilities.npy"])
@pytest.mark.parametrize("missing", [1, 5, 40])
def test_what_was_cut_is_told_and_the_next_writer_goes_on(tmp_path, name, missing):
    path = fill(tmp_path / "store")
    os.truncate(path / name, (path / name).stat().st_size - missing)
    num = 5
    if name == "tracks.jsonl":  # as a kill leaves it: the rows first, the line last
        num = len(Store(path))
        assert num == 4
    else:
        with pytest.raises(StoreError, match=f"{name} was cut"):
            Store(path)
    with StoreWriter(path, ABOUT) as writer:
        left = len(writer)
        assert 1 <= left <= num
        for seed in range(left, 7):
            assert not writer.has_content(values(seed)["sha256"])
            writer.add(**values(seed))
    same_as(Store(path), range(7))


def test_a_reader_sees_whole_tracks_while_a_writer_writes(tmp_path):
    path = tmp_path / "store"
    with StoreWriter(path, ABOUT) as writer:
        assert len(Store(path)) == 0
        for seed in range(4):
            writer.add(**values(seed))
            same_as(Store(path), range(seed + 1))
        # Rows without their line, as a kill between the two would leave them.
        writer._arrays["embeddings"].append(np.ones((1, 3), np.float32))
        writer._arrays["embeddings"].count()
        same_as(Store(path), range(4))
    fill(path, [4])
    same_as(Store(path), range(5))


def test_moved_copied_and_replaced_files(tmp_path):
    path = fill(tmp_path / "store", range(3))
    there = {"/music/1.wav", "/new/0.wav", "/copies/1.wav"}
    for _ in range(2):
        with StoreWriter(path, ABOUT) as writer:
            assert writer.has_content(values(0)["sha256"])
            for seed, place in ((0, "/new/0.wav"), (1, "/copies/1.wav")):
                if not writer.has(place, 10, 7):
                    sha256 = values(seed)["sha256"]
                    writer.record_location(place, sha256, 10, 7, path_exists=there.__contains__)
            assert writer.has("/new/0.wav", 10, 7)
            assert not writer.has("/music/0.wav", 10, 0)
            assert not writer.has("/new/0.wav", 11, 7)
    assert len((path / "places.jsonl").read_text().splitlines()) == 3
    with StoreWriter(path, ABOUT) as writer:
        writer.add(**values(3) | {"path": "/music/2.wav"})
    store = Store(path)
    assert store.track(0)["path"] == "/new/0.wav"
    assert store.track(1)["also"] == ["/copies/1.wav"]
    assert [store.find(p) for p in ("/new/0.wav", "/music/0.wav", "/music/2.wav")] == [0, None, 3]
    assert store.is_present().tolist() == [True, True, False, True]
    assert store.find_by_content(values(1)["sha256"]) == 1
    assert store.find_by_suffix("copies/1") == store.find_by_suffix("1.wav") == [1]
    assert store.find_by_suffix("opies/1") == []


def test_what_does_not_fit_is_refused(tmp_path):
    path = fill(tmp_path / "store")
    with pytest.raises(StoreError, match=r"another model \(a model\)"):
        StoreWriter(path, ABOUT | {"model": "other"})
    with pytest.raises(StoreError, match="another --per-chunk"):
        StoreWriter(path, ABOUT | {"per_chunk": False})
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "song.wav").write_bytes(b"")
    with pytest.raises(StoreError, match="exists and is no store"):
        StoreWriter(tmp_path / "music", ABOUT)
    with pytest.raises(StoreError, match="is no store: make one"):
        Store(tmp_path / "music")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("ney", [(0, False, 1.0)]),
        ("ney,-voice", [(0, False, 1.0), (1, True, 1.0)]),
        ("ney AND NOT voice", [(0, False, 1.0), (1, True, 1.0)]),
        ("NEY^2 , Female_Vocal", [(0, False, 2.0), (2, False, 1.0)]),
        ("-lo-fi", [(3, False, 1.0)]),
        ("!ney^0.5", [(0, True, 0.5)]),
    ],
)
def test_queries(query, expected):
    terms = parse_tags(query, LABELS)
    assert [(t.column, t.is_absent, t.weight) for t in terms] == expected


SOUNDS = ["Train horn", "Air horn, truck horn", "Hüzzam", "İsfahan", "Car, Bus", "Car"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ('"Air horn, truck horn"', [(1, False, 1.0)]),
        ("Air horn\\, truck horn", [(1, False, 1.0)]),
        ("Air horn, truck horn", [(1, False, 1.0)]),
        ('train horn, -"air horn, truck horn"^2', [(0, False, 1.0), (1, True, 2.0)]),
        ('"Air horn, truck horn" AND NOT "Train horn"', [(1, False, 1.0), (0, True, 1.0)]),
        ("-air horn, truck horn, car", [(1, True, 1.0), (5, False, 1.0)]),
        ("Hu\u0308zzam\u00a0", [(2, False, 1.0)]),
        ("isfahan", [(3, False, 1.0)]),
        ("Car", [(5, False, 1.0)]),
        ('"Car, Bus"', [(4, False, 1.0)]),
    ],
)
def test_labels_with_commas_and_accents_can_be_asked_for(query, expected):
    terms = parse_tags(query, SOUNDS)
    assert [(t.column, t.is_absent, t.weight) for t in terms] == expected


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("nay", "no label 'nay'. Did you mean 'ney'?"),
        ("vocal", "or 'female vocal'?"),
        ("xyz", "There are ney, voice"),
        (" , ", "query is empty"),
    ],
)
def test_a_label_that_is_not_there_gets_the_nearest(query, sentence):
    with pytest.raises(StoreError) as told:
        parse_tags(query, LABELS)
    assert sentence in str(told.value)


def test_tags_rank_by_the_product_of_probabilities():
    scores = RNG.random((500, 4)).astype(np.float32)
    terms = parse_tags("ney^2, -voice", LABELS)
    rows, found = rank_by_tags(scores, terms, 7)
    expected = scores[:, 0] ** 2 * (1 - scores[:, 1])
    assert rows.tolist() == np.argsort(-expected)[:7].tolist()
    assert np.allclose(found, expected[rows])


def test_equal_scores_keep_the_order_of_the_rows():
    """Of few values among many rows, at every length and with rows left out: the earlier first."""
    scores = np.random.default_rng(0).integers(0, 4, 300).astype(np.float32) / 4
    present = np.arange(300) % 7 != 0
    for kept in (None, present):
        rows = np.arange(300) if kept is None else np.flatnonzero(kept)
        expected = sorted(rows.tolist(), key=lambda row: (-scores[row], row))
        for k in (1, 2, 40, 80, 150, 299, 300, 1000):
            found, values = top(scores, k, kept)
            assert found.tolist() == expected[:k]
            assert values.tolist() == scores[expected[:k]].tolist()
    ranked, _ = rank_by_tags(np.repeat(scores[:, None], 4, axis=1), parse_tags("ney", LABELS), 50)
    assert ranked.tolist() == sorted(range(300), key=lambda row: (-scores[row], row))[:50]
    same = np.ones((40, 3), np.float32)
    assert rank_by_vector(same, same[0], 30)[0].tolist() == list(range(30))


def test_equally_probable_tags_keep_the_order_of_the_labels():
    labels = [f"label {number:02d}" for number in range(40)]
    tagger = SimpleNamespace(labels=labels, card={})
    tags = TagPredictor(tagger, is_raw=True)
    scores = [0.25 if number % 3 else 0.5 for number in range(40)]
    expected = [f"label {n:02d}" for n in range(40) if n % 3 == 0]
    expected += [f"label {n:02d}" for n in range(40) if n % 3]
    shown = format_row(tags, scores, 20, False).split(", ")
    assert [text.rsplit(" ", 1)[0] for text in shown] == expected[:20]


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_nearest_are_exact(metric):
    points = RNG.standard_normal((70_000, 4)).astype(np.float32)  # more than a block
    points[5] = 0
    query = RNG.standard_normal(4).astype(np.float32)
    present = np.ones(len(points), bool)
    present[::3] = False
    exact = points.astype(np.float64)
    lengths = np.maximum(np.linalg.norm(exact, axis=1) * np.linalg.norm(query), 1e-30)
    score = {
        "cosine": exact @ query / lengths,
        "dot": exact @ query,
        "euclidean": -np.linalg.norm(exact - query, axis=1),
    }[metric]
    rows, found = rank_by_vector(points, query, 20, metric=metric, present=present)
    assert rows.tolist() == np.argsort(-np.where(present, score, -np.inf))[:20].tolist()
    assert np.allclose(found, score[rows], atol=1e-5)
    assert len(rank_by_vector(points[:3], query, 20, metric=metric)[0]) == 3


def test_equal_scores_keep_their_order():
    rows, _ = rank_by_vector(np.ones((10, 2), np.float32), np.ones(2), 4)
    assert rows.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("total", [1, 9, 10, 11, 20, 25, 101])
@pytest.mark.parametrize("piece", [1, 3, 10, 64])
def test_chunks_of_pieces_are_those_of_the_whole(total, piece):
    audio = RNG.standard_normal(total).astype(np.float32)
    chunks, spans = cut(audio, Chunking(10), 0.0)
    pieces = (audio[start : start + piece] for start in range(0, total, piece))
    found = list(chunk_blocks(pieces, Chunking(10)))
    assert np.array_equal(np.stack([chunk for chunk, _, _ in found]), chunks)
    assert [[start, end] for _, start, end in found] == spans.tolist()
    assert spans[-1, 1] == total


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    folder = tmp_path_factory.mktemp("music")
    for index in range(6):
        audio = 0.2 * np.random.default_rng(index).standard_normal((44100 * (1 + index), 2))
        soundfile.write(folder / f"{index}.flac", audio, 44100)
    (folder / "broken.mp3").write_bytes(b"no audio at all" * 9)
    soundfile.write(folder / "nan.wav", np.full(100, np.nan), 16000, subtype="FLOAT")
    return folder


def test_a_stream_is_bit_for_bit_the_file_that_is_read(music, monkeypatch):
    monkeypatch.setattr("musrep_jax.data.audio.reading._BLOCK_FRAMES", 10_000)
    for rate in (16000, 44100, 48000):
        whole, _ = read_audio(music / "2.flac", sample_rate=rate)
        blocks = list(stream_audio(music / "2.flac", rate))
        assert len(blocks) > 5
        assert np.array_equal(np.concatenate(blocks), whole)


@pytest.mark.parametrize("num_workers", [1, 3])
def test_files_come_in_order_and_a_bad_one_stops_nothing(music, num_workers):
    paths = sorted(os.path.join(music, name) for name in os.listdir(music))
    unwanted = paths[3]

    def look(path):
        return os.path.getsize(path), path != unwanted

    paths.append(os.path.join(music, "absent.wav"))
    seen, failed = [], {}
    for file in decode_files(paths, 16000, num_workers, look):
        seen.append(file.path)
        try:
            blocks = list(file.blocks())
        except (AudioError, OSError) as error:
            failed[os.path.basename(file.path)] = str(error)
            continue
        assert file.known == os.path.getsize(file.path)
        if file.path == unwanted:
            assert not blocks
        else:
            whole, _ = read_audio(file.path, sample_rate=16000)
            assert np.array_equal(np.concatenate(blocks), whole)
    assert seen == paths
    assert failed.keys() == {"broken.mp3", "nan.wav", "absent.wav"}
    assert "not finite" in failed["nan.wav"]


def test_a_decoder_that_dies_is_a_sentence_about_its_file(music):
    decoder = _Decoder(16000)
    try:
        assert list(decoder.decode(os.path.join(music, "0.flac")))
        process = decoder._worker._process
        process.send_signal(signal.SIGSEGV)
        process.wait()
        with pytest.raises(AudioError, match=r"0\.flac cannot be read: the decoder crashes on it"):
            list(decoder.decode(os.path.join(music, "0.flac")))
        assert list(decoder.decode(os.path.join(music, "1.flac")))  # by the next process
    finally:
        decoder.close()


def test_a_path_is_found_in_either_unicode_form(tmp_path):
    decomposed = "/music/Hu\u0308zzam/S\u0327arki.wav"
    with StoreWriter(tmp_path / "store", ABOUT) as writer:
        writer.add(**values(0))
        writer.add(**{**values(1), "path": decomposed})
    store = Store(tmp_path / "store")
    assert store.find("/music/Hüzzam/Şarki.wav") == store.find(decomposed) == 1
    assert store.find_by_suffix("Hüzzam/Şarki") == [1]
