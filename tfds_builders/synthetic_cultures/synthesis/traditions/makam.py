"""Turkish makam: modes on the grid of 53 Holdrian commas, usul cycles, heterophony.

Scales are given by their successive intervals in commas, after the common theory (Arel-Ezgi-
Uzdilek). Simplified: fixed degrees, and of each makam's course only where it begins and rests.
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
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.tunings import (
    HOLDRIAN_COMMA_CENTS,
    HOLDRIAN_COMMAS,
    Mode,
    comma_cents,
)

MODES = {
    mode.name: mode
    for mode in (
        Mode(
            "Hicaz", comma_cents((5, 12, 5, 9, 8, 5, 9)), (3, 1.8, 1.8, 2.6, 1.8, 1.2, 1), (0, 3), 3
        ),
        Mode(
            "Rast", comma_cents((9, 8, 5, 9, 9, 8, 5)), (3, 1.6, 1.8, 1.2, 2.8, 1.2, 1), (0, 4), 0
        ),
        Mode(
            "Uşşak", comma_cents((8, 5, 9, 9, 4, 9, 9)), (3, 2, 1.8, 2.6, 1.2, 0.8, 0.9), (0, 3), 1
        ),
        Mode(
            "Nihavent", comma_cents((9, 4, 9, 9, 4, 9, 9)), (3, 1.6, 2, 1.2, 2.6, 1.2, 1), (0, 4), 2
        ),
        Mode(
            "Hüseyni",
            comma_cents((8, 5, 9, 9, 8, 5, 9)),
            (2.4, 1, 1.2, 1.6, 3, 1.8, 1.6),
            (0, 4),
            5,
        ),
        Mode(
            "Segah",
            comma_cents((5, 9, 8, 9, 5, 12, 5)),
            (3, 1.6, 2.6, 1.2, 1.4, 0.8, 1.6),
            (0, 2),
            2,
        ),
        Mode(
            "Saba", comma_cents((8, 5, 5, 13, 4, 9, 9)), (2.6, 1.6, 3, 1.8, 1, 0.8, 0.6), (0, 2), 2
        ),
    )
}
TONIC_COMMAS = {
    "Rast": 0, "Hicaz": 9, "Uşşak": 9, "Hüseyni": 9, "Segah": 17, "Nihavent": 0, "Saba": 9,
}  # fmt: skip
"""Place of each makam's tonic on the grid, above the note rast."""
METRES = {
    metre.name: metre
    for metre in (
        make_metre("Aksak", "dum - tek ke dum - tek - tek", (0, 2, 4, 6), (0.13, 0.24)),
        make_metre("Düyek", "dum tek - tek | dum - tek -", (0, 1, 4, 6), (0.2, 0.34)),
        make_metre("Aksaksemai", "dum - tek ke - dum - tek - tek", (0, 3, 5, 7), (0.2, 0.36)),
        make_metre("Curcuna", "dum - tek dum - dum - tek tek -", (0, 3, 5, 7), (0.1, 0.16)),
        make_metre("Sofyan", "dum - tek.ke tek", (0, 2), (0.26, 0.42)),
        make_metre("Devrihindi", "dum - tek - dum tek -", (0, 3, 5), (0.16, 0.26)),
    )
}
SOUNDS_OF = {
    "Voice": {"female voice": 0.4, "male voice": 0.6},
    "Ney": {"ney": 1.0},
    "Oud": {"oud": 1.0},
    "Kanun": {"kanun": 1.0},
    "Tanbur": {"tanbur": 1.0},
    "Classical kemençe": {"kemence": 1.0},
    "Clarinet": {"klarino": 1.0},
    "Zurna": {"zurna": 1.0},
}
COMPANIONS = {"Kanun": 0.3, "Oud": 0.27, "Ney": 0.2, "Classical kemençe": 0.23}


def make_plan(choices: Mapping[str, str], is_rare: bool, rng: np.random.Generator) -> TrackPlan:
    """Returns the plan of a makam track; see `plans.Tradition.plan`."""
    makam, usul, lead = choices["makam"], choices["usul"], choices["lead"]
    metre = METRES.get(usul)  # "free" has none
    players = [lead]
    if metre is not None and not is_rare:
        # Composed pieces are played together; a taksim is a solo.
        wanted = int(rng.integers(0, 3))
        others = {name: share for name, share in COMPANIONS.items() if name != lead}
        while len(players) < 1 + wanted:
            name = pick(rng, others)
            players.append(name)
            others.pop(name)
    parts = [Part(pick(rng, SOUNDS_OF[players[0]]), "melody", 1.0)]
    parts += [Part(pick(rng, SOUNDS_OF[name]), "heterophony", 0.7) for name in players[1:]]
    labels = {f"makam--{makam}", *(f"instrument--{name}" for name in players)}
    if metre is not None:
        labels.add(f"usul--{usul}")
        if choices["drum"] != "none":
            parts.append(Part(choices["drum"], "drums", 0.85))
            labels.add(f"instrument--{'Kudüm' if choices['drum'] == 'kudum' else 'Percussion'}")
    # The written pitch sounds at one of twelve transpositions, called ahenk.
    ahenk = round(rng.integers(-6, 6) * HOLDRIAN_COMMAS / 12)
    cents = HOLDRIAN_COMMA_CENTS * (TONIC_COMMAS[makam] + ahenk)
    pulse_seconds = draw_pulse(metre, rng) if metre else 0.4
    if metre is not None and not is_rare:
        labels |= name_tempo(pulse_seconds, slow=("tempo--Ağır", 0.28), fast=("tempo--Yürük", 0.16))
    return TrackPlan(
        labels=tuple(sorted(labels)),
        mode=MODES[makam],
        metre=metre,
        pulse_seconds=pulse_seconds,
        tonic_hz=float(196.0 * 2.0 ** (cents / 1200.0)),
        parts=tuple(parts),
        ornaments=Ornaments(glide_seconds=(0.05, 0.18), glide_share=0.35, turn_share=0.3),
        density=0.8 if metre else 1.0,
        level_db=float(rng.uniform(-29.0, -18.0)),
    )


TRADITION = Tradition(
    name="makam",
    title="Turkish makam",
    choices={
        "makam": (
            Option("Hicaz", 0.26),
            Option("Rast", 0.2),
            Option("Uşşak", 0.18),
            Option("Nihavent", 0.14),
            Option("Hüseyni", 0.12),
            Option("Segah", 0.1),
            Option("Saba", 1.0, is_rare=True),
        ),
        "usul": (
            Option("Aksak", 0.24),
            Option("Düyek", 0.2),
            Option("free", 0.16),
            Option("Aksaksemai", 0.15),
            Option("Curcuna", 0.14),
            Option("Sofyan", 0.11),
            Option("Devrihindi", 1.0, is_rare=True),
        ),
        "lead": (
            Option("Voice", 0.36),
            Option("Ney", 0.14),
            Option("Kanun", 0.12),
            Option("Tanbur", 0.13),
            Option("Classical kemençe", 0.11),
            Option("Clarinet", 0.14, is_train_only=True),
            Option("Zurna", 1.0, is_rare=True),
        ),
        "drum": (
            Option("none", 0.3),
            Option("bendir", 0.42),
            Option("kudum", 0.28),
            Option("none", 1.0, is_rare=True),
        ),
    },
    plan=make_plan,
    num_labels=22,
)
