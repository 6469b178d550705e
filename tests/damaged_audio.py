"""A folder of healthy and of damaged recordings, made on the spot, with what is wrong with each.

As a program it makes one, has the doctor examine it and prints the table of what was found:

    python tests/damaged_audio.py FOLDER NUM_FILES [SEED]
"""

import json
import os
import pathlib
import subprocess
import sys
import time
from collections import Counter, defaultdict

import numpy as np
import soundfile

from musrep_jax.data.audio.mpeg import read_frame_header, read_mpeg

HARMLESS = ("name", "wrong_extension", "junk", "offset", "clipped", "duplicate")
"""What a file may show and still be used: with one of these it must show nothing else."""
TRUNCATED = ("truncated", "damaged", "no_audio", "dead")
"""Where so much is lost, or in a format such, that nothing can be decoded, it is as good."""


def make_music(rng, seconds, rate, channels):
    """Returns plucked tones over faint noise, float32 (samples, channels), peak 0.5."""
    audio = 0.01 * rng.standard_normal((int(seconds * rate), channels), np.float32)
    since = np.arange(rate) / rate
    for _ in range(max(2, int(4 * seconds))):
        start, pitch = rng.integers(len(audio)), rng.uniform(100, 1000)
        tone = np.sin(2 * np.pi * pitch * since) * np.exp(-5 * since)
        tone = tone[: len(audio) - start, None] * rng.uniform(0.3, 1.0, channels)
        audio[start : start + rate] += tone.astype(np.float32)
    return 0.5 * audio / np.abs(audio).max()


def simulate_loud_master(audio):
    """Returns music as modern masters are: driven into a limiter, up to full scale."""
    driven = np.tanh(4.0 * audio)
    return (driven / np.abs(driven).max()).astype(np.float32)


def square(audio):
    """Returns what chip music is made of."""
    return (0.8 * np.sign(audio)).astype(np.float32)


def pad(audio):
    """Returns music of which a fifth is left, as clips of single sounds are padded."""
    return audio * (np.arange(len(audio)) < 0.2 * len(audio))[:, None]


def strip_header_frame(content):
    """Returns an mp3 without the frame in which the encoder states its length."""
    return content[read_frame_header(content[:4]).length :]


FORMS = {
    "wav": {},
    "wav8": {"subtype": "PCM_U8"},
    "wav24": {"subtype": "PCM_24"},
    "wavfloat": {"subtype": "FLOAT"},
    "aiff": {},
    "flac": {},
    "ogg": {},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "mp3cbr": {"bitrate_mode": "CONSTANT", "compression_level": 0.6},
    "mp3vbr": {"bitrate_mode": "VARIABLE", "compression_level": 0.3},
}


def write(folder, stem, form, audio, rate):
    """Writes audio in one of `FORMS`; returns the file."""
    suffix = next(name for name in ("wav", "mp3", form) if form.startswith(name))
    path = folder / f"{stem}_{form}.{suffix}"
    if form == "opus":
        rate = 48000
    soundfile.write(path, audio, rate, **FORMS[form])
    return path


class DamageInjector:
    """Fills a folder; `planted` holds relative path -> kinds of findings of which one is due."""

    def __init__(self, folder, seed):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.rng = np.random.default_rng(seed)
        self.planted = {}
        self.damage = {}
        self.count = 0

    def fresh(self, form=None, change=lambda audio: audio, seconds=None, channels=None):
        """Writes a healthy recording that differs from all others."""
        self.count += 1
        rate = int(self.rng.choice([16000, 22050, 44100]))
        seconds = seconds or self.rng.uniform(1.0, 3.0)
        channels = channels or int(self.rng.integers(1, 3))
        form = form or str(self.rng.choice(list(FORMS)))
        audio = change(make_music(self.rng, seconds, rate, channels))
        return write(self.folder, f"{self.count:04d}", form, audio, rate)

    def record(self, path, damage, *kinds):
        """Notes what was done to a file."""
        relative = os.path.relpath(path, self.folder)
        self.planted[relative] = kinds
        self.damage[relative] = damage

    # Healthy ones, as odd as healthy ones are.

    def healthy(self, material):
        """Plants nothing: all of these are as they should be."""
        change, kinds = (lambda audio: audio), ()
        form, seconds = None, None
        if material == "quiet":
            form, change = "wav24", lambda audio: 0.002 * audio
        elif material == "short":
            form, seconds = str(self.rng.choice(["wav", "flac", "ogg", "mp3cbr"])), 0.06
        elif material == "loud":
            change = simulate_loud_master
        elif material == "padded":
            change = pad
        elif material == "long":
            form, seconds = str(self.rng.choice(["flac", "mp3cbr", "mp3vbr"])), 40.0
        elif material == "square":
            change = square
        path = self.fresh(form, change, seconds)
        if material == "bare":
            path.unlink()
            path = self.fresh("mp3cbr")
            path.write_bytes(strip_header_frame(path.read_bytes()))
        elif material == "tagged":
            path.unlink()
            path = self.fresh(str(self.rng.choice(["mp3cbr", "mp3vbr"])))
            tag = b"ID3\x03\x00\x00\x00\x00\x10\x00" + bytes(2048)
            path.write_bytes(tag + path.read_bytes() + b"TAG" + bytes(125))
        self.record(path, f"healthy, {material}", *kinds)

    # Damaged ones.

    def cut(self, form):
        """Truncates at any byte that loses a twentieth of the file or more."""
        path = self.fresh(form.removesuffix("bare"))
        content = path.read_bytes()
        if form.endswith("bare"):
            content = strip_header_frame(content)
        while True:
            size = int(self.rng.integers(1, int(0.95 * len(content))))
            stream = read_mpeg(content[:size]) if form.endswith("bare") else None
            # Cut between two frames, nothing in the file can tell it; metadata can (another test).
            if not form.endswith("bare") or stream is None or stream.missing_bytes:
                break
        path.write_bytes(content[:size])
        self.record(path, f"truncated {form}", *TRUNCATED)

    def wrong_extension(self):
        path = self.fresh(str(self.rng.choice(["wav", "flac", "ogg", "mp3cbr"])))
        others = {".wav", ".flac", ".ogg", ".mp3", ".txt"} - {path.suffix}
        others -= {".txt"} if path.suffix == ".mp3" else set()
        target = path.with_suffix(str(self.rng.choice(sorted(others))))
        path.rename(target)
        self.record(target, "wrong extension", "wrong_extension")

    def zero_length(self):
        path = self.fresh("wav")
        path.write_bytes(b"")
        self.record(path, "zero length", "empty")

    def id3_junk(self):
        path = self.fresh(str(self.rng.choice(["mp3cbr", "mp3vbr"])))
        junk = self.rng.integers(0, 255, int(self.rng.integers(20, 3000)), np.uint8).tobytes()
        tag = b"ID3\x03\x00\x00\x00\x00\x00\x20" + bytes(32)
        path.write_bytes((tag if self.rng.random() < 0.5 else b"") + junk + path.read_bytes())
        self.record(path, "ID3 junk before the first frame", "junk")

    def vbr_without_header(self):
        path = self.fresh("mp3vbr")
        path.write_bytes(strip_header_frame(path.read_bytes()))
        self.record(path, "VBR without header", "no_header")

    def not_finite(self):
        def spoil(audio):
            audio = audio.copy()
            value = self.rng.choice([np.nan, np.inf, -np.inf])
            audio[int(self.rng.integers(len(audio)))] = value
            return audio

        self.record(self.fresh("wavfloat", spoil), "NaN or Inf", "not_finite")

    def constant(self):
        level = self.rng.choice([0.5, -0.3, 0.02])
        form = self.pick_non_opus_form()
        self.record(self.fresh(form, lambda audio: np.full_like(audio, level)), "DC", "constant")

    def pick_non_opus_form(self):
        """Returns a form that keeps a constant; Opus filters it out."""
        return str(self.rng.choice([form for form in FORMS if form != "opus"]))

    def offset(self):
        path = self.fresh(self.pick_non_opus_form(), lambda audio: 0.5 * audio + 0.3)
        self.record(path, "DC under music", "offset")

    def silence(self):
        self.record(self.fresh(None, np.zeros_like), "silence", "silent")

    def clipped(self):
        form = str(self.rng.choice(["wav", "wav24", "wavfloat", "flac", "aiff", "mp3cbr", "ogg"]))
        gain = 20.0 if form in ("mp3cbr", "ogg") else 10.0  # a codec blurs what is clipped mildly
        path = self.fresh(form, lambda audio: np.clip(gain * audio, -1.0, 1.0))
        self.record(path, "clipped", "clipped")

    def duplicate(self):
        path = self.fresh(str(self.rng.choice(["wav", "flac", "mp3cbr"])))
        self.record(path, "healthy, copied")
        copy = path.with_name(f"{path.stem}_z{path.suffix}")
        content = path.read_bytes()
        if path.suffix == ".wav":
            audio, rate = soundfile.read(path, dtype="int16")
            copy = copy.with_suffix(".flac")
            soundfile.write(copy, audio, rate)
        elif path.suffix == ".mp3":
            copy.write_bytes(b"ID3\x03\x00\x00\x00\x00\x00\x20" + bytes(32) + content)
        else:
            copy.write_bytes(content)
        self.record(copy, "duplicate under another name", "duplicate")

    def foreign_name(self):
        path = self.fresh()
        target = os.path.join(os.fsencode(self.folder), b"na\xefve \xff %d.wav" % self.count)
        target = os.fsdecode(target)[: -len(".wav")] + path.suffix
        os.rename(path, target)
        self.record(target, "name that is not UTF-8", "name")

    def unreadable(self):
        path = self.fresh()
        path.chmod(0)
        self.record(path, "unreadable permissions", "unreadable")

    def dangling(self):
        self.count += 1
        path = self.folder / f"{self.count:04d}.wav"
        path.symlink_to("/nowhere/at all.wav")
        self.record(path, "dangling link", "dangling")

    def web_page(self):
        path = self.fresh("mp3cbr")
        path.write_text("<!DOCTYPE html><html><body>404, FORM and RIFF not found</body></html>")
        self.record(path, "web page", "dead")


HEALTHY = ("plain", "plain", "quiet", "short", "loud", "padded", "long", "square", "bare", "tagged")
DAMAGES = (
    *(lambda injector, form=form: injector.cut(form) for form in (
        "wav", "wav24", "aiff", "flac", "ogg", "opus", "mp3cbr", "mp3vbr", "mp3cbrbare")),
    DamageInjector.wrong_extension, DamageInjector.zero_length, DamageInjector.id3_junk,
    DamageInjector.vbr_without_header, DamageInjector.not_finite, DamageInjector.constant,
    DamageInjector.offset, DamageInjector.silence, DamageInjector.clipped,
    DamageInjector.duplicate, DamageInjector.foreign_name, DamageInjector.unreadable,
    DamageInjector.dangling, DamageInjector.web_page,
)  # fmt: skip


def plant(folder, num_files, seed=0):
    """Fills a folder, about half of it with damaged files; returns the injector."""
    injector = DamageInjector(folder, seed)
    turn = 0
    while len(injector.planted) < num_files:
        injector.healthy(HEALTHY[turn % len(HEALTHY)])
        DAMAGES[turn % len(DAMAGES)](injector)
        turn += 1
    return injector


def compare(injector, findings):
    """Returns (damage -> [planted, found], what was missed, false alarms).

    Args:
        injector: that filled the folder.
        findings: of the doctor, as in its JSON, with plain paths.
    """
    found = defaultdict(set)
    for finding in findings:
        if finding["kind"] not in ("sample_rate", "channels"):
            found[finding["path"]].add(finding["kind"])
    table, missed, alarms = defaultdict(lambda: [0, 0]), [], []
    for path, kinds in injector.planted.items():
        row = table[injector.damage[path]]
        row[0] += 1
        if not kinds:
            alarms += [(path, kind) for kind in found[path]]
            row[1] += bool(found[path])
        elif found[path] & set(kinds):
            row[1] += 1
            if set(kinds) & set(HARMLESS):
                alarms += [(path, kind) for kind in found[path] - set(kinds)]
        else:
            missed.append((path, kinds, found[path]))
    return table, missed, alarms


def main(folder, num_files, seed=0):
    """Makes a folder, runs the command line on it as a user would, prints what came of it."""
    from musrep_jax.data.doctor.quarantine import unescape_path

    injector = plant(folder, int(num_files), int(seed))
    command = [sys.executable, "-c", "from musrep_jax.cli import app; app()", "doctor", folder]
    start = time.monotonic()
    done = subprocess.run([*command, "--json", "--data-dir", f"{folder}.data"], capture_output=True)
    seconds = time.monotonic() - start
    report = json.loads(done.stdout)
    for finding in report["findings"]:
        finding["path"] = unescape_path(finding["path"])
    table, missed, alarms = compare(injector, report["findings"])
    for damage, (planted, found) in sorted(table.items()):
        word = "alarms" if "healthy" in damage else "found"
        print(f"{damage:36} planted {planted:4}  {word} {found:4}")
    print("missed", missed)
    print("false alarms", Counter(kind for _, kind in alarms), alarms[:10])
    hours = report["summary"]["hours"]
    rate = len(injector.planted) / seconds
    print(f"{seconds:.1f} s, {rate:.0f} files/s, {hours * 3600 / seconds:.0f} x real time")


if __name__ == "__main__":
    main(*sys.argv[1:])
