"""Students: what they are told, how both networks hear it, and which music nobody may hear."""

import dataclasses
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest
import scipy.signal
import soundfile
from toy_exports import LABELS, make_export
from toy_recordings import make_folder
from toy_training import assert_trees_equal

from musrep_jax.config import ConfigError, parse_command_line
from musrep_jax.data.datasets import open_dataset
from musrep_jax.data.specs import UNLABELED, ChunkSpec
from musrep_jax.dsp.augment import make_augment
from musrep_jax.dsp.resampling import resample
from musrep_jax.losses import binary_cross_entropy, cross_entropy
from musrep_jax.models.layers import BatchNorm
from musrep_jax.schema.checks import check_jobs
from musrep_jax.tasks.augmentation import Augmentation
from musrep_jax.tasks.binding import make_loss
from musrep_jax.tasks.student.jobs import find_teacher, get_kind, is_teacher, plan_students
from musrep_jax.tasks.student.objective import (
    Lesson,
    interleave,
    is_student_path,
    join_networks,
    make_follower,
    make_student_loss,
    separate,
)
from musrep_jax.tasks.student.task import StudentTask
from musrep_jax.tasks.student.teacher import hear_alike, match_labels, open_teacher, plan_hearing
from musrep_jax.tasks.student.unlabeled import find_unlabeled
from musrep_jax.training.step import create_state, make_train_step
from musrep_jax.types import ModelOutput

STATISTICS = "log_mel_statistics"


def config_of(*words, name="student"):
    return parse_command_line(["main.py", f"--config={name}", *words])[0]


# What is told.


class Net(nn.Module):
    """A small network with BatchNorm that reads chunks of 16 samples."""

    width: int = 6
    sample_rate = 1000
    num_samples = 16
    front_end = None

    @nn.compact
    def __call__(self, audio, *, train):
        x = BatchNorm(name="norm")(nn.Dense(self.width)(audio), train=train)
        return ModelOutput(embedding=x, logits=nn.Dense(5, name="head")(nn.tanh(x)))


def draw(model, rng):
    """Returns variables of a network, without compiling what would draw them."""
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 16)), train=False))
    return jax.tree.map(lambda leaf: rng.uniform(0.2, 0.8, leaf.shape).astype(np.float32), shapes)


@pytest.fixture(scope="module")
def networks():
    """A student, a teacher of another width, their variables, and a batch of two streams."""
    student, teacher = Net(6), Net(9)
    rng = np.random.default_rng(0)

    def stream(rows):
        audio = rng.standard_normal((rows, 16)).astype(np.float32)
        labels = np.eye(5, dtype=np.float32)[np.arange(rows) % 5]
        return {"audio": audio, "labels": labels, "mask": np.ones(rows, np.float32)}

    batch = {"labeled": stream(4), "unlabeled": {**stream(6), "labels": np.zeros((6, 0))}}
    own = {name: draw(model, rng) for name, model in (("student", student), ("teacher", teacher))}
    return SimpleNamespace(
        student=student, teacher=teacher, variables=join_networks(own), batch=batch, own=own
    )


def lesson_of(networks, **changes):
    facts = dict(
        loss="binary_cross_entropy", batch_norm="update", weight=1.0, columns=(0, 1, 2, 3, 4),
        hearing=hear_alike(networks.student, networks.teacher, "pcm16"),
    )  # fmt: skip
    return Lesson(**facts | changes)


def split_variables(variables):
    return variables["params"], {k: v for k, v in variables.items() if k != "params"}


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "cross_entropy"])
def test_the_loss_is_that_of_one_pass_over_both_streams(networks, loss):
    """By hand: concatenated inputs, statistics of the whole batch, soft labels of the teacher."""
    columns = (1, 0, 2, 4, 3)
    lesson = lesson_of(networks, loss=loss, columns=columns, weight=0.5)
    loss_fn = make_student_loss(networks.student, networks.teacher, lesson)
    params, state = split_variables(networks.variables)
    value, (moved, metrics) = jax.jit(loss_fn)(params, state, networks.batch, jax.random.key(0))

    labeled, unlabeled = networks.batch["labeled"], networks.batch["unlabeled"]
    both = np.concatenate([labeled["audio"], unlabeled["audio"]])
    output, updated = networks.student.apply(
        networks.own["student"], both, train=True, mutable=["batch_stats"]
    )
    taught = networks.teacher.apply(networks.own["teacher"], unlabeled["audio"], train=False).logits
    taught = taught[:, np.array(columns)]
    if loss == "cross_entropy":
        # Softmax over all labels: their order does not matter.
        expected = [
            cross_entropy(output.logits[:4], labeled["labels"]),
            cross_entropy(output.logits[4:], jax.nn.softmax(taught)),
        ]
    else:
        expected = [
            binary_cross_entropy(output.logits[:4], labeled["labels"]),
            binary_cross_entropy(output.logits[4:], jax.nn.sigmoid(taught)),
        ]
    assert metrics["loss_of_labels"] == pytest.approx(float(expected[0]), rel=1e-5)
    assert metrics["loss_of_teaching"] == pytest.approx(float(expected[1]), rel=1e-5)
    assert value == pytest.approx(float(expected[0] + 0.5 * expected[1]), rel=1e-5)
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6),
        moved["batch_stats"]["student"], updated["batch_stats"],
    )  # fmt: skip
    assert_trees_equal(moved["batch_stats"]["teacher"], state["batch_stats"]["teacher"])


@pytest.mark.slow
def test_a_student_hears_augmented_music_and_its_teacher_the_music_as_it_is(networks):
    lesson = lesson_of(networks, augment="gain,polarity")
    loss_fn = jax.jit(make_student_loss(networks.student, networks.teacher, lesson))
    params, state = split_variables(networks.variables)
    key = jax.random.key(3)
    _, (_, metrics) = loss_fn(params, state, networks.batch, key)
    labeled, unlabeled = networks.batch["labeled"], networks.batch["unlabeled"]
    _, own = jax.random.split(key)
    heard = make_augment("gain,polarity", 1000)(
        own, interleave(labeled["audio"], unlabeled["audio"])
    )
    assert not np.allclose(heard, interleave(labeled["audio"], unlabeled["audio"]))
    output, _ = networks.student.apply(
        networks.own["student"], heard, train=True, mutable=["batch_stats"]
    )
    taught = networks.teacher.apply(networks.own["teacher"], unlabeled["audio"], train=False).logits
    ours, theirs = separate(output.logits, 4, 6)
    found = (metrics["loss_of_labels"], metrics["loss_of_teaching"])
    assert found[0] == pytest.approx(float(binary_cross_entropy(ours, labeled["labels"])), rel=1e-4)
    expected = binary_cross_entropy(theirs, jax.nn.sigmoid(taught))
    assert found[1] == pytest.approx(float(expected), rel=1e-4)


def test_a_tagger_hears_augmented_music_if_that_is_asked_for(networks):
    params, state = split_variables(networks.own["student"])
    labeled, key = networks.batch["labeled"], jax.random.key(3)
    chains = {name: Augmentation(chain=name) for name in (None, "none", "polarity")}
    losses = {
        name: make_loss(networks.student, "model", "update", "binary_cross_entropy", chain)[0]
        for name, chain in chains.items()
    }
    values = {
        name: float(jax.jit(loss)(params, state, labeled, key)[0]) for name, loss in losses.items()
    }
    assert values[None] == values["none"] != values["polarity"]
    heard = make_augment("polarity", 1000)(jax.random.split(key)[1], labeled["audio"])
    by_hand = jax.jit(losses[None])(params, state, {**labeled, "audio": heard}, key)[0]
    assert values["polarity"] == pytest.approx(float(by_hand), rel=1e-5)


def test_the_gradient_of_the_teacher_is_exactly_zero(networks):
    loss_fn = make_student_loss(networks.student, networks.teacher, lesson_of(networks))
    params, state = split_variables(networks.variables)
    grad = jax.jit(jax.grad(loss_fn, has_aux=True))
    grads, _ = grad(params, state, networks.batch, jax.random.key(0))
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(grads["teacher"]))
    assert any(np.any(leaf) for leaf in jax.tree.leaves(grads["student"]))


def train_steps(networks, lesson, update_state=None, num_steps=3, variables=None):
    tx = optax.adam(0.01)
    state = create_state(variables or networks.variables, tx, is_student_path)
    loss_fn = make_student_loss(networks.student, networks.teacher, lesson)
    step = make_train_step(loss_fn, tx, is_trainable=is_student_path, update_state=update_state)
    states = []
    for _ in range(num_steps):
        state, _ = step(state, networks.batch, jax.random.key(0))
        states.append(jax.device_get(state))
    assert step._cache_size() == 1
    return states


def test_the_teacher_stays_bit_for_bit_and_a_step_is_compiled_once(networks):
    (*_, last) = train_steps(networks, lesson_of(networks))
    before = networks.variables
    assert_trees_equal(last.params["teacher"], before["params"]["teacher"])
    assert_trees_equal(last.model_state["batch_stats"]["teacher"], before["batch_stats"]["teacher"])
    moved = jax.tree.map(
        lambda new, old: float(np.abs(new - old).max()),
        last.params["student"], before["params"]["student"],
    )  # fmt: skip
    assert max(jax.tree.leaves(moved)) > 0.005


def test_an_averaged_teacher_is_the_mean_of_first_steps_and_then_follows(networks):
    own = networks.own["student"]
    variables = join_networks({"student": own, "teacher": own})
    variables["schedule"] = {"student": {"num_steps": np.zeros([], np.float32)}}
    same = SimpleNamespace(**vars(networks) | {"teacher": networks.student})
    lesson = lesson_of(same, ramp_up_steps=4)
    states = train_steps(same, lesson, make_follower(0.6), 3, variables)
    students = [s.params["student"]["head"]["kernel"] for s in states]
    start = np.asarray(own["params"]["head"]["kernel"])
    first = (start + students[0]) / 2  # 1 - 1 / (1 + 1) is below the decay
    second = 0.6 * first + 0.4 * students[1]
    found = [s.params["teacher"]["head"]["kernel"] for s in states]
    np.testing.assert_allclose(found[0], first, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found[1], second, rtol=1e-5, atol=1e-7)
    means = [s.model_state["batch_stats"] for s in states]
    old = np.asarray(own["batch_stats"]["norm"]["mean"])
    np.testing.assert_allclose(
        means[0]["teacher"]["norm"]["mean"], (old + means[0]["student"]["norm"]["mean"]) / 2,
        rtol=1e-5, atol=1e-7,
    )  # fmt: skip
    assert [float(s.model_state["schedule"]["student"]["num_steps"]) for s in states] == [1, 2, 3]


def test_the_weight_of_teaching_grows_beside_an_averaged_teacher(networks):
    lesson = lesson_of(networks, ramp_up_steps=4, weight=2.0)
    loss_fn = jax.jit(make_student_loss(networks.student, networks.teacher, lesson))
    params, state = split_variables(networks.variables)
    for done, share in ((0.0, np.exp(-5)), (2.0, np.exp(-1.25)), (4.0, 1.0), (9.0, 1.0)):
        counted = {**state, "schedule": {"student": {"num_steps": np.float32(done)}}}
        value, (_, metrics) = loss_fn(params, counted, networks.batch, jax.random.key(0))
        weight = (value - metrics["loss_of_labels"]) / metrics["loss_of_teaching"]
        assert weight == pytest.approx(2 * share, rel=1e-3)


@pytest.mark.parametrize(("first", "second"), [(4, 4), (4, 6), (1, 3), (8, 5)])
def test_streams_are_joined_and_parted(first, second):
    rows = np.arange(3 * (first + second)).reshape(-1, 3)
    joined = interleave(rows[:first], rows[first:])
    assert sorted(np.asarray(joined)[:, 0].tolist()) == rows[:, 0].tolist()
    ours, theirs = separate(joined, first, second)
    np.testing.assert_array_equal(ours, rows[:first])
    np.testing.assert_array_equal(theirs, rows[first:])


# How both hear it.


@pytest.mark.parametrize(("given", "wanted"), [(441, 320), (320, 320), (1000, 333), (99, 98)])
def test_resampling_is_that_of_scipy(given, wanted):
    audio = np.random.default_rng(0).standard_normal((2, given)).astype(np.float32)
    expected = scipy.signal.resample(audio, wanted, axis=1)
    np.testing.assert_allclose(resample(audio, wanted), expected, atol=2e-6)


def test_resampling_to_more_samples_is_refused():
    with pytest.raises(ValueError, match="10 samples were asked for; there are 9"):
        resample(np.zeros((1, 9), np.float32), 10)


def test_a_tone_is_the_same_at_the_rate_of_a_teacher():
    """A second at 22,050 Hz, heard at 16,000 Hz: away from both ends it is that tone."""
    hearing = plan_hearing(ChunkSpec(22050, 22050), ChunkSpec(16000, 16000), "pcm16")
    assert (hearing.sample_rate, hearing.length) == (22050, 22050)
    tone = np.sin(2 * np.pi * 440.5 * np.arange(22050) / 22050).astype(np.float32)[None]
    heard = np.asarray(hearing.teacher.cut(jnp.asarray(tone)))
    expected = np.sin(2 * np.pi * 440.5 * np.arange(16000) / 16000)
    assert np.abs(heard[0, 800:-800] - expected[800:-800]).max() < 0.02
    assert hearing.student.cut(jnp.asarray(tone)).shape == (1, 22050)


def test_a_teacher_of_shorter_chunks_hears_all_that_its_student_hears():
    hearing = plan_hearing(ChunkSpec(16000, 1000), ChunkSpec(16000, 300), "pcm16")
    assert hearing.length == 1000 and hearing.student.starts == (0,)
    assert hearing.teacher.starts == (0, 233, 467, 700)
    audio = np.zeros((2, 1000), np.float32)
    audio[0] = 1.0
    audio[1, :250] = 1.0  # a recording that ends there
    chunks = hearing.teacher.cut(jnp.asarray(audio))
    assert chunks.shape == (8, 300)
    guesses = jnp.arange(8.0)[:, None]
    found = hearing.teacher.average(guesses, jnp.asarray(audio))
    assert found[:, 0].tolist() == [1.5, 4.5]  # chunks 0 to 3; 4 and 5, which begin before its end


def test_a_teacher_of_longer_chunks_hears_what_follows_too():
    hearing = plan_hearing(ChunkSpec(8000, 400), ChunkSpec(16000, 1600), "pcm16")
    assert (hearing.sample_rate, hearing.length) == (16000, 1600)
    assert (hearing.student.length, hearing.student.num_samples) == (800, 400)
    assert hearing.student.starts == hearing.teacher.starts == (0,)
    silence = hearing.teacher.average(jnp.ones((1, 2)), jnp.zeros((1, 1600)))
    assert silence.tolist() == [[1.0, 1.0]]


def test_labels_of_a_teacher_are_put_into_the_order_of_its_student():
    assert match_labels(["a", "b", "c"], ["c", "a", "b"], "x") == (2, 0, 1)


def test_teachers_with_other_labels_or_outputs_are_refused(tmp_path):
    export = make_export(tmp_path, STATISTICS, LABELS)
    assert open_teacher(f"export:{export}", LABELS[::-1], "sigmoid", "t").columns == (4, 3, 2, 1, 0)
    with pytest.raises(ConfigError, match="has other labels than the target: it lacks 'flute' and"):
        open_teacher(export, ("flute", *LABELS[1:]), "sigmoid", "export:t")
    with pytest.raises(ConfigError, match="output is sigmoid, and its student has softmax"):
        open_teacher(export, LABELS, "softmax", "export:t")
    with pytest.raises(ConfigError, match="names export:t: "):
        open_teacher(tmp_path / "nowhere", LABELS, "sigmoid", "export:t")


# Which music nobody may hear.


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """24 recordings of 6 groups, of which 4 have no label, and one file that no row lists."""
    root = tmp_path_factory.mktemp("music")
    music = make_folder(root / "music", seconds=0.3)
    lines = (music / "labels.tsv").read_text("utf-8").splitlines()
    hidden = ("drum00.wav", "flute11.wav", "drum20.wav", "flute31.wav")
    rows = []
    for line in lines[1:]:
        path, label, group = line.split("\t")
        rows.append("\t".join([path, "" if path in hidden else label, group]))
    (music / "labels.tsv").write_text("\n".join([lines[0], *rows]) + "\n", "utf-8")
    rng = np.random.default_rng(1)
    soundfile.write(music / "found.wav", 0.1 * rng.standard_normal(5000), 16000)
    return SimpleNamespace(root=root, music=music, hidden=set(hidden))


def open_folder(folder, path=None, **options):
    return open_dataset(
        f"audio_folder:{path or folder.music}", data_dir=folder.root / "data", **options
    )


def test_a_folder_sets_recordings_without_labels_aside(folder):
    rows, files, everything, none = (
        open_folder(folder, unlabeled=choice) for choice in ("rows", "files", "all", "none")
    )
    assert set(rows.tracks(UNLABELED)) == folder.hidden
    assert set(files.tracks(UNLABELED)) == {*folder.hidden, "found.wav"}
    assert everything.spec.split_sizes == {UNLABELED: 25} and everything.spec.label_names == ()
    assert UNLABELED not in none.spec.split_sizes and sum(none.spec.split_sizes.values()) == 24
    for split in ("train", "validation", "test"):
        assert list(rows.tracks(split)) == list(files.tracks(split))
        assert rows.tracks(split).label_matrix.any(axis=1).all()


def test_a_folder_without_a_table_is_music_without_labels(tmp_path):
    music = tmp_path / "music"
    music.mkdir()
    with pytest.raises(ValueError, match="holds no audio files"):
        open_dataset(f"audio_folder:{music}", data_dir=tmp_path / "data", unlabeled="all")
    soundfile.write(music / "a.wav", np.full(4000, 0.1), 16000)
    opened = open_dataset(f"audio_folder:{music}", data_dir=tmp_path / "data", unlabeled="all")
    assert list(opened.tracks(UNLABELED)) == ["a.wav"]
    with pytest.raises(ValueError, match="labels"):
        open_dataset(f"audio_folder:{music}", data_dir=tmp_path / "data", unlabeled="files")
    with pytest.raises(ValueError, match="unlabeled='some'; it must be one of none, rows"):
        open_dataset(f"audio_folder:{music}", data_dir=tmp_path / "data", unlabeled="some")


def test_rows_that_a_table_puts_into_the_test_split_are_in_no_music_without_labels(tmp_path):
    lines = ["path\tlabels\tsplit"]
    for number, split in enumerate(["train", "train", "valid", "test", "train", "test"]):
        soundfile.write(tmp_path / f"{number}.wav", np.full(3000 + number, 0.1), 16000)
        lines.append(f"{number}.wav\t{'a' if number < 4 else ''}\t{split}")
    (tmp_path / "labels.tsv").write_text("\n".join(lines) + "\n", "utf-8")
    opened = open_dataset(f"audio_folder:{tmp_path}", data_dir=tmp_path / "d", unlabeled="rows")
    assert list(opened.tracks(UNLABELED)) == ["4.wav"]
    assert list(opened.tracks("test")) == ["3.wav"]


def find(folder, unlabeled, size, dataset, **options):
    config = config_of(f"--config.student.unlabeled={unlabeled}")

    target = f"audio_folder:{folder.music}"

    def reopen(name, rate, **more):
        more = {"unlabeled": "rows"} | more if name == target else more
        return open_dataset(name, data_dir=folder.root / "data", sample_rate=rate, **more)

    labeled = dataset.tracks("train").subset(size, 0)
    found = find_unlabeled(config, target, dataset, labeled, options.pop("rate", 16000), reopen)
    return labeled, found


def test_the_rest_is_what_may_be_trained_on_and_no_more(folder):
    dataset = open_folder(folder, unlabeled="rows")
    labeled, found = find(folder, "rest", "1_per_class", dataset)
    names = set(found.tracks)
    held_out = {group for s in ("validation", "test") for group in dataset.tracks(s).groups}
    free = set(dataset.tracks("train")) - set(labeled)
    hidden = dataset.tracks(UNLABELED)
    allowed = {n for n, group in zip(hidden, hidden.groups, strict=True) if group not in held_out}
    assert names == free | allowed and not names & set(labeled)
    assert allowed < folder.hidden and found.num_held_out == len(folder.hidden - allowed) > 0
    for split in ("validation", "test"):
        assert not names & set(dataset.tracks(split))
    assert not held_out & set(found.tracks.groups)
    assert found.tracks.label_matrix.shape == (len(names), 0)
    index = list(found.tracks).index(sorted(allowed)[0])
    row = list(hidden).index(found.tracks[index])
    np.testing.assert_array_equal(found.tracks.crop(index, 5, 300), hidden.crop(row, 5, 300))


def test_the_same_recordings_under_other_names_are_found_by_their_sound(folder, tmp_path):
    dataset = open_folder(folder, unlabeled="rows")
    copies = tmp_path / "copies"
    copies.mkdir()
    tested = [*dataset.tracks("test"), *dataset.tracks("validation")]
    for number, name in enumerate([*tested, *dataset.tracks("train")]):
        (copies / f"copy{number}.wav").write_bytes((folder.music / name).read_bytes())
    _, found = find(folder, f"audio_folder:{copies}", 0, dataset)
    assert found.num_held_out == len(tested) and len(found.tracks) == len(dataset.tracks("train"))
    assert set(found.tracks) == {
        f"copy{number}.wav" for number in range(len(tested), len(tested) + len(found.tracks))
    }
    _, found = find(folder, f"audio_folder:{copies}", 0, dataset, rate=22050)
    assert found.num_held_out == len(tested) and found.tracks.spec.sample_rate == 22050


def test_no_music_is_left(folder, tmp_path):
    dataset = open_folder(folder)
    with pytest.raises(ConfigError, match="are used with their labels: take fewer of them"):
        find(folder, "rest", 0, dataset)
    soundfile.write(tmp_path / "a.wav", np.full(4000, 0.1), 16000)
    (name, *_) = dataset.tracks("test")
    (tmp_path / "a.wav").write_bytes((folder.music / name).read_bytes())
    with pytest.raises(ConfigError, match="has no track beside those of the validation and test"):
        find(folder, f"audio_folder:{tmp_path}", 0, dataset)


# Jobs.


def list_rows(config):
    jobs = plan_students(config)
    return {
        (job["source"], job["mode"], job["num_train_tracks"]): find_teacher(job, jobs)
        for job in jobs
        if job["target"].endswith("makam")
    }


def test_jobs_of_one_culture():
    config = config_of("--config.student.num_iterations=3", "--config.train.augment=thesis")
    config.transfer.modes = "scratch,augmented,student,mean_teacher"
    rows = list_rows(config)
    size = "5_per_class"
    assert list(rows) == [
        (None, mode, size)
        for mode in (
            "baseline", "scratch", "augmented", "student", "student_2", "student_3", "mean_teacher",
        )
    ]  # fmt: skip
    taught_by = {key[1]: teacher and teacher["mode"] for key, teacher in rows.items()}
    assert taught_by["student"] == "augmented" and taught_by["student_2"] == "student"
    assert taught_by["student_3"] == "student_2" and taught_by["mean_teacher"] is None
    config.train.augment = None  # what is not deformed is learned from as it is
    assert [key[1] for key in list_rows(config)][:3] == ["baseline", "scratch", "student"]
    assert list_rows(config)[None, "student", size]["mode"] == "scratch"


def test_jobs_of_two_cultures():
    config = config_of(name="student:transfer")
    rows = list_rows(config)
    west = "synthetic_cultures/western"
    for size in (10, 40):
        for mode in ("student", "fresh_student"):
            teacher = rows[west, mode, size]
            assert (teacher["source"], teacher["mode"]) == (west, "all_layers")
        assert (None, "student", size) not in rows and (None, "scratch", size) in rows
    jobs = {job.key: job for job in plan_students(config)}
    (started,) = [
        j for j in jobs.values() if j["mode"] == "student" and j["num_train_tracks"] == 10
    ]
    (fresh,) = [
        j for j in jobs.values() if j["mode"] == "fresh_student" and j["num_train_tracks"] == 10
    ]
    assert [jobs[key]["target"] for key in started.needs] == [west, "synthetic_cultures/makam"]
    assert [jobs[key]["mode"] for key in fresh.needs] == ["all_layers"]


@pytest.mark.parametrize(
    ("teacher", "mode", "model"),
    [
        ("baseline", "baseline", STATISTICS),
        ("teacher", "teacher", "fcn"),
        ("linear:log_mel_statistics+export:x", "linear", "combined_encoders"),
    ],
)
def test_teachers_of_other_kinds(teacher, mode, model):
    config = config_of(f"--config.student.teacher={teacher}", "--config.evaluation.baseline=False")
    config.student.teacher_model = "fcn"
    found = list_rows(config)[None, "student", "5_per_class"]
    assert (found["mode"], found["model"]) == (mode, model)


def test_words_for_teachers():
    assert all(map(is_teacher, ("scratch", "all_layers", "export:x", "linear:y", "pretrained:z")))
    assert not any(map(is_teacher, ("student", "", "export:", "no such word", None, 3)))


def test_a_teacher_that_starts_from_nowhere_is_refused():
    config = config_of("--config.student.teacher=all_layers")
    with pytest.raises(ConfigError, match="starts from a source: name one by"):
        plan_students(config)


def test_iterations_have_the_settings_of_students():
    job = dataclasses.replace(plan_students(config_of())[-1])
    assert get_kind(job) == "student"
    assert (
        get_kind(dataclasses.replace(job, fields={**job.fields, "mode": "student_12"})) == "student"
    )


def test_thesis_settings():
    config = config_of(name="student:thesis")
    assert isinstance(config, ml_collections.ConfigDict)
    assert [job["mode"] for job in plan_students(config)][-1] == "student"


def test_what_students_cannot_hear_is_refused_before_anything_runs():
    config = config_of("--config.train.augment=polarity")
    config.transfer.modes = "scratch,augmented,student"
    config.train.mixup = 0.4
    with pytest.raises(ConfigError, match=r"train\.mixup is 0\.4, but students hear"):
        check_jobs(config)
    config.transfer.modes = "scratch,augmented"
    check_jobs(config)
    task, rows = StudentTask(), {}
    for job in task.jobs(config):
        train = task.make_settings(config, job).train
        rows[job["mode"]] = (train.augment, train.mixup)
    assert rows["scratch"] == (None, None)
    assert rows["augmented"] == ("polarity", 0.4)
    config = config_of("--config.train.augment=room")
    config.transfer.modes = "scratch,augmented,student"
    with pytest.raises(ConfigError, match=r"train\.augment is 'room'"):
        check_jobs(config)
