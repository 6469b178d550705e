"""The doctor: planted damage is found, healthy files are left in peace, nothing is changed."""

import dataclasses
import json
import os
import pathlib
import signal
import stat
import subprocess
import sys

import damaged_audio
import numpy as np
import pytest
import soundfile
from encoded_audio import encode

from musrep_jax.cli import app
from musrep_jax.data.audio.containers import read_container
from musrep_jax.data.audio.formats import Container
from musrep_jax.data.audio.mpeg import read_mpeg
from musrep_jax.data.corpora.builder import CorpusBuilder
from musrep_jax.data.corpora.tracks import CorpusTrack, SplitCard
from musrep_jax.data.datasets import DATASETS
from musrep_jax.data.doctor import measurement_workers
from musrep_jax.data.doctor.diagnosis import DoctorError, ExpectedFile, examine, find_audio_files
from musrep_jax.data.doctor.findings import FAULTS, NOTES, judge
from musrep_jax.data.doctor.measurement_workers import _MeasurementWorker, measure_files
from musrep_jax.data.doctor.measurements import FileMeasurements, measure_file
from musrep_jax.data.doctor.quarantine import (
    quarantine_path,
    read_quarantine,
    read_quarantine_rows,
    write_quarantine,
)

RATE = 16000


def write_tone(path, seconds=1.0, pitch=440.0, level=0.3, rate=RATE, **options):
    """Writes a tone with a little noise, another one for every pitch."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time_axis = np.arange(int(seconds * rate)) / rate
    noise = 0.01 * np.random.default_rng(int(pitch)).standard_normal(len(time_axis))
    audio = level * np.sin(2 * np.pi * pitch * time_axis) + noise
    soundfile.write(path, audio.astype(np.float32), rate, **options)
    return path


def look(folder, data_dir, **options):
    options = {"wanted": find_audio_files(folder), "name": folder, "num_workers": 2, **options}
    return examine(folder, data_dir=data_dir, **options)


def kinds_of(path, expected=None):
    return {finding.kind for finding in judge(path.name, measure_file(path), expected)}


@pytest.fixture
def run(capsys):
    """Runs a command in this process."""

    def run_here(*words):
        with pytest.raises(SystemExit) as ended:
            app([str(word) for word in words], prog_name="musrep")
        return int(ended.value.code or 0), *capsys.readouterr()

    return run_here


def snapshot(folder):
    """Returns everything about a folder that must not change."""
    found = {}
    for place, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            path = os.path.join(place, name)
            status = os.lstat(path)
            found[path] = (status.st_mode, status.st_size, status.st_mtime_ns)
    return found


def test_every_planted_fault_is_found_and_no_healthy_file_is_blamed(tmp_path):
    folder = tmp_path / "music"
    injector = damaged_audio.plant(folder, 56, seed=4)
    before = snapshot(folder)
    found = look(folder, tmp_path / "data")
    findings = [dataclasses.asdict(finding) for finding in found.findings]
    table, missed, alarms = damaged_audio.compare(injector, findings)
    assert not missed, missed
    assert not alarms, alarms
    num_damages = len([damage for damage in table if "healthy" not in damage])
    assert num_damages == len(damaged_audio.DAMAGES)
    assert not found.is_healthy
    assert snapshot(folder) == before
    listed = read_quarantine(found.quarantine)
    assert set(listed) == {finding.path for finding in found.findings if finding.is_fault}
    healthy = {path for path, kinds in injector.planted.items() if not kinds}
    assert not healthy & set(listed)
    for path, kinds in injector.planted.items():
        # Without a header libsndfile guesses the length, and may stop early: then it is a fault.
        if set(kinds) & set(NOTES) and injector.damage[path] != "VBR without header":
            assert path not in listed, (path, kinds, listed[path])
    again = look(folder, tmp_path / "data")
    assert again.num_cached == len(again.facts)
    assert again.findings == found.findings
    assert read_quarantine(again.quarantine) == listed


def test_real_mp3s_cut_at_any_byte(shared_dir, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("calan-deskar", "flute_A6_1_pianissimo_normal", "impulses_1second_22050_st",
                 "joram-moments_of_clarity-08-solipsism-59-88", "dubstep"):  # fmt: skip
        content = (shared_dir / "data" / "formats" / f"{name}.mp3").read_bytes()
        whole = tmp_path / f"{name}.mp3"
        whole.write_bytes(content)
        seconds = measure_file(whole).seconds
        assert not kinds_of(whole) & set(FAULTS)
        assert not kinds_of(whole, seconds)
        for size in rng.integers(1, len(content), 8):
            path = tmp_path / f"{name}-{size}.mp3"
            path.write_bytes(content[:size])
            lost = seconds - measure_file(path).seconds
            stream = read_mpeg(content[:size])
            tells = stream is None or stream.header_frames or stream.missing_bytes
            if tells and lost > 0.1:
                assert kinds_of(path) & set(FAULTS), (name, size, lost)
            if lost > 1.2:
                assert kinds_of(path, seconds) & set(FAULTS), (name, size, lost)


def test_shared_clips_are_healthy(shared_dir, tmp_path):
    folder = shared_dir / "data" / "indian_tabla"
    found = look(folder, tmp_path)
    assert found.is_healthy
    assert not found.group_by_kind().keys() - {"sample_rate", "channels"}


def test_a_cut_between_two_frames_is_told_by_the_metadata(tmp_path):
    path = write_tone(tmp_path / "half.mp3", 3.0, **damaged_audio.FORMS["mp3cbr"])
    content = damaged_audio.strip_header_frame(path.read_bytes())
    half = content[: len(content) // 2]
    path.write_bytes(half[: len(half) - read_cut(half)])
    assert kinds_of(path) == set()
    assert kinds_of(path, expected=3.0) == {"truncated"}
    assert kinds_of(path, expected=1.4) == set()
    assert kinds_of(path, expected=1.0) == {"length"}


def read_cut(content):
    """Returns how many bytes of a cut last frame are there."""
    return next(
        n for n in range(len(content)) if not read_mpeg(content[: len(content) - n]).missing_bytes
    )


def facts_of(seconds=10.0, **container):
    plain = {"spread": 1.0, "peak": 0.5, "encoding": "MP3/MPEG_LAYER_III", "channels": 1}
    return FileMeasurements(
        size=1, mtime_ns=0, content="x", sample_rate=1000, num_frames=int(1000 * seconds),
        container=Container("mpeg", **container), **plain,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "expected", "kinds"),
    [
        (facts_of(), None, []),
        (facts_of(), 10.5, []),
        (facts_of(), 12.0, ["truncated"]),
        (facts_of(), 8.0, ["length"]),
        (facts_of(actual_seconds=10.0, declared_seconds=12.0), None, ["truncated"]),
        (facts_of(actual_seconds=10.0, declared_seconds=12.0), 10.0, ["length"]),
        (facts_of(actual_seconds=10.0, declared_seconds=10.02, tolerance_seconds=0.04), None, []),
        (facts_of(actual_seconds=10.0, truncation="it is cut"), None, ["truncated"]),
        (facts_of(actual_seconds=10.0, truncation="it is cut"), 10.0, ["length"]),
        (
            facts_of(actual_seconds=10.0, declared_seconds=10.0, truncation="it is cut"),
            None,
            ["length"],
        ),
        (facts_of(actual_seconds=10.0, corruption="a hole"), None, ["damaged"]),
        (facts_of(actual_seconds=12.0), None, ["damaged"]),
        (facts_of(actual_seconds=10.1, padding_seconds=0.07), None, []),
    ],
)
def test_the_stronger_word_on_length_counts(facts, expected, kinds):
    assert [finding.kind for finding in judge("x.mp3", facts, expected)] == kinds


@pytest.mark.parametrize("form", [*damaged_audio.FORMS])
def test_loud_audio_is_not_clipped(tmp_path, form):
    rng = np.random.default_rng(0)
    tone = np.sin(np.arange(44100)[:, None] * 0.05).astype(np.float32)
    path = damaged_audio.write(tmp_path, "full_scale_sine", form, tone, 44100)
    assert kinds_of(path) == set()
    loud = damaged_audio.simulate_loud_master(damaged_audio.make_music(rng, 2.0, 44100, 2))
    assert kinds_of(damaged_audio.write(tmp_path, "loud", form, loud, 44100)) == set()
    cut = np.clip(40.0 * loud, -1.0, 1.0)
    assert kinds_of(damaged_audio.write(tmp_path, "cut", form, cut, 44100)) == {"clipped"}


def test_silence_and_constants(tmp_path):
    faint = np.random.default_rng(0).standard_normal((RATE, 2)) * 1e-3
    soundfile.write(tmp_path / "faint.wav", faint, RATE, subtype="PCM_24")
    assert kinds_of(tmp_path / "faint.wav") == set()
    faint[:, 1] = 0
    soundfile.write(tmp_path / "one.wav", faint, RATE, subtype="PCM_24")
    assert kinds_of(tmp_path / "one.wav") == {"mute_channel"}
    dither = np.random.default_rng(0).integers(-1, 2, RATE).astype(np.int16)
    soundfile.write(tmp_path / "dither.wav", dither, RATE)
    assert kinds_of(tmp_path / "dither.wav") == {"silent"}
    soundfile.write(tmp_path / "dc.wav", dither + 3000, RATE)
    assert kinds_of(tmp_path / "dc.wav") == {"constant"}
    half = np.concatenate([np.random.default_rng(0).standard_normal(9 * RATE), np.zeros(11 * RATE)])
    soundfile.write(tmp_path / "half.wav", 0.1 * half, RATE)
    assert kinds_of(tmp_path / "half.wav") == {"mostly_silent"}
    soundfile.write(tmp_path / "integers.wav", 3e4 * half[:RATE], RATE, subtype="FLOAT")
    assert "too_loud" in kinds_of(tmp_path / "integers.wav")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<html><body>gone</body></html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
        (b"PK\x03\x04" + bytes(200), "a zip archive"),
        (bytes(5000), "nothing but zeros"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 " + bytes(200), "cannot be read"),
        (b"\x00\x05\x16\x07\x00\x02" + bytes(100), "macOS"),
    ],
)
def test_what_is_no_audio_is_named(tmp_path, content, words):
    for suffix in ("mp3", "wav", "au"):
        path = tmp_path / f"x.{suffix}"
        path.write_bytes(content)
        (finding,) = judge(path.name, measure_file(path))
        assert finding.kind == "dead"
        assert words in finding.reason or suffix == "au"


def test_a_header_that_does_not_know_the_length_promises_nothing(tmp_path):
    content = write_tone(tmp_path / "x.wav").read_bytes()
    for size in (b"\xff\xff\xff\xff", b"\x00\x00\x00\x00"):
        container = read_container(content[:40] + size + content[44:-100])
        assert (container.declared_seconds, container.truncation) == (None, "")
    off_by_the_header = (len(content)).to_bytes(4, "little")
    (tmp_path / "x.wav").write_bytes(content[:40] + off_by_the_header + content[44:])
    assert not kinds_of(tmp_path / "x.wav") & set(FAULTS)


def test_pages_that_are_missing_in_an_ogg(tmp_path):
    path = write_tone(tmp_path / "x.ogg", 30.0)
    content = path.read_bytes()
    pages = [at for at in range(len(content)) if content.startswith(b"OggS", at)]
    assert len(pages) > 5 and kinds_of(path) == set()
    path.write_bytes(content[: pages[3]] + content[pages[4] :])
    assert kinds_of(path) & {"damaged", "truncated"}
    path.write_bytes(content[: pages[-2]])
    assert kinds_of(path) == {"truncated"}


def test_log_mel_archives(tmp_path):
    mels = np.random.default_rng(0).standard_normal((128, 500)).astype(np.float32)
    np.save(tmp_path / "good.npy", mels)
    assert measure_file(tmp_path / "good.npy").seconds == pytest.approx(499 * 256 / 16000)
    assert kinds_of(tmp_path / "good.npy", 8.0) == set()
    assert kinds_of(tmp_path / "good.npy", 16.0) == {"truncated"}
    (tmp_path / "cut.npy").write_bytes((tmp_path / "good.npy").read_bytes()[:-1])
    assert kinds_of(tmp_path / "cut.npy") == {"dead"}
    mels[3, 3] = np.nan
    np.save(tmp_path / "nan.npy", mels)
    assert kinds_of(tmp_path / "nan.npy") == {"not_finite"}
    np.save(tmp_path / "flat.npy", np.full((128, 500), -100.0))
    assert kinds_of(tmp_path / "flat.npy") == {"constant"}
    np.save(tmp_path / "shape.npy", mels[:64])
    assert kinds_of(tmp_path / "shape.npy") == {"dead"}


def test_what_needs_ffmpeg_is_no_fault(tmp_path, monkeypatch):
    music = damaged_audio.make_music(np.random.default_rng(0), 2.0, 44100, 2)
    path = encode(tmp_path / "music.m4a", music, 44100)
    half = path.read_bytes()[: path.stat().st_size // 2]
    (tmp_path / "half.m4a").write_bytes(half)
    assert kinds_of(path) == set()
    assert kinds_of(tmp_path / "half.m4a") == {"truncated"}
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/nowhere/ffmpeg")
    assert kinds_of(path) == {"not_decoded"}
    assert kinds_of(tmp_path / "half.m4a") == {"truncated"}
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(program.parent))
    assert kinds_of(path) == {"dead"}


def test_a_killed_run_goes_on(tmp_path):
    folder, data_dir = tmp_path / "music", tmp_path / "data"
    for pitch in range(200, 210):
        write_tone(folder / f"{pitch}.flac", pitch=pitch)
    seen = []

    def interrupt(done, total, note):
        if not note:  # which tells of a file that takes long
            seen.append((done, total))
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        look(folder, data_dir, progress=interrupt, num_workers=1)
    assert seen == [(done, 10) for done in range(7)]
    assert not quarantine_path(data_dir, folder).exists()
    memory = quarantine_path(data_dir, folder).with_suffix(".checked.jsonl")
    with open(memory, "a", encoding="utf-8") as file:
        file.write('{"path": "209.flac", "facts": {"size"')
    found = look(folder, data_dir)
    assert found.num_cached == 6
    assert found.is_healthy and len(found.facts) == 10
    write_tone(folder / "203.flac", pitch=999)
    (folder / "204.flac").unlink()
    found = look(folder, data_dir)
    assert found.num_cached == 8 and len(found.facts) == 9


def test_a_decoder_that_crashes_takes_one_file_with_it(tmp_path):
    good = write_tone(tmp_path / "good.wav")
    examiner = _MeasurementWorker()
    assert not examiner.examine(str(good)).error
    examiner._worker._process.send_signal(signal.SIGSEGV)
    examiner._worker._process.wait()
    facts = examiner.examine(str(good))
    assert "crashes on it (SIGSEGV)" in facts.error
    assert [finding.kind for finding in judge("good.wav", facts)] == ["dead"]
    assert not examiner.examine(str(good)).error
    examiner.close()


def test_a_file_that_the_system_does_not_give(tmp_path):
    good, gone = write_tone(tmp_path / "good.wav"), tmp_path / "gone.wav"
    found = dict(measure_files([good, gone], 1))
    assert not found[str(good)].error
    assert isinstance(found[str(gone)], FileNotFoundError)

    def remove(done, total, note):
        if not done:
            (tmp_path / "good.wav").unlink()

    # Between the first look and the decoding, the file goes away.
    diagnosis = look(tmp_path, tmp_path / "data", progress=remove)
    (finding,) = diagnosis.findings
    assert finding.kind == "unreadable" and "No such file" in finding.reason


def test_permissions(tmp_path):
    """Root may read everything, so the file is opened in a process that is not root any more."""
    path = write_tone(tmp_path / "music" / "closed.wav")
    path.chmod(0o600 if os.geteuid() == 0 else 0)
    code = (
        "import os, sys, musrep_jax.data.doctor.measurements as e\n"
        "if os.geteuid() == 0:\n"
        "    os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try:\n"
        "    e.measure_file(sys.argv[1])\n"
        "except PermissionError as error:\n"
        "    print(error.strerror)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.stdout.strip() == "Permission denied", done.stderr
    path.chmod(0)
    (finding,) = look(path.parent, tmp_path / "data").findings
    assert finding.kind == "unreadable" and finding.is_fault
    path.chmod(0o600)


def test_links_and_odd_things_in_a_folder(tmp_path):
    folder = tmp_path / "music"
    write_tone(folder / "a" / "one.wav", pitch=300)
    write_tone(tmp_path / "elsewhere" / "two.wav", pitch=310)
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "a" / "circle").symlink_to(folder)
    (folder / "lost.mp3").symlink_to("nowhere.mp3")
    os.mkfifo(folder / "pipe.wav")
    (folder / "folder.wav").mkdir()
    write_tone(folder / "three.flac", pitch=320).rename(folder / "three.part")
    (folder / "notes.txt").write_text("nothing")
    found = look(folder, tmp_path / "data")
    assert {finding.path: finding.kind for finding in found.findings} == {
        "lost.mp3": "dangling", "pipe.wav": "dead", "three.part": "wrong_extension",
    }  # fmt: skip
    assert sorted(found.facts) == ["a/one.wav", "linked/two.wav", "three.part"]


def test_copies(tmp_path):
    folder = tmp_path / "music"
    audio = np.random.default_rng(0).integers(-9000, 9000, RATE).astype(np.int16)
    for name in ("b.wav", "a.flac", "c.aiff"):
        folder.mkdir(exist_ok=True)
        soundfile.write(folder / name, audio, RATE)
    (folder / "d.wav").write_bytes((folder / "a.flac").read_bytes())
    found = look(folder, tmp_path / "data")
    copies = {f.path: f.reason for f in found.findings if f.kind == "duplicate"}
    assert copies == {
        "b.wav": "it sounds, sample for sample, like a.flac.",
        "c.aiff": "it sounds, sample for sample, like a.flac.",
        "d.wav": "it is a copy of a.flac.",
    }
    assert found.is_healthy
    strict = look(folder, tmp_path / "data", quarantine_duplicates=True)
    assert sorted(read_quarantine(strict.quarantine)) == ["b.wav", "c.aiff", "d.wav"]


def test_the_table_of_a_folder_is_compared_with_its_files(tmp_path, run):
    folder = tmp_path / "music"
    for pitch, name in enumerate(("a.wav", "c.wav", "Hu\u0308zzam.wav"), start=400):
        write_tone(folder / name, pitch=pitch)
    (folder / "b.wav").write_bytes((folder / "a.wav").read_bytes())
    (folder / "d.wav").write_bytes((folder / "c.wav").read_bytes())
    rows = [
        ("a.wav", "rast,ney", "train"), ("b.wav", "saba,ney", "train"), ("c.wav", "rast", "train"),
        ("d.wav", "rast", "test"), ("Hüzzam.wav", "rast", "test"), ("gone/e.wav", "ney", "train"),
        ("f.wav", "ney", "validation"),
    ]  # fmt: skip
    table = "\n".join("\t".join(row) for row in [("path", "labels", "split"), *rows])
    (folder / "labels.tsv").write_text(table, encoding="utf-8")
    code, stdout, _ = run("doctor", folder, "--data-dir", tmp_path / "data", "--json")
    report = json.loads(stdout)
    assert code == 1 and report["summary"]["files"] == 7
    found = {(row["kind"], row["path"]): row["reason"] for row in report["findings"]}
    assert {path for kind, path in found if kind == "missing"} == {"gone/e.wav", "f.wav"}
    assert found["contradiction", "b.wav"] == "it is 'saba' here, and 'rast' in a.wav."
    assert found["leak", "d.wav"] == "it is in test, and c.wav, which sounds the same, in train."
    assert sum(kind in ("contradiction", "leak") for kind, _ in found) == 2
    (folder / "labels.tsv").write_text("path,labels\n", encoding="utf-8")
    code, _, stderr = run("doctor", folder, "--data-dir", tmp_path / "data")
    assert code == 0 and "looks comma separated" in stderr


def test_odd_rates_and_channels_are_notes(tmp_path):
    for pitch in range(200, 205):
        write_tone(tmp_path / "music" / f"{pitch}.wav", pitch=pitch)
    write_tone(tmp_path / "music" / "odd.wav", pitch=210, rate=8000)
    found = look(tmp_path / "music", tmp_path / "data")
    assert [(f.path, f.kind) for f in found.findings] == [("odd.wav", "sample_rate")]
    assert found.summary()["sample_rates"] == {"16000": 5, "8000": 1}


def test_lines_that_a_person_wrote_stay(tmp_path):
    write_tone(tmp_path / "music" / "good.wav")
    path = quarantine_path(tmp_path / "data", tmp_path / "music")
    write_quarantine(path, [("good.wav", "hum", "It hums."), ("old.wav", "dead", "It was.")])
    look(tmp_path / "music", tmp_path / "data")
    assert read_quarantine_rows(path) == [("good.wav", "hum", "It hums.")]
    look(tmp_path / "music", tmp_path / "data", write_list=False)
    assert len(read_quarantine_rows(path)) == 1


class ToyCorpus(CorpusBuilder):
    """A corpus of four tracks, one of which is known to be bad and one missing."""

    NAME = "toy"
    LABEL_SETS = {"all": ("ney", "oud")}  # noqa: RUF012
    SPLIT_CARDS = {"made": SplitCard("by track", disjoint_by="artist")}  # noqa: RUF012
    FORMS = ("pcm16",)
    KNOWN_BAD = {"track9": "its first half is another piece."}  # noqa: RUF012

    def read_tracks(self, label_set, split_name):
        """Returns the tracks as if metadata told them."""
        return [
            CorpusTrack(name, f"audio/{name}.mp3", ("ney",), "made", {"artist": name}, seconds=2.0)
            for name in ("track1", "track2", "track3", "track9")
        ]


def test_a_corpus_by_its_name(tmp_path, monkeypatch, run):
    monkeypatch.setitem(DATASETS, "toy", f"{__name__}:ToyCorpus")
    code, _, stderr = run("doctor", "toy", "--data-dir", tmp_path)
    assert code == 2 and "musrep download toy" in stderr
    folder = tmp_path / "corpora" / "toy"
    write_tone(folder / "audio" / "track1.mp3", 2.0, 300)
    short = write_tone(folder / "audio" / "track2.mp3", 2.0, 310, **damaged_audio.FORMS["mp3cbr"])
    content = damaged_audio.strip_header_frame(short.read_bytes())
    short.write_bytes(content[: len(content) // 2])
    write_tone(folder / "audio" / "extra.mp3", 2.0, 330)
    path = quarantine_path(tmp_path, "toy")
    write_quarantine(path, [("audio/of_another_config.mp3", "dead", "It is dead.")])
    code, stdout, stderr = run("doctor", "toy", "--data-dir", tmp_path, "--workers", "1")
    assert code == 1
    assert "track3.mp3: there is no such file." in stdout
    assert "Next: musrep build toy" in stderr
    listed = read_quarantine(path)
    assert sorted(listed) == [
        "audio/of_another_config.mp3", "audio/track2.mp3", "audio/track9.mp3",
    ]  # fmt: skip
    assert listed["audio/track9.mp3"] == "its first half is another piece."
    assert "2.00 s that the metadata tell" in listed["audio/track2.mp3"]


def test_the_command_on_a_folder(tmp_path, run):
    folder = tmp_path / "my music"
    write_tone(folder / "good.wav")
    code, stdout, stderr = run("doctor", folder, "--data-dir", tmp_path / "data")
    assert code == 0
    assert "Nothing is wrong with any of them." in stdout
    bad = folder / os.fsdecode(b"caf\xe9\t.wav")
    bad.write_bytes(b"")
    code, stdout, stderr = run("doctor", folder, "--data-dir", tmp_path / "data")
    assert code == 1
    assert r"caf\xe9\x09.wav: the file is empty (0 bytes)." in stdout
    assert "not decoded again: 1." in stderr
    code, stdout, _ = run("doctor", folder, "--data-dir", tmp_path / "data", "--json")
    report = json.loads(stdout)
    assert code == 1
    assert report["counts"] == {"empty": 1, "name": 1}
    assert {row["path"] for row in report["findings"]} == {r"caf\xe9\x09.wav"}
    assert read_quarantine(report["quarantine"]) == {bad.name: "the file is empty (0 bytes)."}
    code, stdout, stderr = run(
        "doctor", f"audio_folder:{folder}", "--data-dir", tmp_path / "other", "--no-quarantine",
        "--json",
    )  # fmt: skip
    assert code == 1 and json.loads(stdout)["quarantine"] is None
    assert not list((tmp_path / "other").rglob("*.tsv"))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere"], "there is no data set 'nowhere'"),
        (["./nowhere"], "the folder nowhere does not exist"),
        (["synthetic_cultures"], "has no files of its own"),
        ([pathlib.Path(__file__)], "is a file; give a folder"),
        ([".", "--folder", "x"], "--folder goes with the name of a corpus"),
        (["gtzan", "--folder", "nowhere"], "the corpus gtzan is not in nowhere"),
    ],
)
def test_what_cannot_be_examined(run, tmp_path, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    code, stdout, stderr = run("doctor", *words, "--data-dir", tmp_path)
    assert code == 2 and not stdout
    assert sentence in stderr


def test_an_empty_folder(tmp_path):
    with pytest.raises(DoctorError, match="there is no audio file in"):
        look(tmp_path, tmp_path / "data")
    with pytest.raises(DoctorError, match="does not exist"):
        examine(tmp_path / "x", [ExpectedFile("a.wav")], data_dir=tmp_path, name="x")


def test_a_file_that_takes_long_does_not_silence_the_doctor(tmp_path, monkeypatch):
    """An hour of zeros that take no room on the disk: it says that it is at them."""
    monkeypatch.setattr(measurement_workers, "_WAIT_SECONDS", 0.02)
    with soundfile.SoundFile(tmp_path / "empty.wav", "w", 8000, 1):
        pass
    header = (tmp_path / "empty.wav").read_bytes()
    (tmp_path / "empty.wav").unlink()
    size = 2 * 8000 * 3600
    header = header[:4] + (len(header) - 8 + size).to_bytes(4, "little") + header[8:]
    with open(tmp_path / "hour.wav", "wb") as file:
        file.write(header[:-4] + size.to_bytes(4, "little"))
        file.truncate(len(header) + size)
    write_tone(tmp_path / "tone.wav")
    notes = []
    found = look(
        tmp_path, tmp_path / "data", num_workers=1, progress=lambda *told: notes.append(told)
    )
    assert {(finding.path, finding.kind) for finding in found.findings} == {("hour.wav", "silent")}
    assert found.facts["hour.wav"].seconds == 3600
    assert (0, 2, "at hour.wav (58 MB)") in notes and notes[-1] == (2, 2, "")
