"""Folders of short recordings with a table of labels, as a user has them."""

import numpy as np
import soundfile


def make_folder(path, names=("drum", "flute"), seconds=1.0):
    """Writes a folder of recordings: noise bursts and tones, four groups each."""
    path.mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = ["path\tlabels\tgroup"]
    time = np.arange(round(seconds * 22050)) / 22050
    for group in range(6):
        for name in names:
            for take in range(2):
                tone = np.sin(2 * np.pi * (300 + 40 * group + 7 * take) * time)
                noise = rng.standard_normal(len(time)) * np.exp(-8 * time)
                audio = 0.3 * (tone if name == "flute" else noise)
                file = f"{name}{group}{take}.wav"
                soundfile.write(path / file, audio, 22050)
                lines.append(f"{file}\t{name}\tgroup{group}")
    (path / "labels.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
