"""Reading audio: every format at its rate, length and level, excerpts, and clear refusals."""

import csv
import io
import pathlib
import re
import stat

import numpy as np
import pytest
import soundfile
import soxr
from damaged_audio import make_music
from encoded_audio import encode

from musrep_jax.data.audio import opening
from musrep_jax.data.audio.reading import AudioError, is_silent, mix_down, read_audio
from musrep_jax.data.audio.resampling import Resampler, resample

MP3_FRAME = 1152


def _tone(seconds: float, rate: int, frequency: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)


def _encode(audio: np.ndarray, rate: int, **kwargs) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, audio, rate, **kwargs)
    return buffer.getvalue()


def test_every_delivered_format_is_decoded_or_refused_with_one_sentence(shared_dir, without_ffmpeg):
    folder = shared_dir / "data" / "formats"
    with open(folder / "expected.tsv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len(rows) > 60
    refused = []
    for row in rows:
        path = folder / row["file"]
        for source in (path, path.read_bytes()):
            try:
                audio, rate = read_audio(source, mono=False, name=row["file"])
            except AudioError as error:
                message = str(error)
                assert row["file"] in message
                assert "\n" not in message and message.endswith(".") and len(message) < 240
                refused.append(row["file"])
                continue
            assert row["frames"] and "truncated" not in row["note"], row["file"]
            assert rate == int(row["sample_rate"])
            tolerance = 2 * MP3_FRAME if row["format"].startswith(("MP3", "MP4", "AAC")) else 0
            assert abs(len(audio) - int(row["frames"])) <= tolerance
            assert audio.shape[1] == int(row["channels"])
            assert audio.dtype == np.float32
            if row["peak"]:
                assert np.abs(audio).max() == pytest.approx(float(row["peak"]), abs=2e-3)
                rms = float(np.sqrt(np.mean(np.square(audio, dtype=np.float64))))
                assert rms == pytest.approx(float(row["rms"]), abs=1e-4)
    readable = {row["file"] for row in rows if row["peak"] and "truncated" not in row["note"]}
    assert not readable & set(refused)


def test_mp3_with_a_large_tag_reads_the_same_from_memory(shared_dir):
    path = shared_dir / "data" / "formats" / "bensound-cute.mp3"
    by_path, _ = read_audio(path)
    from_memory, _ = read_audio(path.read_bytes())
    np.testing.assert_allclose(from_memory, by_path, atol=1e-6)


@pytest.mark.parametrize(
    "file",
    [
        "calan-deskar.mp3",
        "dubstep.ogg",
        "example.opus",
        "impulses_1second_22050_st.mp3",
        "joram-moments_of_clarity-08-solipsism-59-88.mp3",
    ],
)
@pytest.mark.parametrize("sample_rate", [None, 16000])
def test_excerpts_of_real_files_equal_the_whole(shared_dir, file, sample_rate):
    content = (shared_dir / "data" / "formats" / file).read_bytes()
    whole, rate = read_audio(content, sample_rate=sample_rate)
    for start in (0, 777, 31_111, 44_100, len(whole) - 3000, len(whole) - 500):
        excerpt, excerpt_rate = read_audio(
            content, sample_rate=sample_rate, start=start, num_frames=4000
        )
        assert excerpt_rate == rate
        expected = whole[start : start + 4000]
        assert len(excerpt) == len(expected)
        np.testing.assert_allclose(excerpt, expected, atol=2e-3)


@pytest.mark.parametrize("kind", [("WAV", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS")])
def test_excerpt_at_the_own_rate_is_exact(kind):
    content = _encode(_tone(1.0, 8000), 8000, format=kind[0], subtype=kind[1])
    whole, rate = read_audio(content)
    assert rate == 8000
    excerpt, _ = read_audio(content, start=1234, num_frames=2000)
    np.testing.assert_allclose(excerpt, whole[1234:3234], atol=2e-7)
    past_the_end, _ = read_audio(content, start=len(whole) + 5, num_frames=10)
    assert past_the_end.shape == (0,)


def test_resampling_keeps_pitch_level_and_length(tmp_path):
    soundfile.write(tmp_path / "a.wav", _tone(1.0, 44100), 44100, subtype="FLOAT")
    audio, rate = read_audio(tmp_path / "a.wav", sample_rate=16000)
    assert rate == 16000 and len(audio) == 16000
    np.testing.assert_allclose(audio[500:-500], _tone(1.0, 16000)[500:-500], atol=1e-4)
    assert resample(audio, 16000, 16000) is audio or np.array_equal(
        resample(audio, 16000, 16000), audio
    )
    with pytest.raises(ValueError, match="0 Hz"):
        resample(audio, 16000, 0)


def test_channels_are_averaged_and_levels_above_one_are_kept(tmp_path):
    stereo = np.stack([np.full(100, 1.5), np.full(100, 0.9)], axis=1)
    soundfile.write(tmp_path / "loud.wav", stereo, 16000, subtype="FLOAT")
    audio, _ = read_audio(tmp_path / "loud.wav")
    np.testing.assert_allclose(audio, 1.2, rtol=1e-6)
    both, _ = read_audio(tmp_path / "loud.wav", mono=False)
    assert both.shape == (100, 2) and both.max() == pytest.approx(1.5)


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_the_mixture_is_the_mean(channels):
    audio = np.random.default_rng(0).standard_normal((1000, channels)).astype(np.float32)
    np.testing.assert_array_equal(mix_down(audio), audio.mean(axis=1))


def test_leading_junk_is_skipped():
    content = _encode(_tone(0.1, 16000), 16000, format="WAV", subtype="PCM_16")
    expected, _ = read_audio(content)
    audio, _ = read_audio(b"\x00junk" * 20 + content)
    np.testing.assert_array_equal(audio, expected)


def _written(path: pathlib.Path, content: bytes) -> pathlib.Path:
    path.write_bytes(content)
    return path


def _bad_files(folder: pathlib.Path) -> dict[str, str]:
    """Writes bad files; returns name -> what the message must say."""
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("this is no audio\n" * 100)
    (folder / "folder.wav").mkdir()
    soundfile.write(folder / "none.wav", np.zeros(0), 16000)
    soundfile.write(folder / "nan.wav", np.array([0.1, np.nan]), 16000, subtype="FLOAT")
    flac = _encode(np.random.default_rng(0).uniform(-1, 1, 40000), 16000, format="FLAC")
    (folder / "cut.flac").write_bytes(flac[:40])
    return {
        "empty.wav": "0 bytes",
        "text.wav": "cannot be read",
        "folder.wav": "it is a folder",
        "none.wav": "holds no audio",
        "nan.wav": "not finite",
        "cut.flac": "cannot be",
        "missing.wav": "no such file",
    }


def test_bad_files_are_refused_by_name_and_reason(tmp_path):
    for name, reason in _bad_files(tmp_path).items():
        with pytest.raises(AudioError, match=re.escape(reason)) as caught:
            read_audio(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "form", ["WAV", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "OPUS", "MP3"]
)
def test_half_a_recording_is_refused(form, tmp_path):
    path = tmp_path / "music"
    music = make_music(np.random.default_rng(0), 4.0, 16000, 2)
    kinds = {"OPUS": {"format": "OGG", "subtype": "OPUS"}}
    soundfile.write(path, music, 16000, **kinds.get(form, {"format": form}))
    content = path.read_bytes()
    whole, rate = read_audio(content)
    half = content[: len(content) // 2]
    for source in (half, _written(tmp_path / "half", half)):
        with pytest.raises(AudioError, match=r"half of it cannot be .*(truncated|damaged)"):
            read_audio(source, name="half of it")
        # What is asked of it and is there is that of the whole.
        first, _ = read_audio(source, num_frames=rate // 2)
        np.testing.assert_allclose(first, whole[: rate // 2], atol=1e-4)
        with pytest.raises(AudioError, match=r"truncated|damaged"):
            read_audio(source, start=rate, num_frames=3 * rate)


def test_ffmpeg_is_asked_where_libsndfile_gives_up(tmp_path, monkeypatch):
    decoded = tmp_path / "decoded.au"
    soundfile.write(decoded, _tone(0.2, 22050), 22050, format="AU", subtype="FLOAT")
    music = encode(tmp_path / "music.m4a", _tone(0.2, 22050), 22050)
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n/bin/cat '{decoded}'\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(program.parent))
    audio, rate = read_audio(music, sample_rate=16000)
    assert rate == 16000 and len(audio) == 3200
    audio, _ = read_audio(music.read_bytes())
    assert len(audio) == 4410
    program.write_text("#!/bin/sh\necho 'no such codec' >&2\nexit 1\n")
    with pytest.raises(AudioError, match=r"music\.m4a.*ffmpeg cannot decode it \(no such codec\)"):
        read_audio(music)


def test_bytes_without_a_header_are_no_audio(tmp_path):
    (tmp_path / "x.au").write_bytes(bytes(range(256)) * 40)
    with pytest.raises(AudioError, match="no header that says what it holds"):
        read_audio(tmp_path / "x.au")


def test_a_file_that_may_not_be_read_is_one_sentence(tmp_path, monkeypatch):
    # Permissions do not bind root, under which tests may run.
    (tmp_path / "x.mp3").write_bytes(b"no audio at all")

    def refuse(path, mode):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(opening, "open", refuse, raising=False)
    with pytest.raises(AudioError, match=r"x\.mp3 cannot be read: Permission denied\.$"):
        read_audio(tmp_path / "x.mp3")


@pytest.mark.parametrize("name", ["a:b", "http:x", "C:foo", "gs:x", "file:x", "concat:x", "-i"])
def test_a_colon_in_a_name_is_no_protocol(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    audio = _tone(0.5, 16000)
    encode(tmp_path / "source.m4a", audio, 16000).rename(f"{name}.m4a")
    soundfile.write(tmp_path / f"{name}.wav", audio, 16000)
    for suffix in ("m4a", "wav"):  # ffmpeg reads the one, libsndfile the other
        found, _ = read_audio(f"{name}.{suffix}", sample_rate=16000)
        assert len(found) == pytest.approx(len(audio), abs=1100)
        assert np.corrcoef(found[: len(audio)], audio[: len(found)])[0, 1] > 0.99


def test_a_constant_is_silent_also_padded_and_sound_is_not():
    zeros, sound = np.zeros(4000, np.float32), np.sin(np.arange(4000)).astype(np.float32)
    offset = zeros + 0.3
    silent = (zeros[:0], zeros, offset, np.append(offset, zeros), offset.reshape(-1, 2))
    assert all(map(is_silent, silent))
    heard = (1e-3 * sound, offset + 1e-3 * sound, np.append(zeros, sound), np.append(sound, zeros))
    assert not any(map(is_silent, heard))


@pytest.mark.parametrize("rates", [(44100, 16000), (8000, 16000), (1000, 48000)])
def test_resampling_adds_no_click_to_a_constant(rates, tmp_path):
    # A filter that takes what lies beyond the ends for zeros rings there.
    rng, (before, after) = np.random.default_rng(0), rates
    dither = rng.integers(-1, 2, 2 * before).astype(np.float32) / 32768
    noise = rng.uniform(-0.1, 0.1, 2 * before).astype(np.float32)
    for constant in (np.float32(-0.4) + 0 * dither, np.float32(0.4) + dither):
        soundfile.write(tmp_path / "constant.wav", constant, before)
        for found in (
            resample(constant, before, after),
            resample(constant[: before // 30], before, after),
            read_audio(tmp_path / "constant.wav", sample_rate=after)[0],
            read_audio(tmp_path / "constant.wav", sample_rate=after, start=3, num_frames=9)[0],
            read_audio(tmp_path / "constant.wav", sample_rate=after, mono=False)[0],
        ):
            assert len(found) and is_silent(found)
            assert found.mean() == pytest.approx(constant[0], abs=1e-4)
        sound = resample(np.concatenate([constant, noise, constant]), before, after)
        assert len(sound) == 6 * after and not is_silent(sound)
        assert is_silent(sound[:after]) and is_silent(sound[-after:])
    plain = soxr.resample(noise, before, after, quality="HQ")
    np.testing.assert_array_equal(resample(noise, before, after), plain)


def test_blocks_are_resampled_as_a_whole_wherever_they_are_cut():
    rng = np.random.default_rng(0)
    sound = rng.uniform(-0.1, 0.1, (30000, 2)).astype(np.float32)
    sound[:9000], sound[-9000:] = (0.2, 0.3), (0.2, 0)
    whole = resample(sound, 44100, 16000)
    for cuts in ([], [1, 2, 3, 2000], [29999], list(range(0, 30000, 700))):
        resampler = Resampler(44100, 16000, 2)
        parts = [resampler.feed(block) for block in np.split(sound, cuts)]
        joined = np.concatenate([*parts, resampler.finish()])
        assert joined.shape == whole.shape
        np.testing.assert_allclose(joined, whole, atol=1e-6)
