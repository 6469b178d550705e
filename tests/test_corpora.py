"""Every real corpus keeps the same contract: facts, labels, splits, files, configs, fake builds."""

import dataclasses
import doctest
import hashlib
import json
import pathlib
import re
import sys

import jax
import numpy as np
import optax
import pytest
from compact_models import COMPACT
from fake_corpora import FAKES, NEEDS_ALL_FILES, make_fake
from flax import linen as nn
from toy_training import make_apply

from musrep_jax.data import ChunkSpec, DatasetError, open_dataset
from musrep_jax.data.build.builder import BuildError
from musrep_jax.data.corpora import tracks as corpus_tracks
from musrep_jax.data.corpora.builder import CorpusBuilder, corpus_folder
from musrep_jax.data.corpora.split_report import describe_split
from musrep_jax.data.datasets import DATASETS, load_builder_class
from musrep_jax.data.input import pipeline
from musrep_jax.data.specs import ALL_SPLITS, STORED_FORMS
from musrep_jax.losses import make_tagging_loss
from musrep_jax.models import create_model
from musrep_jax.training.step import create_state, make_train_step

CORPORA = sorted(name for name in DATASETS if issubclass(load_builder_class(name), CorpusBuilder))
GOLDEN = pathlib.Path(__file__).parent / "golden" / "corpus_labels.json"


@pytest.fixture(params=CORPORA)
def corpus(request):
    return load_builder_class(request.param)


def beside(corpus, name):
    path = pathlib.Path(sys.modules[corpus.__module__].__file__).parent / name
    return path.read_text(encoding="utf-8")


def one_of_each(corpus):
    """The default config, and one for every other label set, split and stored form."""
    default, *others = [config.name for config in corpus.BUILDER_CONFIGS]
    chosen = [default]
    for place in range(3):
        seen = {name.split("-")[place] for name in chosen}
        for name in others:
            part = name.split("-")[place]
            if part not in seen:
                seen.add(part)
                chosen.append(name)
    return chosen


def test_facts(corpus):
    assert corpus.NAME in DATASETS and corpus.__module__.split(".")[-2] == corpus.NAME
    assert corpus.TITLE.endswith(".") and corpus.LICENCE and not corpus.CAN_BUILD_AUTOMATICALLY
    assert "@" in beside(corpus, "CITATIONS.bib")
    for line in beside(corpus, "TAGS.txt").splitlines():
        assert re.match(r"(content|ml)\.[\w.-]+( #|$)", line), line


def test_labels_stand_in_the_published_order(corpus):
    """Golden: number and sha256 of the names. A changed order silently spoils every model."""
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    found = {}
    for name, labels in corpus.LABEL_SETS.items():
        assert labels and len(set(labels)) == len(labels)
        assert not any(set(label) & set("\t\n|") or label != label.strip() for label in labels)
        digest = hashlib.sha256("\n".join(labels).encode("utf-8")).hexdigest()
        found[name] = [len(labels), labels[0], labels[-1], digest]
    assert found == golden.get(corpus.NAME), json.dumps({corpus.NAME: found}, ensure_ascii=False)


def test_splits_have_a_card(corpus):
    assert corpus.SPLIT_CARDS
    for name, card in corpus.SPLIT_CARDS.items():
        assert re.fullmatch(r"[a-z0-9_]+", name) and card.rule.endswith(".")
        assert set(card.sizes) <= set(ALL_SPLITS)
        assert set(card.labels) <= set(corpus.LABEL_SETS)
        assert not (card.is_generated and card.sizes), (
            "what depends on a seed has no published size"
        )


def test_files_say_how_they_are_got(corpus):
    readme = beside(corpus, "README.md")
    assert corpus.FILES and len({file.path for file in corpus.FILES}) == len(corpus.FILES)
    for file in corpus.FILES:
        path = pathlib.PurePosixPath(file.path)
        assert not path.is_absolute() and ".." not in path.parts and "\\" not in file.path
        assert file.url or file.how, f"{file.path} has neither a URL nor a manual way"
        assert not file.url or re.match(r"https?://", file.url)
        if file.url and "githubusercontent" in file.url:
            assert re.search(r"/[0-9a-f]{40}/", file.url), "wants a commit"
            assert (file.size and file.sha256) or "`git hash-object`" in readme
        assert file.sha256 is None or re.fullmatch("[0-9a-f]{64}", file.sha256)
        assert file.path in readme, f"README.md does not name {file.path}"
        assert file.sha256 is None or file.sha256 in readme
        assert file.size is None or f"{file.size:,}" in readme


def test_readme_has_commands_configs_and_sizes(corpus):
    readme = beside(corpus, "README.md")
    for command in ("download", "build"):
        assert f"musrep {command} {corpus.NAME}" in readme
    for name in (*corpus.LABEL_SETS, *corpus.SPLIT_CARDS):
        assert f"`{name}`" in readme or f"`{name}-" in readme, name
    assert set(corpus.FORMS) <= set(STORED_FORMS)


def test_every_config_describes_itself_without_the_corpus(corpus, tmp_path):
    names = [config.name for config in corpus.BUILDER_CONFIGS]
    assert len(set(names)) == len(names)
    first = (next(iter(corpus.LABEL_SETS)), next(iter(corpus.SPLIT_CARDS)), corpus.FORMS[0])
    assert names[0] == "-".join(first)
    fingerprints = set()
    for name in one_of_each(corpus):
        builder = corpus(data_dir=tmp_path, config=name)
        labels, split, form = name.split("-")
        spec = builder.spec()
        assert spec.label_names == tuple(corpus.LABEL_SETS[labels])
        assert spec.stored_form == form
        # Sizes may depend on the labels.
        assert dataclasses.replace(builder.card, sizes={}) == dataclasses.replace(
            corpus.SPLIT_CARDS[split], sizes={}
        )
        assert spec.licence == corpus.LICENCE and spec.citation
        fingerprints.add(spec.fingerprint)
    assert len(fingerprints) == len(one_of_each(corpus))


def test_what_is_not_built_or_not_there_is_said_with_the_command(corpus, tmp_path):
    with pytest.raises(DatasetError, match=f"musrep build {corpus.NAME}"):
        open_dataset(corpus.NAME, data_dir=tmp_path)
    with pytest.raises(BuildError, match=f"musrep download {corpus.NAME}"):
        corpus(data_dir=tmp_path).build()


def test_examples_in_docstrings():
    result = doctest.testmod(corpus_tracks)
    assert result.attempted > 0 and result.failed == 0


def test_every_corpus_has_a_fake():
    assert sorted(FAKES) == CORPORA


@pytest.fixture(scope="module", params=sorted(FAKES))
def fake(request, tmp_path_factory):
    """(name, data_dir) of a made-up corpus in its place."""
    data_dir = tmp_path_factory.mktemp(request.param)
    make_fake(request.param, corpus_folder(data_dir, request.param))
    return request.param, data_dir


def test_fakes_are_built_and_read_back(fake, capfd):
    name, data_dir = fake
    corpus = load_builder_class(name)
    for config in one_of_each(corpus):
        if config.split("-")[1] == NEEDS_ALL_FILES.get(name):
            continue
        builder = corpus(data_dir=data_dir, config=config)
        builder.build(num_workers=1)
        dataset = open_dataset(f"{name}/{config}", data_dir=data_dir, sample_rate=16000)
        assert dataset.spec.label_names == builder.label_names
        planned = {split: list(builder.list_tracks(split)) for split in builder.split_names()}
        refused = {row["path"] for row in dataset.report["refused"]}
        assert refused <= set(builder.KNOWN_BAD), dataset.report["refused"]
        card = describe_split(builder)
        json.dumps(card, allow_nan=False)
        assert {k: part["tracks"] for k, part in card["parts"].items() if part["tracks"]} == {
            split: len(tracks) for split, tracks in planned.items()
        }
        if builder.card.disjoint_by:
            assert not card["sources"][builder.card.disjoint_by]["list"]
        for split, tracks in planned.items():
            stored = dataset.tracks(split)
            expected = {track.track_id: track for track in tracks if track.path not in refused}
            assert sorted(stored) == sorted(expected)
            for row, track_id in enumerate(stored):
                has = [label in expected[track_id].labels for label in dataset.spec.label_names]
                np.testing.assert_array_equal(stored.label_matrix[row], np.float32(has))
    assert "tensorflow" not in sys.modules
    capfd.readouterr()


class Linear(nn.Module):
    """The smallest model of what a data set gives."""

    num_classes: int

    @nn.compact
    def __call__(self, x, *, train, mask=None):
        return nn.Dense(self.num_classes, name="head")(x.reshape(len(x), -1))


def test_fakes_train_one_step(fake, capfd):
    name, data_dir = fake
    load_builder_class(name)(data_dir=data_dir).build()
    dataset = open_dataset(name, data_dir=data_dir)
    num_classes = len(dataset.spec.label_names)
    published = create_model("vgg_ish", num_classes, COMPACT["vgg_ish"])
    chunk = ChunkSpec(published.sample_rate, published.num_samples, published.front_end)
    batch = next(pipeline.train_batches(dataset.tracks("train"), chunk, batch_size=2, seed=0))
    inputs = batch.get("audio", batch.get("log_mel"))
    model, tx = Linear(num_classes), optax.sgd(0.1)
    variables = model.init(jax.random.key(0), inputs, train=False)
    step = make_train_step(make_tagging_loss(make_apply(model)), tx)
    state, metrics = step(create_state(variables, tx), batch, jax.random.key(1))
    assert np.isfinite(metrics["loss"]) and int(state.step) == 1
    capfd.readouterr()
