"""Exported models of compact size with random parameters, and their cards."""

from compact_models import COMPACT, draw_variables

from musrep_jax.data.specs import DatasetSpec
from musrep_jax.exports.cards import format_model_readme
from musrep_jax.inference.tagger import make_card
from musrep_jax.models import create_model
from musrep_jax.training.checkpoints import save_export

LABELS = ("ney", "oud", "female vocal", "makam_hicaz", "drums")
UNUSUAL_LABELS = ("ney", "oud", "Uşşak", "a|b", "daf: slow")


def card_of(model, name, labels=LABELS, **more):
    spec = DatasetSpec(
        name="made_up",
        label_names=labels,
        sample_rate=16000,
        stored_form="pcm16",
        split_sizes={"train": 3},
        licence=more.pop("licence", "CC0-1.0"),
        citation="none",
        description="made up for a test",
    )
    return make_card(model, name=name, data=spec, training={}, metrics={}, versions={}, **more)


def make_export(folder, name, labels=UNUSUAL_LABELS, **facts):
    """Writes a compact model with random parameters as a run would."""
    model = create_model(name, len(labels), COMPACT[name])
    spec = DatasetSpec(
        name="made_up/makam",
        label_names=labels,
        sample_rate=16000,
        stored_form="pcm16",
        split_sizes={"train": 31, "validation": 7, "test": 12},
        licence=facts.pop("licence", "CC0-1.0"),
        citation="@misc{made_up}",
        description="Made up for a test.",
        is_synthetic=True,
    )
    facts = {"training": {}, "metrics": {}, "versions": {}} | facts
    card = make_card(model, name=name, data=spec, **facts)
    variables = draw_variables(create_model(name, max(1, len(labels)), COMPACT[name]))
    if not labels:
        del variables["params"]["head"]
    return save_export(folder / name, variables, card, format_model_readme(card))
