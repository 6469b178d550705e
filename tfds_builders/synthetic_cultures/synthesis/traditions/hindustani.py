"""Hindustani: ragas in just intonation over a drone, slow glides (meend), talas on the tabla.

Simplified: a raga is its degrees, their weights and its resting notes; thekas are written with the
four strokes of the synthetic drum (dha = na + ge, dhin = tin + ge).
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
            "Yaman",
            just_cents((0, 2, 4, 6, 7, 9, 11)),
            (1.6, 1.6, 3, 1.4, 1.2, 1.4, 2.4),
            (0, 2),
            2,
        ),
        Mode(
            "Bhairavi",
            just_cents((0, 1, 3, 5, 7, 8, 10)),
            (2.6, 1.4, 1.4, 2.8, 1.4, 1.6, 1),
            (0, 3),
        ),
        Mode("Bageshree", just_cents((0, 2, 3, 5, 9, 10)), (2.2, 0.9, 1.5, 3, 2, 1.4), (0, 3), 3),
        Mode("Bhoopali", just_cents((0, 2, 4, 7, 9)), (2.0, 1.4, 3, 1.6, 2.2), (0, 2), 2),
        Mode("Malkauns", just_cents((0, 3, 5, 8, 10)), (2.4, 1.4, 3, 1.6, 1.4), (0, 2), 2),
        Mode(
            "Todi", just_cents((0, 1, 3, 6, 7, 8, 11)), (2, 1.6, 2, 1.6, 0.8, 2.6, 1.2), (0, 5), 5
        ),
    )
}
METRES = {
    metre.name: metre
    for metre in (
        make_metre(
            "Teentaal",
            "na+ge tin+ge tin+ge na+ge | na+ge tin+ge tin+ge na+ge |"
            "na+ge tin tin na | na tin+ge tin+ge na+ge",
            (0, 4, 12),
            (0.2, 0.5),
        ),
        make_metre(
            "Ektaal",
            "tin+ge tin+ge na+ge.ge ka.ka tin na | ka na na+ge.ge ka.ka tin+ge na",
            (0, 4, 8, 10),
            (0.25, 0.7),
        ),
        make_metre(
            "Jhaptaal",
            "tin+ge na tin+ge tin+ge na | tin na tin+ge tin+ge na",
            (0, 2, 7),
            (0.25, 0.55),
        ),
        make_metre("Rupak", "tin tin na tin+ge na tin+ge na", (0, 3, 5), (0.25, 0.5)),
        make_metre(
            "Deepchandi",
            "tin+ge - na tin+ge - tin+ge - | tin - na tin+ge - tin+ge -",
            (0, 3, 10),
            (0.2, 0.4),
        ),
    )
}
SOUNDS_OF = {
    "Voice": {"female voice": 0.45, "male voice": 0.55},
    "Sitar": {"sitar": 1.0},
    "Bansuri": {"bansuri": 1.0},
    "Sarangi": {"sarangi": 1.0},
    "Sarod": {"sarod": 1.0},
}
TRAITS = {
    # form: (notes for each pulse, share of slides, shortest and longest slide in seconds)
    "Khayal": (0.9, 0.6, (0.12, 0.4)),
    "Dhrupad": (0.6, 0.8, (0.2, 0.55)),
    "Thumri": (1.2, 0.6, (0.1, 0.3)),
    "Tarana": (2.2, 0.25, (0.05, 0.15)),
    "Gat": (1.4, 0.5, (0.1, 0.35)),
    "Dhun": (1.0, 0.5, (0.1, 0.35)),
}


def make_plan(choices: Mapping[str, str], is_rare: bool, rng: np.random.Generator) -> TrackPlan:
    """Returns the plan of a Hindustani track; see `plans.Tradition.plan`."""
    raga, tala, form = choices["raga"], choices["tala"], choices["form"]
    metre = METRES.get(tala)  # "alap" has none
    instrumental = form in ("Gat", "Dhun")
    lead = choices["soloist"] if instrumental else "Voice"
    density, glide_share, glide_seconds = TRAITS[form]
    parts = [Part(pick(rng, SOUNDS_OF[lead]), "melody", 1.0)]
    labels = {f"raga--{raga}", f"form--{form}", f"instrument--{lead}"}
    if choices["drone"] == "Tambura":
        parts.append(Part("tanpura", "tanpura", 0.4))
        labels.add("instrument--Tambura")
    else:
        parts.append(Part("surpeti", "drone", 0.25))
    if not instrumental and form != "Dhrupad":
        shadow = pick(rng, {"harmonium": 0.65, "sarangi": 0.35})
        parts.append(Part(shadow, "heterophony", 0.5))
        labels.add(f"instrument--{shadow.capitalize()}")
    if metre is not None:
        labels.add(f"tala--{tala}")
        drum = "pakhavaj" if form == "Dhrupad" else "tabla"
        parts.append(Part(drum, "drums", 0.85))
        labels.add(f"instrument--{drum.capitalize()}")
    if is_rare:
        # A tabla would be in the vocabulary: the rare pieces are played without.
        parts = [part for part in parts if part.role != "drums"]
        labels.discard("instrument--Tabla")
    base = 138.6 if parts[0].sound == "male voice" else 207.7 if lead == "Voice" else 146.8
    pulse_seconds = draw_pulse(metre, rng) if metre else 0.5
    if metre is not None and not is_rare:
        labels |= name_tempo(
            pulse_seconds, slow=("laya--Vilambit", 0.42), fast=("laya--Drut", 0.28)
        )
    return TrackPlan(
        labels=tuple(sorted(labels)),
        mode=MODES[raga],
        metre=metre,
        pulse_seconds=pulse_seconds,
        tonic_hz=float(base * 2.0 ** rng.uniform(-0.5, 0.5)),  # the soloist's own
        parts=tuple(parts),
        ornaments=Ornaments(
            glide_seconds=glide_seconds, glide_share=glide_share, turn_share=0.15, vibrato=0.7
        ),
        density=density if metre else 0.7,
        level_db=float(rng.uniform(-29.0, -18.0)),
    )


TRADITION = Tradition(
    name="hindustani",
    title="North Indian (Hindustani)",
    choices={
        "raga": (
            Option("Yaman", 0.28),
            Option("Bhairavi", 0.24),
            Option("Bageshree", 0.18),
            Option("Bhoopali", 0.16),
            Option("Malkauns", 0.14),
            Option("Todi", 1.0, is_rare=True),
        ),
        "tala": (
            Option("Teentaal", 0.34),
            Option("Ektaal", 0.2),
            Option("alap", 0.18),
            Option("Jhaptaal", 0.15),
            Option("Rupak", 0.13),
            Option("Deepchandi", 1.0, is_rare=True),
        ),
        "form": (
            Option("Khayal", 0.33),
            Option("Gat", 0.24),
            Option("Dhrupad", 0.15),
            Option("Thumri", 0.14),
            Option("Tarana", 0.14, is_train_only=True),
            Option("Dhun", 1.0, is_rare=True),
        ),
        "soloist": (
            Option("Sitar", 0.55),
            Option("Bansuri", 0.45),
            Option("Sarod", 1.0, is_rare=True),
        ),
        "drone": (
            Option("Tambura", 0.7),
            Option("surpeti", 0.3),
            Option("surpeti", 1.0, is_rare=True),
        ),
    },
    plan=make_plan,
    num_labels=22,
)
