"""Pretrained models by name: the table, the cache, and what the models say."""

import dataclasses
import errno
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import threading

import hash_weights
import ml_collections
import numpy as np
import pytest
import soundfile
from local_server import LocalServer, ServedFile
from parity_files import load_arrays, load_clip, load_manifest
from published_weights import random_state_dict

import musrep_jax
from musrep_jax.cli.model_choice import split_words
from musrep_jax.config import ConfigError
from musrep_jax.data.download.files import DownloadError
from musrep_jax.inference.chunks import chunk_blocks, cut
from musrep_jax.kernels.formulations import BACKENDS, override_formulations
from musrep_jax.models import create_model, model_settings
from musrep_jax.runtime.integrity import sha256_of
from musrep_jax.tasks.tagging.initial import check_source
from musrep_jax.tasks.tagging.sources import find_export, read_architecture
from musrep_jax.training.checkpoints import ExportError
from musrep_jax.types import Chunking
from musrep_jax.weights import fetching
from musrep_jax.weights.fetching import download, fetch, get_cache_dir
from musrep_jax.weights.pretrained import (
    PRETRAINED,
    HubRepository,
    PretrainedError,
    PretrainedModel,
    WebFile,
    WheelFile,
)

SETTINGS = {"n_channels": 2, "num_samples": 33000}
LABELS = ("raga", "makam", "rebetiko")


# The four models of the package musicnn, with their real weights.


@pytest.fixture(scope="module")
def real_cache(tmp_path_factory):
    """A cache with the package, which is downloaded once and kept in the user's own."""
    try:
        wheel = download_wheel("musicnn-msd")
    except DownloadError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"the package musicnn cannot be downloaded here: {error}")
    folder = tmp_path_factory.mktemp("cache")
    (folder / "pretrained/downloads").mkdir(parents=True)
    shutil.copy(wheel, folder / "pretrained/downloads")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MUSREP_DATA", str(folder))
        yield folder


def download_wheel(name):
    source = PRETRAINED[name].source
    return fetching._download_wheel(source, get_cache_dir() / "downloads")


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("musicnn-msd", "MSD_musicnn"),
        ("musicnn-mtt", "MTT_musicnn"),
        ("vgg-msd", "MSD_vgg"),
        ("vgg-mtt", "MTT_vgg"),
    ],
)
def test_probabilities_are_those_of_tensorflow(real_cache, name, reference):
    """Nine patches of 187 frames, one after the other, of 29 seconds; the rest is left out."""
    expected = load_arrays("tensorflow_musicnn")
    tagger = musrep_jax.load_tagger(name)
    on_one_cpu = frozenset(name for name, backends in BACKENDS.items() if "cpu" in backends)
    with override_formulations(on_one_cpu):
        times, scores = tagger.predict_over_time(load_clip(), 16000)
    np.testing.assert_allclose(scores, expected[f"{reference}/probs"], atol=2e-5)
    assert times[:, 0] == pytest.approx(np.arange(9) * 187 * 256 / 16000)
    assert times[1:, 0] == pytest.approx(times[:-1, 1])
    assert tagger.labels == PRETRAINED[name].labels
    if name != "musicnn-msd":
        return
    model, chunk = tagger.model, cut(load_clip(), tagger.chunking, 0.0)[0][:1]
    log_mel = model.apply(tagger.variables, chunk, method="spectrogram")[0, :16]
    # A power that rounds to the next float16 differs in its last digit.
    np.testing.assert_allclose(log_mel, expected["log_mel_frames_0_16"], atol=5e-4)
    _, embeddings = tagger.embed_over_time(load_clip(), 16000)
    np.testing.assert_allclose(embeddings, expected["MSD_musicnn/penultimate"], atol=2e-3)


@pytest.mark.parametrize("total", [1, 2, 5, 8, 9, 20, 37, 38, 39, 70, 71])
def test_chunks_are_those_of_the_padded_whole(total):
    """Against NumPy: reflect padding at both ends, chunks that overlap, no rest; in any pieces."""
    chunking = Chunking(10, overlap=4, margin=3, keeps_rest=False)
    audio = np.random.default_rng(0).standard_normal(total).astype(np.float32)
    padded = np.pad(audio, 3, mode="reflect")
    starts = range(0, len(padded) - 9, 6)
    expected = [padded[start : start + 10] for start in starts]
    if not expected:
        expected = [np.pad(padded, (0, 10 - len(padded)))]
    for piece in (1, 3, 64):
        pieces = (audio[start : start + piece] for start in range(0, total, piece))
        found = list(chunk_blocks(pieces, chunking))
        np.testing.assert_array_equal([chunk for chunk, _, _ in found], expected)
        ends = [min(start + 6, total) for start in starts] or [total]
        assert [(a, b) for _, a, b in found] == list(zip(starts or [0], ends, strict=True))


# The table.


@pytest.mark.parametrize("name", PRETRAINED)
def test_every_row_of_the_table_says_what_a_user_needs(name):
    entry = PRETRAINED[name]
    assert entry.licence
    assert entry.trained_on
    assert entry.citation.endswith(".")
    assert len(set(entry.labels)) == len(entry.labels)
    assert bool(entry.scores) == bool(entry.scores_source)
    assert all(0 < score < 1 for score in entry.scores.values())
    assert entry.allows_commercial_use == ("-NC" not in entry.licence)
    assert set(entry.settings) <= set(model_settings(entry.model))
    if isinstance(entry.source, HubRepository):
        is_pinned = re.fullmatch("[0-9a-f]{40}", entry.source.revision)
        assert is_pinned or "No revision" in " ".join(entry.notes)
        assert re.fullmatch(r"[\w-]+/[\w.-]+", entry.source.repository)
        return
    source = entry.source.wheel if isinstance(entry.source, WheelFile) else entry.source
    assert re.fullmatch(r"https://[a-z0-9.]+(/[\w.-]+)+(\?dl=1)?", source.url)
    assert re.fullmatch(r"[\w.-]+", source.name) and re.fullmatch("[0-9a-f]*", source.sha256)
    if "githubusercontent" in source.url:
        assert re.search("/[0-9a-f]{40}/", source.url), "of a revision that does not change"
    if not (source.size and len(source.sha256) == 64):
        assert "never tried" in " ".join(entry.notes)


def test_labels_stand_in_the_published_order(shared_dir):
    from musrep_jax.weights import label_lists

    for file, labels in (
        ("mtat", label_lists.MAGNATAGATUNE),
        ("msd", label_lists.MILLION_SONG),
        ("jamendo", label_lists.MTG_JAMENDO),
    ):
        assert json.loads((shared_dir / f"parity/tags_{file}.json").read_text()) == list(labels)


@pytest.mark.parametrize("name", PRETRAINED)
def test_a_failed_download_says_address_size_and_place(name, cache, monkeypatch):
    def fail(*_, **__):
        raise DownloadError("There is no network.")

    def fail_to_pull(*_):
        raise ExportError("There is no network.")

    monkeypatch.setattr(fetching.HttpClient, "save", fail)
    monkeypatch.setattr(fetching, "pull", fail_to_pull)
    monkeypatch.setattr(fetching, "_find_pip", list)
    with pytest.raises(DownloadError) as error:
        fetch(name, accept_licence=True, tell=lambda line: None)
    source, text = PRETRAINED[name].source, str(error.value)
    if isinstance(source, HubRepository):
        assert f"https://huggingface.co/{source.repository}/tree/{source.revision} (about" in text
        assert f"{source.size / 1e6:,.0f} MB) into {cache}/downloads/{name}." in text
        return
    file = source.wheel if isinstance(source, WheelFile) else source
    assert f"It is published at {file.url}. Save it as {cache}/downloads/{file.name}" in text
    if file.size is None:
        assert "Its size is not published" in text
        assert not file.sha256 or f"its sha256 begins with {file.sha256}" in text
    else:
        assert f"({file.size} bytes, sha256 {file.sha256})" in text


def test_a_name_that_is_nearly_one_gets_a_suggestion():
    with pytest.raises(PretrainedError, match="Did you mean 'musicnn-msd'"):
        musrep_jax.load_tagger("pretrained:musicn-msd")
    with pytest.raises(ExportError, match=r"no exported model at .*Did you mean 'musicnn-msd'"):
        musrep_jax.load_tagger("musicn-msd")


# Fetching, with a small model on a server of this machine.


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MUSREP_DATA", str(tmp_path / "data"))
    return tmp_path / "data" / "pretrained"


@pytest.fixture(scope="module")
def content():
    numpy = pytest.importorskip("safetensors.numpy")
    arrays = random_state_dict(create_model("short_chunk_cnn", len(LABELS), SETTINGS))
    return numpy.save({name: np.ascontiguousarray(value) for name, value in arrays.items()})


@pytest.fixture
def served(content, cache, monkeypatch):
    """The small model stands in the table as "small", and is served."""
    server = LocalServer()
    server.table["/small"] = ServedFile(content)
    entry = PretrainedModel(
        model="short_chunk_cnn",
        settings={"num_samples": 33000},
        source=WebFile(
            f"{server.url}/small",
            "small.safetensors",
            len(content),
            hashlib.sha256(content).hexdigest(),
        ),
        licence="CC-BY-NC-4.0",
        allows_commercial_use=True,
        trained_on="somewhere",
        labels=LABELS,
        scores={"roc_auc": 0.75},
        scores_source="a paper",
        citation="Somebody, 2020.",
    )
    monkeypatch.setitem(PRETRAINED, "small", entry)
    yield server
    server.close()


def change(monkeypatch, **changed):
    monkeypatch.setitem(PRETRAINED, "small", dataclasses.replace(PRETRAINED["small"], **changed))


def test_a_model_is_fetched_once_and_says_what_others_published(served, cache, capsys):
    tagger = musrep_jax.load_tagger("small")
    assert tagger.labels == LABELS
    assert tagger.card["published"]["scores"] == {"roc_auc": 0.75}
    assert tagger.card["metrics"] == {}
    assert tagger.card["training"]["sha256"] == PRETRAINED["small"].source.sha256
    assert tagger.card["training"]["address"] == f"{served.url}/small"
    readme = (cache / "small/README.md").read_text(encoding="utf-8")
    assert "## Published elsewhere" in readme
    assert "a paper" in readme
    assert "Nothing was measured" in readme
    told = capsys.readouterr().err
    assert "fetching small (0.0 MB, trained on somewhere; license CC-BY-NC-4.0)" in told
    assert musrep_jax.load_encoder("pretrained:small").fingerprint == tagger.fingerprint
    assert capsys.readouterr().err == ""
    assert len(served.asked("/small")) == 1


def test_a_folder_of_that_name_comes_first(served, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small").mkdir()
    with pytest.raises(ExportError, match="not a complete export"):
        musrep_jax.load_tagger("small")


def test_a_download_resumes_and_a_wrong_one_is_refused(served, content, cache, monkeypatch):
    served.table["/small"].break_after.append(len(content) // 2)
    assert (fetch("small") / "tagger.json").is_file()
    assert [request.get("Range") for request in served.asked("/small")][1] is not None
    shutil.rmtree(cache)
    wrong = bytes([content[0] ^ 1]) + content[1:]
    served.table["/small"].content = wrong
    with pytest.raises(DownloadError, match=r"sha256 is .* instead of .* By hand: .*small\.safe"):
        fetch("small")
    assert not (cache / "small").exists()


def test_a_file_that_was_got_by_hand_is_taken_if_it_is_the_right_one(served, content, cache):
    served.table.clear()
    kept = cache / "downloads/small.safetensors"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(content[:-1])
    with pytest.raises(DownloadError, match=r"is not the file it should be: it has .*move it away"):
        fetch("small")
    kept.write_bytes(content)
    assert fetch("small") == cache / "small"
    assert served.requests == []


def test_without_network_a_sentence_says_what_to_do(served, content, cache, monkeypatch):
    source = dataclasses.replace(PRETRAINED["small"].source, url="http://127.0.0.1:9/small")
    change(monkeypatch, source=source)
    with pytest.raises(DownloadError) as error:
        fetch("small")
    text = str(error.value)
    assert f"It is published at {source.url}. Save it as {cache}/downloads/small" in text
    assert f"{len(content)} bytes, sha256 {source.sha256}" in text


def test_a_license_is_accepted_once(served, cache, monkeypatch):
    change(monkeypatch, allows_commercial_use=False)
    with pytest.raises(PretrainedError, match=r"no commercial use.*pull small --accept-licence"):
        musrep_jax.load_tagger("small")
    assert served.requests == []
    fetch("small", accept_licence=True)
    shutil.rmtree(cache / "small")
    assert fetch("small") == cache / "small"


def test_a_damaged_copy_is_made_again(served, cache, capsys):
    path = fetch("small")
    largest = max((p for p in path.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-5])
    assert musrep_jax.load_tagger("small").labels == LABELS
    assert "Converting small again." in capsys.readouterr().err
    assert len(served.asked("/small")) == 1


def test_two_at_once_fetch_one(served, cache):
    served.table["/small"].seconds_per_kilobyte = 0.01
    found = []
    threads = [threading.Thread(target=lambda: found.append(fetch("small"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [cache / "small"] * 2
    assert len(served.asked("/small")) == 1


def test_a_cache_that_is_read_only(served, cache, monkeypatch):
    path = fetch("small")

    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(cache))

    monkeypatch.setattr(fetching, "Lock", refuse)
    assert fetch("small") == path
    with pytest.raises(PretrainedError, match=r"cannot be written to .*MUSREP_DATA"):
        fetch("small", is_fresh=True)


@pytest.mark.parametrize(
    ("warning", "reason"),
    [
        ("x", "(No network)"),
        (
            "Retrying (Retry(total=1)) after connection broken by 'NewConnectionError(...)'",
            "(the package index cannot be reached; No network)",
        ),
    ],
)
def test_pip_fetches_packages_and_its_reason_is_told(cache, monkeypatch, tmp_path, warning, reason):
    asked = []

    def run(words, **_):
        asked.append(words)
        said = f"WARNING: {warning}\nERROR: No network.\n"
        return subprocess.CompletedProcess(words, 1, "", said)

    monkeypatch.setattr(subprocess, "run", run)
    entry = PRETRAINED["vgg-mtt"]
    with pytest.raises(DownloadError) as error:
        download("vgg-mtt", entry, tmp_path)
    sentence = f"pip cannot fetch musicnn 0.1.0 {reason}. By hand: It is published at"
    assert sentence in str(error.value)
    assert f"Save it as {cache}/downloads/{entry.source.wheel.name} (29292476 bytes" in str(
        error.value
    )
    assert "--only-binary=:all:" in asked[0]  # nothing of a package is executed
    assert asked[0][-1] == "musicnn==0.1.0"


def test_encoders_of_the_hub_come_by_its_own_package(cache, tmp_path, monkeypatch):
    """A small one, as the Hub's package leaves it; then nothing comes, and it is got by hand."""
    manifest, asked = load_manifest("mert_small_base"), []
    folder = tmp_path / "snapshot"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(manifest["config"]))
    numpy = pytest.importorskip("safetensors.numpy")
    numpy.save_file(hash_weights.hash_state_dict(manifest["keys"]), folder / "model.safetensors")

    def pull(name, files):
        asked.append((name, files))
        return folder

    monkeypatch.setattr(fetching, "pull", pull)
    with pytest.raises(PretrainedError, match=r"378\.0 MB.*no commercial use"):
        fetch("mert-v1-95m")
    assert not asked
    path = fetch("mert-v1-95m", accept_licence=True)
    revision = PRETRAINED["mert-v1-95m"].source.revision
    assert asked[0][0] == f"m-a-p/MERT-v1-95M@{revision}"
    assert {"config.json", "pytorch_model.bin", "model.safetensors"} < {*asked[0][1]}
    encoder = musrep_jax.load_encoder("mert-v1-95m")
    assert encoder.card["data"]["licence"] == "CC-BY-NC-4.0"
    assert not encoder.card["published"]["allows_commercial_use"]

    def refuse(name, files):
        raise ExportError(f"hub:{name} cannot be downloaded: no network.")

    monkeypatch.setattr(fetching, "pull", refuse)
    shutil.rmtree(path)
    by_hand = cache / "downloads/mert-v1-95m"
    with pytest.raises(DownloadError, match=rf"no network\. By hand: .* into {by_hand}\."):
        fetch("mert-v1-95m")
    shutil.copytree(folder, by_hand)
    assert fetch("mert-v1-95m") == path


def test_the_sum_of_a_file(tmp_path):
    """Source: FIPS 180-2, appendix B.1."""
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc").startswith("ba7816bf8f01cfea414140de5dae2223")


# Commands.


@pytest.fixture
def default(served, monkeypatch):
    """The small model is the default."""
    monkeypatch.setattr("musrep_jax.weights.pretrained.DEFAULT_MODEL", "small")


@pytest.fixture
def song(tmp_path):
    path = tmp_path / "song.wav"
    time = np.arange(3 * 33000) / 16000
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * 300 * time * time), 16000)
    return path


def test_a_song_without_a_model_gets_the_tags_of_the_default_over_time(default, song, run):
    first = run("tag", song)
    assert first.exit_code == 0, first.stderr
    assert first.stderr.startswith("fetching small (0.0 MB, trained on somewhere; license")
    lines = first.stdout.splitlines()
    assert lines[0].startswith(f"{song}\t")
    assert [line.partition("\t")[0] for line in lines[1:]] == [
        "  0.0-2.1 s", "  2.1-4.1 s", "  4.1-6.2 s"
    ]  # fmt: skip
    again = run("tag", song, "--whole")
    assert again.stdout.splitlines() == lines[:1]
    assert "no model is named: small (0.0 MB" in again.stderr
    named = run("tag", "small", song)
    assert named.stdout == again.stdout
    assert "no model is named" not in named.stderr


def test_a_store_remembers_a_pretrained_model_by_name(default, song, run, tmp_path, monkeypatch):
    store = tmp_path / "store"
    assert run("embed", song, "--store", store).exit_code == 0
    about = json.loads(run("embed", "small", song, "--store", store, "--json").stdout)
    assert (about["known"], about["added"]) == (1, 0)
    other = song.with_name("other.wav")
    soundfile.write(other, soundfile.read(song)[0][:40000], 16000)
    monkeypatch.chdir(tmp_path / "data")
    found = json.loads(run("similar", store, other, "--json").stdout)
    assert found["tracks"][0]["path"] == str(song)


@pytest.mark.parametrize(
    ("words", "model"),
    [
        (["song.mp3"], None),
        (["small", "song.mp3"], "small"),
        (["pretrained:small", "song.mp3"], "pretrained:small"),
        (["hub:a/b", "song.mp3"], "hub:a/b"),
        (["absent", "song.mp3"], "absent"),
        (["song.mp3", "absent"], None),
        (["export", "song.mp3"], "export"),
        (["music", "song.mp3"], None),
    ],
)
def test_which_word_is_the_model(served, tmp_path, monkeypatch, words, model):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "song.mp3").touch()
    (tmp_path / "music").mkdir()
    (tmp_path / "export").mkdir()
    (tmp_path / "export/tagger.json").touch()
    found, places = split_words(words)
    assert found == model
    assert [str(place) for place in places] == words[model is not None :]


def test_a_model_without_a_recording_is_a_wrong_command(served, run):
    told = run("tag", "small")
    assert told.exit_code == 2
    assert "small is a model, and no recording is named after it" in told.stderr


def test_the_table_is_listed_and_a_model_is_pulled(served, run, cache):
    listed = json.loads(run("models", "--pretrained", "--json").stdout)
    assert [about["name"] for about in listed] == list(PRETRAINED)
    assert [about["name"] for about in listed if about["is_default"]] == ["musicnn-msd"]
    text = run("models", "--pretrained").stdout
    assert "CC-BY-NC-4.0" in text
    assert "0.750" in next(line for line in text.splitlines() if line.startswith("small"))
    assert "raga, makam, rebetiko" in run("models", "small").stdout
    pulled = run("pull", "small")
    assert pulled.exit_code == 0
    assert f"small is in {cache / 'small'}" in pulled.stdout
    assert 'musrep_jax.load_tagger("small")' in pulled.stdout
    wrong = run("pull", "smal")
    assert wrong.exit_code == 2
    assert "Did you mean 'small'" in wrong.stderr


def test_a_pretrained_model_is_a_source(served):
    assert read_architecture("pretrained:small") == "short_chunk_cnn"
    assert find_export("pretrained:small") == fetch("small")
    with pytest.raises(ConfigError, match=r"pretrained:smal cannot be opened: .*Did you mean"):
        find_export("pretrained:smal")


def test_one_call_tags_a_file(default, song):
    tags = musrep_jax.tag(song, "small")
    assert set(tags) == set(LABELS)
    assert list(tags.values()) == sorted(tags.values(), reverse=True)
    audio, rate = soundfile.read(song, dtype="float32")
    assert tags == pytest.approx(musrep_jax.load_tagger("small").predict(audio, rate), abs=1e-6)


def test_a_source_that_is_another_model_is_named(served):
    card = {"model": {"name": "musicnn_original"}, "front_end": None}
    settings = ml_collections.ConfigDict({"model": {"name": "short_chunk_cnn"}})
    model = create_model("short_chunk_cnn", 3, SETTINGS)
    with pytest.raises(ConfigError, match=r"say --config\.model\.name=musicnn_original"):
        check_source(model, settings, card, pathlib.Path("x"))
    for name, own in (("musicnn_big", "musicnn"), ("ast", "spectrogram_transformer")):
        own = create_model(own, 3)
        card = {"model": {"name": name}, "front_end": own.front_end}
        check_source(own, settings, card, pathlib.Path("x"))
