"""The plan of an experiment."""

import pytest

from musrep_jax.config import ConfigError
from musrep_jax.recipes.cells import MODES, Cell, display_name, parse_integers, plan_cells


def plan(**changes):
    arguments = dict(
        sources=["s/west"], targets=["s/east"], models=["vgg_ish"], modes=MODES, seeds=[0]
    )
    return plan_cells(**(arguments | changes))


def test_a_source_is_trained_on_all_tracks_before_what_starts_from_it():
    cells = plan(num_train_tracks=(10, 0))
    assert cells[0] == Cell("s/west", "vgg_ish")
    assert len(cells) == len(set(cells)) == 1 + 2 * 3
    for cell in cells:
        if cell.source_cell is not None:
            assert cells.index(cell.source_cell) < cells.index(cell)


def test_the_full_matrix_has_no_cell_twice_and_none_onto_itself():
    names = ["a/x", "a/y", "a/z"]
    cells = plan(sources=names, targets=names, seeds=[0, 1], models=["vgg_ish", "musicnn"])
    assert len(cells) == len(set(cells)) == 2 * 2 * (3 + 3 * 2 * 2)
    assert all(cell.source != cell.target for cell in cells)


def test_scratch_alone_needs_no_source():
    assert plan(sources=[], modes=["scratch"]) == [Cell("s/east", "vgg_ish")]
    assert plan(modes=["scratch"]) == [Cell("s/east", "vgg_ish")]


def test_an_exported_model_is_a_source_without_a_cell():
    cells = plan(sources=["export:/some/where"], modes=["all_layers"])
    assert len(cells) == 1
    assert cells[0].source_cell is None


def test_keys_are_file_names_and_differ():
    cells = plan(targets=["audio_folder:/a b/çalgı", "s/east"], num_train_tracks=(5, 0))
    keys = [cell.key for cell in cells]
    assert len(set(keys)) == len(keys)
    assert all("/" not in key and ":" not in key and " " not in key for key in keys)
    assert display_name("audio_folder:/a b/çalgı/") == "audio_folder:çalgı"


def test_folders_that_would_be_written_under_one_name_are_refused():
    with pytest.raises(ConfigError, match="rename one of the folders"):
        plan(targets=["audio_folder:/one/music", "audio_folder:/two/music"])


def test_mistakes_get_one_sentence():
    with pytest.raises(ConfigError, match="Did you mean 'all_layers'"):
        plan(modes=["all_layer"])
    with pytest.raises(ConfigError, match="nothing to do"):
        plan(targets=["s/west"], modes=["all_layers"], sources=[])
    with pytest.raises(ConfigError, match="'x' is not a whole number"):
        parse_integers("1,x", "seeds")
