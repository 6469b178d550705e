"""The notebooks: paired with their scripts, stripped, kind to Colab's jax, run top to bottom."""

import configparser
import importlib.metadata
import json
import os

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient
from packaging.requirements import Requirement

NOTEBOOKS = ("quickstart", "transfer_tpu", "your_own_recordings", "export_and_use")

COLAB = {
    "absl-py": "1.4.0",
    "array_record": "0.8.3",
    "flax": "0.11.2",
    "grain": "0.2.18",
    "jax": "0.7.2",
    "librosa": "0.11.0",
    "numpy": "2.1.3",
    "optax": "0.2.8",
    "orbax-checkpoint": "0.12.4",
    "soundfile": "0.14.0",
    "tensorflow-datasets": "4.9.10",
}
"""What Colab has. Source: the package lists of googlecolab/backend-info of 2026-08-19."""


def read_notebook(repository, name):
    return nbformat.read(repository / "colab" / f"{name}.ipynb", as_version=4)


def code_of(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_and_script_are_one_and_outputs_are_stripped(repository, name):
    notebook = read_notebook(repository, name)
    nbformat.validate(notebook)
    script = (repository / "colab" / f"{name}.py").read_text(encoding="utf-8")
    paired = jupytext.reads(script, fmt="py:percent")
    assert [(cell.cell_type, cell.source, cell.metadata) for cell in notebook.cells] == [
        (cell.cell_type, cell.source, cell.metadata) for cell in paired.cells
    ], "jupytext --update --to ipynb colab/*.py"
    for key in ("accelerator", "colab", "kernelspec"):
        assert notebook.metadata.get(key) == paired.metadata.get(key)
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    assert (notebook.metadata.get("accelerator") == "TPU") == (name == "transfer_tpu")


def test_all_install_alike_and_never_upgrade_jax(repository):
    installs = {code_of(read_notebook(repository, name))[0] for name in NOTEBOOKS}
    (install,) = installs
    assert 'for name in ("jax", "jaxlib")' in install
    for name in NOTEBOOKS:
        code = "\n".join(code_of(read_notebook(repository, name)))
        commands = [line for line in code.splitlines() if "pip" in line]
        assert len(commands) == (2 if name == "export_and_use" else 1)
        assert all(line.endswith(", *kept]") for line in commands)
        assert "-U" not in code
        assert "--upgrade" not in code


def test_colab_has_what_we_ask_for(repository):
    settings = configparser.ConfigParser()
    settings.read(repository / "setup.cfg")
    extras = settings["options.extras_require"]
    lines = [settings["options"]["install_requires"], extras["data"]]
    asked = [Requirement(line) for line in "\n".join(lines).split("\n") if line.strip()]
    by_name = {requirement.name: requirement.specifier for requirement in asked}
    assert set(by_name) - set(COLAB) == {"filelock", "ml-collections", "soxr"}
    for name, version in COLAB.items():
        assert by_name[name].contains(version), name


@pytest.fixture(scope="module")
def execute(repository, tmp_path_factory):
    """Returns a function that runs a notebook in a fresh process: it gives what a last cell says.

    Data sets and compiled programs are shared, so that the later ones have less to do.
    """
    shared = tmp_path_factory.mktemp("shared")
    environment = {
        **os.environ,
        "CI": "true",
        "IPYTHONDIR": str(shared / "ipython"),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "true",  # of programs that run for a second
        "MUSREP_DATA": str(shared / "data"),
        "PYTHONPATH": str(repository),
        "XLA_FLAGS": "",
    }

    def run(name, question):
        folder = tmp_path_factory.mktemp(name)
        notebook = read_notebook(repository, name)
        notebook.cells.append(
            nbformat.v4.new_code_cell(f"print(json.dumps({question}, default=str))")
        )
        client = NotebookClient(
            notebook, timeout=3600, resources={"metadata": {"path": str(folder)}}
        )
        client.execute(env=environment)
        outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
        version = importlib.metadata.version("jax")
        assert outputs[0][0].text == f"jax {version}\n"  # and nothing was installed
        assert os.listdir(folder) == ["runs"]
        return folder, json.loads(outputs[-1][0].text), outputs

    return run


def texts(outputs):
    """Returns all that a notebook printed."""
    return "".join(o.text for cell in outputs for o in cell if o.output_type == "stream")


def num_pictures(outputs):
    """Returns how many pictures a notebook shows."""
    return sum("image/png" in o.get("data", {}) for cell in outputs for o in cell)


def test_quickstart(execute):
    question = "{'cells': result, 'raw': raw, 'calibrated': calibrated, 'labels_of': labels_of, \
        'similarities': similarities.tolist(), 'rows': rows.tolist(), 'scores': scores.shape}"
    folder, found, outputs = execute("quickstart", question)
    assert found["cells"]["error"] is None
    assert 0 <= found["cells"]["roc_auc"] <= 1
    labels = list(found["raw"])
    assert list(found["calibrated"]) == labels
    assert all(0 <= p <= 1 for p in [*found["raw"].values(), *found["calibrated"].values()])
    assert found["raw"] != found["calibrated"]
    assert found["scores"] == [3, len(labels)] or found["scores"][0] > 3  # three recordings
    # The nearest recording to one is itself.
    assert found["similarities"] == sorted(found["similarities"], reverse=True)
    assert found["similarities"][0] == pytest.approx(1.0, abs=1e-5)
    assert len(found["labels_of"]) == len(list((folder / "runs" / "recordings").glob("*.wav"))) == 6
    said = texts(outputs)
    assert "6 embedded" in said
    assert "roc_auc: " in said
    assert num_pictures(outputs) == 1


@pytest.mark.slow
def test_transfer_tpu(execute):
    _, found, outputs = execute("transfer_tpu", "cells")
    assert [(cell["mode"], cell["error"]) for cell in found if cell["source"]] == [
        ("output_layer", None)
    ]
    assert {cell["target"] for cell in found} == {
        "synthetic_cultures/western",
        "synthetic_cultures/makam",
    }
    said = texts(outputs)
    assert "1 x cpu (cpu)" in said
    assert "synthetic_cultures/western -> synthetic_cultures/makam" in said
    # The second time there is nothing left to do.
    assert "3 cells, 0 done before" in said
    assert "3 cells, 3 done before" in said
    assert num_pictures(outputs) == 1


@pytest.mark.slow
def test_your_own_recordings(execute):
    _, found, outputs = execute("your_own_recordings", "result")
    assert found["error"] is None
    assert found["target"].startswith("audio_folder:")
    assert found["num_train_tracks_used"] + found["num_tracks"] <= 22 - 3  # of 24; 2 are bad
    said = texts(outputs)
    for label, row in found["per_label"].items():
        if row["roc_auc"] is not None:
            assert f"{label:<30} {row['positives']:>9}  {row['roc_auc']:7.3f}" in said
    for bad, reason in (("makam-0001.flac", "it is damaged"), ("makam-0000.wav", "its peak is 0")):
        assert f"{bad}: is quarantined by musrep doctor" in said
        assert reason in said
    lines = [line.split("\t") for line in said.splitlines() if "new_recordings" in line]
    assert [os.path.basename(path) for path, _ in lines] == [f"new-{n}.ogg" for n in range(3)]
    labels = {*found["per_label"], *found["skipped_labels"]}
    for _, tags in lines:
        shown = [tag.rsplit(" ", 1)[0] for tag in tags.split(", ")]
        assert len(shown) == 5
        assert set(shown) <= labels
    assert num_pictures(outputs) == 1


@pytest.mark.slow
def test_export_and_use(execute):
    question = "[[float(difference) for difference in (safetensors_difference, \
        stablehlo_difference, onnx_difference)], found]"
    folder, ((same, *close), tags), outputs = execute("export_and_use", question)
    assert same == 0.0
    assert max(close) < 1e-5
    assert len(tags) > 5
    assert all(0 <= value <= 1 for value in tags.values())
    for path in ("stablehlo/tagger.stablehlo", "onnx/tagger.onnx"):
        assert (folder / "runs" / "exported" / path).is_file()
    said = texts(outputs)
    assert "params.head.kernel" in said
    assert said.count("\nlargest difference: ") == 2
