"""What `musrep models` says of a model that stands in a folder or on the Hub."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from musrep_jax.cli.common import describe_front_end
from musrep_jax.types import PyTree


def is_place(name: str) -> bool:
    """Returns whether a word names a place, not a model: what exists, is a path, or on the Hub.

    Args:
        name: a word of a command line.
    """
    from musrep_jax.inference.layout import find_hub_name

    is_path = len(Path(name).parts) > 1 or Path(name).expanduser().exists()
    return is_path or bool(find_hub_name(name))


def read_facts(place: str) -> dict[str, Any]:
    """Returns the facts about an exported model, as JSON values.

    Args:
        place: as `load_encoder` takes it.

    Raises:
        ExportError: if there is no model, with the exports that a workdir holds.
    """
    from musrep_jax.inference.reading import read_model
    from musrep_jax.inference.tagger import build_encoder
    from musrep_jax.training.checkpoints import ExportError

    path = Path(place).expanduser()
    if path.is_file():
        raise ExportError(
            f"{path} is a file, and an exported model is a folder: name the folder that holds it, "
            "or import weights of others with musrep import-weights."
        )
    if path.is_dir() and (exports := find_exports(path)):
        raise ExportError(
            f"{path} is not an exported model and holds {len(exports)}: name one of them, such as "
            f"{exports[0]}."
        )
    variables, card = read_model(place)
    build_encoder(variables, card, place)
    return describe_export(variables, card)


def find_exports(folder: Path) -> list[Path]:
    """Returns the exported models in a workdir or in a folder of exports, the chosen one first.

    Args:
        folder: of any kind; one that is an export itself holds none.
    """
    from musrep_jax.reporting.results import CHOSEN_EXPORT
    from musrep_jax.training.checkpoints import CARD_FILE

    if (folder / CARD_FILE).is_file():
        return []
    found = [*folder.glob(f"*/{CARD_FILE}"), *folder.glob(f"exports/*/{CARD_FILE}")]
    return sorted(
        (card.parent for card in found), key=lambda path: (path.name != CHOSEN_EXPORT, path)
    )


def describe_export(variables: PyTree, card: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the facts about an exported model, as JSON values.

    Args:
        variables: its arrays.
        card: of the export.
    """
    import jax

    from musrep_jax.exports.cards import find_changed_settings, list_known_limits

    data, test = card["data"], card["metrics"].get("test", {})
    scores = {key: test[key] for key in ("roc_auc", "pr_auc") if test.get(key) is not None}
    published = (card.get("published") or {}).get("scores") or {}
    return {
        "model": card["model"]["name"],
        "settings": find_changed_settings(card),
        "num_params": sum(array.size for array in jax.tree.leaves(variables["params"])),
        "reads": card.get("reads", "audio"),
        "num_samples": card["num_samples"],
        "sample_rate": card["sample_rate"],
        "front_end": card["front_end"],
        "labels": list(card["labels"]),
        "trained_on": data["name"],
        "licence": data["licence"],
        "scores": scores,
        "num_test_tracks": test.get("num_tracks"),
        "published": dict(published),
        "limits": list_known_limits(card),
    }


def list_rows(facts: Mapping[str, Any]) -> list[list[str]]:
    """Returns the rows of the table of an exported model: what, and its value in words.

    Args:
        facts: from `describe_export`.
    """
    from musrep_jax.exports.cards import METRICS

    def scores(values: Mapping[str, float]) -> str:
        return ", ".join(f"{METRICS.get(key, key)} {value:.4f}" for key, value in values.items())

    rows = {"model": facts["model"], "parameters": f"{facts['num_params']:,}"}
    if facts["sample_rate"] is not None:
        seconds = facts["num_samples"] / facts["sample_rate"]
        rows["input"] = f"{seconds:.2f} s at {facts['sample_rate']} Hz"
        rows["front end"] = describe_front_end(facts["front_end"])
    rows["labels"] = ", ".join(facts["labels"]) or "none: it embeds, and does not tag"
    rows["trained on"] = facts["trained_on"]
    rows["license"] = facts["licence"]
    if facts["scores"]:
        rows["tested"] = f"{scores(facts['scores'])}, {facts['num_test_tracks']} tracks"
    if facts["published"]:
        rows["published"] = scores(facts["published"])
    return [[key, value] for key, value in rows.items()] + [["note", x] for x in facts["limits"]]
