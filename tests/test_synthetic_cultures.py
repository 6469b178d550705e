"""The builder of `synthetic_cultures`, on tiny data sets made by the real code."""

import dataclasses
import re

import numpy as np
import pytest
from musrep_jax.tfds_builders.synthetic_cultures.synthesis import (
    FRONT_END,
    TRADITIONS,
    log_mel,
    make_corpus,
)
from musrep_jax.tfds_builders.synthetic_cultures.synthetic_cultures_dataset_builder import Builder

from musrep_jax.data import open_dataset
from musrep_jax.dsp.spectrogram import LogMel

TINY = {"num_tracks": 24, "seconds": 1.0}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module", params=list(TRADITIONS))
def dataset(request, data_dir):
    return open_dataset(f"synthetic_cultures/{request.param}", data_dir=data_dir, **TINY)


def test_there_is_one_config_for_each_tradition():
    assert [config.name for config in Builder.BUILDER_CONFIGS] == list(TRADITIONS)
    assert len(TRADITIONS) == 5


def test_it_says_that_it_is_synthetic(dataset):
    assert dataset.spec.is_synthetic
    assert dataset.spec.name.startswith("synthetic_cultures/")
    assert "generated" in dataset.spec.description
    assert "not recordings" in dataset.spec.description
    assert dataset.spec.licence == "CC0-1.0"
    assert "misc" in dataset.spec.citation
    assert "synthetic: generated, not recordings" in dataset.report["notes"]


def test_stored_form_and_splits(dataset):
    is_greek = dataset.spec.name.endswith("greek")
    assert dataset.spec.stored_form == ("log_mel" if is_greek else "pcm16")
    assert dataset.spec.sample_rate == 16000
    assert sum(dataset.spec.split_sizes.values()) == 24
    groups = [set(dataset.tracks(split).groups) for split in dataset.spec.split_sizes]
    assert len(groups) == 3 and sum(map(len, groups)) == len(set.union(*groups)) == 24
    assert (dataset.spec.front_end is not None) == is_greek
    if is_greek:
        assert dataset.spec.front_end == LogMel().to_dict() == FRONT_END


def test_records_hold_what_the_synthesis_makes(dataset):
    corpus = make_corpus(dataset.spec.name.split("/")[1], **TINY)
    planned = {track.track_id: track for track in corpus.of_split("test")}
    tracks = dataset.tracks("test")
    assert set(tracks.track_ids) == set(planned)
    for index, track_id in enumerate(tracks.track_ids):
        wanted = [label in planned[track_id].labels for label in dataset.spec.label_names]
        np.testing.assert_array_equal(tracks.label_matrix[index], wanted)
    audio = corpus.render(planned[tracks.track_ids[0]])
    stored = tracks.crop(0, 0, int(tracks.num_samples[0]))
    if dataset.spec.stored_form == "log_mel":
        # float16 steps by 1/16 dB below -64 dB.
        np.testing.assert_allclose(stored, log_mel(audio), atol=0.04)
    else:
        np.testing.assert_allclose(stored, audio, atol=1.0 / 32768)


def test_two_builds_hold_the_same_bytes(dataset, tmp_path):
    other = open_dataset(dataset.spec.name, data_dir=tmp_path, **TINY)
    assert other.spec == dataset.spec
    for split in dataset.spec.split_sizes:
        first, second = dataset.tracks(split), other.tracks(split)
        assert list(first.track_ids) == list(second.track_ids)
        for index in range(len(first)):
            length = int(first.num_samples[index])
            assert length == int(second.num_samples[index])
            a, b = first.crop(index, 0, length), second.crop(index, 0, length)
            assert a.tobytes() == b.tobytes()


def test_seed_rate_and_size_have_directories_of_their_own(tmp_path):
    settings = [
        {},
        {"seed": 1},
        {"sample_rate": 22050},
        {"num_tracks": 12},
        {"num_tracks": 12, "seconds": 1.5},
    ]
    builders = [Builder(data_dir=tmp_path, config="makam", **options) for options in settings]
    assert len({builder.directory for builder in builders}) == len(settings)
    assert len({builder.spec().fingerprint for builder in builders}) == len(settings)
    assert {builder.spec().name for builder in builders} == {"synthetic_cultures/makam"}


def test_other_rates_give_the_same_music(tmp_path):
    low = make_corpus("hindustani", num_tracks=12, seconds=2.0, sample_rate=16000)
    high = make_corpus("hindustani", num_tracks=12, seconds=2.0, sample_rate=32000)
    a, b = low.render(low.tracks[1]), high.render(high.tracks[1])
    assert abs(len(b) - 2 * len(a)) <= 2
    strength = [
        np.abs(np.fft.rfft(x[: 2 * rate], 2 * rate))[:2000] for x, rate in ((a, 16000), (b, 32000))
    ]
    assert np.corrcoef(strength[0], strength[1])[0, 1] > 0.6


def test_the_log_mel_tradition_refuses_another_rate(tmp_path):
    with pytest.raises(ValueError, match=r"16000 Hz.*cannot be made at 22050 Hz"):
        open_dataset("synthetic_cultures/greek", data_dir=tmp_path, sample_rate=22050, **TINY)


def test_report_lists_positives_and_unscored_labels(data_dir):
    report = open_dataset("synthetic_cultures/makam", data_dir=data_dir, **TINY).report
    assert report["is_synthetic"] is True
    assert report["positives"]["test"]["instrument--Clarinet"] == 0
    assert any("instrument--Clarinet" in note for note in report["notes"])
    # At full size, planned but not built.
    facts = Builder(data_dir=data_dir, config="makam").extra_report_fields()
    assert facts["unlabelled"] == {"train": 12, "validation": 3, "test": 5}
    assert facts["positives"]["train"]["instrument--Clarinet"] == 45


def test_the_readme_names_every_label_and_option(repository):
    text = (repository / "tfds_builders/synthetic_cultures/README.md").read_text(encoding="utf-8")
    assert "not recordings" in text
    for name in TRADITIONS:
        corpus = make_corpus(name)
        assert re.search(rf"^\| `{name}`", text, re.MULTILINE)
        missing = [label for label in corpus.label_names if label.split("--")[-1] not in text]
        assert not missing, (name, missing)
    fields = {field.name for field in dataclasses.fields(corpus)}
    assert {"seed", "seconds", "sample_rate"} <= fields
