"""Writes `compand.npz`, what SoX makes of a signal with the presets of the robustness study.

Run `python tests/golden/make_compand.py`, with SoX 14.4.2 on the path; tests need the file only.
The options are written here as the study gives them, not taken from the code under test.
"""

import pathlib
import subprocess
import tempfile

import numpy as np
import soundfile

RATE = 8000
OPTIONS = {
    1: ["0.01,1", "-90,-90,-70,-70,-60,-20,0,0", "-5"],
    2: ["0.1,0.3", "-90,-90,-70,-64,-43,-37,-31,-31,-21,-21,0,-20", "0", "0", "0.1"],
    3: ["0.1,0.3", "-90,-90,-70,-64,-53,-47,-41,-41,-21,-21,0,-20", "0", "0", "0.1"],
    4: ["0.1,0.3", "-90,-90,-70,-58,-55,-43,-31,-31,-21,-21,0,-20", "0", "0", "0.1"],
    5: ["0.1,0.3", "-90,-90,-70,-58,-65,-53,-41,-41,-21,-21,0,-11", "0", "0", "0.1"],
    6: ["0.1,0.3", "-90,-90,-70,-55,-50,-35,-31,-31,-21,-21,0,-20", "0", "0", "0.1"],
}
"""Number of a preset -> arguments of `compand`."""


def make_signal() -> np.ndarray:
    """Returns bursts of noise at levels from silence to clipping: int16 (samples,)."""
    rng = np.random.default_rng(0)
    level = np.exp(rng.uniform(-10, 0.3, size=10)).repeat(400)
    level[:400] = 0
    noise = level * rng.standard_normal(len(level))
    return np.clip(np.rint(noise * 32768), -32768, 32767).astype(np.int16)


def run_sox(signal: np.ndarray, options: list[str], *, dithers: bool) -> np.ndarray:
    """Returns what SoX writes in 16 bits.

    Args:
        signal: int16 (samples,).
        options: arguments of `compand`.
        dithers: as SoX does when nothing is said.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, made = (str(pathlib.Path(folder, name)) for name in ("in.wav", "out.wav"))
        soundfile.write(given, signal, RATE, subtype="PCM_16")
        no_dither = [] if dithers else ["-D"]
        subprocess.run(["sox", *no_dither, given, made, "-q", "compand", *options], check=True)
        return soundfile.read(made, dtype="int16")[0]


def main() -> None:
    """Writes the file."""
    signal = make_signal()
    short = signal[1200:1600]  # 50 ms, less than the delay
    arrays = {"signal": signal, "rate": np.array(RATE)}
    for number, options in OPTIONS.items():
        arrays[f"preset_{number}"] = run_sox(signal, options, dithers=False)
        arrays[f"short_{number}"] = run_sox(short, options, dithers=False)
    arrays["dithered_4"] = run_sox(signal, OPTIONS[4], dithers=True)
    np.savez_compressed(pathlib.Path(__file__).with_name("compand.npz"), **arrays)


if __name__ == "__main__":
    main()
