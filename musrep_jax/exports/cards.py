"""Model cards: what an export says about itself, as a README.md in the Hugging Face Hub's form.

Every number and name comes from the card in the export (`tagger.json`, `config.json`);
what the card does not say, the text does not say either.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from musrep_jax.evaluation.support import REASON_TEXTS
from musrep_jax.models import model_settings

HUB_LICENSES = (
    "apache-2.0", "mit", "isc", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-2.0", "cc-by-3.0",
    "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0",
    "cc-by-nd-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "gpl-3.0", "agpl-3.0",
    "lgpl-3.0", "mpl-2.0",
)  # fmt: skip
"""Identifiers that the Hub knows and music data have; any other license is `other` with its name.
Source: the Hub's list of license identifiers."""

METRICS = {"roc_auc": "ROC-AUC", "pr_auc": "PR-AUC"}
MIN_RELIABLE_TRACKS = 100
"""Test tracks below which a card warns of them."""

Card = Mapping[str, Any]


def make_usage_lines(card: Card, place: str) -> tuple[str, str, str]:
    """Returns three lines of Python that load and use a model.

    Args:
        card: of the export.
        place: what `load_tagger` or `load_encoder` is given.
    """
    if "reads" in card:
        load = f'encoder = musrep_jax.load_encoder("{place}")'
        use = (
            "embeddings = encoder.embed_tokens(tokens)"
            if card["reads"] == "tokens"
            else "embedding = encoder.embed(audio, sample_rate)"
        )
    else:
        load = f'tagger = musrep_jax.load_tagger("{place}")'
        use = (
            "tags = tagger.predict(audio, sample_rate)"
            if card["labels"]
            else "embedding = tagger.embed(audio, sample_rate)"
        )
    return "import musrep_jax", load, use


def format_model_readme(card: Card, lines: Sequence[str] = ()) -> str:
    """Returns the text of an export's README.md.

    Args:
        card: as `musrep_jax.inference.tagger.make_card` makes it.
        lines: of Python that load and use it; by default those for `load_tagger`.
    """
    title = f"{card['model']['name']} for {_code(card['data']['name'])}"
    sections = [
        ("Use", _use(card, lines or make_usage_lines(card, "FOLDER"))),
        ("Data", _data(card)),
        ("Results", _results(card)),
        ("Published elsewhere", _published(card)),
        ("Labels", _labels(card)),
        ("Input", _input(card)),
        ("Known limits", _bullets(list_known_limits(card))),
        ("How it was made", _make_provenance_section(card)),
        ("Citation", _citation(card)),
    ]
    body = "\n\n".join(f"## {name}\n\n{text}" for name, text in sections if text)
    return f"---\n{_front_matter(card)}---\n\n# {title}\n\n{_summary(card)}\n\n{body}\n"


def list_known_limits(card: Card) -> list[str]:
    """Returns the limitations that a user of the model must know, one or two sentences each.

    Args:
        card: of the export.
    """
    limits = []
    data, test, training = card["data"], card["metrics"].get("test", {}), card["training"]
    if data["is_synthetic"]:
        limits.append(
            "The data are generated: the numbers say that the method works on them, and nothing "
            "about recordings of real music."
        )
    is_taught = "taught" in training  # its notes say from what, and what that is worth
    if not test and not is_taught:
        limits.append("Nothing was measured here: the card has no results of this project.")
    elif test and test.get("num_tracks", MIN_RELIABLE_TRACKS) < MIN_RELIABLE_TRACKS:
        limits.append(
            f"Only {test['num_tracks']} test tracks: the intervals are wide, and rare labels rest "
            "on a handful of them."
        )
    if training.get("num_train_tracks"):
        limits.append(f"Trained on {training['num_train_tracks']} labeled tracks.")
    settings = find_changed_settings(card)
    if settings:
        listed = ", ".join(f"{_code(name)} {value}" for name, value in settings.items())
        limits.append(f"Not the published size or input: {listed}.")
    if card["labels"] and not is_taught:
        fitted = [kind for kind in ("thresholds", "calibration") if card.get(kind)]
        limits.append(
            f"Fitted on the validation tracks, for data like these: {' and '.join(fitted)}. On "
            "other music they need not hold."
            if fitted
            else "No thresholds were fitted: the probabilities rank, they do not decide."
        )
    if _reads_text(card):
        limits.append(f"It reads {card['input_shape'][0]} tokens of a text and no more.")
    else:
        seconds = card["num_samples"] / card["sample_rate"]
        limits.append(
            f"It hears {seconds:.2f} s at a time; shorter recordings are padded with silence, "
            "longer ones averaged."
        )
    return [*limits, *(_sentence(note) for note in training.get("notes", ()))]


def find_changed_settings(card: Card) -> dict[str, Any]:
    """Returns the settings of the model that are not the published ones, as JSON values.

    Args:
        card: of the export.
    """
    defaults = json.loads(json.dumps(model_settings(card["model"]["name"])))
    settings = json.loads(json.dumps(card["model"]["settings"]))
    return {key: value for key, value in settings.items() if value != defaults.get(key)}


def _front_matter(card: Card) -> str:
    """Returns the YAML that the Hub reads; strings are quoted as in JSON, which YAML contains."""
    data, name = card["data"], card["model"]["name"]
    licence = data["licence"].strip().lower().replace(" ", "-")
    lines = ["library_name: musrep_jax"]
    if licence in HUB_LICENSES:
        lines.append(f"license: {licence}")
    else:
        lines += ["license: other", f"license_name: {_quote(data['licence'])}"]
    task = "audio-classification" if card["labels"] else "feature-extraction"
    if "reads" in card:
        tags = ["text" if _reads_text(card) else "audio", "music", "jax", "flax", name]
    else:
        tags = ["audio", "music", "music-tagging", "jax", "flax", name]
    tags += ["synthetic-data"] if data["is_synthetic"] else []
    lines += [f"pipeline_tag: {task}", "tags:", *(f"- {_quote(tag)}" for tag in tags)]
    found = {key: value for key, value in _metrics(card).items() if value is not None}
    if found:
        lines += ["metrics:", *(f"- {key}" for key in found), "model-index:"]
        title, where = _quote(f"{name} {data['name']}"), _quote(data["name"])
        lines += [f"- name: {title}", "  results:", "  - task:", f"      type: {task}"]
        lines += ["    dataset:", f"      name: {where}", f"      type: {where}"]
        lines += ["      split: test", "    metrics:"]
        for key, value in found.items():
            lines += [f"    - type: {key}", f"      name: {METRICS[key]}", f"      value: {value}"]
    return "\n".join(lines) + "\n"


def _summary(card: Card) -> str:
    data = card["data"]
    what = (
        f"It gives a music recording the probabilities of {len(card['labels'])} labels, and an "
        "embedding."
        if card["labels"]
        else "An encoder: it embeds texts, and has no labels."
        if _reads_text(card)
        else "An encoder: it embeds recordings, and has no labels."
        if "reads" in card
        else "A backbone without output layer: it embeds recordings and does not tag them."
    )
    about = data["description"].strip()
    return f"{what} {about}".strip()


def _use(card: Card, lines: Sequence[str]) -> str:
    what = (
        f"tokens are ids, int32 (texts, up to {card['input_shape'][0]}), -1 where a text has ended"
        if _reads_text(card)
        else "audio is mono, float in [-1, 1]"
    )
    return "```python\n" + "\n".join(lines) + f"\n```\n\nFOLDER is this folder; {what}."


def _reads_text(card: Card) -> bool:
    return card.get("reads") == "tokens"


def _data(card: Card) -> str:
    data = card["data"]
    rows = [("data set", _code(data["name"])), ("license", data["licence"])]
    rows += [("generated", "yes")] if data["is_synthetic"] else []
    rows += [(f"{split} tracks", f"{n:,}") for split, n in data["split_sizes"].items()]
    rows += [("fingerprint", _code(data["fingerprint"]))] if data["fingerprint"] else []
    text = _table(("", ""), rows)
    if not card["training"].get("imported_from"):
        text += (
            "\n\nThe license is that of the data. Whoever publishes these weights chooses one for "
            "them that the data's allows."
        )
    return text


def _metrics(card: Card) -> dict[str, float | None]:
    test = card["metrics"].get("test", {})
    return {key: test[key] for key in METRICS if key in test}


def _results(card: Card) -> str:
    test, rows = card["metrics"].get("test", {}), []
    for key, value in _metrics(card).items():
        interval = test.get(f"{key}_ci")
        has_both = interval and None not in interval
        why = REASON_TEXTS.get(test.get("ci_reason") or "", "undefined")
        rows.append(
            (
                METRICS[key],
                "undefined" if value is None else f"{value:.3f}",
                f"{interval[0]:.3f} to {interval[1]:.3f}" if has_both else why,
            )
        )
    if not rows:
        return ""
    tracks = f" over {test['num_tracks']:,} test tracks" if "num_tracks" in test else ""
    if test.get("num_track_groups"):
        tracks += f" in {test['num_track_groups']:,} groups, which are resampled as a whole"
    table = _table(("macro average", "value", "95 % interval"), rows)
    return f"{table}\n\nIntervals{tracks}."


def _published(card: Card) -> str:
    """Returns what the authors of imported weights say, apart from what was measured here."""
    published = card.get("published")
    if not published:
        return ""
    notes = _bullets(published.get("notes", ()))
    use = "allows" if published["allows_commercial_use"] else "does not allow"
    lines = [f"The license {use} commercial use.", notes]
    if published["scores"]:
        rows = [(METRICS.get(k, k), f"{v:.4f}") for k, v in published["scores"].items()]
        lines.append(_table(("macro average, by the authors", "value"), rows))
        lines.append(
            f"Source: {published['scores_source']}. Nobody has repeated these numbers here, and "
            "the authors' split and protocol apply."
        )
    return "\n\n".join(filter(None, lines))


def _labels(card: Card) -> str:
    if not card["labels"]:
        return ""
    exclusive = "Exclusive classes" if card["output"] == "softmax" else "Each by itself"
    order = f"{exclusive}, in the order of the output units."
    thresholds, calibration = card["thresholds"], card.get("calibration") or {}
    if not thresholds and not calibration:
        return f"{order}\n\n{', '.join(_code(label) for label in card['labels'])}"
    for group, members in (card.get("label_groups") or {}).items():
        listed = ", ".join(map(_code, members))
        order += f" One of {_code(group)} at most, the most probable of {listed}."
    header, columns = ["label"], [[_code(label) for label in card["labels"]]]
    if thresholds:
        order += " A label is there where its probability p is above its threshold."
        header.append("threshold")
        columns.append([_number(thresholds.get(label)) for label in card["labels"]])
    if calibration:
        header += ["slope", "offset"]
        pairs = [calibration[label] for label in card["labels"]]
        columns += [[_number(pair[i]) for pair in pairs] for i in (0, 1)]
        order += " Calibrated probability of a recording: sigmoid(slope * logit(p) + offset)."
    return f"{order}\n\n{_table(header, list(zip(*columns, strict=True)))}"


def _input(card: Card) -> str:
    if _reads_text(card):
        return _table(("", ""), [("text", f"{card['input_shape'][0]} tokens")])
    rate, size = card["sample_rate"], card["num_samples"]
    rows = [("sample rate", f"{rate} Hz, mono"), ("chunk", f"{size} samples ({size / rate:.2f} s)")]
    rows += [("chunks are joined by", f"mean {card['aggregate']}")] if card["labels"] else []
    if card["front_end"] is None:
        rows.append(("front end", "none: the network reads the waveform"))
    else:
        rows += [(_code(key), _value(value)) for key, value in card["front_end"].items()]
    return _table(("", ""), rows)


def _make_provenance_section(card: Card) -> str:
    versions, rows = card["versions"], [("model", card["model"]["name"])]
    skipped = {"notes"}
    rows += [(key.replace("_", " "), _value(value)) for key, value in card["training"].items()
             if key not in skipped and value is not None]  # fmt: skip
    packages = {"python": versions.get("python"), **versions.get("packages", {})}
    listed = ", ".join(f"{name} {value}" for name, value in packages.items() if value)
    rows += [("versions", listed)] if listed else []
    for key in ("command", "git_revision", "backend", "device_kind"):
        if versions.get(key):
            rows.append((key.replace("_", " "), _code(versions[key])))
    return _table(("", ""), rows)


def _citation(card: Card) -> str:
    citation = card["data"]["citation"].strip()
    return f"```\n{citation}\n```" if citation else ""


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(_cell(x) for x in line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _sentence(note: str) -> str:
    return note[:1].upper() + note[1:]


def _code(text: str) -> str:
    return f"`{text}`"


def _quote(text: str) -> str:
    return json.dumps(" ".join(text.split()), ensure_ascii=False)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
