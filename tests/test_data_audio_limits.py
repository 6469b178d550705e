"""Audio at its limits: hours of it, none of it, nothing but silence, and decoders that chatter."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from damaged_audio import make_music
from encoded_audio import encode

from musrep_jax.data.audio.containers import read_container
from musrep_jax.data.audio.decoders import decode_files
from musrep_jax.data.audio.mpeg import read_frame_header
from musrep_jax.data.audio.reading import AudioError, read_audio, stream_audio
from musrep_jax.data.doctor.diagnosis import find_audio_files
from musrep_jax.data.doctor.findings import judge
from musrep_jax.data.doctor.measurements import measure_file

RATE = 16000
PEAK_MEMORY = """
import resource, sys
from musrep_jax.data.audio.reading import measure_length, read_audio, stream_audio
path = sys.argv[1]
read_audio(path, sample_rate=16000, num_frames=16000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
seconds = sum(len(block) for block in stream_audio(path, 16000)) / 16000
streamed = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
num_bytes = read_audio(path, sample_rate=16000)[0].nbytes
whole = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(measure_length(path), seconds, (streamed - before) / 1e3)
print((whole - before) / 1e3 - num_bytes / 1e6)
"""


def test_long_silence_is_decoded_in_little_memory(tmp_path):
    music = make_music(np.random.default_rng(0), 1, 44100, 2)
    options = ("-af", "apad=whole_dur=600", "-b:a", "8k")
    path = encode(tmp_path / "long.m4a", music, 44100, *options)
    command = [sys.executable, "-c", PEAK_MEMORY, path]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    length, seconds, streamed, beyond_the_audio = map(float, told)
    assert length == pytest.approx(600, abs=0.1) == seconds
    # In MB; decoded it takes 211, and 38 at the wanted rate.
    assert streamed < 25 and beyond_the_audio < 25


def test_a_file_that_is_refused_is_not_read_whole(tmp_path):
    # Ten gigabytes, nearly all of it a hole: reading it would take minutes, and all the memory.
    for name, head in {"a.wav": b"no audio at all\n" * 20, "b.m4a": bytes(100)}.items():
        with open(tmp_path / name, "wb") as file:
            file.write(head)
            file.truncate(10 << 30)
        with pytest.raises(AudioError, match="cannot be read"):
            read_audio(tmp_path / name)


def test_what_resampling_leaves_nothing_of_is_refused(tmp_path):
    for num_samples, rate, wanted in ((1, 44100, 16000), (3, 192000, 16000), (1, 48000, 8000)):
        path = tmp_path / f"{num_samples}-{rate}.wav"
        soundfile.write(path, np.full(num_samples, 0.5), rate)
        sentence = rf"too short, its {num_samples} sample\(s\) at {rate} Hz are none at {wanted} Hz"
        with pytest.raises(AudioError, match=sentence):
            read_audio(path, sample_rate=wanted)
        with pytest.raises(AudioError, match=sentence):
            list(stream_audio(path, wanted))
        (file,) = decode_files([path], wanted, 1)
        with pytest.raises(AudioError, match=sentence):
            list(file.blocks())
        assert len(read_audio(path)[0]) == num_samples


@pytest.mark.parametrize("rate", [1, 2, 50, 999, 800_000, 2_000_000])
@pytest.mark.parametrize("kind", ["WAV", "AIFF", "AU"])
def test_rates_that_are_none_of_sound_are_refused(rate, kind, tmp_path):
    path = tmp_path / "flipped"
    soundfile.write(path, 0.1 * np.ones(1000), rate, format=kind)
    with pytest.raises(AudioError, match=f"its header says {rate} Hz, which is no sample rate"):
        read_audio(path, sample_rate=RATE)
    with pytest.raises(AudioError, match=f"{rate} Hz"):
        read_audio(path, start=10, num_frames=10)
    assert [finding.kind for finding in judge("flipped.wav", measure_file(path))] == ["dead"]


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    for name in ("ney/a.wav", "ney/._a.wav", ".Trash-1000/gone.wav", "ney/.cache/b.wav", "c.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / name, 0.1 * np.ones(1000), RATE)
    assert [file.path for file in find_audio_files(tmp_path)] == ["c.wav", "ney/a.wav"]


def _odd_mp3(folder: pathlib.Path) -> pathlib.Path:
    """Returns an mp3 with some zeros between two frames, of which libmpg123 tells."""
    music = make_music(np.random.default_rng(0), 3, 44100, 2)
    options = ("-b:a", "64k", "-write_xing", "0", "-id3v2_version", "0")
    path = encode(folder / "odd.mp3", music, 44100, *options)
    content, position = path.read_bytes(), 0
    for _ in range(20):
        position += read_frame_header(content[position : position + 4]).length
    path.write_bytes(content[:position] + bytes(600) + content[position:])
    return path


def test_libmpg123_prints_nothing_and_others_do(tmp_path):
    path = _odd_mp3(tmp_path)
    script = r"""
import os, sys, threading
import soundfile
from musrep_jax.data.audio.reading import read_audio
path = sys.argv[1]
if sys.argv[2] == "plain":
    soundfile.read(path)
    sys.exit()
is_over = threading.Event()
def talk():
    count = 0
    while not is_over.is_set() or count < 50:
        os.write(2, b"line %d\n" % count)
        count += 1
    os.write(2, b"of %d lines\n" % count)
talker = threading.Thread(target=talk)
talker.start()
readers = [threading.Thread(target=lambda: [read_audio(path) for _ in range(5)]) for _ in range(3)]
for thread in readers: thread.start()
for thread in readers: thread.join()
is_over.set()
talker.join()
print("and the end", file=sys.stderr)
"""

    def run(how: str) -> list[str]:
        command = [sys.executable, "-c", script, path, how]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stderr
        return told.split("\n")

    assert any(
        "Trying to resync" in line for line in run("plain")
    )  # or the test would show nothing
    *lines, total, end, empty = run("quiet")
    assert (end, empty) == ("and the end", "")
    # None is lost; when the filter ends, the last ones in it may come after later ones.
    assert sorted([*lines, total]) == sorted(
        [*(f"line {index}" for index in range(len(lines))), f"of {len(lines)} lines"]
    )


def test_a_process_started_while_mp3s_are_decoded_is_heard(tmp_path):
    script = """
import subprocess
from musrep_jax.data.audio.stderr_filter import silence_libmpg123
with silence_libmpg123():
    child = subprocess.Popen(["sh", "-c", "sleep 0.2; echo from a child >&2"])
child.wait()
"""
    told = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert told.stderr == "from a child\n"


def test_headers_of_any_bytes_raise_nothing(tmp_path):
    rng = np.random.default_rng(0)
    music = make_music(rng, 0.3, 44100, 1)
    contents = []
    for name in ("a.m4a", "a.aac", "a.mka", "a.wv", "a.wma", "a.tta", "a.caf", "a.ac3", "a.w64"):
        contents.append(encode(tmp_path / name, music, 44100).read_bytes())
    for content in contents:
        for _ in range(150):
            damaged = np.frombuffer(content, np.uint8).copy()
            where = rng.integers(0, min(len(damaged), 1500), rng.integers(1, 12))
            damaged[where] = rng.integers(0, 256, len(where))
            found = read_container(damaged[: rng.integers(1, len(damaged))].tobytes())
            assert found.format or found.junk == 0


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "AU", "W64", "CAF"])
def test_a_header_that_promises_less_than_there_is_is_told(kind, tmp_path):
    """The same file with two lengths: what stands behind the audio without a name is audio too."""
    path, short = tmp_path / "a", tmp_path / "short"
    noise = 0.3 * np.random.default_rng(0).standard_normal(32000)
    soundfile.write(path, noise, RATE, format=kind, subtype="PCM_16")
    soundfile.write(short, noise[:500], RATE, format=kind, subtype="PCM_16")
    assert len(read_audio(path)[0]) == 32000
    path.write_bytes(short.read_bytes() + path.read_bytes()[-60000:])
    with pytest.raises(AudioError, match=r"promises 1000 bytes of audio, and 60\d+ more"):
        read_audio(path)
    for tail in (b"LIST" + bytes([4, 0, 0, 0]) + b"INFO", b"TAG" + bytes(125), bytes(9000)):
        path.write_bytes(short.read_bytes() + tail)
        num_read = len(read_audio(path)[0])
        # Of a Wave64 file libsndfile 1.2.2 reads on where its last chunk should end.
        assert num_read == 500 or (kind == "W64" and num_read > 500)


def test_what_is_no_file_is_told(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "zeros.wav").symlink_to("/dev/zero")
    (tmp_path / "circle.wav").symlink_to("circle.wav")
    (tmp_path / "folder.wav").mkdir()
    for name, sentence in (
        ("pipe.wav", "no file, but a pipe or device"), ("zeros.wav", "no file, but a pipe"),
        ("circle.wav", "a link that leads to no file"), ("folder.wav", "it is a folder"),
        ("gone.wav", "there is no such file"), ("n" * 300 + ".wav", "there is no such file"),
    ):  # fmt: skip
        with pytest.raises(AudioError, match=f"cannot be read: .*{sentence}"):
            read_audio(tmp_path / name)
