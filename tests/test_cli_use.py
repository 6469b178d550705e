"""musrep tag, embed, similar, search: the way of somebody who has a folder and a model."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import soundfile
from compact_models import COMPACT, build, draw_variables
from musrep_jax.configs import common
from toy_exports import LABELS, card_of

import musrep_jax
from musrep_jax.data.audio.reading import read_audio
from musrep_jax.inference.tagger import LoadedTagger
from musrep_jax.kernels import cpu as cpu_kernels
from musrep_jax.kernels import formulations
from musrep_jax.models import MODELS, create_model
from musrep_jax.store import Store
from musrep_jax.training.checkpoints import save_export

MODEL = "fcn"


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory):
    """Every command loads its model anew; they share what has been compiled."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("compiled")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    yield
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """An exported model with random parameters."""
    built = build(MODEL)
    card = card_of(built.model, MODEL, thresholds={"ney": 0.0, "oud": 1.0})
    return save_export(tmp_path_factory.mktemp("export") / "tagger", built.variables, card)


@pytest.fixture(scope="module")
def tagger(export):
    return musrep_jax.load_tagger(export)


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """Recordings of several formats, rates and lengths; two are copies, two are broken."""
    folder = tmp_path_factory.mktemp("music")
    (folder / "çalışma").mkdir()
    for index, (name, rate, seconds) in enumerate([
        ("a.wav", 16000, 0.3), ("b.flac", 44100, 2.5), ("c.ogg", 48000, 3.0), ("d.mp3", 44100, 9.7),
        ("çalışma/ney.wav", 22050, 1.0), ("e.aiff", 8000, 4.2),
    ]):  # fmt: skip
        random = np.random.default_rng(index)
        time_ = np.arange(int(rate * seconds)) / rate
        audio = np.sin(2 * np.pi * 200 * (index + 1) * time_)[:, None] * [[0.3, 0.2]]
        soundfile.write(folder / name, audio + 0.05 * random.standard_normal(audio.shape), rate)
    (folder / "copy.wav").write_bytes((folder / "a.wav").read_bytes())
    (folder / "empty.wav").write_bytes(b"")
    (folder / "page.mp3").write_bytes(b"<html>not music</html>" * 20)
    return folder


NUM_GOOD, NUM_BAD, NUM_COPIES = 6, 2, 1


def test_a_store_has_the_numbers_of_predict_and_embed(run, export, tagger, music, tmp_path):
    told = run("embed", export, music, "--store", tmp_path / "s", "--per-chunk", "--json")
    assert told.exit_code == 1
    found = json.loads(told.stdout)
    assert (found["added"], found["met_again"]) == (NUM_GOOD, NUM_COPIES)
    assert {os.path.basename(f["path"]) for f in found["failed"]} == {"empty.wav", "page.mp3"}
    store = Store(tmp_path / "s")
    assert len(store) == NUM_GOOD
    for row, track in enumerate(store.tracks()):
        audio, rate = read_audio(track["path"], sample_rate=16000)
        assert track["seconds"] == len(audio) / rate  # padding is no music
        assert np.array_equal(store.embeddings[row], tagger.embed(audio, rate))
        expected = np.float32(list(tagger.predict(audio, rate).values()))
        assert np.array_equal(store.probabilities[row], expected)
        times, probabilities = tagger.predict_over_time(audio, rate)
        spans, embeddings, chunk_probabilities = store.chunks(row)
        assert np.array_equal(spans, times)
        assert times[-1, 1] == track["seconds"]  # the tail counts
        assert np.array_equal(chunk_probabilities, probabilities.astype(np.float32))
        assert np.array_equal(embeddings, tagger.embed_over_time(audio, rate)[1])
    failed = (tmp_path / "s" / "failed.tsv").read_text().splitlines()
    assert failed[0] == "path\treason"
    assert len(failed) == 1 + NUM_BAD
    assert store.about["licence"] == "CC0-1.0"
    assert store.about["model"] == tagger.fingerprint


def test_a_second_run_computes_nothing_and_knows_what_was_moved(
    run,
    export,
    music,
    tmp_path,
    monkeypatch,
):
    folder = tmp_path / "music"
    folder.mkdir()
    for name in ("b.flac", "c.ogg"):
        (folder / name).write_bytes((music / name).read_bytes())
    embed = ("embed", export, folder, "--store", tmp_path / "s", "--json")
    assert run(*embed).exit_code == 0
    (folder / "b.flac").rename(folder / "renamed.flac")
    (folder / "new.wav").write_bytes((music / "a.wav").read_bytes())
    before = (tmp_path / "s" / "embeddings.npy").read_bytes()[128:]
    found = json.loads(run(*embed).stdout)
    assert (found["added"], found["known"], found["met_again"]) == (1, 1, 1)
    found = json.loads(run(*embed, "--workers", "1").stdout)
    assert (found["added"], found["known"], found["met_again"]) == (0, 3, 0)
    assert (tmp_path / "s" / "embeddings.npy").read_bytes()[128:].startswith(before)
    assert not (tmp_path / "s" / "failed.tsv").exists()
    names = [os.path.basename(track["path"]) for track in Store(tmp_path / "s").tracks()]
    assert names == ["renamed.flac", "c.ogg", "new.wav"]


def test_the_same_bits_in_any_company(run, export, music, tmp_path):
    stores = []
    for number, (places, workers) in enumerate([
        ([music], 1), ([music], 3), ([music / "d.mp3", music / "b.flac", music], 2)
    ]):  # fmt: skip
        path = tmp_path / str(number)
        run("embed", export, *places, "--store", path, "--workers", workers)
        stores.append(Store(path))
    first = stores[0]
    for other in stores[1:]:
        for row, track in enumerate(first.tracks()):
            same = other.find_by_content(track["sha256"])
            assert np.array_equal(first.embeddings[row], other.embeddings[same])
            assert np.array_equal(first.probabilities[row], other.probabilities[same])


@pytest.mark.parametrize("name", MODELS)
def test_a_chunk_has_the_same_numbers_wherever_it_stands_in_a_batch(name):
    model = create_model(name, len(LABELS), COMPACT[name])
    tagger = LoadedTagger(model, draw_variables(model), card_of(model, name))
    size = tagger.batch_size
    chunks = np.random.default_rng(0).standard_normal((size, model.num_samples))
    chunks = 0.1 * chunks.astype(np.float32)
    with formulations.override_formulations(frozenset(cpu_kernels.FORMULATIONS)):
        first = list(tagger.run_chunks(chunks))
        turned = list(tagger.run_chunks(np.roll(chunks, 3, axis=0)))
        alone = list(tagger.run_chunks(chunks[:1]))
    for index, outputs in enumerate(first):
        for one, other in zip(outputs, turned[(index + 3) % size], strict=True):
            assert np.array_equal(one, other)
    assert all(np.array_equal(one, other) for one, other in zip(alone[0], first[0], strict=True))


@pytest.mark.parametrize("name", ["short_chunk_resnet", "sample_cnn"])
def test_so_it_is_at_the_sizes_of_the_configs(name):
    """Where a product of all chunks rounded the last rows in another way."""
    model = create_model(name, len(LABELS), common.COMPACT[name])
    tagger = LoadedTagger(model, draw_variables(model), card_of(model, name))
    chunk = 0.1 * np.random.default_rng(0).standard_normal(model.num_samples).astype(np.float32)
    first, *others = tagger.run_chunks([chunk] * tagger.batch_size)
    for outputs in others:
        assert all(np.array_equal(one, other) for one, other in zip(outputs, first, strict=True))


@pytest.mark.programs
def test_killed_at_any_moment_it_goes_on(export, tmp_path, repository):
    folder = tmp_path / "music"
    folder.mkdir()
    for index in range(40):
        audio = 0.1 * np.random.default_rng(index).standard_normal(16000 * 10)
        soundfile.write(folder / f"{index:02d}.flac", audio, 16000)

    def start(store):
        code = "from musrep_jax.cli import app; app()"
        words = ["embed", export, folder, "--store", store, "--per-chunk"]
        return subprocess.Popen(
            [sys.executable, "-c", code, *map(str, words)],
            cwd=repository,
            env={**os.environ, "XLA_FLAGS": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(whole).communicate()[0].startswith("40 embedded")
    process, lines = start(killed), killed / "tracks.jsonl"
    while not (lines.exists() and lines.read_bytes().count(b"\n") >= 4):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    num_left = len(Store(killed))
    assert 4 <= num_left < 40
    out, _ = start(killed).communicate()
    assert out.startswith(f"{40 - num_left} embedded")
    assert f"{num_left} known" in out
    for name in ("embeddings", "probabilities", "chunk_spans", "chunk_embeddings"):
        assert (whole / f"{name}.npy").read_bytes() == (killed / f"{name}.npy").read_bytes()
    assert (whole / "tracks.jsonl").read_bytes() == (killed / "tracks.jsonl").read_bytes()


def test_tags_as_text_json_and_table(run, export, tagger, music, tmp_path):
    told = run("tag", export, music / "b.flac", "--top", "2")
    assert told.exit_code == 0
    path, tags = told.stdout.strip().split("\t")
    assert path == str(music / "b.flac")
    audio, rate = read_audio(path, sample_rate=16000)
    expected = tagger.predict(audio, rate)
    best = max(expected, key=expected.get)
    assert tags.startswith(f"{best} {expected[best]:.2f}")
    assert len(tags.split(", ")) == 2
    assert "ney" in (row := run("tag", export, music / "b.flac").stdout)
    assert f"ney {expected['ney']:.2f}*" in row  # above its threshold
    assert f"oud {expected['oud']:.2f}*" not in row

    table = tmp_path / "table.tsv"
    told = run("tag", export, music, "--json", "--over-time", "--out", table)
    assert told.exit_code == 1
    found = json.loads(told.stdout)
    assert found["labels"] == list(LABELS)
    assert len(found["tracks"]) == NUM_GOOD + NUM_COPIES
    assert len(found["failed"]) == NUM_BAD
    b = next(track for track in found["tracks"] if track["path"].endswith("b.flac"))
    assert b["tags"] == expected
    times, probabilities = tagger.predict_over_time(audio, rate)
    assert [[chunk["start"], chunk["end"]] for chunk in b["chunks"]] == times.tolist()
    assert list(b["chunks"][0]["tags"].values()) == probabilities[0].tolist()
    rows = [line.split("\t") for line in table.read_text().splitlines()]
    assert rows[0] == ["path", "start", "end", *LABELS]
    assert len(rows) == 1 + sum(len(track["chunks"]) for track in found["tracks"])
    assert "page.mp3" in (tmp_path / "table.failed.tsv").read_text()


def test_calibrated_tags_are_those_of_the_card_and_raw_ones_those_of_the_network(
    run,
    music,
    tmp_path,
):
    built = build(MODEL)
    calibration = {label: [0.5, number - 2.0] for number, label in enumerate(LABELS)}
    thresholds = {"ney": 0.0, "oud": 0.5, "makam_hicaz": 0.0, "drums": 0.0}
    groups = {"inst": ["ney", "drums", "female vocal"]}
    card = card_of(built.model, MODEL, calibration=calibration, thresholds=thresholds,
                   label_groups=groups)  # fmt: skip
    export = save_export(tmp_path / "m", built.variables, card)
    tagger = musrep_jax.load_tagger(export)
    expected = tagger.predict(*read_audio(music / "b.flac", sample_rate=16000))
    words = ("tag", export, music / "b.flac", "--json")
    raw, found = json.loads(run(*words, "--raw").stdout), json.loads(run(*words).stdout)
    assert (raw["is_calibrated"], found["is_calibrated"]) == (False, True)
    assert raw["tracks"][0]["tags"] == expected
    for number, label in enumerate(LABELS):
        z = 0.5 * np.log(expected[label] / (1 - expected[label])) + number - 2
        assert np.isclose(found["tracks"][0]["tags"][label], 1 / (1 + np.exp(-z)))
    assert raw["thresholds"] == thresholds
    assert np.isclose(found["thresholds"]["oud"], 1 / (1 + np.e))
    # Ney and drums are above their thresholds: only the more probable of a group is a tag.
    assert found["label_groups"] == groups
    (track,) = found["tracks"]
    best = max(groups["inst"], key=track["tags"].get)
    assert best == "drums"  # of the greatest offset
    is_oud = track["tags"]["oud"] > found["thresholds"]["oud"]
    assert track["chosen"] == ["oud"] * is_oud + ["makam_hicaz", "drums"]
    (row,) = run("tag", export, music / "b.flac").stdout.splitlines()
    assert row.count("*") == len(track["chosen"]) and "ney 0." in row


def test_a_taggram(run, export, music, tmp_path):
    told = run("tag", export, music / "d.mp3", "--png", tmp_path / "d.png")
    assert told.exit_code == 0
    assert (tmp_path / "d.png").read_bytes().startswith(b"\x89PNG")
    told = run("tag", export, music, "--png", tmp_path / "d.png")
    assert told.exit_code == 2
    assert "draws one recording" in told.stderr


@pytest.fixture(scope="module")
def odd_folder(tmp_path_factory, music):
    """A single sample, silence, silence and a song, a song, and a constant."""
    folder = tmp_path_factory.mktemp("odd")
    song, _ = read_audio(music / "b.flac", sample_rate=16000)
    soundfile.write(folder / "a one sample.wav", np.full(1, 0.5), 44100)
    soundfile.write(folder / "b silence.wav", np.zeros(8 * 16000), 16000)
    soundfile.write(folder / "c later.wav", np.concatenate([np.zeros(8 * 16000), song]), 16000)
    soundfile.write(folder / "d song.wav", song, 16000)
    soundfile.write(folder / "e offset.wav", np.full(8 * 44100, 0.4), 44100)
    return folder


def test_one_recording_that_cannot_be_used_stops_no_folder(run, export, odd_folder, tmp_path):
    told = run("tag", export, odd_folder, "--json")
    assert told.exit_code == 1
    found = json.loads(told.stdout)
    (failed,) = found["failed"]
    assert "too short, its 1 sample(s) at 44100 Hz are none at 16000 Hz" in failed["reason"]
    assert [os.path.basename(t["path"])[0] for t in found["tracks"]] == ["b", "c", "d", "e"]
    assert [track["is_silent"] for track in found["tracks"]] == [True, False, False, True]
    for _ in range(2):
        told = run("embed", export, odd_folder, "--store", tmp_path / "s", "--json")
        found = json.loads(told.stdout)
        assert told.exit_code == 1
        assert [os.path.basename(f["path"])[0] for f in found["failed"]] == ["a", "b", "e"]
        assert all("it is silent" in failed["reason"] for failed in found["failed"][1:])
        assert found["tracks"] == 2
    alone = run("embed", export, odd_folder / "a one sample.wav", "--store", tmp_path / "t")
    assert alone.exit_code == 1 and "1 failed" in alone.stdout
    told = run("similar", tmp_path / "s", odd_folder / "b silence.wav")
    assert told.exit_code != 0 and "it is silent" in told.stderr


def test_silence_is_not_judged(run, export, odd_folder, tmp_path):
    silence, later = odd_folder / "b silence.wav", odd_folder / "c later.wav"
    lines = run("tag", export, silence, "--over-time").stdout.splitlines()
    assert len(lines) > 1 and all(line.endswith("\tcannot be judged (silence)") for line in lines)
    found = json.loads(run("tag", export, silence, later, "--over-time", "--json").stdout)
    silent, heard = found["tracks"]
    assert (silent["is_silent"], silent["tags"], silent["seconds"]) == (True, {}, 8.0)
    assert all(chunk["is_silent"] and not chunk["tags"] for chunk in silent["chunks"])
    assert not heard["is_silent"] and heard["tags"].keys() == set(LABELS)
    kinds = [(chunk["is_silent"], bool(chunk["tags"])) for chunk in heard["chunks"]]
    assert kinds[0] == (True, False) and kinds[-1] == (False, True)
    run("tag", export, silence, later, "--out", tmp_path / "tags.tsv")
    _, first, second = (tmp_path / "tags.tsv").read_text().splitlines()
    assert first.split("\t")[3:] == [""] * len(LABELS)
    assert all(0 <= float(cell) <= 1 for cell in second.split("\t")[3:])
    told = run("tag", export, silence, "--png", tmp_path / "x.png")
    assert "cannot be judged" in told.stderr and not (tmp_path / "x.png").exists()


@pytest.fixture(scope="module")
def store(export, music, tmp_path_factory):
    from musrep_jax.cli import app

    path = tmp_path_factory.mktemp("store") / "s"
    with contextlib.suppress(SystemExit):
        app(["embed", str(export), str(music), "--store", str(path)], prog_name="musrep")
    return path


def test_similar(run, store, music, tmp_path, monkeypatch):
    told = run("similar", store, music / "b.flac", "-k", "3", "--json")
    assert told.exit_code == 0
    tracks = json.loads(told.stdout)["tracks"]
    assert len(tracks) == 3
    assert not any(track["path"].endswith("b.flac") for track in tracks)
    assert [t["score"] for t in tracks] == sorted((t["score"] for t in tracks), reverse=True)
    assert json.loads(run("similar", store, "çalışma/ney", "-k", "1", "--json").stdout)["tracks"]
    assert "1 tracks" not in run("similar", store, "ney.wav").stderr
    # A file that it does not know is embedded first; cut short, it is still the nearest to itself.
    audio, rate = soundfile.read(music / "d.mp3")
    soundfile.write(tmp_path / "excerpt.wav", audio[: rate * 9], rate)
    told = run("similar", store, tmp_path / "excerpt.wav", "-k", "1")
    assert told.exit_code == 0
    assert "d.mp3" in told.stdout
    for words, sentence in [
        (["nothing.wav"], "no track of"),
        ([music / "b.flac", "--metric", "cosin"], "choose cosine, dot, euclidean"),
        ([tmp_path / "excerpt.wav", "--model", tmp_path], "not a complete export"),
        ([tmp_path / "excerpt.wav", "--model", tmp_path / "no"], "say where with --model"),
    ]:
        told = run("similar", store, *words)
        assert (told.exit_code, told.stdout) == (2, "")
        assert sentence in told.stderr


def test_similar_to_a_track_needs_no_jax(store, music, repository):
    code = (
        "import sys; from musrep_jax.cli import app\n"
        "try: app()\n"
        "finally: print(sorted({'jax', 'flax', 'soundfile'} & set(sys.modules)))"
    )
    for words in (["similar", str(store), str(music / "b.flac")], ["search", str(store), "ney"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=repository,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.endswith("[]\n")


def test_search(run, store, tagger):
    found = json.loads(run("search", store, "NEY, -Female_Vocal", "-k", "2", "--json").stdout)
    rows = Store(store).probabilities
    expected = rows[:, 0] * (1 - rows[:, 2])
    assert [t["row"] for t in found["tracks"]] == np.argsort(-expected)[:2].tolist()
    assert found["tracks"][0]["tags"].keys() == {"ney", "female vocal"}
    table = run("search", store, "ney AND NOT oud").stdout
    assert table.split()[:3] == ["score", "ney", "oud"]
    told = run("search", store, "nay")
    assert told.exit_code == 2
    assert "Did you mean 'ney'?" in told.stderr


def test_a_backbone_embeds_and_has_no_tags(run, music, tmp_path):
    built = build(MODEL)
    params = {k: v for k, v in built.variables["params"].items() if k != "head"}
    card = card_of(built.model, MODEL, labels=())
    export = save_export(tmp_path / "m", dict(built.variables) | {"params": params}, card)
    assert run("embed", export, music / "b.flac", "--store", tmp_path / "s").exit_code == 0
    assert Store(tmp_path / "s").probabilities.shape == (1, 0)
    for words in (["tag", export, music / "b.flac"], ["search", tmp_path / "s", "ney"]):
        told = run(*words)
        assert told.exit_code == 2
        assert "backbone" in told.stderr


def test_the_fingerprint_follows_the_numbers_and_nothing_else(export, tagger, tmp_path):
    built = build(MODEL)
    card = card_of(built.model, MODEL, licence="another")
    again = musrep_jax.load_tagger(save_export(tmp_path / "again", built.variables, card))
    assert again.fingerprint == tagger.fingerprint
    other = jax.tree.map(np.array, built.variables)
    other["params"]["head"]["bias"][0] += 1
    changed = musrep_jax.load_tagger(save_export(tmp_path / "other", other, card))
    assert changed.fingerprint != tagger.fingerprint


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["tag", "{export}", "absent.wav"], "There is no file or folder absent.wav."),
        (["tag", "absent", "{music}"], "There is no exported model at"),
        (["embed", "{export}", "{export}/params", "--store", "x"], "There is no audio file in"),
        (["embed", "{export}", "{music}", "--store", "{music}"], "exists and is no store"),
        (["search", "{music}", "ney"], "is no store: make one"),
    ],
)
def test_an_error_is_one_sentence(run, export, music, words, sentence):
    told = run(*(word.format(export=export, music=music) for word in words))
    assert (told.exit_code, told.stdout) == (2, "")
    assert sentence in told.stderr
    assert len(told.stderr.strip().splitlines()) == 1
