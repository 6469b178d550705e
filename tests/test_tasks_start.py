"""`model.start`: trainings without a source start from an exported backbone."""

import json

import numpy as np
import pytest
from flax import traverse_util
from toy_exports import make_export
from toy_recordings import make_folder

from musrep_jax.command_line import main
from musrep_jax.training.checkpoints import load_export


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")
    music = make_folder(folder / "music")

    def run(name, *words):
        workdir = folder / name
        code = main([
            "main.py", "--config=transfer:smoke", "--config.model.name=fcn",
            f"--config.target=audio_folder:{music}", "--config.transfer.modes=scratch",
            f"--workdir={workdir}",
            f"--config.data.data_dir={folder / 'data'}", *words,
        ])  # fmt: skip
        (export,) = workdir.glob("exports/*") if code == 0 else [None]
        return code, export

    return run


def backbone(export):
    params = traverse_util.flatten_dict(load_export(export)[0]["params"])
    kernels = {p: v for p, v in params.items() if p[0] != "head" and p[-1] == "kernel"}
    return np.concatenate([np.ravel(kernels[path]) for path in sorted(kernels)])


def test_a_training_goes_on_from_the_backbone_that_it_is_given(train, capsys):
    _, first = train("first")
    _, started = train("started", "--config.seeds=1", f"--config.model.start={first}")
    # One step of Adam moves no parameter further than its rate, 0.003.
    assert np.abs(backbone(started) - backbone(first)).max() < 0.004
    # Another seed alone gives other kernels: those of the output layer, which is fresh.
    heads = [load_export(export)[0]["params"]["head"]["kernel"] for export in (first, started)]
    assert np.abs(heads[0] - heads[1]).max() > 0.1


def test_an_export_brings_its_architecture_and_size_also_to_training_from_scratch(tmp_path):
    export = make_export(tmp_path / "export", "fcn")
    code = main([
        "main.py", "--config=transfer:smoke", f"--config.source=export:{export}",
        f"--config.target=audio_folder:{make_folder(tmp_path / 'music')}",
        f"--config.data.data_dir={tmp_path / 'data'}", f"--workdir={tmp_path / 'w'}",
        "--config.transfer.modes=scratch,all_layers", "--config.model.dropout_rate=0.3",
        "--config.num_train_tracks=1_per_class",
    ])  # fmt: skip
    assert code == 0
    written = json.loads((tmp_path / "w/results.json").read_text(encoding="utf-8"))
    scratch, carried = written["cells"]
    assert (scratch["mode"], scratch["model"], carried["model"]) == ("scratch", "fcn", "fcn")
    settings = load_export(export)[1]["model"]["settings"]
    for cell in (scratch, carried):
        assert cell["error"] is None and cell["num_train_tracks"] == "1_per_class"
        assert cell["model_deviations"]["n_channels"] == settings["n_channels"]
        assert cell["model_deviations"]["dropout_rate"] == 0.3
    started = backbone(tmp_path / "w" / carried["export"])
    # One step of Adam moves no parameter further than its rate, 0.003.
    assert np.abs(started - backbone(export)).max() < 0.004
    assert np.abs(backbone(tmp_path / "w" / scratch["export"]) - backbone(export)).max() > 0.01


def test_a_start_that_is_not_there_is_refused_before_anything_runs(train, tmp_path, capsys):
    code, _ = train("refused", f"--config.model.start=export:{tmp_path / 'nowhere'}")
    assert code == 2
    said = capsys.readouterr().err
    assert "model.start names" in said and "nowhere" in said
