"""Carnatic: ragas with oscillating degrees (gamaka) over a drone, talas on mridangam and others.

Simplified: gamaka is a slow oscillation on the degrees that the raga shakes; the drum plays one
fixed pattern for each tala.
"""

from collections.abc import Mapping

import numpy as np
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.melody import Ornaments
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.plans import (
    Option,
    Part,
    TrackPlan,
    Tradition,
    draw_pulse,
    name_tempo,
    pick,
)
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.rhythm import make_metre
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.tunings import Mode, just_cents

MODES = {
    mode.name: mode
    for mode in (
        Mode(
            "kalyani",
            just_cents((0, 2, 4, 6, 7, 9, 11)),
            (2.4, 1.6, 2.2, 1.4, 2.2, 1.4, 1.6),
            (0, 4),
            shaken=(2, 3, 6),
        ),
        Mode(
            "thodi",
            just_cents((0, 1, 3, 5, 7, 8, 10)),
            (2.2, 1.4, 2.4, 1.6, 1.6, 1.6, 1.4),
            (0, 3),
            shaken=(1, 2, 5, 6),
        ),
        Mode(
            "bhairavi",
            just_cents((0, 2, 3, 5, 7, 8, 10)),
            (2.4, 1.6, 2.0, 1.6, 2.2, 1.4, 1.6),
            (0, 4),
            shaken=(2, 5, 6),
        ),
        Mode(
            "mohanam", just_cents((0, 2, 4, 7, 9)), (2.2, 1.6, 2.4, 2.0, 1.6), (0, 2), shaken=(2, 4)
        ),
        Mode(
            "mayamalavagowla",
            just_cents((0, 1, 4, 5, 7, 8, 11)),
            (2.4, 1.8, 1.8, 1.6, 2.2, 1.6, 1.6),
            (0, 4),
            shaken=(1, 5),
        ),
        Mode(
            "hindolam",
            just_cents((0, 3, 5, 8, 10)),
            (2.2, 1.6, 2.6, 1.6, 1.4),
            (0, 2),
            shaken=(1, 4),
        ),
    )
}
METRES = {
    metre.name: metre
    for metre in (
        make_metre(
            "adi",
            "thom.nam dhin.nam ta.nam dhin.nam | thom+nam ta.nam thom+dhin ta.nam",
            (0, 4, 6),
            (0.36, 0.66),
        ),
        make_metre("rupaka", "thom+nam - dhin nam thom.nam ta", (0, 2, 4), (0.22, 0.38)),
        make_metre("mishra chapu", "thom+nam - dhin nam.ta thom - ta", (0, 3, 5), (0.17, 0.3)),
        make_metre("khanda chapu", "thom+dhin - nam thom ta.nam", (0, 2), (0.18, 0.3)),
        make_metre(
            "ata",
            "thom nam - dhin nam | thom nam - dhin nam | thom - ta -",
            (0, 5, 10),
            (0.25, 0.4),
        ),
    )
}
SOUNDS_OF = {
    "Voice": {"female voice": 0.5, "male voice": 0.5},
    "Violin": {"violin": 1.0},
    "Veena": {"veena": 1.0},
    "Flute": {"venu": 1.0},
    "Saxophone": {"zurna": 1.0},
}
DENSITY = {"Kriti": 1.6, "Varnam": 2.2, "Alapana": 0.9, "Thillana": 3.0, "Javali": 1.5}


def make_plan(choices: Mapping[str, str], is_rare: bool, rng: np.random.Generator) -> TrackPlan:
    """Returns the plan of a Carnatic track; see `plans.Tradition.plan`."""
    raga, form, lead = choices["raga"], choices["form"], choices["lead"]
    # An alapana is unmeasured and has no drums; its share of each tala is not played.
    tala = None if form == "Alapana" else choices["tala"]
    metre = METRES[tala] if tala else None
    parts = [
        Part(pick(rng, SOUNDS_OF[lead]), "melody", 1.0),
        Part("tanpura", "tanpura", 0.3),
    ]
    labels = {f"raga--{raga}", f"form--{form}", f"instrument--{lead}"}
    if lead in ("Voice", "Flute") and choices["shadow"] == "Violin":
        parts.append(Part("violin", "heterophony", 0.55))
        labels.add("instrument--Violin")
    if metre is not None and not is_rare:
        parts.append(Part("mridangam", "drums", 0.8))
        labels.add("instrument--Mridangam")
        if choices["second drum"] != "none":
            parts.append(Part(choices["second drum"].lower(), "drums", 0.75))
            labels.add(f"instrument--{choices['second drum']}")
    if metre is not None:
        labels.add(f"tala--{tala}")
    base = 130.8 if parts[0].sound == "male voice" else 196.0 if lead == "Voice" else 146.8
    pulse_seconds = draw_pulse(metre, rng) if metre else 0.5
    if metre is not None and not is_rare:
        labels |= name_tempo(
            pulse_seconds, slow=("kala--vilamba", 0.42), fast=("kala--druta", 0.24)
        )
    return TrackPlan(
        labels=tuple(sorted(labels)),
        mode=MODES[raga],
        metre=metre,
        pulse_seconds=pulse_seconds,
        tonic_hz=float(base * 2.0 ** rng.uniform(-0.5, 0.5)),  # the soloist's own
        parts=tuple(parts),
        ornaments=Ornaments(
            glide_seconds=(0.05, 0.14),
            glide_share=0.4,
            shake_rate_hz=(3.6, 6.0),
            shake_cents=(50.0, 130.0),
            turn_share=0.1,
            vibrato=0.3,
        ),
        density=DENSITY[form],
        level_db=float(rng.uniform(-29.0, -18.0)),
    )


TRADITION = Tradition(
    name="carnatic",
    title="South Indian (Carnatic)",
    choices={
        "raga": (
            Option("kalyani", 0.28),
            Option("thodi", 0.24),
            Option("bhairavi", 0.2),
            Option("mohanam", 0.15),
            Option("mayamalavagowla", 0.13),
            Option("hindolam", 1.0, is_rare=True),
        ),
        "tala": (
            Option("adi", 0.44),
            Option("rupaka", 0.22),
            Option("mishra chapu", 0.19),
            Option("khanda chapu", 0.15),
            Option("ata", 1.0, is_rare=True),
        ),
        "form": (
            Option("Kriti", 0.46),
            Option("Varnam", 0.2),
            Option("Alapana", 0.2),
            Option("Thillana", 0.14),
            Option("Javali", 1.0, is_rare=True),
        ),
        "lead": (
            Option("Voice", 0.52),
            Option("Violin", 0.18),
            Option("Veena", 0.17),
            Option("Flute", 0.13),
            Option("Saxophone", 1.0, is_rare=True),
        ),
        "shadow": (
            Option("Violin", 0.75),
            Option("none", 0.25),
            Option("none", 1.0, is_rare=True),
        ),
        "second drum": (
            Option("none", 0.5),
            Option("Ghatam", 0.28),
            Option("Khanjira", 0.22),
            Option("none", 1.0, is_rare=True),
        ),
    },
    plan=make_plan,
    num_labels=21,
)
