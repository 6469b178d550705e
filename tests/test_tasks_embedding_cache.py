"""Embeddings of a frozen backbone are computed once for a data set and its weights."""

import jax
import numpy as np
import pytest
import soundfile
from ml_collections import ConfigDict

from musrep_jax.data import open_dataset
from musrep_jax.models import Tagger
from musrep_jax.tasks import embedding_cache
from musrep_jax.tasks.embedding_cache import FOLDER, embed_once
from musrep_jax.tasks.scoring import SplitScorer

CHUNK = 100


class Scaled(Tagger):
    """The embedding of a chunk is its first two samples, times a weight."""

    num_samples: int = CHUNK

    def setup(self):
        super().setup()
        self.scale = self.param("scale", lambda key: np.float32(1.0))

    def features(self, inputs, *, train):
        return inputs

    def embed(self, features, *, train):
        return features[:, :2] * self.scale, {}


@pytest.fixture
def dataset(tmp_path):
    folder, rows = tmp_path / "f", ["path\tlabels\tsplit"]
    folder.mkdir()
    for index in range(8):
        audio = np.random.default_rng(index).integers(-9000, 9000, CHUNK * (1 + index % 3))
        soundfile.write(folder / f"{index}.wav", audio.astype(np.int16), 16000)
        rows.append(f"{index}.wav\ta\t{('train', 'train', 'validation', 'test')[index % 4]}")
    (folder / "labels.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return open_dataset(f"audio_folder:{folder}", data_dir=tmp_path / "data")


@pytest.fixture
def count_chunks(monkeypatch):
    """Lists how many chunks each pass through the model had."""
    counts, embeddings = [], SplitScorer.embeddings

    def embed(self, variables, progress):
        counts.append(len(self.table))
        return embeddings(self, variables, progress)

    monkeypatch.setattr(SplitScorer, "embeddings", embed)
    return counts


def score(tracks):
    settings = ConfigDict({
        "train": {"num_devices": 1, "loss": "binary_cross_entropy"},
        "evaluation": {"batch_size": 4, "tail": "keep", "reaches_end": False,
                       "aggregate": "probability"},
    })  # fmt: skip
    with settings.ignore_type():
        settings.train.max_seconds = None
    return SplitScorer(Scaled(num_classes=1), tracks, settings, None)


def make_variables(scale, seed=0):
    variables = Scaled(num_classes=1).init(
        jax.random.key(seed), np.zeros((1, CHUNK), np.float32), train=False
    )
    variables = jax.device_get(variables)
    variables["params"]["scale"] = np.float32(scale)
    return variables


def expect(scorer, scale):
    """Returns the first two samples of every chunk, read from the data set itself."""
    return scale * np.stack([scorer.tracks.crop(row, start, 2) for row, start in scorer.table])


def test_cells_of_a_curve_compute_what_is_new(dataset, count_chunks):
    whole = dataset.tracks("train")
    two, three = (score(whole.subset(number, seed=0)) for number in (2, 3))
    np.testing.assert_allclose(embed_once(two, make_variables(3.0)), expect(two, 3.0), rtol=1e-6)
    # Another output layer is the same backbone; the larger subset has the smaller one in it.
    found = embed_once(three, make_variables(3.0, seed=1))
    np.testing.assert_allclose(found, expect(three, 3.0), rtol=1e-6)
    assert count_chunks == [len(two.table), len(three.table) - len(two.table)]
    np.testing.assert_array_equal(embed_once(three, make_variables(3.0)), found)
    np.testing.assert_allclose(embed_once(two, make_variables(3.0)), expect(two, 3.0), rtol=1e-6)
    assert len(count_chunks) == 2
    np.testing.assert_allclose(embed_once(two, make_variables(2.0)), expect(two, 2.0), rtol=1e-6)
    test = score(dataset.tracks("test"))
    np.testing.assert_allclose(embed_once(test, make_variables(3.0)), expect(test, 3.0), rtol=1e-6)
    assert count_chunks[2:] == [len(two.table), len(test.table)]


@pytest.mark.parametrize("damage", ["flip", "cut", "text"])
def test_damaged_files_are_computed_again(dataset, count_chunks, damage, capsys):
    scorer, variables = score(dataset.tracks("train")), make_variables(3.0)
    expected = embed_once(scorer, variables)
    (path,) = (dataset.directory / FOLDER).glob("*.npz")
    content = bytearray(path.read_bytes())
    content[-len(content) // 2] ^= 255
    path.write_bytes({"flip": content, "cut": content[:-100], "text": b"nothing"}[damage])
    np.testing.assert_array_equal(embed_once(scorer, variables), expected)
    assert len(count_chunks) == 2 and "is damaged" in capsys.readouterr().err
    np.testing.assert_array_equal(embed_once(scorer, variables), expected)
    assert len(count_chunks) == 2


def test_the_oldest_files_make_room(dataset, count_chunks, monkeypatch):
    scorer = score(dataset.tracks("train"))
    embed_once(scorer, make_variables(1.0))
    (path,) = (dataset.directory / FOLDER).glob("*.npz")
    monkeypatch.setattr(embedding_cache, "MAX_BYTES", int(2.5 * path.stat().st_size))
    for scale in (2.0, 1.0, 3.0, 1.0, 2.0):  # 3.0 drives out 2.0, which was not used so lately
        embed_once(scorer, make_variables(scale))
    assert len(count_chunks) == 4
    assert len(list((dataset.directory / FOLDER).glob("*.npz"))) == 2


def test_a_folder_that_takes_nothing_is_said(dataset, count_chunks, capsys):
    (dataset.directory / FOLDER).write_text("a file in its place")
    scorer = score(dataset.tracks("train"))
    np.testing.assert_allclose(
        embed_once(scorer, make_variables(3.0)), expect(scorer, 3.0), rtol=1e-6
    )
    assert "embeddings are not kept" in capsys.readouterr().err
