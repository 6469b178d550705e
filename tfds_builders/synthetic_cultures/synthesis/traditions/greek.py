"""Greek folk: regional genres with their dances (7/8, 9/8, 2/4), dromoi and instruments; as Lyra.

Labels are `instruments--`, `genres--` and `place--`, the literal `place--None` among them, as in
the real set. Simplified: a genre fixes the likely modes, metres, instruments and place.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.melody import Ornaments
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.plans import (
    Option,
    Part,
    TrackPlan,
    Tradition,
    draw_pulse,
    pick,
)
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.rhythm import make_metre
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.tunings import Mode, tempered_cents

WEIGHTS = (3.0, 1.6, 1.8, 1.6, 2.2, 1.2, 1.2)
MODES = {
    "matzore": Mode("matzore", tempered_cents((0, 2, 4, 5, 7, 9, 11)), WEIGHTS, (0, 4)),
    "minore": Mode("minore", tempered_cents((0, 2, 3, 5, 7, 8, 11)), WEIGHTS, (0, 4)),
    "ousak": Mode("ousak", tempered_cents((0, 1, 3, 5, 7, 8, 10)), WEIGHTS, (0, 3), start=2),
    "hitzaz": Mode("hitzaz", tempered_cents((0, 1, 4, 5, 7, 8, 10)), WEIGHTS, (0, 4), start=2),
    "niavent": Mode("niavent", tempered_cents((0, 2, 3, 6, 7, 8, 11)), WEIGHTS, (0, 4)),
    "dorian": Mode("dorian", tempered_cents((0, 2, 3, 5, 7, 9, 10)), WEIGHTS, (0, 4), start=3),
    "pentatonic": Mode(
        "pentatonic", tempered_cents((0, 3, 5, 7, 10)), (3.0, 1.6, 1.8, 2.0, 1.6), (0, 3), start=4
    ),
}
METRES = {
    # No stroke here is a "ke", which the daouli lacks: either drum can play every metre.
    metre.name: metre
    for metre in (
        make_metre("syrtos 2/4", "dum - tek tek | dum - tek -", (0, 2, 4, 6), (0.13, 0.2)),
        make_metre("pentozali 2/4", "dum tek dum tek", (0, 2), (0.1, 0.14)),
        make_metre("kalamatianos 7/8", "dum - - tek - tek -", (0, 3, 5), (0.14, 0.2)),
        make_metre("zeibekiko 9/8", "dum - tek - dum - tek tek tek", (0, 2, 4, 6), (0.28, 0.42)),
        make_metre("karsilamas 9/8", "dum - tek - dum - tek - tek", (0, 2, 4, 6), (0.12, 0.17)),
        make_metre("sta tria 3/4", "dum - - tek tek -", (0, 3), (0.25, 0.36)),
        make_metre("hasapiko 2/4", "dum tek - tek", (0, 2), (0.22, 0.32)),
    )
}


@dataclasses.dataclass(frozen=True)
class Region:
    """What a genre is made of.

    Attributes:
        place: label of its place.
        modes: name -> weight.
        metres: name -> weight.
        leads: sound -> weight.
        chords: sound -> weight, of the strummed backing.
        voice: share of sung tracks.
        drums: share of tracks with percussion.
        glide: share of notes that slide.
    """

    place: str
    modes: Mapping[str, float]
    metres: Mapping[str, float]
    leads: Mapping[str, float]
    chords: Mapping[str, float]
    voice: float
    drums: float
    glide: float


REGIONS = {
    "Nisiotiko": Region(
        "Aegean-sea",
        {"matzore": 0.5, "dorian": 0.25, "hitzaz": 0.25},
        {"syrtos 2/4": 0.7, "karsilamas 9/8": 0.3},
        {"violin": 0.75, "santouri": 0.25},
        {"laouto": 0.75, "santouri": 0.25},
        voice=0.55,
        drums=0.2,
        glide=0.2,
    ),
    "Epirotic": Region(
        "Epirus",
        {"pentatonic": 1.0},
        {"sta tria 3/4": 0.7, "syrtos 2/4": 0.3},
        {"klarino": 0.75, "violin": 0.25},
        {"laouto": 1.0},
        voice=0.4,
        drums=0.6,
        glide=0.6,
    ),
    "Peloponnesian": Region(
        "Peloponnese",
        {"matzore": 0.4, "minore": 0.2, "ousak": 0.4},
        {"kalamatianos 7/8": 1.0},
        {"klarino": 0.7, "violin": 0.3},
        {"laouto": 0.8, "guitar": 0.2},
        voice=0.55,
        drums=0.5,
        glide=0.3,
    ),
    "Kritiko": Region(
        "Crete",
        {"dorian": 0.5, "ousak": 0.3, "matzore": 0.2},
        {"pentozali 2/4": 0.6, "syrtos 2/4": 0.4},
        {"lyra": 0.9, "violin": 0.1},
        {"laouto": 1.0},
        voice=0.35,
        drums=0.1,
        glide=0.2,
    ),
    "Rebetiko": Region(
        "None",
        {"hitzaz": 0.35, "niavent": 0.2, "ousak": 0.25, "minore": 0.2},
        {"zeibekiko 9/8": 0.6, "hasapiko 2/4": 0.4},
        {"bouzouki": 1.0},
        {"guitar": 0.85, "bouzouki": 0.15},
        voice=0.6,
        drums=0.0,
        glide=0.1,
    ),
    "Mikrasiatiko": Region(
        "Asia-minor",
        {"hitzaz": 0.6, "ousak": 0.4},
        {"karsilamas 9/8": 0.6, "syrtos 2/4": 0.4},
        {"violin": 0.5, "santouri": 0.5},
        {"oud": 0.6, "guitar": 0.4},
        voice=0.5,
        drums=0.6,
        glide=0.3,
    ),
}
NAMES = {"female voice": "Voice", "male voice": "Voice", "toumbeleki": "Percussion"}
NAMES |= {"daouli": "Percussion"}


def _rare_plan(rng: np.random.Generator) -> TrackPlan:
    metre = METRES["syrtos 2/4"]
    return TrackPlan(
        labels=("genres--Thracian", "instruments--Gaida", "place--Thrace"),
        mode=MODES["dorian"],
        metre=metre,
        pulse_seconds=draw_pulse(metre, rng),
        tonic_hz=float(220.0 * 2.0 ** (rng.integers(12) / 12.0)),
        parts=(Part("gaida", "melody", 1.0), Part("surpeti", "drone", 0.4)),
        density=0.9,
        level_db=float(rng.uniform(-28.0, -17.0)),
    )


def _chords(mode: Mode, rng: np.random.Generator) -> tuple[tuple[float, ...], ...]:
    """Returns open fifths on the tonic, and on one neighbour when the mode has a fourth."""
    home, fourth, seventh = (0.0, 700.0, 1200.0), (500.0, 1200.0, 1700.0), (-200.0, 500.0, 1000.0)
    third = [cents for cents in mode.cents if 250.0 < cents < 450.0]
    if third and rng.random() < 0.5:
        home = (0.0, third[0], 700.0)
    away = fourth if rng.random() < 0.5 else seventh
    return (home, home, away, home)


def make_plan(choices: Mapping[str, str], is_rare: bool, rng: np.random.Generator) -> TrackPlan:
    """Returns the plan of a Greek track; see `plans.Tradition.plan`."""
    if is_rare:
        return _rare_plan(rng)
    genre = choices["genre"]
    region = REGIONS[genre]
    mode = MODES[pick(rng, region.modes)]
    metre = METRES[pick(rng, region.metres)]
    lead, backing = pick(rng, region.leads), pick(rng, region.chords)
    parts = [Part(lead, "melody", 1.0)]
    if rng.random() < region.voice:
        singer = pick(rng, {"female voice": 0.5, "male voice": 0.5})
        parts = [Part(singer, "melody", 1.0), Part(lead, "heterophony", 0.6)]
    parts.append(Part(backing, "chords", 0.55))
    if rng.random() < region.drums:
        kit = "daouli" if genre in ("Epirotic", "Peloponnesian") else "toumbeleki"
        parts.append(Part(kit, "drums", 0.7))
    labels = {f"instruments--{NAMES.get(p.sound, p.sound.capitalize())}" for p in parts}
    labels.add(f"genres--{genre}")
    if genre != "Rebetiko":
        labels.add("genres--Traditional")
    labels.add(f"place--{region.place if choices['place'] == 'known' else 'None'}")
    return TrackPlan(
        labels=tuple(sorted(labels)),
        mode=mode,
        metre=metre,
        pulse_seconds=draw_pulse(metre, rng),
        tonic_hz=float(220.0 * 2.0 ** (rng.integers(-6, 6) / 12.0)),
        parts=tuple(parts),
        ornaments=Ornaments(
            glide_seconds=(0.05, 0.16), glide_share=region.glide, turn_share=0.35, vibrato=0.8
        ),
        density=0.75,
        chords=_chords(mode, rng),
        level_db=float(rng.uniform(-28.0, -17.0)),
    )


TRADITION = Tradition(
    name="greek",
    title="Greek folk",
    choices={
        "genre": (
            Option("Nisiotiko", 0.26),
            Option("Epirotic", 0.19),
            Option("Peloponnesian", 0.16),
            Option("Rebetiko", 0.15),
            Option("Kritiko", 0.13),
            Option("Mikrasiatiko", 0.11),
            Option("Thracian", 1.0, is_rare=True),
        ),
        # In the real set the place is not known for one recording in five.
        "place": (Option("known", 0.88), Option("unknown", 0.12), Option("-", 1.0, is_rare=True)),
    },
    plan=make_plan,
    num_labels=20,
    stored_form="log_mel",
)
