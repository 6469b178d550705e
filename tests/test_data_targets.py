"""Several target sets and a text per track: from the builder to the batch."""

import dataclasses
import json

import numpy as np
import pytest
from toy_builds import RATE, ToyBuilder, ToyLoader

from musrep_jax.data.build.builder import BuildError, TrackRecord
from musrep_jax.data.build.records import make_example
from musrep_jax.data.datasets import Dataset
from musrep_jax.data.input.pipeline import chunk_batches, crop_batches, make_chunk_table
from musrep_jax.data.input.samplers import EpochOrder
from musrep_jax.data.specs import ChunkSpec, DatasetSpec

SETS = {"mood": ("calm", "wild", "sad"), "artist factors": ("a", "b")}
CHUNK = ChunkSpec(RATE, 20)


def soft_row(number):
    return np.array([number / 10, 1 - number / 10], np.float32)


def moods(number):
    return ("wild",) if number % 3 else ("calm", "sad")


@dataclasses.dataclass(frozen=True)
class RichLoader(ToyLoader):
    """Adds two target sets, one of them soft, and a text for every second track."""

    def __call__(self, track):
        made = super().__call__(track)
        text = f"çalgı {track.number}\nnever sung" if track.number % 2 else ""
        targets = {"mood": moods(track.number), "artist factors": soft_row(track.number)}
        return dataclasses.replace(made, targets=targets, text=text)


class RichBuilder(ToyBuilder):
    """The toy with target sets and texts."""

    def spec(self):
        return dataclasses.replace(super().spec(), target_sets=SETS, has_texts=True)

    def track_loader(self):
        return RichLoader(self.log, self.seconds)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rich")
    builder = RichBuilder(data_dir=folder, log=folder / "log", num_tracks=9)
    return builder.build(num_workers=1)


@pytest.mark.parametrize("how", ["scanned", "from the table beside the data"])
def test_target_sets_and_texts_are_read_as_they_were_made(directory, how):
    dataset = Dataset(directory, sample_rate=RATE)
    assert dataset.spec.target_sets == SETS
    assert dataset.spec.target_names("mood") == ("calm", "wild", "sad")
    assert dataset.spec.target_names() == ("loud", "soft")
    tracks = dataset.tracks("train")
    assert (directory / "tracks-train.npz").is_file()
    numbers = [int(name.split()[1]) for name in tracks.track_ids]
    assert sorted(numbers) == [1, 2, 3, 5, 6, 7]
    np.testing.assert_array_equal(
        tracks.targets("artist factors"), [soft_row(number) for number in numbers]
    )
    wild = [[0, 1, 0] if number % 3 else [1, 0, 1] for number in numbers]
    np.testing.assert_array_equal(tracks.targets("mood"), wild)
    np.testing.assert_array_equal(tracks.targets(), tracks.label_matrix)
    np.testing.assert_array_equal(tracks.label_matrix, [[1, number % 2 == 0] for number in numbers])
    expected = [f"çalgı {number}\nnever sung" if number % 2 else "" for number in numbers]
    assert tracks.texts == expected


def test_batches_hold_the_target_set_that_was_chosen(directory):
    tracks = Dataset(directory, sample_rate=RATE).tracks("train")
    soft = tracks.with_targets("artist factors").capped(0.03).subset(4, seed=1)
    assert soft.spec.label_names == ("a", "b")
    assert soft.num_samples.max() == 30
    numbers = [int(name.split()[1]) for name in soft.track_ids]
    assert [text != "" for text in soft.texts] == [number % 2 == 1 for number in numbers]
    table = make_chunk_table(soft, CHUNK, num_chunks=1)
    (batch,) = chunk_batches(soft, CHUNK, table, batch_size=4)
    expected = np.array([soft_row(number) for number in numbers])
    np.testing.assert_array_equal(batch["labels"], expected[batch["track_index"]])
    drawn = next(iter(crop_batches(soft, CHUNK, EpochOrder(len(soft), 3, seed=0), seed=0)))
    np.testing.assert_array_equal(drawn["labels"], expected[drawn["track_index"]])
    back = soft.with_targets("labels")
    assert back.spec.label_names == ("loud", "soft")
    np.testing.assert_array_equal(back.label_matrix, [[1, n % 2 == 0] for n in numbers])
    assert back.num_samples.max() == 30


def test_a_data_set_without_them_is_stored_as_before(tmp_path):
    """Neither its metadata nor its features know of them."""
    builder = ToyBuilder(data_dir=tmp_path, log=tmp_path / "log", num_tracks=5)
    directory = builder.build(num_workers=1)
    spec = json.loads((directory / "metadata.json").read_text())["spec"]
    assert not {"target_sets", "has_texts"} & spec.keys()
    assert "targets" not in (directory / "features.json").read_text()
    tracks = Dataset(directory, sample_rate=RATE).tracks("train")
    with np.load(directory / "tracks-train.npz") as table:
        assert not any("target" in name or "text" in name for name in table.files)
    with pytest.raises(ValueError, match=r"'toy' has no target set 'mood'\. It has labels"):
        tracks.targets("mood")
    with pytest.raises(ValueError, match="data set 'toy' has no texts"):
        tracks.texts  # noqa: B018


def test_facts_change_with_targets_and_texts(directory, tmp_path):
    class Other(RichBuilder):
        def track_loader(self):
            return OtherLoader(self.log, self.seconds)

    other = Other(data_dir=tmp_path, log=tmp_path / "log", num_tracks=9).build(num_workers=1)
    ours, theirs = (Dataset(path, sample_rate=RATE).facts() for path in (directory, other))
    ours, theirs = ours["splits"], theirs["splits"]
    differs = {name for name in ours["train"] if ours["train"][name] != theirs["train"][name]}
    assert differs == {"texts", "records"}
    assert {"targets/mood", "targets/artist factors"} < ours["train"].keys()
    assert ours["test"] == theirs["test"]


@dataclasses.dataclass(frozen=True)
class OtherLoader(RichLoader):
    """The same, but for the text of one track."""

    def __call__(self, track):
        made = super().__call__(track)
        return dataclasses.replace(made, text="other") if track.number == 3 else made


def record(**changes):
    targets = {"mood": ("calm",), "artist factors": soft_row(2)} | changes
    return TrackRecord("x", "g", ("loud",), np.ones(5), targets=targets)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mood": ("calm", "glad")}, "has 'glad' in the target set 'mood'"),
        ({"mood": None}, "has nothing for the target set 'mood'"),
        ({"artist factors": np.ones(3)}, r"row of shape \(3,\) .* expected 2 finite values"),
        ({"artist factors": np.array([0, np.nan])}, "expected 2 finite values"),
    ],
)
def test_rows_that_do_not_fit_are_refused(changes, message, tmp_path):
    spec = RichBuilder(data_dir=tmp_path, log=tmp_path / "log").spec()
    with pytest.raises(BuildError, match=message):
        make_example(record(**changes), spec)


@pytest.mark.parametrize("sets", [{"labels": ("a",)}, {"mood": ()}, {"mood": ("a", "a")}])
def test_names_of_target_sets_are_checked(sets):
    with pytest.raises(ValueError, match=r"give it another name|name each once"):
        DatasetSpec("toy", ("a",), RATE, "pcm16", {}, "CC0", "", "", target_sets=sets)
