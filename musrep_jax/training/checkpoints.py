"""Checkpoints to resume from, and exported models, on disk. Imports orbax.

A checkpoint directory holds one folder per kept step (the two latest), each with the state, the
best weights so far, the loop's memory, the identity of the run, and `SHA256SUMS`: one of them alone
is enough to go on exactly. An export is a directory `params/` (arrays), `tagger.json` (the card),
`README.md` (the same for people) and `SHA256SUMS`; `sha256sum -c SHA256SUMS` checks it without this
library.

Orbax notices a truncated file but not a flipped bit: hence the sums here.
"""

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from jax.experimental import multihost_utils

from musrep_jax.config import differences
from musrep_jax.runtime.closing import Closing
from musrep_jax.runtime.folders import (
    SPECIAL_NAMES,
    check_replaceable,
    plain_path,
    write_folder_atomically,
)
from musrep_jax.runtime.integrity import (
    CHECKSUMS_FILE,
    describe_difference,
    find_damage,
    list_files,
    reraise_write_errors_as,
    write_checksums,
)
from musrep_jax.training.array_files import (
    StepFiles,
    read_arrays,
    write_arrays,
)
from musrep_jax.training.loop import Restored
from musrep_jax.training.packing import Entry, make_read_buffers, make_template_index, pack, unpack
from musrep_jax.types import PyTree, TrainState

EXPORT_FORMAT = 1
CHECKPOINT_FORMAT = 3
NUM_KEPT = 2
"""Number of checkpoints kept: if the latest is damaged, the previous one remains."""
CARD_FILE = "tagger.json"
PARAMS_FOLDER = "params"
README_FILE = "README.md"

_FILES_WITHOUT_CHECKSUM = ("_CHECKPOINT_METADATA", "commit_success.txt")
"""Files that contain the commit time."""
_IGNORED_FILES = (".DS_Store", "Thumbs.db")


class CheckpointError(ValueError):
    """A checkpoint cannot be written, does not belong to this run, or is damaged."""


class ExportError(ValueError):
    """An exported model cannot be written, is not complete, or is damaged."""


def _is_export(path: Path) -> bool:
    """Returns whether a folder holds an export."""
    return (path / CARD_FILE).is_file()


def save_export(
    path: str | Path, variables: PyTree, card: Mapping[str, Any], readme: str = ""
) -> Path:
    """Returns the path of the directory in which it has written a model, whole or not at all.

    An export that is already there is replaced; nothing else is ever overwritten.

    Args:
        path: directory of the export.
        variables: nested dict of arrays: `params` and other collections.
        card: all that is needed to use the model and to judge it (name and fields, front end,
            labels in order, training data and license, metrics), as JSON values.
        readme: text of a `README.md` for people, if any; it may be edited afterwards, so it has
            no checksum.

    Raises:
        ExportError: when the path is taken by something else, the card is not JSON, or the disk
            is full.
    """
    path = Path(path).absolute()
    if "format" in card:
        raise ExportError("The card has the field 'format', which the export sets; rename it.")
    try:
        text = json.dumps({"format": EXPORT_FORMAT, **card}, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ExportError(f"The card of {path} cannot be written as JSON: {error}.") from error
    with write_folder_atomically(path, ExportError, _is_export) as folder:
        (folder / CARD_FILE).write_text(text + "\n", encoding="utf-8")
        if readme:
            (folder / README_FILE).write_text(readme, encoding="utf-8")
        with plain_path(folder, ExportError) as plain:
            write_arrays(plain / PARAMS_FOLDER, variables)
        write_checksums(folder, without=(README_FILE,))
    return path


def check_export_place(path: str | Path) -> None:
    """Raises unless an export can be written at a path, before any work is done for it.

    Args:
        path: directory of the export.

    Raises:
        ExportError: when the path is taken by something else.
    """
    check_replaceable(Path(path).absolute(), ExportError, _is_export)


def copy_export(source: Path, target: Path) -> Path:
    """Returns the directory of a copy of an exported model; an export that is there is replaced.

    Args:
        source: directory of the export.
        target: of the copy; left as it is if it holds the same files.

    Raises:
        ExportError: when the path is taken by something else, or the disk is full.
    """
    target = target.absolute()
    sums = [path / CHECKSUMS_FILE for path in (source, target)]
    if not sums[1].is_file() or sums[0].read_bytes() != sums[1].read_bytes():
        with write_folder_atomically(target, ExportError, _is_export) as folder:
            shutil.copytree(source, folder, dirs_exist_ok=True)
    return target


def load_export(path: str | Path) -> tuple[PyTree, dict[str, Any]]:
    """Returns (variables, card) of an exported model, after checking every file.

    Args:
        path: directory written by `save_export`, on any machine with any devices.

    Returns:
        Variables as nested dicts of arrays on the first device, and the card as it was given.

    Raises:
        ExportError: when the directory is missing, half-written, damaged, or of a later format.
    """
    path = Path(path).absolute()
    if not path.is_dir():
        raise ExportError(f"There is no exported model at {path}.")
    for name in (CHECKSUMS_FILE, CARD_FILE, PARAMS_FOLDER):
        if not (path / name).exists():
            raise ExportError(f"{path} is not a complete export: {name} is missing; export again.")
    names = list_files(path / PARAMS_FOLDER, without=_IGNORED_FILES)
    damage = find_damage(path, listed=[CARD_FILE, *(f"{PARAMS_FOLDER}/{name}" for name in names)])
    if damage is not None:
        raise ExportError(f"The export {path} is damaged: {damage}; copy it again or export again.")
    card = read_card(path)
    try:
        with plain_path(path, ExportError) as plain:
            return read_arrays(plain / PARAMS_FOLDER), card
    except Exception as error:  # of a foreign or damaged array orbax also raises bare ones
        raise ExportError(f"The arrays of {path} cannot be read: {error}") from error


def read_card(path: str | Path) -> dict[str, Any]:
    """Returns the card of an exported model; its arrays are not looked at.

    Args:
        path: directory written by `save_export`.

    Raises:
        ExportError: when there is none, it is no JSON object, or of a later format.
    """
    file = Path(path).absolute() / CARD_FILE
    if not file.is_file():
        raise ExportError(f"There is no exported model at {file.parent} (no {CARD_FILE}).")
    card = read_json_object(file)
    written_format = card.pop("format", None)
    if written_format != EXPORT_FORMAT:
        raise ExportError(
            f"The export {file.parent} has format {written_format!r}, but this version reads "
            f"format {EXPORT_FORMAT}; use the version that wrote it, or a newer one."
        )
    return card


def read_json_object(file: Path) -> dict[str, Any]:
    """Returns the JSON object in a file of an export.

    Args:
        file: path of it.

    Raises:
        ExportError: when it holds something else.
    """
    try:
        found = json.loads(file.read_bytes().decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ExportError(f"{file} is no JSON ({error}); export the model again.") from error
    if not isinstance(found, dict):
        raise ExportError(
            f"{file} holds a JSON {type(found).__name__} and no object; export the model again."
        )
    return found


class TrainCheckpoints(Closing):
    """Keeps training states in a directory: the two latest, each with the best weights so far.

    Saving runs in the background; leaving the context, or `wait`, completes it. Use as a context
    manager.

    Args:
        directory: where; created when missing.
        identity: what makes this run itself (config fingerprint, model, labels), as JSON values;
            a checkpoint whose identity differs is refused by name.
    """

    def __init__(self, directory: str | Path, identity: Mapping[str, Any]) -> None:
        self.directory = Path(directory).absolute()
        self._identity = json.loads(json.dumps({"format": CHECKPOINT_FORMAT, **identity}))
        self._saving: int | None = None
        self._stack = contextlib.ExitStack()
        with reraise_write_errors_as(CheckpointError, f"opening the checkpoints {self.directory}"):
            self.directory.mkdir(parents=True, exist_ok=True)
            self._notes = self._quarantine_damaged_checkpoints()
            plain = self._stack.enter_context(plain_path(self.directory, CheckpointError))
            if plain != self.directory and jax.process_count() > 1:
                raise CheckpointError(
                    f"{self.directory} has {SPECIAL_NAMES}, with which several processes cannot "
                    "store arrays: choose another folder."
                )
            self._manager = StepFiles(plain, NUM_KEPT, self._write_save_checksums)

    @property
    def steps(self) -> list[int]:
        """The saved steps, in order."""
        return self._manager.steps

    def save(
        self, step: int, state: TrainState, run: Mapping[str, Any], best: TrainState | None = None
    ) -> None:
        """Starts to save a state; the one before is complete when this returns.

        Args:
            step: number of updates made; a step that is already kept is left as it is.
            state: the state.
            run: the loop's memory, as JSON values.
            best: the best state so far, without optimizer state; None when there is none.

        Raises:
            CheckpointError: when this or the previous save failed, for example on a full disk.
        """
        self.wait()
        if step in self.steps:
            return
        items, indices = {}, {}
        for name, tree in {"state": state, "best": best}.items():
            if tree is not None:
                items[name], index = pack(tree)
                indices[name] = {leaf: dataclasses.astuple(at) for leaf, at in index.items()}
        meta = {"identity": self._identity, "run": dict(run), "arrays": indices}
        self._saving = step
        with reraise_write_errors_as(CheckpointError, f"saving step {step} to {self.directory}"):
            self._manager.save(step, items, meta)

    def _write_save_checksums(self) -> None:
        """Writes the checksums of a save before it gets its final name."""
        if jax.process_index() == 0:
            for folder in self.directory.glob(f"{self._saving}.*"):
                write_checksums(folder, without=_FILES_WITHOUT_CHECKSUM)

    def wait(self) -> None:
        """Waits until the last save is complete on disk, including checksums.

        Raises:
            CheckpointError: when it failed.
        """
        with reraise_write_errors_as(
            CheckpointError, f"saving step {self._saving} to {self.directory}"
        ):
            self._manager.wait()

    def restore(self, template: TrainState) -> Restored | None:
        """Returns the latest good state, or None when the directory holds none.

        A checkpoint that was found damaged has been set aside (`damaged-STEP`): the one before is
        taken, and `notes` says so.

        Args:
            template: a state of this run, whose structure, types and placement on devices the
                restored one takes.

        Raises:
            CheckpointError: when the checkpoints belong to another run, do not fit the template,
                or are all damaged.
        """
        if not self.steps:
            if self._notes:
                raise CheckpointError(
                    f"No checkpoint in {self.directory} is whole: {'; '.join(self._notes)}. The "
                    "same command starts this training from its beginning."
                )
            return None
        step = self.steps[-1]
        meta = json.loads((self.directory / str(step) / "meta" / "metadata").read_text("utf-8"))
        self._check_identity(step, meta["identity"])
        arrays, best = meta["arrays"], None
        state = self._read(step, "state", arrays["state"], template)
        if "best" in arrays:
            best = self._read(step, "best", arrays["best"], template.replace(opt_state=None))
        return Restored(state, meta["run"], best, list(self._notes))

    def _quarantine_damaged_checkpoints(self) -> list[str]:
        """Moves damaged checkpoints aside, so that their steps can be saved again."""
        folders = sorted(
            (path for path in self.directory.iterdir() if path.name.isdigit()),
            key=lambda path: int(path.name),
            reverse=True,
        )
        damaged: dict[Path, str] = {}
        num_good, leftovers = 0, []
        for folder in folders:
            if num_good == NUM_KEPT:  # a kill came while this one was removed
                leftovers.append(folder)
            elif damage := find_damage(folder, list_files(folder, _FILES_WITHOUT_CHECKSUM)):
                damaged[folder] = damage
            else:
                num_good += 1
        _synchronize("damaged checkpoints are found")
        if jax.process_index() == 0:
            unfinished = self.directory.glob("*.orbax-checkpoint-tmp*")  # left by a kill
            for folder in (*unfinished, *leftovers):
                shutil.rmtree(folder)
            for folder in damaged:
                aside = folder.with_name(f"damaged-{folder.name}")
                shutil.rmtree(aside, ignore_errors=True)
                folder.rename(aside)
        _synchronize("damaged checkpoints are set aside")
        return [
            f"checkpoint {folder.name} is damaged ({damage}) and set aside as damaged-{folder.name}"
            for folder, damage in damaged.items()
        ]

    def _check_identity(self, step: int, stored: Mapping[str, Any]) -> None:
        """Raises when a checkpoint belongs to another run, naming the first difference."""
        for field in differences(stored, self._identity):
            theirs, ours = (_at(identity, field) for identity in (stored, self._identity))
            raise CheckpointError(
                f"The checkpoint of step {step} in {self.directory} belongs to another run: its "
                f"{field} {describe_difference(theirs, ours)}. Use another workdir, or remove this "
                "directory to start again."
            )

    def _read(
        self, step: int, item: str, arrays: Mapping[str, Any], template: TrainState
    ) -> TrainState:
        """Returns a state of a checkpoint, placed like the template."""
        index = {name: Entry(tuple(shape), *rest) for name, (shape, *rest) in arrays.items()}
        wanted = make_template_index(template)
        for name in sorted(index.keys() | wanted.keys()):
            theirs, ours = (str(one.get(name, "missing")) for one in (index, wanted))
            if theirs != ours:
                raise CheckpointError(
                    f"The checkpoint of step {step} in {self.directory} does not fit this model: "
                    f"{name} is {theirs} there and {ours} here. Use another workdir."
                )
        with reraise_write_errors_as(CheckpointError, f"reading step {step} of {self.directory}"):
            restored = self._manager.restore(step, item, make_read_buffers(index, template))
        return unpack(restored, index, template)

    def close(self) -> None:
        """Waits for the last save and releases the directory."""
        try:
            self.wait()
        finally:
            self._manager.close()
            self._stack.close()


def _synchronize(moment: str) -> None:
    """Waits for all processes; returns at once if there is only one."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(moment)


def _at(tree: Mapping[str, Any], dotted: str) -> Any:
    """Returns the value at a dotted name, or None."""
    value: Any = tree
    for name in dotted.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
