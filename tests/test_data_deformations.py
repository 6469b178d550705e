"""Deformations of whole recordings, against SoX, librosa and the published construction of noise;
data sets whose tracks are deformed."""

import pickle
import re

import librosa
import numpy as np
import pytest
import toy_builds

from musrep_jax.command_line import main
from musrep_jax.data.datasets import Dataset, DatasetError, make_builder
from musrep_jax.data.deformed import deformations
from musrep_jax.data.deformed.companding import PRESETS, compress
from musrep_jax.data.deformed.deformations import (
    PUBLISHED,
    Deformation,
    DeformationError,
    deform,
    parse_deformation,
    parse_deformations,
)
from musrep_jax.data.input.pipeline import chunk_batches, make_chunk_table
from musrep_jax.data.specs import ChunkSpec
from musrep_jax.tasks.settings import get_builder_name
from musrep_jax.tasks.tagging.matrix import make_job

RATE = 16000
EVERY = tuple(map(parse_deformation, (*PUBLISHED, "pitch:7", "stretch:4", "stretch:0.25")))


@pytest.fixture(scope="module")
def music():
    """A second of three partials that fade, float32."""
    time = np.arange(RATE) / RATE
    tones = sum(np.sin(2 * np.pi * 330 * n * time) / n for n in (1, 2, 3))
    return (0.3 * tones * np.exp(-time)).astype(np.float32)


@pytest.mark.parametrize("number", sorted(PRESETS))
def test_compression_is_that_of_sox(repository, number):
    golden = np.load(repository / "tests" / "golden" / "compand.npz")
    signal, rate = golden["signal"], int(golden["rate"])
    assert (np.abs(signal.astype(int)) >= 32767).any(), "some of it is clipped"
    ours = compress(signal / 32768, rate, PRESETS[number]) * 32768
    np.testing.assert_array_equal(ours, golden[f"preset_{number}"])
    assert np.abs(ours - signal).max() > 1000
    short = compress(signal[1200:1600] / 32768, rate, PRESETS[number]) * 32768
    np.testing.assert_array_equal(short, golden[f"short_{number}"])
    if number == 4:  # SoX dithers unless it is told not to
        assert np.abs(ours - golden["dithered_4"]).max() <= 1


def test_compression_reads_steps_of_16_bits(music):
    quarter_step = np.float32(0.25 / 32768)
    four = parse_deformation("compression:4")
    np.testing.assert_array_equal(deform(music, RATE, four), deform(
        np.round(music * 32768).astype(np.float32) / 32768 + quarter_step, RATE, four))  # fmt: skip
    loud = deform(3 * np.ones(100, np.float32), RATE, parse_deformation("compression:5"))
    assert loud.max() < 1, "what is too loud is clipped first, as in a file of 16 bits"


def test_stretch_and_pitch_are_those_of_librosa(music):
    for speed, text in ((2**-0.5, "2^-0.5"), (2**0.5, "2^0.5"), (1.25, "1.25")):
        stretched = deform(music, RATE, parse_deformation(f"stretch:{text}"))
        np.testing.assert_array_equal(stretched, librosa.effects.time_stretch(music, rate=speed))
        assert len(stretched) == round(RATE / speed)
    for steps in (-1, 1, 0.5):
        shifted = deform(music, RATE, parse_deformation(f"pitch:{steps}"))
        wanted = librosa.effects.pitch_shift(music, sr=RATE, n_steps=steps, bins_per_octave=12)
        np.testing.assert_array_equal(shifted, wanted)
    octave = deform(music, RATE, parse_deformation("pitch:12"))
    assert np.abs(np.fft.rfft(octave * np.hanning(RATE))).argmax() == 660


def test_noise_is_the_published_construction(music):
    for text, share in (("0.1", 0.1), ("0.4", 0.4)):
        noise = np.random.default_rng(7).standard_normal(len(music))
        spectrum = np.fft.rfft(noise)
        noise = np.fft.irfft(spectrum * np.ones_like(spectrum))
        noise = noise / np.abs(noise).max() * music.max()
        wanted = (1 - share) * music + share * noise
        noisy = deform(music, RATE, Deformation("noise", text), seed=7)
        np.testing.assert_allclose(noisy, wanted, atol=1e-6)
    one, other = (deform(music, RATE, Deformation("noise", "0.1"), seed) for seed in (1, 2))
    assert np.abs(one - other).max() > 0.01
    np.testing.assert_array_equal(one, deform(music, RATE, Deformation("noise", "0.1"), 1))
    # The peak is the positive one.
    low = np.minimum(music, 0.01)
    assert np.abs(deform(low, RATE, Deformation("noise", "1"))).max() == pytest.approx(0.01)


@pytest.mark.parametrize("deformation", EVERY, ids=lambda one: one.name)
def test_any_length_and_level_has_a_right_value(deformation, recwarn):
    for length in (1, 2, 3, 800, 5001):
        audio = np.random.default_rng(length).uniform(-1.5, 1.5, length).astype(np.float32)
        changed = deform(audio, RATE, deformation, seed=3)
        assert changed.dtype == np.float32 and np.isfinite(changed).all()
        assert len(changed) == deformation.change_length(length) > 0
        silence = deform(np.zeros(length, np.float32), RATE, deformation)
        assert not silence.any() and len(silence) == len(changed)
    assert not recwarn.list


@pytest.mark.parametrize(
    ("audio", "said"),
    [
        (np.zeros(0, np.float32), "empty"),
        (np.zeros((5, 2), np.float32), r"shape \(5, 2\).* mono"),
        (np.array([0.0, np.nan, np.inf]), "2 samples that are not finite"),
        (np.zeros(5, np.int16), "int16.* divide"),
    ],
)
def test_what_is_no_audio_is_refused_in_a_sentence(audio, said):
    for deformation in EVERY:
        with pytest.raises(DeformationError, match=said) as error:
            deform(audio, RATE, deformation)
        assert re.fullmatch(r"[^\n]+[.)]\.?", str(error.value))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("published", PUBLISHED),
        ("pitch:-3..3", [f"pitch:{n}" for n in (-3, -2, -1, 1, 2, 3)]),
        ("stretch:0.5..2", ["stretch:0.5", "stretch:0.7071", "stretch:1.414", "stretch:2"]),
        ("noise:0..0.6", [f"noise:0.{n}" for n in range(1, 7)]),
        ("compression:4,6", ["compression:4", "compression:6"]),
        ("pitch:-1..1/0.8, noise:.3", ["pitch:-1", "pitch:-0.2", "pitch:0.6", "pitch:1",
                                       "noise:.3"]),
        ("", []),
    ],
)  # fmt: skip
def test_names_and_ranges(text, names):
    assert [one.name for one in parse_deformations(text)] == list(names)
    assert deformations.are_deformations(text)


@pytest.mark.parametrize(
    "text",
    ["flanger:1", "3", "pitch", "pitch:x", "pitch:99", "stretch:0", "noise:2", "noise:-0.1",
     "compression:0", "compression:4.5", "pitch:3..-3", "pitch:0..1/0", "stretch:1..2/1",
     "pitch:-24..24/0.001", "stretch:2^99999", "stretch:-2^0.5", "pitch:1..", "noise:nan"],
)  # fmt: skip
def test_wrong_names_and_ranges_are_refused_in_a_sentence(text):
    with pytest.raises(DeformationError) as error:
        parse_deformations(text)
    assert re.fullmatch(r"[^\n]+\.", str(error.value)) and len(str(error.value)) < 240
    assert not deformations.are_deformations(text)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of a data set of tiny tracks at 1000 Hz."""
    folder = tmp_path_factory.mktemp("deformed")
    builder = toy_builds.ToyBuilder(log=folder / "log", num_tracks=12, data_dir=folder)
    builder.build()
    return builder.directory


def test_a_data_set_is_deformed_as_wholes_and_knows_it(built):
    clean = Dataset(built)
    half = Dataset(built, deformation=parse_deformation("stretch:2"))
    noisy = Dataset(built, deformation=parse_deformation("noise:0.4"))
    prints = {one.identity["fingerprint"] for one in (clean, half, noisy)}
    assert len(prints) == 3
    seeds = [
        Dataset(built, deformation=parse_deformation("noise:0.4"), seed=seed) for seed in (0, 1)
    ]
    assert seeds[0].identity == noisy.identity != seeds[1].identity
    for dataset in (half, noisy):
        tracks, before = dataset.tracks("train"), clean.tracks("train")
        assert tracks.track_ids == before.track_ids and tracks.groups == before.groups
        np.testing.assert_array_equal(tracks.label_matrix, before.label_matrix)
        for row, length in enumerate(tracks.num_samples):
            whole = before.crop(row, 0, int(before.num_samples[row]))
            seed = int(_hash([0, tracks.track_ids[row]]), 16)
            wanted = deform(whole, toy_builds.RATE, dataset.deformation, seed)
            np.testing.assert_array_equal(tracks.crop(row, 0, int(length)), wanted)
            np.testing.assert_array_equal(tracks.crop(row, 3, 9), wanted[3:12])


def _hash(facts):
    import hashlib
    import json

    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def test_a_track_that_became_shorter_than_a_chunk_is_one_padded_chunk(built):
    tracks = Dataset(built, deformation=parse_deformation("stretch:2")).tracks("train")
    chunk = ChunkSpec(sample_rate=toy_builds.RATE, num_samples=40)
    before = Dataset(built).tracks("train")
    assert (before.num_samples >= 40).all() and (tracks.num_samples < 40).all()
    table = make_chunk_table(tracks, chunk)
    assert table.tolist() == [[row, 0] for row in range(len(tracks))]
    (batch,) = chunk_batches(tracks, chunk, table, batch_size=len(table), as_stored=True)
    for row, audio in enumerate(batch["audio"]):
        length = int(tracks.num_samples[row])
        np.testing.assert_array_equal(audio[:length], tracks.crop(row, 0, length))
        assert not audio[length:].any()


def test_deformed_tracks_are_kept_and_found_again(built, monkeypatch, capsys):
    pitch = parse_deformation("pitch:2")
    first = Dataset(built, deformation=pitch, cache_megabytes=0).tracks("train")
    wanted = [first.crop(row, 0, 30) for row in range(len(first))]
    files = sorted(built.glob("deformed/*/train/*.npy"))
    assert len(files) >= len(first)
    with monkeypatch.context() as patch:
        patch.setattr("musrep_jax.data.deformed.tracks.deform", None)
        again = pickle.loads(pickle.dumps(Dataset(built, deformation=pitch).tracks("train")))
        for row, crop in enumerate(wanted):
            np.testing.assert_array_equal(again.crop(row, 0, 30), crop)
    for file in files:  # damaged: computed again
        file.write_bytes(b"no array")
    tracks = Dataset(built, deformation=pitch).tracks("train")
    np.testing.assert_array_equal(tracks.crop(0, 0, 30), wanted[0])
    assert "deformed again" in capsys.readouterr().err


def test_a_name_of_a_data_set_may_have_a_deformation(tmp_path):
    plain = make_builder("synthetic_cultures/makam", data_dir=tmp_path)
    changed = make_builder("synthetic_cultures/makam@pitch:-2", data_dir=tmp_path)
    assert plain.directory == changed.directory
    with pytest.raises(DatasetError, match=r"pitch:99.*semitones"):
        make_builder("synthetic_cultures/makam@pitch:99", data_dir=tmp_path)
    with pytest.raises(DatasetError, match="makam@flanger"):
        make_builder("synthetic_cultures/makam@flanger:1", data_dir=tmp_path)


def test_deformed_data_sets_are_told_apart_and_checked_before_anything_runs(tmp_path, capsys):
    names = [f"synthetic_cultures/makam@{name}" for name in (*PUBLISHED, "noise:0.1")]
    names.insert(0, "synthetic_cultures/makam")
    assert len({make_job(name, "musicnn").key for name in names}) == len(names) - 1
    assert {get_builder_name(name) for name in names} == {"synthetic_cultures"}
    words = ["main.py", "--config=transfer:smoke", f"--workdir={tmp_path}/w"]
    assert main([*words, "--config.target=synthetic_cultures/makam@pitch:x"]) == 2
    said = capsys.readouterr().err
    assert "semitones from -24 to 24" in said and said.count("\n") == 1
    assert not (tmp_path / "w").exists()
