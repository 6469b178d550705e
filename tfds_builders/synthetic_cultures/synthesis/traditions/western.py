"""Western: equal temperament, major and minor, chords, 4/4 and 3/4; free tags, as MagnaTagATune's.

Simplified: four genres told apart by their instruments, triads on a few progressions.
"""

from collections.abc import Mapping

import numpy as np
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.melody import Ornaments
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.plans import (
    Option,
    Part,
    TrackPlan,
    Tradition,
    pick,
    triad,
)
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.rhythm import Metre, make_metre
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.tunings import Mode, tempered_cents

TONAL_WEIGHTS = (3.0, 1.3, 2.2, 1.2, 2.5, 1.3, 0.8)
MODES = {
    "major": Mode("major", tempered_cents((0, 2, 4, 5, 7, 9, 11)), TONAL_WEIGHTS, (0, 4, 2)),
    "minor": Mode("minor", tempered_cents((0, 2, 3, 5, 7, 8, 10)), TONAL_WEIGHTS, (0, 4, 2)),
    "dorian": Mode("dorian", tempered_cents((0, 2, 3, 5, 7, 9, 10)), TONAL_WEIGHTS, (0, 4)),
}
PROGRESSIONS = {
    "major": ((0, 3, 4, 0), (0, 4, 5, 3), (0, 5, 3, 4), (0, 0, 3, 4)),
    "minor": ((0, 5, 2, 6), (0, 3, 4, 0), (0, 6, 5, 6), (0, 3, 6, 2)),
    "dorian": ((0, 3, 0, 6),),
}
METRES = {
    "4/4": "kick+hat hat snare+hat hat | kick+hat kick+hat snare+hat hat",
    "4/4 machine": "kick hat kick+snare hat | kick hat kick+snare hat.hat",
    "3/4": "kick+hat - snare+hat - snare+hat -",
}
ACCENTS = {"4/4": (0, 2, 4, 6), "4/4 machine": (0, 2, 4, 6), "3/4": (0, 2, 4)}
BEATS_PER_MINUTE = {"slow": (56.0, 78.0), "medium": (88.0, 114.0), "fast": (128.0, 168.0)}
KEYS = range(-6, 6)
"""All twelve tonics, in semitones above A: a mode is a pattern of steps, in whatever key."""
LEVELS_DB = {"quiet": (-36.0, -29.0), "normal": (-25.0, -19.0), "loud": (-16.0, -12.0)}

LEADS = {
    "folk": {"violin": 0.3, "flute": 0.2, "voice": 0.5},
    "classical": {"violin": 0.4, "flute": 0.35, "piano": 0.25},
    "rock": {"voice": 0.65, "distorted guitar": 0.35},
    "electronic": {"synth": 0.7, "voice": 0.3},
}
BACKINGS = {
    "folk": {"guitar": 0.75, "harp": 0.25},
    "classical": {"piano": 0.4, "strings": 0.4, "harp": 0.2},
    "rock": {"distorted guitar": 0.7, "guitar": 0.3},
    "electronic": {"synth": 0.7, "piano": 0.3},
}
TAGS = {"distorted guitar": ("guitar",), "female voice": ("vocal", "female vocal")}
TAGS |= {"male voice": ("vocal", "male vocal"), "drum set": ("drums",), "drum machine": ("drums",)}


def _metre(genre: str, name: str) -> Metre:
    # Rock and electronic music keep four beats; a waltz is drawn for the other two only.
    if genre in ("rock", "electronic"):
        name = "4/4 machine" if genre == "electronic" else "4/4"
    return make_metre(name, METRES[name], ACCENTS[name], (0.15, 0.6))


def _backing_role(sound: str) -> str:
    return "pad" if sound in ("strings", "synth", "distorted guitar") else "chords"


def make_plan(choices: Mapping[str, str], is_rare: bool, rng: np.random.Generator) -> TrackPlan:
    """Returns the plan of a Western track; see `plans.Tradition.plan`."""
    genre, tonality, tempo = choices["genre"], choices["tonality"], choices["tempo"]
    metre = _metre(genre, choices["metre"])
    mode = MODES[tonality]
    beats = rng.uniform(*BEATS_PER_MINUTE[tempo])
    if is_rare:
        parts = [Part("music box", "chords", 1.0), Part("gaida", "melody", 0.6)]
    else:
        lead = pick(rng, LEADS[genre])
        if lead == "voice":
            lead = pick(rng, {"female voice": 0.55, "male voice": 0.45})
        backing = pick(rng, BACKINGS[genre])
        parts = [Part(lead, "melody", 1.0), Part(backing, _backing_role(backing), 0.45)]
        if genre in ("rock", "electronic"):
            kit = "drum set" if genre == "rock" else "drum machine"
            parts += [Part(kit, "drums", 0.9), Part("bass", "bass", 0.7)]
        elif genre == "folk" and rng.random() < 0.3:
            parts += [Part("drum set", "drums", 0.5)]
    sounds = [part.sound for part in parts]
    labels = {genre, tonality, *(tag for s in sounds for tag in TAGS.get(s, (s,)))}
    labels |= {tempo} - {"medium"} | {choices["level"]} - {"normal"}
    if metre.name == "3/4":
        labels.add("waltz")
    if not any("voice" in sound for sound in sounds) and not is_rare:
        labels.add("no vocals")
    progressions = PROGRESSIONS[tonality]
    progression = progressions[int(rng.integers(len(progressions)))]
    return TrackPlan(
        labels=tuple(sorted(labels)),
        mode=mode,
        metre=metre,
        pulse_seconds=30.0 / beats,
        tonic_hz=float(220.0 * 2.0 ** (rng.choice(KEYS) / 12.0)),
        parts=tuple(parts),
        ornaments=Ornaments(glide_seconds=(0.03, 0.08), glide_share=0.15),
        density=0.6,
        chords=tuple(triad(mode, degree) for degree in progression),
        level_db=float(rng.uniform(*LEVELS_DB[choices["level"]])),
    )


TRADITION = Tradition(
    name="western",
    title="Western popular and classical",
    choices={
        "genre": (
            Option("folk", 0.32),
            Option("classical", 0.28),
            Option("rock", 0.22),
            Option("electronic", 0.18),
            Option("music box", 1.0, is_rare=True),
        ),
        "tonality": (
            Option("major", 0.58),
            Option("minor", 0.42),
            Option("dorian", 1.0, is_rare=True),
        ),
        "tempo": (
            Option("medium", 0.46),
            Option("slow", 0.3),
            Option("fast", 0.24),
            Option("medium", 1.0, is_rare=True),
        ),
        "metre": (Option("4/4", 0.66), Option("3/4", 0.34), Option("4/4", 1.0, is_rare=True)),
        "level": (
            Option("normal", 0.64),
            Option("quiet", 0.2),
            Option("loud", 0.16),
            Option("normal", 1.0, is_rare=True),
        ),
    },
    plan=make_plan,
    num_labels=20,
    num_tracks=768,  # as everywhere, most of the labeled recordings are Western
)
