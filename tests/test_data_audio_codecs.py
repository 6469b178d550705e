"""Every codec that people's recordings come in, by its real encoder: length, sound, all paths."""

import pathlib
import shutil
import struct

import numpy as np
import pytest
import soundfile
from damaged_audio import make_music
from encoded_audio import encode_all

from musrep_jax.data.audio.containers import read_container
from musrep_jax.data.audio.decoders import decode_files
from musrep_jax.data.audio.reading import AudioError, measure_length, read_audio
from musrep_jax.data.audio.resampling import resample
from musrep_jax.data.doctor.findings import judge
from musrep_jax.data.doctor.measurements import measure_file
from tfds_builders.audio_folder.audio_folder_dataset_builder import Recording, RecordingDecoder

RATE, MODEL_RATE = 44100, 16000
BITS = ("-b:a", "192k")
CODECS = {
    "aac.m4a": ("-c:a", "aac", *BITS),
    "aac.mp4": ("-c:a", "aac", *BITS, "-movflags", "+faststart"),
    "fragments.mp4": ("-c:a", "aac", *BITS, "-movflags", "frag_keyframe+empty_moov"),
    "adts.aac": ("-c:a", "aac", *BITS),
    "alac.m4a": ("-c:a", "alac"),
    "ac3.ac3": ("-c:a", "ac3", *BITS),
    "eac3.eac3": ("-c:a", "eac3", *BITS),
    "wavpack.wv": ("-c:a", "wavpack"),
    "tta.tta": ("-c:a", "tta"),
    "opus.mka": ("-c:a", "libopus", *BITS),
    "opus.webm": ("-c:a", "libopus", *BITS),
    "vorbis.mka": ("-c:a", "libvorbis", *BITS),
    "flac.mka": ("-c:a", "flac"),
    "wma.wma": ("-c:a", "wmav2", *BITS),
    "mp3.mp3": ("-c:a", "libmp3lame", *BITS),
    "vbr.mp3": ("-c:a", "libmp3lame", "-q:a", "2"),
    "bare.mp3": ("-c:a", "libmp3lame", "-q:a", "2", "-write_xing", "0", "-id3v2_version", "0"),
    "flac.flac": ("-c:a", "flac"),
    "vorbis.ogg": ("-c:a", "libvorbis", *BITS),
    "opus.opus": ("-c:a", "libopus", *BITS),
    "pcm.wav": ("-c:a", "pcm_s16le"),
    "float.wav": ("-c:a", "pcm_f32le"),
    "rf64.wav": ("-c:a", "pcm_s24le", "-rf64", "always"),
    "adpcm.wav": ("-c:a", "adpcm_ms"),
    "pcm.aiff": ("-c:a", "pcm_s16be"),
    "pcm.caf": ("-c:a", "pcm_s16be"),
    "pcm.w64": ("-c:a", "pcm_s16le"),
}
"""Name of a file -> how ffmpeg makes it."""
LOSSLESS = ("alac", "wavpack", "tta", "flac", "pcm", "float", "rf64")
UNTRIMMED = ("fragments", "adts", "ac3", "eac3", "bare", "wma", "adpcm")
"""Their containers do not say what an encoder has put before and behind."""
TO_A_TICK = ("opus", "vorbis")
"""Matroska states lengths in milliseconds."""
SECONDS_OF_PADDING = 0.08
WMA_LOSS = 2048
"""Samples that ffmpeg's encoder of WMA leaves out: the first frame, which only primes decoders."""


def find_clips(number: int) -> list[np.ndarray]:
    """Returns stereo clips at 44.1 kHz: real ones, where they stand beside the checkout."""
    folder = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"
    paths = [path for kind in ("ogg", "flac") for path in sorted(folder.glob(f"*/*/*.{kind}"))]
    clips = []
    for path in paths[:: max(1, len(paths) // number)][:number]:
        mono, rate = soundfile.read(path, dtype="float32")
        clip = resample(mono, rate, RATE)[: 6 * RATE]
        clips.append(np.stack([clip, 0.5 * clip], axis=1))
    rng = np.random.default_rng(0)
    return clips or [make_music(rng, rng.uniform(1, 4), RATE, 2) for _ in range(number)]


def compare(found: np.ndarray, expected: np.ndarray) -> tuple[float, int]:
    """Returns the best correlation of two waveforms, and by how many samples the first is late."""
    size = 1 << int(np.ceil(np.log2(len(found) + len(expected))))
    products = np.fft.irfft(np.fft.rfft(found, size) * np.conj(np.fft.rfft(expected, size)), size)
    lag = int(np.argmax(products))
    lag -= size if lag > size // 2 else 0
    cut = found[max(0, lag) :], expected[max(0, -lag) :]
    both = [part[: min(map(len, cut))] for part in cut]
    energy = np.sqrt(np.sum(np.square(found)) * np.sum(np.square(expected)))
    return float(both[0] @ both[1] / energy), lag


def check_sound(name: str, found: np.ndarray, clip: np.ndarray) -> None:
    """Asserts that what was read is the clip: as long, as loud, and the same sound."""
    kind, expected = name.partition(".")[0], clip.mean(axis=1)
    if kind == "wma":
        expected = expected[WMA_LOSS:]
    correlation, lag = compare(found, expected)
    margin = SECONDS_OF_PADDING if kind in UNTRIMMED else 0.005 if kind in TO_A_TICK else 1 / RATE
    assert abs(len(found) - len(expected)) <= margin * RATE, name
    assert abs(lag) <= (margin * RATE if kind in UNTRIMMED else 1), name
    assert correlation > (0.9999 if kind in LOSSLESS else 0.9), name
    assert np.std(found) == pytest.approx(np.std(expected), rel=0.15), name


@pytest.fixture(scope="module")
def music(tmp_path_factory) -> tuple[pathlib.Path, np.ndarray]:
    """A clip in every codec: folder and waveform."""
    folder = tmp_path_factory.mktemp("codecs")
    clip = make_music(np.random.default_rng(3), 3.21, RATE, 2)
    encode_all({folder / name: options for name, options in CODECS.items()}, clip, RATE)
    return folder, clip


@pytest.mark.parametrize("name", CODECS)
def test_every_codec_gives_the_recording_on_every_path(name, music):
    folder, clip = music
    path = folder / name
    whole, _ = read_audio(path, sample_rate=RATE)
    check_sound(name, whole, clip)
    both, _ = read_audio(path, sample_rate=RATE, mono=False)
    assert both.shape == (len(whole), 2)
    from_memory, _ = read_audio(path.read_bytes(), sample_rate=RATE)
    np.testing.assert_array_equal(from_memory, whole)
    at_model_rate, _ = read_audio(path, sample_rate=MODEL_RATE)
    excerpt, _ = read_audio(path, sample_rate=MODEL_RATE, start=20000, num_frames=8000)
    np.testing.assert_allclose(excerpt, at_model_rate[20000:28000], atol=2e-3)
    built = RecordingDecoder(folder, MODEL_RATE)(Recording(name))
    np.testing.assert_array_equal(built.audio, at_model_rate)
    told = measure_length(path)
    assert told is None or told == pytest.approx(len(clip) / RATE, abs=SECONDS_OF_PADDING)
    facts = measure_file(path)
    assert facts.seconds == pytest.approx(len(clip) / RATE, abs=SECONDS_OF_PADDING)
    assert not [finding for finding in judge(name, facts) if finding.is_fault]


def make_box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


def test_a_note_of_itunes_ends_a_recording_that_has_no_edit_list(music, tmp_path):
    _, clip = music
    path = tmp_path / "noted.m4a"
    encode_all({path: ("-c:a", "aac", *BITS, "-use_editlist", "0")}, clip, RATE)
    content = path.read_bytes()
    place = content.index(b"moov") - 4
    note = f" 00000000 00000400 00000000 {len(clip):016X}".encode()
    parts = make_box(b"mean", b"\0\0\0\0com.apple.iTunes") + make_box(b"name", b"\0\0\0\0iTunSMPB")
    entry = make_box(b"----", parts + make_box(b"data", b"\0\0\0\1\0\0\0\0" + note))
    handler = make_box(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))
    meta = make_box(b"meta", bytes(4) + handler + make_box(b"ilst", entry))
    index = make_box(b"moov", content[place + 8 :] + make_box(b"udta", meta))
    audio, _ = read_audio(content[:place] + index, sample_rate=RATE)
    check_sound("aac.m4a", audio, clip)


def test_fragments_end_where_their_samples_do(music):
    folder, clip = music
    audio, _ = read_audio(folder / "fragments.mp4", sample_rate=RATE)
    assert len(audio) == len(clip) + 1024  # in front, of which nothing in the file tells


def test_a_stated_end_in_the_middle_of_a_recording_is_not_believed(music):
    folder, clip = music
    content = bytearray((folder / "vorbis.mka").read_bytes())
    place = content.index(b"\x44\x89\x88") + 3
    assert struct.unpack_from(">d", content, place)[0] == pytest.approx(3210, abs=5)
    struct.pack_into(">d", content, place, 1000.0)
    assert len(read_audio(bytes(content), sample_rate=RATE)[0]) >= len(clip)


def test_decoding_ahead_gives_the_same(music):
    folder, _ = music
    paths = [folder / name for name in CODECS]
    for file in decode_files(paths, MODEL_RATE, 2):
        expected, _ = read_audio(file.path, sample_rate=MODEL_RATE)
        np.testing.assert_array_equal(np.concatenate(list(file.blocks())), expected)


@pytest.mark.slow
def test_real_recordings_come_back_from_every_codec(tmp_path):
    clips = find_clips(20)
    assert len(clips) == 20
    for index, clip in enumerate(clips):
        folder = tmp_path / str(index)
        folder.mkdir()
        encode_all({folder / name: options for name, options in CODECS.items()}, clip, RATE)
        for name in CODECS:
            check_sound(name, read_audio(folder / name, sample_rate=RATE)[0], clip)
            facts = measure_file(folder / name)
            faults = {finding.kind for finding in judge(name, facts) if finding.is_fault}
            assert not faults, (index, name, faults)
        shutil.rmtree(folder)


def test_half_of_a_file_is_refused_by_what_its_container_says(music, tmp_path):
    folder, _ = music
    halves = {name: tmp_path / name for name in CODECS}
    for name, half in halves.items():
        content = (folder / name).read_bytes()
        # Not where one frame ends and the next begins, which nothing in the file could tell.
        half.write_bytes(content[: len(content) // 2 + 3])
        with pytest.raises(AudioError, match=r"cannot be .*(truncated|damaged)"):
            read_audio(half)
        built = RecordingDecoder(tmp_path, MODEL_RATE)(Recording(name))
        assert "truncated" in built.reason or "damaged" in built.reason
        assert {"truncated", "damaged"} & {f.kind for f in judge(name, measure_file(half))}, name
    for file in decode_files(halves.values(), MODEL_RATE, 2):
        with pytest.raises(AudioError, match=r"cannot be .*(truncated|damaged)"):
            list(file.blocks())


@pytest.mark.usefixtures("without_ffmpeg")
def test_without_ffmpeg_one_sentence_names_format_and_extra(music):
    folder, clip = music
    for name, title in (
        ("aac.m4a", "MP4/M4A"),
        ("adts.aac", "AAC"),
        ("ac3.ac3", "AC-3"),
        ("wavpack.wv", "WavPack"),
        ("opus.mka", "Matroska"),
        ("wma.wma", "WMA"),
    ):
        for source in (folder / name, (folder / name).read_bytes()):
            with pytest.raises(AudioError) as caught:
                read_audio(source, name=name)
            message = str(caught.value)
            assert title in message and "musrep_jax[ffmpeg]" in message and "\n" not in message
        facts = measure_file(folder / name)
        assert [finding.kind for finding in judge(name, facts)] == ["not_decoded"]
    check_sound("mp3.mp3", read_audio(folder / "mp3.mp3")[0], clip)


@pytest.mark.parametrize("filling", ["zeros", "noise"])
@pytest.mark.parametrize(
    "name", ["aac.m4a", "adts.aac", "ac3.ac3", "wavpack.wv", "opus.mka", "wma.wma", "mp3.mp3"]
)
def test_what_shrinks_beside_its_own_length_is_refused(name, filling, music):
    folder, _ = music
    content = np.frombuffer((folder / name).read_bytes(), np.uint8).copy()
    damaged = content[len(content) // 5 : -len(content) // 5]
    damaged[:] = np.random.default_rng(0).integers(0, 256, len(damaged)) * (filling == "noise")
    with pytest.raises(AudioError, match="cannot be") as caught:
        read_audio(content.tobytes(), name=name)
    assert "0x" not in str(caught.value)


def test_chance_is_no_recording():
    rng = np.random.default_rng(0)
    for _ in range(300):
        content = rng.integers(0, 256, rng.integers(10, 60_000), dtype=np.uint8).tobytes()
        with pytest.raises(AudioError, match="cannot be"):
            read_audio(content)
    # One frame header behind junk is chance, two that follow one another are not.
    frame = b"\xff\xfb\x90\x00" + bytes(413)
    junk = bytes(rng.integers(1, 255, 500, dtype=np.uint8))
    assert read_container(junk + frame).format == ""
    assert read_container(junk + frame + junk).format == ""
    assert read_container(junk + 3 * frame).format == "mpeg"


PLAYLISTS = {
    "m3u": "#EXTM3U\n#EXTINF:10,x\n{}\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{}'\n",
    "pls": "[playlist]\nFile1={}\nNumberOfEntries=1\n",
    "asx": "<asx version='3.0'><entry><ref href='{}'/></entry></asx>",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=audio 9 RTP/AVP 0\na={}\n",
    "dash": "<?xml version='1.0'?><MPD><Period><BaseURL>{}</BaseURL></Period></MPD>",
    "plain": "{}\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("suffix", ["m4a", "wav", "mp3", "m3u8", "aac"])
def test_a_playlist_is_no_recording(kind, suffix, music, tmp_path):
    folder, _ = music
    for target in (f"file://{folder / 'pcm.wav'}", str(folder / "pcm.wav")):
        path = tmp_path / f"song.{suffix}"
        path.write_text(PLAYLISTS[kind].format(target))
        with pytest.raises(AudioError, match=r"cannot be read: it is (a|of no|an) "):
            read_audio(path)
        with pytest.raises(AudioError, match=r"cannot be read: it is (a|of no|an) "):
            read_audio(path.read_bytes())


def test_ffmpeg_opens_nothing_but_the_file(music, tmp_path, monkeypatch):
    # A colon, a percent sign or a dash in a name is neither a protocol nor a pattern nor an option.
    folder, clip = music
    monkeypatch.chdir(tmp_path)
    for name in ("http:song.m4a", "concat:a|b.m4a", "-i.m4a", "take %03d.m4a", "\udcff.m4a"):
        shutil.copy(folder / "aac.m4a", name)
        check_sound("aac.m4a", read_audio(name)[0], clip)
