"""Excerpts read where they lie in a file of records equal those of the whole track, bit for bit."""

import concurrent.futures
import io
import pickle

import numpy as np
import pytest
import soundfile
from array_record.python import array_record_module
from toy_forms import MELS, RATE, ToyBuilder

from musrep_jax.data import Dataset
from musrep_jax.data.build.records import TrackCodec, TrackRecord
from musrep_jax.data.input.record_files import RecordFile

LENGTHS = (1, 300, 32_755, 32_756, 32_757, 100_000, 250_001)
"""In samples of two bytes: some end just before, at and after the edge of a block of 64 KiB."""


def _tracks(form, count):
    """Returns tracks of noise, and what an excerpt of each must be taken from."""
    tracks, expected = [], {}
    for index in range(count):
        rng = np.random.default_rng(index)
        length = LENGTHS[index % len(LENGTHS)]
        audio = rng.integers(-32768, 32768, length).astype(np.float32) / 32768
        num_samples = None
        if form == "log_mel":
            audio = -100 * rng.random((1 + length // MELS, MELS)).astype(np.float16)
        expected[f"t{index}"] = audio
        if form == "encoded":
            file = io.BytesIO()
            soundfile.write(file, audio, RATE, format="WAV", subtype="PCM_16")
            audio, num_samples = file.getvalue(), length
        tracks.append(TrackRecord(f"t{index}", f"g{index}", ["drum"], audio, num_samples))
    return tracks, expected


def _build(tmp_path, form, count=20):
    tracks, expected = _tracks(form, count)
    builder = ToyBuilder(
        data_dir=tmp_path, form=form, tracks=lambda split: tracks[split == "test" :: 2]
    )
    return builder.build(), expected


def _check_crops(tracks, expected, seed=0):
    rng = np.random.default_rng(seed)
    for index, name in enumerate(tracks):
        whole = expected[name]
        for _ in range(20):
            start, length = (int(number) for number in rng.integers(0, len(whole) + 9, 2))
            crop = tracks.crop(index, start, length)
            excerpt = np.float32(whole[start : start + length])
            assert crop.shape == (length, *whole.shape[1:]) and crop.dtype == np.float32
            np.testing.assert_array_equal(crop[: len(excerpt)], excerpt)
            assert (crop[len(excerpt) :] == (0 if whole.ndim == 1 else -100)).all()
            batch = tracks.empty_batch(1, length)
            assert tracks.crop(index, start, length, out=batch[0]).base is batch
            np.testing.assert_array_equal(batch[0], crop)


@pytest.mark.parametrize("form", ["pcm16", "encoded", "log_mel"])
@pytest.mark.parametrize("compression", ["uncompressed", "zstd"])
def test_excerpts_are_exact(form, compression, tmp_path, monkeypatch):
    if compression == "zstd":
        monkeypatch.setattr(TrackCodec, "write", _write_compressed)
    directory, expected = _build(tmp_path, form, 40)
    assert len(list(directory.glob("*train.array_record*"))) == 2
    for cache in (0, 1000):
        tracks = Dataset(directory, cache_megabytes=cache).tracks("train")
        assert (tracks.store._places[:, 1] >= 0).all() == (compression == "uncompressed")
        assert tracks.store.is_cacheable == bool(cache)
        _check_crops(tracks, expected)


def _write_compressed(codec, path, records):
    """As the files of other writers are: TFDS's own, for one."""
    writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1,zstd:3")
    for record in records:
        writer.write(record)
    writer.close()


def test_a_store_is_read_by_threads_and_after_pickling(tmp_path):
    directory, expected = _build(tmp_path, "pcm16")
    tracks = Dataset(directory, cache_megabytes=0).tracks("train")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(_check_crops, tracks, expected, seed) for seed in range(4)]:
            done.result()
    _check_crops(pickle.loads(pickle.dumps(tracks)), expected)


def test_a_table_that_is_kept_reads_no_record(tmp_path, monkeypatch):
    directory, expected = _build(tmp_path, "pcm16")
    Dataset(directory).tracks("train")
    monkeypatch.setattr("musrep_jax.data.build.builder.open_record_source", None)
    _check_crops(Dataset(directory, cache_megabytes=0).tracks("train"), expected)


def test_a_table_of_other_files_is_scanned_anew(tmp_path, monkeypatch):
    directory, expected = _build(tmp_path, "pcm16")
    Dataset(directory).tracks("train")
    path = next(directory.glob("*train.array_record*"))
    records = array_record_module.ArrayRecordReader(str(path)).read_all()
    _write_compressed(None, path, records)
    tracks = Dataset(directory, cache_megabytes=0).tracks("train")
    assert (tracks.store._places[:, 1] < 0).any()
    _check_crops(tracks, expected)


def test_a_file_that_shrinks_meanwhile_is_not_taken_for_silence(tmp_path):
    directory, _ = _build(tmp_path, "pcm16")
    tracks = Dataset(directory, cache_megabytes=0).tracks("train")
    path = next(directory.glob("*train.array_record*"))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(OSError, match="build the data set again"):
        for index in range(len(tracks)):
            tracks.crop(index, 0, 300_000)


@pytest.mark.parametrize("content", [b"", b"x" * 10, bytes(200_000), b"\xff" * 200_000])
def test_files_of_another_form_have_no_places(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    assert list(RecordFile(tmp_path / "file").chunks()) == []
