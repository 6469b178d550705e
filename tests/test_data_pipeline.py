"""Base builder, stored forms, tracks, random crops and tables of chunks, on tiny made-up data."""

import functools
import itertools
import sys

import jax
import numpy as np
import pytest
from toy_forms import FRONT_END, LABELS, MELS, RATE, ToyBuilder, number_frames

from musrep_jax.data import ChunkSpec, Dataset, DatasetError, open_dataset
from musrep_jax.data.build.builder import BuildError, RefusedTrack, TrackRecord
from musrep_jax.data.dataset_files import read_spec, to_pcm16
from musrep_jax.data.input import pipeline
from musrep_jax.data.input.samplers import EpochOrder, InTurn, SamplingError, Triplets, draw_tracks
from musrep_jax.data.input.streams import zip_streams
from musrep_jax.runtime.rows import RowShare
from musrep_jax.training.sharding import make_mesh, shard_batch

CHUNK = ChunkSpec(RATE, 400)
MEL_CHUNK = ChunkSpec(RATE, 400, FRONT_END)


def _build(tmp_path, form="pcm16", **kwargs):
    return Dataset(ToyBuilder(data_dir=tmp_path, form=form).build(), **kwargs)


@pytest.fixture(scope="module", params=["pcm16", "encoded", "log_mel"])
def dataset(request, tmp_path_factory):
    """A built toy data set in each stored form."""
    return _build(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A built toy data set of 16-bit audio."""
    return _build(tmp_path_factory.mktemp("toy"))


def test_doctests():
    import doctest

    assert doctest.testmod(pipeline).failed == 0


def test_what_was_built_is_read_back(dataset):
    tracks = dataset.tracks("train")
    assert sorted(tracks.track_ids) == [f"t{index}" for index in range(6)]
    assert dataset.spec.split_sizes == {"train": 6, "test": 3}
    assert dataset.spec.label_names == LABELS
    for index, track_id in enumerate(tracks):
        number = int(track_id[1:])
        assert tracks.groups[index] == f"g{number}"
        expected = [(number + place) % 3 == 0 for place in range(3)]
        np.testing.assert_array_equal(tracks.label_matrix[index], np.float32(expected))
        length = (300, 401, 1000, 1234, 2000, 3000)[number % 6]
        assert tracks.num_samples[index] == length
        crop = tracks.crop(index, 250, 100)
        assert crop.dtype == np.float32
        position = np.arange(250, min(350, length))
        if dataset.spec.stored_form == "log_mel":
            expected = number_frames(250, min(350, length))
            np.testing.assert_array_equal(crop[: len(position)], expected)
            assert (crop[len(position) :] == -100).all() and crop.shape == (100, MELS)
        else:
            np.testing.assert_array_equal(
                crop[: len(position)], np.float32((1000 * number + position) / 32768)
            )
            assert (crop[len(position) :] == 0).all() and crop.shape == (100,)
    assert "tensorflow" not in sys.modules


def test_two_builds_are_identical_byte_for_byte(tmp_path):
    first = ToyBuilder(data_dir=tmp_path / "a").build()
    second = ToyBuilder(data_dir=tmp_path / "b").build()
    names = sorted(path.name for path in first.iterdir())
    assert names == sorted(path.name for path in second.iterdir()) and len(names) >= 6
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_a_build_that_breaks_off_leaves_no_data_set(tmp_path):
    def breaks(split):
        if split == "train":
            yield builder.track(0, ["drum"])
        else:
            yield KeyboardInterrupt()

    builder = ToyBuilder(data_dir=tmp_path, tracks=breaks)
    with pytest.raises(KeyboardInterrupt):
        builder.build()
    assert not builder.directory.exists()
    left_over = builder.directory.parent / "incomplete.ABCDEF_1.0.0"
    left_over.mkdir()
    with pytest.raises(DatasetError, match="no built data set"):
        Dataset(builder.directory)
    assert read_spec(ToyBuilder(data_dir=tmp_path).build()).split_sizes["train"] == 6


def test_a_data_set_finished_meanwhile_by_another_process_is_taken(tmp_path):
    def slow(split):
        ToyBuilder(data_dir=tmp_path).build()
        for planned in ToyBuilder(data_dir=tmp_path / "other").list_tracks(split):
            yield planned.made

    directory = ToyBuilder(data_dir=tmp_path, tracks=slow).build()
    assert len(Dataset(directory).tracks("train")) == 6
    assert not list(directory.parent.glob("incomplete.*"))


def test_bad_tracks_are_reported_and_do_not_end_the_build(tmp_path, capsys):
    def some_bad(split):
        good = builder.track(0, ["drum"], 10)
        yield TrackRecord(f"good {split}", "g", ["drum"], good.audio)
        yield TrackRecord(f"loud {split}", "g", [], np.array([0.5, -2.0]))
        yield TrackRecord(f"empty {split}", "g", [], np.zeros(0))
        yield TrackRecord(f"nan {split}", "g", [], np.array([np.nan]))
        yield RefusedTrack(f"lost {split}.wav", "cannot be read: there is no such file.")

    builder = ToyBuilder(data_dir=tmp_path, tracks=some_bad)
    dataset = Dataset(builder.build())
    assert dataset.spec.split_sizes == {"train": 2, "test": 2}
    reasons = {row["path"]: row["reason"] for row in dataset.report["refused"]}
    assert len(reasons) == 6
    assert "no audio" in reasons["empty train"] and "not finite" in reasons["nan test"]
    assert dataset.report["scaled"] == {"loud test": 0.5, "loud train": 0.5}
    printed = capsys.readouterr().out
    assert "6 refused" in printed and "lost test.wav: cannot be read" in printed


def test_builds_that_cannot_be_are_refused(tmp_path):
    def twice(split):
        yield builder.track(0, [])
        yield builder.track(0, [])

    def unknown_label(split):
        yield builder.track(0 if split == "train" else 1, ["zither"])

    for tracks, message in [
        (lambda split: iter(()), "split 'train' of data set 'toy' has no usable track"),
        (twice, "'t0' occurs twice"),
        (unknown_label, "'zither'"),
    ]:
        builder = ToyBuilder(data_dir=tmp_path, tracks=tracks)
        with pytest.raises(BuildError, match=message):
            builder.build()


def test_pcm16_keeps_the_level_unless_it_would_clip():
    pcm, factor = to_pcm16(np.array([0.0, 0.5, -1.0, 1.0]))
    assert factor == 1.0 and pcm.tolist() == [0, 16384, -32768, 32767]
    pcm, factor = to_pcm16(np.array([0.5, -1.25]))
    assert factor == pytest.approx(0.8) and pcm.tolist() == [13107, -32768]


def test_wrong_names_are_answered_with_the_nearest(tmp_path, toy):
    with pytest.raises(DatasetError, match="Did you mean 'synthetic_cultures'"):
        open_dataset("synthetic_culture/makam", data_dir=tmp_path)
    with pytest.raises(DatasetError, match=r"no split 'validation'; it has train, test"):
        toy.tracks("validation")


def test_split_without_any_label_is_refused(tmp_path):
    def unlabelled(split):
        yield builder.track(0 if split == "train" else 1, ["drum"] if split == "train" else [])

    builder = ToyBuilder(data_dir=tmp_path, tracks=unlabelled)
    dataset = Dataset(builder.build())
    assert dataset.tracks("train").label_matrix.sum() == 1
    with pytest.raises(DatasetError, match="no track in split 'test'"):
        dataset.tracks("test")


def test_the_table_of_a_split_is_scanned_once(tmp_path):
    dataset = _build(tmp_path)
    first = dataset.tracks("train")
    path = dataset.directory / "tracks-train.npz"
    before = path.stat().st_mtime_ns
    again = Dataset(dataset.directory).tracks("train")
    assert path.stat().st_mtime_ns == before
    assert again.track_ids == first.track_ids and again.groups == first.groups
    np.testing.assert_array_equal(again.label_matrix, first.label_matrix)
    assert not list(dataset.directory.glob("*.tmp"))


def test_subsets_are_nested_and_cover_the_labels(toy):
    tracks = toy.tracks("train")
    previous = set()
    for size in range(1, len(tracks) + 1):
        subset = tracks.subset(size, seed=3)
        assert len(subset) == size and previous <= set(subset.track_ids)
        previous = set(subset.track_ids)
        for index, track_id in enumerate(subset):
            whole = tracks.track_ids.index(track_id)
            np.testing.assert_array_equal(subset.crop(index, 7, 50), tracks.crop(whole, 7, 50))
    assert tracks.subset(3, seed=3).label_matrix.any(axis=0).all()
    assert tracks.subset(None) is tracks and tracks.subset(0) is tracks
    assert tracks.subset("1_per_class", seed=3).label_matrix.any(axis=0).all()
    assert tracks.capped(0.1).subset(5).num_samples.max() == 800
    with pytest.raises(ValueError, match=r"Split 'train' of .*: 7 of 6 tracks were asked for"):
        tracks.subset(7)


def _numbers(dataset, batch):
    """The track numbers of a batch, from its track_index."""
    tracks = dataset.tracks("train")
    return [int(tracks.track_ids[row][1:]) for row in batch["track_index"]]


def test_training_batches_hold_random_crops_with_their_labels(dataset):
    chunk = MEL_CHUNK if dataset.spec.stored_form == "log_mel" else CHUNK
    length = 5 if dataset.spec.stored_form == "log_mel" else 400
    tracks = dataset.tracks("train")
    batches = pipeline.train_batches(tracks, chunk, batch_size=4, seed=0)
    starts = {}
    for _ in range(30):
        batch = next(batches)
        assert batch["mask"].tolist() == [1, 1, 1, 1]
        assert batch["track_index"].dtype == np.int32 and batch["labels"].dtype == np.float32
        numbers = _numbers(dataset, batch)
        for place, number in enumerate(numbers):
            row = tracks.track_ids.index(f"t{number}")
            np.testing.assert_array_equal(batch["labels"][place], tracks.label_matrix[row])
            if dataset.spec.stored_form == "log_mel":
                crop = batch["log_mel"][place]
                assert crop.shape == (length, MELS) and crop.dtype == np.float32
                start = int(-64 * crop[0, 0] - crop[0, 1])
            else:
                crop = batch["audio"][place]
                assert crop.shape == (length,) and crop.dtype == np.float32
                start = round(float(crop[0]) * 32768) - 1000 * number
            assert 0 <= start <= max(0, tracks.num_samples[row] - length)
            np.testing.assert_array_equal(crop, tracks.crop(row, start, length))
            starts.setdefault(number, set()).add(start)
    if length == 400:
        assert starts[0] == {0} and starts[1] == {0, 1} and len(starts[5]) > 15


def test_each_epoch_sees_each_track_once_in_a_new_order(toy):
    batches = pipeline.train_batches(toy.tracks("train"), CHUNK, batch_size=3, seed=0)
    epochs = [_numbers(toy, next(batches)) + _numbers(toy, next(batches)) for _ in range(4)]
    assert all(sorted(epoch) == list(range(6)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_batches_are_the_same_when_resumed_and_for_any_number_of_workers(toy):
    tracks = toy.tracks("train")

    def first(count, **kwargs):
        batches = pipeline.train_batches(tracks, CHUNK, batch_size=4, seed=5, **kwargs)
        taken = [next(batches) for _ in range(count)]
        batches.close()
        assert next(batches, None) is None
        return taken

    expected = first(6)
    other_seed = next(pipeline.train_batches(tracks, CHUNK, batch_size=4, seed=6))
    assert not np.array_equal(other_seed["audio"], expected[0]["audio"])
    for resumed in (first(4, start_step=2), first(4, start_step=2, num_workers=2)):
        for batch, wanted in zip(resumed, expected[2:], strict=True):
            for name in wanted:
                np.testing.assert_array_equal(batch[name], wanted[name])


def test_batches_are_those_of_the_first_release(toy):
    """Tracks and starts of version 0, before there were samplers."""
    tracks = toy.tracks("train")
    assert tracks.track_ids == ["t3", "t1", "t5", "t4", "t0", "t2"]
    batches = pipeline.train_batches(tracks, CHUNK, batch_size=4, seed=5)
    for numbers, starts in (
        ([1, 0, 5, 4], [1, 0, 1790, 1247]),
        ([2, 3, 5, 3], [75, 175, 1145, 266]),
        ([2, 0, 4, 1], [50, 0, 585, 1]),
    ):
        batch = next(batches)
        assert _numbers(toy, batch) == numbers
        first = [round(float(crop[0]) * 32768) for crop in batch["audio"]]
        assert first == [1000 * n + start for n, start in zip(numbers, starts, strict=True)]


def _draw(batches, count):
    taken = [next(batches) for _ in range(count)]
    batches.close()
    return taken


def _assert_batches_equal(ours, theirs):
    assert len(ours) == len(theirs)
    for one, two in zip(ours, theirs, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, two)


def test_roles_become_streams_of_crops(toy):
    tracks = toy.tracks("train")
    sampler = Triplets(tracks.label_matrix, 5)
    batches = functools.partial(pipeline.crop_batches, tracks, CHUNK, sampler, seed=3)
    whole = _draw(batches(), 5)
    for batch in whole:
        assert list(batch) == ["anchor", "positive", "negative"]
        labels = [stream["labels"] > 0 for stream in batch.values()]
        assert (labels[0] & labels[1] & ~labels[2]).any(axis=1).all()
        for stream in batch.values():
            assert stream["audio"].shape == (5, 400)
            for crop, number in zip(stream["audio"], _numbers(toy, stream), strict=True):
                start = round(float(crop[0]) * 32768) - 1000 * number
                row = tracks.track_ids.index(f"t{number}")
                np.testing.assert_array_equal(crop, tracks.crop(row, start, 400))
    _assert_batches_equal(_draw(batches(start_step=2), 3), whole[2:])
    all_rows = RowShare(0, 1, 1)  # travels to the workers, as the sampler does
    travelled = batches(start_step=2, num_workers=2, rows=all_rows)
    _assert_batches_equal(_draw(travelled, 3), whole[2:])


def test_data_sets_take_turns_with_tracks_of_their_own(toy):
    tracks = {"a": toy.tracks("train"), "b": toy.tracks("test")}
    sampler = InTurn({"a": EpochOrder(6, 2, seed=0), "b": EpochOrder(3, 3, seed=1)})
    batches = functools.partial(pipeline.crop_batches, tracks, CHUNK, sampler, seed=3)
    whole = _draw(batches(), 6)
    assert [list(batch) for batch in whole] == [["a"], ["b"]] * 3
    drawn = np.concatenate([batch["a"]["track_index"] for batch in whole[::2]])
    assert sorted(drawn) == list(range(6))  # one epoch
    _assert_batches_equal(_draw(batches(start_step=3), 3), whole[3:])
    with pytest.raises(SamplingError, match="the role 'b', but there are tracks for 'a', 'c'"):
        pipeline.crop_batches({"a": tracks["a"], "c": tracks["b"]}, CHUNK, sampler, seed=3)
    with pytest.raises(SamplingError, match=r"role 'b'.*of the 3 tracks 0 to 2"):
        pipeline.crop_batches(
            tracks, CHUNK, InTurn({"a": EpochOrder(6, 2, 0), "b": EpochOrder(50, 50, 0)}), seed=3
        )


def test_processes_read_their_rows_of_streams_of_different_sizes(toy):
    """Three and five rows on four devices, of which two processes have two each."""
    tracks = toy.tracks("train")

    def batches(rows):
        sources = {
            name: functools.partial(_start_at, tracks=tracks, batch_size=size, seed=size, rows=rows)
            for name, size in (("labeled", 3), ("unlabeled", 5))
        }
        return _draw(zip_streams(sources)(1), 2)

    parts, whole = [batches(RowShare(first, first + 2, 4)) for first in (0, 2)], batches(None)
    for one, two, batch in zip(*parts, whole, strict=True):
        for name, size, full in (("labeled", 3, 4), ("unlabeled", 5, 8)):
            mask = np.concatenate([one[name]["mask"], two[name]["mask"]])
            assert mask.tolist() == [1] * size + [0] * (full - size)
            for key, array in batch[name].items():
                joined = np.concatenate([one[name][key], two[name][key]])
                np.testing.assert_array_equal(joined[:size], array)


def _start_at(start_step, *, tracks, **options):
    return pipeline.train_batches(tracks, CHUNK, start_step=start_step, **options)


def test_batches_as_they_are_stored_become_the_same_on_the_device(dataset):
    is_mel = dataset.spec.stored_form == "log_mel"
    chunk, name = (MEL_CHUNK, "log_mel") if is_mel else (CHUNK, "audio")
    stored_type = {"pcm16": np.int16, "log_mel": np.float16, "encoded": np.float32}
    tracks, mesh = dataset.tracks("train"), make_mesh(1)
    table = pipeline.make_chunk_table(tracks, chunk)
    for make in (
        functools.partial(pipeline.train_batches, tracks, chunk, batch_size=4, seed=0),
        functools.partial(pipeline.chunk_batches, tracks, chunk, table, batch_size=4),
    ):
        for wide, stored in itertools.islice(zip(make(), make(as_stored=True), strict=True), 5):
            assert wide[name].dtype == np.float32
            assert stored[name].dtype == stored_type[dataset.spec.stored_form]
            placed = shard_batch(stored, mesh)
            assert placed.keys() == wide.keys()
            for key in wide:
                assert placed[key].dtype == wide[key].dtype
                np.testing.assert_array_equal(placed[key], wide[key])


@pytest.mark.parametrize(("num_tracks", "batch_size"), [(10, 16), (3, 16), (100, 7), (1, 2)])
def test_every_epoch_has_every_track_once(num_tracks, batch_size):
    steps = -(-5 * num_tracks // batch_size)
    drawn = [draw_tracks(step, batch_size, num_tracks, 0) for step in range(steps)]
    assert all(part.shape == (batch_size,) for part in drawn)
    epochs = np.concatenate(drawn)[: 5 * num_tracks].reshape(5, num_tracks)
    for epoch in epochs:
        assert sorted(epoch) == list(range(num_tracks))
    assert num_tracks < 10 or len({tuple(epoch) for epoch in epochs}) == 5
    again = draw_tracks(steps - 1, batch_size, num_tracks, 0)
    np.testing.assert_array_equal(again, drawn[-1])


def test_the_memory_allowance_does_not_change_what_is_read(tmp_path):
    directory = _build(tmp_path, "encoded").directory
    kept, not_kept = Dataset(directory), Dataset(directory, cache_megabytes=0)
    assert kept.tracks("train").store.is_cacheable
    assert not not_kept.tracks("train").store.is_cacheable
    for batch, other in zip(
        *(
            pipeline.chunk_batches(tracks, CHUNK, table, batch_size=4)
            for tracks in (kept.tracks("train"), not_kept.tracks("train"))
            for table in [pipeline.make_chunk_table(tracks, CHUNK)]
        ),
        strict=True,
    ):
        np.testing.assert_array_equal(batch["audio"], other["audio"])


def test_an_encoded_data_set_is_resampled_to_the_rate_asked_for(tmp_path):
    directory = _build(tmp_path, "encoded").directory
    doubled = Dataset(directory, sample_rate=2 * RATE, cache_megabytes=0)
    tracks = doubled.tracks("train")
    row = tracks.track_ids.index("t5")
    assert doubled.spec.sample_rate == 2 * RATE and tracks.num_samples[row] == 6000
    crop = tracks.crop(row, 2000, 1000)
    expected = (5000 + np.arange(2000, 3000) / 2) / 32768
    np.testing.assert_allclose(crop, expected, atol=1e-3)


def _starts(tracks, table, number):
    row = tracks.track_ids.index(f"t{number}")
    return table[table[:, 0] == row, 1].tolist()


def test_chunk_tables(toy):
    tracks = toy.tracks("train")
    table = pipeline.make_chunk_table(tracks, CHUNK)
    assert table.dtype == np.int64
    assert _starts(tracks, table, 0) == [0]
    assert _starts(tracks, table, 1) == [0, 1]
    assert _starts(tracks, table, 2) == [0, 400, 600]
    assert _starts(tracks, table, 4) == [0, 400, 800, 1200, 1600]
    dropped = pipeline.make_chunk_table(tracks, CHUNK, tail="drop")
    assert _starts(tracks, dropped, 0) == [0] and _starts(tracks, dropped, 2) == [0, 400]
    overlapping = pipeline.make_chunk_table(tracks, CHUNK, hop_seconds=0.025)
    assert _starts(tracks, overlapping, 2) == [0, 200, 400, 600]
    capped = pipeline.make_chunk_table(tracks, CHUNK, max_seconds=0.1)
    assert _starts(tracks, capped, 5) == [0, 400] and _starts(tracks, capped, 0) == [0]
    published = pipeline.make_chunk_table(tracks, CHUNK, num_chunks=16)
    assert _starts(tracks, published, 4) == [100 * step for step in range(16)]
    assert _starts(tracks, published, 0) == [0]
    spread = pipeline.make_chunk_table(tracks, CHUNK, num_chunks=12, reaches_end=True)
    assert _starts(tracks, spread, 4) == [1600 // 11 * step for step in range(12)]
    assert _starts(tracks, spread, 1) == [0]  # one sample longer than a chunk
    single = pipeline.make_chunk_table(tracks, CHUNK, num_chunks=1, reaches_end=True)
    assert _starts(tracks, single, 4) == [0]
    with pytest.raises(ValueError, match="tail is 'cut'"):
        pipeline.make_chunk_table(tracks, CHUNK, tail="cut")
    with pytest.raises(ValueError, match="hop_seconds is -1"):
        pipeline.make_chunk_table(tracks, CHUNK, hop_seconds=-1)


def test_chunk_table_counts_frames_of_a_log_mel_data_set(tmp_path):
    tracks = _build(tmp_path, "log_mel").tracks("train")
    table = pipeline.make_chunk_table(tracks, MEL_CHUNK, hop_seconds=0.0125)
    assert _starts(tracks, table, 0)[:3] == [0, 1, 2] and _starts(tracks, table, 0)[-1] == 295
    capped = pipeline.make_chunk_table(tracks, MEL_CHUNK, max_seconds=0.2)
    assert _starts(tracks, capped, 5) == [0, 5, 10, 11]


def test_chunk_batches_follow_the_table_and_pad_the_last(dataset):
    chunk = MEL_CHUNK if dataset.spec.stored_form == "log_mel" else CHUNK
    length = pipeline.chunk_length(dataset.spec, chunk)
    name = "log_mel" if dataset.spec.stored_form == "log_mel" else "audio"
    tracks = dataset.tracks("test")
    table = pipeline.make_chunk_table(tracks, chunk)[:13]
    batches = list(pipeline.chunk_batches(tracks, chunk, table, batch_size=5))
    assert [len(batch["mask"]) for batch in batches] == [5] * -(-len(table) // 5)
    mask = np.concatenate([batch["mask"] for batch in batches])
    assert mask.tolist() == [1] * len(table) + [0] * (len(mask) - len(table))
    crops = np.concatenate([batch[name] for batch in batches])
    assert not crops[len(table) :].any()
    index = np.concatenate([batch["track_index"] for batch in batches])
    np.testing.assert_array_equal(index[: len(table)], table[:, 0])
    for place, (row, start) in enumerate(table):
        np.testing.assert_array_equal(crops[place], tracks.crop(row, start, length))
    assert len(list(pipeline.chunk_batches(tracks, chunk, table[:0], batch_size=5))) == 0


def test_processes_read_their_rows_of_the_same_batches(dataset):
    chunk = MEL_CHUNK if dataset.spec.stored_form == "log_mel" else CHUNK
    train, test = dataset.tracks("train"), dataset.tracks("test")
    table = pipeline.make_chunk_table(test, chunk)

    def batches(rows):
        stream = pipeline.train_batches(train, chunk, batch_size=5, seed=3, rows=rows)
        scored = pipeline.chunk_batches(test, chunk, table, batch_size=5, rows=rows)
        return [*(next(stream) for _ in range(3)), *scored]

    parts = [batches(range(0, 3)), batches(range(3, 6))]  # two processes; the sixth row is padding
    whole = batches(None)
    assert len(parts[0]) == len(parts[1]) == len(whole) > 4
    for one, two, batch in zip(*parts, whole, strict=True):
        assert one["mask"].tolist() + two["mask"].tolist() == [*batch["mask"], 0]
        for name, array in batch.items():
            np.testing.assert_array_equal(np.concatenate([one[name], two[name]])[:5], array)
    assert parts[1][0]["track_index"][2] == whole[0]["track_index"][0]  # a real example again


def test_models_that_cannot_read_a_data_set_are_refused(tmp_path, toy):
    spectrograms = _build(tmp_path, "log_mel").spec
    pipeline.check_compatible(spectrograms, MEL_CHUNK)
    with pytest.raises(pipeline.ChunkError, match="log-mel spectrograms only"):
        pipeline.check_compatible(spectrograms, CHUNK)
    other = ChunkSpec(RATE, 400, {**FRONT_END, "n_fft": 512, "f_max": 3500.0})
    with pytest.raises(pipeline.ChunkError, match=r"n_fft is 256 .* 512 .* f_max is 4000\.0"):
        pipeline.check_compatible(spectrograms, other)
    with pytest.raises(pipeline.ChunkError, match="open it with sample_rate=16000"):
        pipeline.train_batches(toy.tracks("train"), ChunkSpec(16000, 400), batch_size=1, seed=0)
    with pytest.raises(ValueError, match="batch_size is 0"):
        pipeline.train_batches(toy.tracks("train"), CHUNK, batch_size=0, seed=0)
