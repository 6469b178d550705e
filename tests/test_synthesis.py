"""The synthesis: tunings against hand numbers, sounds against spectra, labels against sound."""

import collections
import dataclasses
import time

import librosa
import numpy as np
import pytest
from musrep_jax.tfds_builders.synthetic_cultures.synthesis import (
    TRADITIONS,
    label_counts,
    label_vocabulary,
    log_mel,
    make_corpus,
)
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.instruments import (
    SOUNDS,
    decaying_tone,
    render_line,
)
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.melody import (
    CONTROL_RATE,
    Notes,
    Ornaments,
    pitch_line,
)
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.performers import make_performer
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.plans import Option, Part
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.rhythm import (
    KITS,
    make_metre,
    render_stroke,
    stroke_times,
)
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.tracks import allot, assign_splits
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.traditions import (
    carnatic,
    greek,
    hindustani,
    makam,
    western,
)
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.tunings import (
    HOLDRIAN_COMMA_CENTS,
    Mode,
    comma_cents,
    frequency_hz,
    just_cents,
    tempered_cents,
)

RATE = 16000
PERFORMER = make_performer(0, np.random.default_rng(5))


@pytest.fixture(scope="module", params=list(TRADITIONS))
def corpus(request):
    return make_corpus(request.param)


def _cents_between(a: float, b: float) -> float:
    return 1200.0 * np.log2(a / b)


def _peak_hz(audio: np.ndarray, near_hz: float, cents: float = 150.0) -> float:
    """Returns the frequency of the highest spectral peak within `cents` of `near_hz`."""
    size = 1 << 18
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio)), size))
    frequencies = np.fft.rfftfreq(size, 1.0 / RATE)
    ratio = 2.0 ** (cents / 1200.0)
    inside = (frequencies > near_hz / ratio) & (frequencies < near_hz * ratio)
    return float(frequencies[inside][np.argmax(spectrum[inside])])


def _one_note(seconds: float, degree: int = 0) -> Notes:
    return Notes(np.array([0.0]), np.array([seconds]), np.array([degree]), np.array([1.0]))


# Tunings.


def test_tunings_agree_with_hand_numbers():
    assert comma_cents((1, 52))[1] == pytest.approx(22.6415, abs=1e-4)
    assert tempered_cents((0, 4, 7)) == (0.0, 400.0, 700.0)
    assert frequency_hz(440.0, 300.0) == pytest.approx(523.2511, abs=1e-4)
    # Just intonation: major third 5/4, fifth 3/2, major sixth 5/3.
    assert just_cents((4, 7, 9)) == pytest.approx((386.3137, 701.9550, 884.3587), abs=1e-4)
    # 9 commas are a whole tone of 203.8 cents; 31 commas the fifth, 701.9 cents.
    assert comma_cents((9, 22, 22))[1] == pytest.approx(203.7736, abs=1e-4)
    assert comma_cents((31, 22))[1] == pytest.approx(701.8868, abs=1e-4)


def test_rast_and_hicaz_lie_where_the_theory_puts_them():
    # Rast's third is 17 commas, between the minor and the major third; Hicaz has a step of 12.
    assert makam.MODES["Rast"].cents[2] == pytest.approx(384.9057, abs=1e-4)
    hicaz = np.diff(makam.MODES["Hicaz"].cents) / HOLDRIAN_COMMA_CENTS
    assert hicaz[1] == pytest.approx(12.0)


def test_comma_intervals_must_make_an_octave():
    with pytest.raises(ValueError, match="sum to 52"):
        comma_cents((9, 9, 34))


@pytest.mark.parametrize("tradition", [western, greek, makam, hindustani, carnatic])
def test_modes_ascend_within_an_octave(tradition):
    for name, mode in tradition.MODES.items():
        assert mode.name == name
        assert mode.cents[0] == 0.0 and max(mode.cents) < 1200.0
        assert (np.diff(mode.cents) > 0).all()
        assert mode.finals[0] == 0
        assert max((*mode.finals, *mode.shaken, mode.start)) < len(mode.cents)


def test_degrees_continue_in_other_octaves():
    mode = Mode("x", tempered_cents((0, 5)), (1.0, 1.0))
    np.testing.assert_allclose(
        mode.degree_cents(np.array([-1, 0, 1, 2, 3])), [-700, 0, 500, 1200, 1700]
    )


# Sounds.


@pytest.mark.parametrize("name", sorted(SOUNDS))
def test_every_instrument_sounds_at_its_pitch(name):
    rng = np.random.default_rng(1)
    sound = SOUNDS[name]
    wanted = sound.centre_hz * 1.0234
    # Without the two detuned reeds, whose beating moves the peak by design.
    sound = dataclasses.replace(sound, detune_cents=0.0)
    pitch = np.full(2 * CONTROL_RATE, wanted)
    audio = render_line(
        sound, PERFORMER, _one_note(2.0), pitch, rng, num_samples=2 * RATE, sample_rate=RATE
    )
    assert audio.dtype == np.float32 and np.isfinite(audio).all()
    assert abs(_cents_between(_peak_hz(audio, wanted), wanted)) < 5.0


@pytest.mark.parametrize("name", ["guitar", "laouto", "tanpura", "santouri"])
def test_plucked_tones_are_in_tune_and_die_away(name):
    rng = np.random.default_rng(2)
    audio = decaying_tone(SOUNDS[name], PERFORMER, 220.0, rng, seconds=1.5, sample_rate=RATE)
    assert len(audio) == 24000
    assert abs(_cents_between(_peak_hz(audio, 220.0), 220.0)) < 5.0
    early, late = audio[:4000].std(), audio[16000:20000].std()
    assert late < 0.7 * early


def test_stiff_strings_stretch_their_partials():
    rng = np.random.default_rng(3)
    audio = decaying_tone(SOUNDS["piano"], PERFORMER, 200.0, rng, seconds=2.0, sample_rate=RATE)
    eighth = 200.0 * 8 * np.sqrt(1 + SOUNDS["piano"].inharmonicity * 64)
    assert eighth > 1616.0
    assert abs(_cents_between(_peak_hz(audio, eighth, 40.0), eighth)) < 5.0


def test_a_closed_pipe_has_weak_even_harmonics_and_a_ney_breathes():
    def level(audio, hz):
        spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio))))
        place = round(hz * len(audio) / RATE)
        return spectrum[place - 8 : place + 9].max()

    plain = dataclasses.replace(PERFORMER, bumps=())
    lines = {}
    for name in ("klarino", "flute", "ney"):
        rng = np.random.default_rng(4)
        lines[name] = render_line(
            dataclasses.replace(SOUNDS[name], resonances=()),
            plain,
            _one_note(2.0),
            np.full(2 * CONTROL_RATE, 400.0),
            rng,
            num_samples=2 * RATE,
            sample_rate=RATE,
        )
    klarino = lines["klarino"]
    assert level(klarino, 800.0) < 0.5 * level(klarino, 1200.0)
    assert level(lines["ney"], 6100.0) > 1.5 * level(lines["flute"], 6100.0)


def test_strokes_start_at_once_and_glides_move_the_pitch():
    rng = np.random.default_rng(6)
    for kit in KITS.values():
        for stroke in kit.values():
            audio = render_stroke(stroke, PERFORMER, 280.0, rng, sample_rate=RATE)
            assert np.isfinite(audio).all()
            # Half of the energy comes in the first quarter.
            energy = np.cumsum(audio.astype(np.float64) ** 2)
            assert energy[len(energy) // 4] > 0.5 * energy[-1]
    kick = dataclasses.replace(KITS["drum machine"]["kick"], noise=0.0)
    audio = render_stroke(kick, PERFORMER, 280.0, rng, sample_rate=RATE)
    crossings = np.flatnonzero(np.diff(np.signbit(audio)))
    assert crossings[1] - crossings[0] < 0.5 * (crossings[-1] - crossings[-2])


def test_strokes_fall_where_the_pattern_says():
    metre = make_metre("x", "a - b.c a+d", (0,), (0.1, 0.2))
    found = stroke_times(metre, pulse_seconds=0.5, seconds=2.4)
    assert found == [
        (0.0, "a", True),
        (1.0, "b", False),
        (1.25, "c", False),
        (1.5, "a", False),
        (1.5, "d", False),
        (2.0, "a", True),
    ]


@pytest.mark.parametrize("tradition", [western, greek, makam, hindustani, carnatic])
def test_every_stroke_of_a_metre_has_a_drum(tradition):
    lengths = {"Teentaal": 16, "Jhaptaal": 10, "Ektaal": 12, "Rupak": 7, "adi": 8}
    lengths |= {"mishra chapu": 7, "khanda chapu": 5, "Aksak": 9, "Düyek": 8, "Aksaksemai": 10}
    lengths |= {"kalamatianos 7/8": 7, "zeibekiko 9/8": 9, "karsilamas 9/8": 9}
    kits = {
        part.sound
        for track in make_corpus(tradition.TRADITION.name).tracks
        for part in track.plan.parts
        if part.role == "drums"
    }
    strokes = set.intersection(*(set(KITS[kit]) for kit in kits))
    metres = tradition.METRES.items()
    if tradition is western:
        metres = [(name, western._metre("classical", name)) for name in western.METRES]
    for name, metre in metres:
        used = {s for _, s, _ in stroke_times(metre, pulse_seconds=0.1, seconds=5.0)}
        assert used <= strokes, name
        assert metre.num_pulses == lengths.get(name, metre.num_pulses)
        assert max(metre.accents) < metre.num_pulses


# Ornaments.


def _line(mode, ornaments, notes, seconds=3.0):
    return pitch_line(
        notes,
        mode,
        ornaments,
        np.random.default_rng(8),
        seconds=seconds,
        vibrato_rate_hz=5.0,
        vibrato_cents=10.0,
    )


def test_gamaka_oscillates_in_the_curve_and_in_the_sound():
    mode = carnatic.MODES["kalyani"]
    ornaments = Ornaments(shake_rate_hz=(3.6, 6.0), shake_cents=(50.0, 130.0))
    shaken, plain = mode.shaken[0], 4
    assert plain not in mode.shaken
    line = _line(mode, ornaments, _one_note(3.0, shaken))
    offset = line - mode.cents[shaken]
    assert 100.0 <= np.ptp(offset) <= 260.0
    rate = np.sum(np.diff(np.signbit(offset))) / 2 / 3.0
    assert 3.0 < rate < 6.6
    still = _line(mode, ornaments, _one_note(3.0, plain))
    assert np.ptp(still) < 25.0

    rng = np.random.default_rng(9)
    audio = render_line(
        SOUNDS["violin"],
        PERFORMER,
        _one_note(3.0),
        np.asarray(frequency_hz(400.0, line)),
        rng,
        num_samples=3 * RATE,
        sample_rate=RATE,
    )
    near = float(frequency_hz(400.0, mode.cents[shaken]))
    heard = [_peak_hz(audio[i : i + 1024], near, 300.0) for i in range(4000, 40000, 512)]
    assert _cents_between(max(heard), min(heard)) > 60.0


def test_meend_glides_and_equal_temperament_steps():
    mode = hindustani.MODES["Yaman"]
    notes = Notes(np.array([0.0, 1.0]), np.array([1.0, 2.0]), np.array([0, 4]), np.ones(2))
    slide = Ornaments(glide_seconds=(0.4, 0.4), glide_share=1.0, vibrato=0.0)
    step = Ornaments(vibrato=0.0)
    between = []
    for ornaments in (slide, step):
        line = _line(mode, ornaments, notes)
        fifth = mode.cents[4]
        between.append(np.mean((line > 0.1 * fifth) & (line < 0.9 * fifth)) * 3.0)
        assert line[-1] == pytest.approx(fifth)
    assert between[0] > 0.2
    assert between[1] < 0.02


# Planning.


def test_vocabulary_is_ordered_by_frequency_then_code_point():
    sets = [("b", "a"), ("a", "b", "É"), ("É", "c"), ("B",), ("a", "b")]
    assert label_vocabulary(sets, 3) == ("a", "b", "É")
    assert label_vocabulary(sets, 5) == ("a", "b", "É", "B", "c")


def test_allotment_keeps_the_shares():
    options = [Option("x", 0.5), Option("y", 0.3), Option("z", 0.2)]
    values = allot(options, 11, np.random.default_rng(0))
    assert collections.Counter(values) == {"x": 6, "y": 3, "z": 2}
    assert allot(options, 0, np.random.default_rng(0)) == []


def test_performers_are_split_in_their_shares():
    splits = assign_splits(12, np.random.default_rng(0))
    assert collections.Counter(splits) == {"train": 7, "validation": 2, "test": 3}
    assert set(assign_splits(3, np.random.default_rng(0))) == {"train", "validation", "test"}
    with pytest.raises(ValueError, match="at least three"):
        assign_splits(2, np.random.default_rng(0))


def test_label_names_follow_the_rule_and_the_manner_of_the_real_sets(corpus):
    training = [track.plan.labels for track in corpus.of_split("train")]
    counts = collections.Counter(label for labels in training for label in labels)
    order = sorted(counts, key=lambda label: (-counts[label], label))
    assert corpus.label_names == tuple(order[: corpus.tradition.num_labels])
    assert 14 <= len(corpus.label_names) <= 22
    prefixes = {
        "western": set(),
        "greek": {"instruments", "genres", "place"},
        "makam": {"makam", "usul", "instrument", "tempo"},
        "hindustani": {"raga", "tala", "instrument", "form", "laya"},
        "carnatic": {"raga", "tala", "instrument", "form", "kala"},
    }[corpus.tradition.name]
    found = {label.split("--")[0] for label in corpus.label_names if "--" in label}
    assert found == prefixes
    if corpus.tradition.name == "greek":
        assert "place--None" in corpus.label_names


def test_performers_are_in_one_split_only(corpus):
    splits = collections.defaultdict(set)
    for track in corpus.tracks:
        splits[track.group].add(track.split)
    assert all(len(where) == 1 for where in splits.values())
    assert len(splits) == len(corpus.tracks) / 4
    shares = [len(corpus.of_split(s)) / len(corpus.tracks) for s in ("train", "validation", "test")]
    np.testing.assert_allclose(shares, [0.58, 0.17, 0.25], atol=0.03)


def test_some_tracks_have_no_label(corpus):
    for split in ("train", "test"):
        unlabelled = [track for track in corpus.of_split(split) if not track.labels]
        assert 1 <= len(unlabelled) <= 0.04 * len(corpus.of_split(split))
        assert all(track.is_rare for track in unlabelled)
    assert all(not track.labels for track in corpus.tracks if track.is_rare)


def test_one_label_without_test_positives_in_two_traditions(corpus):
    counts = label_counts(corpus)
    missing = [label for label, count in counts["test"].items() if not count]
    expected = {"makam": ["instrument--Clarinet"], "hindustani": ["form--Tarana"]}
    assert missing == expected.get(corpus.tradition.name, [])
    assert min(counts["train"].values()) >= 8
    assert min(count for count in counts["test"].values() if count) >= 3


def test_traditions_share_sources_and_differ_in_pitch():
    kinds = collections.defaultdict(set)
    for name in TRADITIONS:
        for track in make_corpus(name).tracks:
            kinds[name] |= {
                "struck" if part.role == "drums" else SOUNDS[part.sound].kind
                for part in track.plan.parts
            }
    assert all(found >= {"plucked", "bowed", "blown", "sung", "struck"} for found in kinds.values())
    # The makams' whole tones and the ragas' thirds are not those of equal temperament.
    for mode in (makam.MODES["Rast"], hindustani.MODES["Yaman"]):
        assert any(abs((c + 50.0) % 100.0 - 50.0) > 10.0 for c in mode.cents)


def test_bad_requests_are_refused_in_one_sentence():
    with pytest.raises(ValueError, match="unknown tradition 'gamelan'"):
        make_corpus("gamelan")
    with pytest.raises(ValueError, match="too short"):
        make_corpus("makam", seconds=0.9)
    with pytest.raises(ValueError, match="at least three"):
        make_corpus("makam", num_tracks=2)
    with pytest.raises(ValueError, match="unknown role"):
        Part("violin", "soloist")


@pytest.mark.parametrize("name", sorted(TRADITIONS))
def test_the_shortest_tracks_that_are_allowed_can_be_rendered(name):
    corpus = make_corpus(name, seed=0, num_tracks=6, seconds=1.0)
    assert all(len(corpus.render(track)) for track in corpus.of_split("train"))


# Whole tracks.


def test_tracks_are_whole_clean_and_reproducible(corpus):
    start = time.perf_counter()
    again = make_corpus(corpus.tradition.name)
    other = make_corpus(corpus.tradition.name, seed=1)
    for number in (0, 70, 131):
        track = corpus.tracks[number]
        audio = corpus.render(track)
        assert audio.dtype == np.float32
        assert 7.2 * RATE <= len(audio) <= 8.8 * RATE + 1
        assert np.isfinite(audio).all() and np.abs(audio).max() < 0.99
        level_db = 20.0 * np.log10(audio.std())
        assert level_db == pytest.approx(track.plan.level_db, abs=1.5)
        # No second of silence.
        seconds = audio[: len(audio) // RATE * RATE].reshape(-1, RATE)
        assert seconds.std(axis=1).min() > 1e-4
        # One track by itself, out of order, is the same to the bit.
        assert again.render(again.tracks[number]).tobytes() == audio.tobytes()
        assert other.render(other.tracks[number]).tobytes() != audio.tobytes()
    print(f"{corpus.tradition.name}: {(time.perf_counter() - start) / 9:.3f} s for a track")


def test_fingerprint_follows_the_settings():
    first = make_corpus("makam", num_tracks=12)
    assert first.fingerprint() == make_corpus("makam", num_tracks=12).fingerprint()
    others = [
        make_corpus("makam", num_tracks=12, seed=1),
        make_corpus("makam", num_tracks=13),
        make_corpus("makam", num_tracks=12, seconds=1.0),
        make_corpus("greek", num_tracks=12),
    ]
    assert len({first.fingerprint(), *(other.fingerprint() for other in others)}) == 5


def test_a_drone_label_means_that_the_tonic_is_held():
    corpus = make_corpus("hindustani")
    tracks = [t for t in corpus.tracks if "instrument--Tambura" in t.labels][:6]
    heights = []
    for track in tracks:
        audio = corpus.render(track)
        frames = np.lib.stride_tricks.sliding_window_view(audio, 8192)[::2048]
        spectra = np.abs(np.fft.rfft(frames * np.hanning(8192), 1 << 16, axis=1))
        # What is there nearly all the time: the lower quarter over the frames.
        lasting = np.percentile(spectra, 25, axis=0)
        frequencies = np.fft.rfftfreq(1 << 16, 1.0 / RATE)
        tonic = float(frequency_hz(track.plan.tonic_hz, track.performer.tuning_cents))
        tonic *= 2.0 ** np.round(np.log2(SOUNDS["tanpura"].centre_hz / tonic))
        cents = 1200.0 * np.log2(np.maximum(frequencies, 1.0) / tonic)
        at = max(lasting[np.abs(cents - octave) < 25].max() for octave in (0.0, 1200.0))
        beside = np.median(lasting[(np.abs(cents) > 60) & (np.abs(cents) < 350)])
        heights.append(20.0 * np.log10(at / beside))
    assert np.median(heights) > 10.0


def test_level_labels_and_drum_labels_are_facts():
    corpus = make_corpus("western")
    for wanted, low, high in (("loud", -17.5, -9.0), ("quiet", -38.0, -28.0)):
        track = next(t for t in corpus.tracks if wanted in t.labels)
        level_db = 20.0 * np.log10(corpus.render(track).std())
        assert low < level_db < high
    for track in corpus.tracks:
        if not track.is_rare:
            roles = {part.role for part in track.plan.parts}
            assert ("drums" in track.labels) == ("drums" in roles)
            sung = any("voice" in part.sound for part in track.plan.parts)
            assert ("vocal" in track.labels) == sung == ("no vocals" not in track.labels)


def test_unmeasured_tracks_have_neither_metre_label_nor_drums():
    for name, prefix in (("makam", "usul--"), ("hindustani", "tala--"), ("carnatic", "tala--")):
        tracks = make_corpus(name).tracks
        free = [track for track in tracks if track.plan.metre is None]
        assert len(free) > 10
        for track in free:
            assert not any(label.startswith(prefix) for label in track.plan.labels)
            assert all(part.role != "drums" for part in track.plan.parts)


@pytest.mark.programs  # in a new environment librosa compiles for half a minute
def test_log_mel_equals_librosa():
    corpus = make_corpus("greek", num_tracks=12, seconds=2.0)
    audio = corpus.render(corpus.tracks[0])
    ours = log_mel(audio)
    power = librosa.feature.melspectrogram(
        y=audio, sr=RATE, n_fft=512, hop_length=256, n_mels=128, fmin=0.0, fmax=8000.0,
        power=2.0, htk=True, norm=None, pad_mode="reflect",
    ).T  # fmt: skip
    reference = 10.0 * np.log10(np.maximum(power, 1e-10))
    assert ours.shape == reference.shape == (1 + len(audio) // 256, 128)
    audible = reference > -60.0
    assert audible.mean() > 0.9
    np.testing.assert_allclose(ours[audible], reference[audible], atol=1e-3)
    assert ours.min() >= -100.0
