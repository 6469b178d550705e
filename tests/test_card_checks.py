"""Cards that somebody edited: one sentence of our own, never a crash, no model that cannot be."""

import copy
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compact_models import build
from flax import traverse_util
from toy_exports import LABELS, card_of

from musrep_jax.inference.reading import read_model
from musrep_jax.inference.tagger import build_tagger, load_tagger
from musrep_jax.runtime.integrity import write_checksums
from musrep_jax.training.checkpoints import CARD_FILE, README_FILE, ExportError, save_export

EDITS = (
    None, 0, -1, 1.5, float("nan"), 10**30, 10**400, "", "x", "\ud800", True, [], {}, [0], {"x": 0},
)  # fmt: skip
"""10**400: a whole number that no float can hold."""


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    built = build("fcn")
    card = card_of(
        built.model, "fcn", calibration={label: [1.0, 0.0] for label in LABELS},
        thresholds={label: 0.5 for label in LABELS},
    )  # fmt: skip
    return save_export(tmp_path_factory.mktemp("export") / "model", built.variables, card)


def fields_of(card, prefix=()):
    for key, value in card.items():
        yield (*prefix, key)
        if isinstance(value, dict):
            yield from fields_of(value, (*prefix, key))


def change(card, field, value):
    *sections, key = field
    for section in sections:
        card = card[section]
    if value is KeyError:
        del card[key]
    else:
        card[key] = value


def seal(export, text):
    (export / CARD_FILE).write_text(text, encoding="utf-8")
    write_checksums(export, without=(README_FILE,))


def test_every_edit_of_every_field_of_a_card_loads_or_is_one_sentence(export):
    variables, whole = read_model(export)
    loaded, crashed = [], []
    for field in list(fields_of(whole)):
        if field[0] in ("versions", "metrics") and len(field) > 2:
            continue
        for value in (KeyError, *EDITS):
            card = copy.deepcopy(whole)
            change(card, field, value)
            try:
                build_tagger(variables, json.loads(json.dumps(card)), export)
            except ExportError as error:
                if "\n" in str(error):
                    crashed.append(f"{field} = {value!r}: {error}")
            except Exception as error:  # what must not be
                crashed.append(f"{field} = {value!r}: {type(error).__name__}: {error}")
            else:
                loaded.append(field)
    assert not crashed, "\n".join(crashed)
    must_fit = {("sample_rate",), ("num_samples",), ("model", "name"), ("front_end_id",)}
    assert not must_fit & set(loaded)
    assert ("data", "description") in loaded


@pytest.mark.parametrize(
    "text", ["", "[]", "1", "null", '{"format": 1', "\x00", "[" * 100_000, '{"format": 2}', "{}"]
)
def test_a_card_that_is_none_is_named(export, text):
    kept = (export / CARD_FILE).read_text(encoding="utf-8")
    try:
        seal(export, text)
        with pytest.raises(ExportError, match=str(export)):
            load_tagger(export)
    finally:
        seal(export, kept)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        (("sample_rate",), 0, "sample_rate is 0; it must be a whole number from 1,000"),
        (("labels",), ["ney", "ney", "oud"], "labels is .*different texts"),
        (("thresholds",), {"ney": 1.5}, "thresholds of 'ney' is 1.5; it must be a number from 0"),
        (("thresholds",), {"neey": 0.5}, "thresholds has 'neey', which is no label"),
        (("calibration",), {"ney": [1]}, "a pair of finite numbers"),
        (("calibration",), {"ney": [1, 10**400]}, "a pair of finite numbers"),
        (("label_groups",), {"inst": "ney"}, "label_groups is .*an object of lists of labels"),
        (("label_groups",), {"inst": ["neey"]}, "label_groups.inst has 'neey', which is no label"),
        (("label_groups",), {"a": ["ney"], "b": ["ney"]}, "'ney' in two groups; one is allowed"),
        (("model", "settings", "dropout_rate"), 2, "model.settings.dropout_rate is 2"),
        (("model", "settings", "n_chanels"), 2, "Did you mean 'n_channels'"),
        (("training",), KeyError, "training is missing"),
    ],
)  # fmt: skip
def test_the_sentence_names_file_and_field(export, field, value, sentence):
    text = (export / CARD_FILE).read_text(encoding="utf-8")
    card = json.loads(text)
    change(card, field, value)
    try:
        seal(export, json.dumps(card))
        with pytest.raises(ExportError, match=sentence) as error:
            load_tagger(export)
        assert str(export) in str(error.value)
    finally:
        seal(export, text)


@pytest.mark.parametrize(
    ("name", "edit", "reason"),
    [
        ("params.head.kernel", lambda x: (100 * x).astype(np.int32), "holds int32 numbers there"),
        ("params.head.bias", lambda x: x > 0, "holds bool numbers there and float32 in the model"),
        ("batch_stats.spec_bn.mean", lambda x: x.astype(np.complex64), "holds complex64 numbers"),
        ("batch_stats.layer1.bn.var", lambda x: x[:1], r"has the shape \(1,\) there"),
        ("params.layer2.conv.kernel", lambda x: None, "is missing"),
    ],
)
def test_an_array_of_another_kind_is_named_at_opening(export, name, edit, reason):
    """Statistics of BatchNorm too, which a shorter array would be spread over."""
    variables, card = read_model(export)
    flat = traverse_util.flatten_dict(variables, sep=".")
    flat[name] = edit(np.array(flat[name]))
    if flat[name] is None:
        del flat[name]
    with pytest.raises(ExportError, match=rf"\({re.escape(name)} {reason}"):
        build_tagger(traverse_util.unflatten_dict(flat, sep="."), card, export)


def test_shorter_floating_point_numbers_are_opened(export):
    variables, card = read_model(export)
    halves = jax.tree.map(lambda x: x.astype(jnp.bfloat16), variables)
    assert build_tagger(halves, card, export).labels == LABELS
