"""The cells of an experiment: which model is trained on what, from where, and in which order."""

import dataclasses
import re
from collections.abc import Sequence

import ml_collections

from musrep_jax.config import ConfigError, choose, split_list

MODES = ("scratch", "output_layer", "all_layers")
EXPORT_PREFIX = "export:"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One training and its evaluation.

    Attributes:
        target: data set that is trained and tested on.
        model: model name.
        mode: "scratch", "output_layer" or "all_layers".
        source: data set the parameters come from, or `export:DIRECTORY`, or None for scratch.
        seed: of the initial values, the order of the data and the crops.
        num_train_tracks: labelled tracks of the target used for training; 0 is all of them.
    """

    target: str
    model: str
    mode: str = "scratch"
    source: str | None = None
    seed: int = 0
    num_train_tracks: int = 0

    @property
    def key(self) -> str:
        """A name for files and folders, unique among the cells of an experiment."""
        start = f"{short_name(self.source)}-to-" if self.source else ""
        size = f"-n{self.num_train_tracks}" if self.num_train_tracks else ""
        return f"{start}{short_name(self.target)}-{self.model}-{self.mode}-seed{self.seed}{size}"

    @property
    def source_cell(self) -> "Cell | None":
        """The cell whose export this one starts from, or None."""
        if self.source is None or self.source.startswith(EXPORT_PREFIX):
            return None
        return Cell(target=self.source, model=self.model, seed=self.seed)

    def describe(self) -> str:
        """Returns a readable name, e.g. `western -> makam, vgg_ish, all layers, 20 tracks`."""
        start = f"{display_name(self.source)} -> " if self.source else ""
        size = f", {self.num_train_tracks} training tracks" if self.num_train_tracks else ""
        mode = self.mode.replace("_", " ")
        return f"{start}{display_name(self.target)}, {self.model}, {mode}{size}, seed {self.seed}"


def display_name(name: str) -> str:
    """Returns a data set's name as shown to people: folders by their last part."""
    builder, colon, path = name.partition(":")
    return f"{builder}:{path.rstrip('/').rsplit('/', 1)[-1]}" if colon else name


def short_name(name: str) -> str:
    """Returns a data set's name with only letters, digits, dots and underscores."""
    return re.sub(r"[^\w.]+", "_", display_name(name)).strip("_")


def plan_cells(
    *,
    sources: Sequence[str],
    targets: Sequence[str],
    models: Sequence[str],
    modes: Sequence[str],
    seeds: Sequence[int],
    num_train_tracks: Sequence[int] = (0,),
) -> list[Cell]:
    """Returns the cells of a transfer matrix, each after the cell it starts from.

    A source is trained from scratch on all of its tracks; every target is trained in every mode,
    and from every source but itself, at every number of training tracks. Cells that serve two ends
    (a target that is also a source) appear once.

    Args:
        sources: data set names, or `export:DIRECTORY`.
        targets: data set names.
        models: model names.
        modes: of `MODES`.
        seeds: integers.
        num_train_tracks: training set sizes; 0 is all tracks.

    Returns:
        Cells without duplicates.

    Raises:
        ConfigError: if a mode does not exist, or nothing is left to do.
    """
    for mode in modes:
        choose(mode, MODES, "transfer.modes")
    cells: dict[Cell, None] = {}
    for model in models:
        for seed in seeds:
            if any(mode != "scratch" for mode in modes):
                for source in sources:
                    if not source.startswith(EXPORT_PREFIX):
                        cells[Cell(target=source, model=model, seed=seed)] = None
            for target in targets:
                for size in num_train_tracks:
                    common = dict(target=target, model=model, seed=seed, num_train_tracks=size)
                    for mode in modes:
                        if mode == "scratch":
                            cells[Cell(**common)] = None
                            continue
                        for source in sources:
                            if source != target:
                                cells[Cell(source=source, mode=mode, **common)] = None
    if not cells:
        raise ConfigError(
            "There is nothing to do: name at least one target, one mode and one seed, and a source "
            "that is not the target."
        )
    by_key: dict[str, Cell] = {}
    for cell in cells:
        other = by_key.setdefault(cell.key, cell)
        if other != cell:
            raise ConfigError(
                f"{other.target!r} and {cell.target!r} would be written under the same name "
                f"{cell.key!r}: rename one of the folders."
            )
    return list(cells)


@dataclasses.dataclass(frozen=True)
class Share:
    """A part of an experiment's cells, for one of several machines.

    Attributes:
        number: from 1 to `count`.
        count: of shares.
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Share | None":
        """Returns the share that `--cells` names, None for all cells.

        Args:
            text: such as "3/16", or "".

        Raises:
            ConfigError: if there is no such share.
        """
        if not text:
            return None
        match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise ConfigError(
                f"--cells is {text!r}: name a share and the number of shares, such as 3/16, the "
                "third of sixteen."
            )
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def of(self, cells: Sequence[Cell]) -> tuple[list[Cell], list[Cell]]:
        """Returns the cells of this share, and the sources that they start from beside them.

        What starts from one source stands together, so that few shares need the same source;
        two shares differ by at most one cell. Every cell is in one share.

        Args:
            cells: of the experiment; the result depends on them and the share alone.

        Returns:
            The share's cells, and the source cells of other shares, both in the order given.
        """
        order = {cell: place for place, cell in enumerate(cells)}
        first = {}
        for cell in cells:
            first.setdefault(cell.source_cell or cell, len(first))
        grouped = sorted(cells, key=lambda cell: (first[cell.source_cell or cell], order[cell]))
        start, end = (len(cells) * k // self.count for k in (self.number - 1, self.number))
        ours = set(grouped[start:end])
        sources = {cell.source_cell for cell in ours} - ours - {None}
        return [c for c in cells if c in ours], [c for c in cells if c in sources]


def cells_of_config(config: ml_collections.ConfigDict) -> list[Cell]:
    """Returns the cells that a transfer config asks for; lists are comma separated."""
    return plan_cells(
        sources=split_list(config.source),
        targets=split_list(config.target),
        models=split_list(config.model.name),
        modes=split_list(config.transfer.modes),
        seeds=parse_integers(config.seeds, "seeds"),
        num_train_tracks=parse_integers(config.num_train_tracks, "num_train_tracks"),
    )


def parse_integers(text: str, where: str) -> tuple[int, ...]:
    """Returns the integers of a comma separated setting; "all" stands for 0.

    Raises:
        ConfigError: if a part is not a non-negative integer.

    Example:
        >>> parse_integers("10, all", "num_train_tracks")
        (10, 0)
    """
    numbers = []
    for part in split_list(text):
        if part == "all":
            numbers.append(0)
        elif part.isdigit():
            numbers.append(int(part))
        else:
            raise ConfigError(f"{where} is {text!r}; {part!r} is not a whole number.")
    return tuple(numbers)
