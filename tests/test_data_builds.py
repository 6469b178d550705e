"""Builds that survive: killed anywhere they go on, and the result is the same byte for byte."""

import errno
import json
import os
import pathlib
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
import soundfile
import toy_builds
from toy_builds import ToyBuilder

from musrep_jax.cli import app
from musrep_jax.data import Dataset
from musrep_jax.data.build import lock as build_lock
from musrep_jax.data.build import shard_builds as building
from musrep_jax.data.build import shard_worker, shards
from musrep_jax.data.build.lock import BuildInterruptedError
from musrep_jax.data.build.records import BuildError, TrackCodec
from musrep_jax.runtime import progress


def _content(directory):
    """Every file of a built data set, and that nothing else is left beside it."""
    assert [path.name for path in directory.parent.iterdir()] == [directory.name]
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def _made(log):
    return Counter(log.read_text().splitlines()) if log.exists() else Counter()


def _start(repository, call, *arguments, **kwargs):
    """Starts a process that calls a function of `toy_builds`."""
    path = os.pathsep.join([str(repository), str(repository / "tests")])
    return subprocess.Popen(
        [sys.executable, "-c", f"import toy_builds; toy_builds.{call}()", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path},
        text=True,
        stdout=subprocess.PIPE,
        **kwargs,
    )


@pytest.fixture
def log(tmp_path):
    return tmp_path / "made.log"


@pytest.mark.programs
def test_killed_twenty_times_it_loses_nothing(tmp_path, log, repository):
    num_tracks, seconds = 300, 0.01
    rng = random.Random(0)
    with _start(repository, "serve", stdin=subprocess.PIPE) as server:

        def live(workers, goes_on):
            """Runs a build as long as it may go on, and returns how it ended."""
            print(
                tmp_path / "data", log, num_tracks, seconds, workers, file=server.stdin, flush=True
            )
            pid = int(server.stdout.readline())
            while not (has_ended := select.select([server.stdout], [], [], 0.005)[0]):
                if not goes_on():
                    break
            if not has_ended:
                os.kill(pid, signal.SIGKILL)
            return int(server.stdout.readline())

        def killed_soon(workers):
            """Runs a build until a moment after its first track."""
            before, end = sum(_made(log).values()), None

            def goes_on():
                nonlocal end
                if end is None and sum(_made(log).values()) > before:
                    end = time.monotonic() + rng.uniform(0.0, 0.12)
                return end is None or time.monotonic() < end

            return live(workers, goes_on)

        workers = [2 if number % 4 == 3 else 1 for number in range(20)]
        kills = list(map(killed_soon, workers))
        assert kills == [-signal.SIGKILL] * 20
        num_before = len(_made(log))
        assert live(1, lambda: True) == 0
        server.stdin.close()
    made = _made(log)
    assert len(made) == num_tracks > num_before
    # Only what was being made when the kill came is made again.
    assert sum(made.values()) - num_tracks <= sum(workers)
    whole = ToyBuilder(data_dir=tmp_path / "whole", log=tmp_path / "log", num_tracks=num_tracks)
    assert _content(tmp_path / "data/toy_builder/1.0.0") == _content(whole.build())


def test_dying_at_any_step_leaves_a_build_that_goes_on(tmp_path, log, monkeypatch):
    failure_modes = {1: "refused", 4: "refused"}
    whole = ToyBuilder(
        data_dir=tmp_path / "whole", log=log, num_tracks=24, failure_modes=failure_modes
    ).build()
    wanted = _content(whole)
    calls = 0

    class Death(BaseException):
        pass

    def mortal(function):
        def call(*args, **kwargs):
            nonlocal calls
            calls -= 1
            if calls == 0:
                raise Death
            return function(*args, **kwargs)

        return call

    for name in ("replace", "rename", "unlink", "rmdir"):
        monkeypatch.setattr(os, name, mortal(getattr(os, name)))
    for step in range(1, 1000):
        log.unlink()
        builder = ToyBuilder(
            data_dir=tmp_path / str(step), log=log, num_tracks=24, failure_modes=failure_modes
        )
        calls = step
        try:
            builder.build(num_workers=1)
        except Death:
            calls = 0
            survived = builder.directory.exists()
            again = ToyBuilder(
                data_dir=tmp_path / str(step), log=log, num_tracks=24, failure_modes=failure_modes
            )
            assert _content(again.build(num_workers=1)) == wanted
            assert not survived or again.is_built()
            assert sum(_made(log).values()) <= 25
        else:
            break
    assert step > 30  # As many as there are tracks, and some.
    assert _content(builder.directory) == wanted


def test_the_number_of_workers_does_not_change_the_result(tmp_path, log):
    order = [track.number for track in _plan_of_train(tmp_path)]
    # All tracks of the first shard, and some others: it must not be left as an empty file.
    failure_modes = dict.fromkeys([*order[: shards.MIN_SHARD_TRACKS], 8, order[-1]], "refused")
    results = []
    for workers in (1, 2, 8, None):
        builder = ToyBuilder(data_dir=tmp_path / str(workers), log=log, failure_modes=failure_modes)
        results.append(_content(builder.build(num_workers=workers)))
    assert all(result == results[0] for result in results)
    names = [name for name in results[0] if "array_record" in name]
    assert names == [
        "toy_builder-test.array_record-00000-of-00001",
        "toy_builder-train.array_record-00000-of-00001",
    ]
    dataset = Dataset(builder.directory)
    assert dataset.spec.split_sizes == {"train": 13, "test": 9}
    assert len(dataset.report["refused"]) == 18 and len(dataset.report["scaled"]) == 22
    assert sorted(dataset.tracks("train")) == sorted(
        f"track {number}" for number in order[shards.MIN_SHARD_TRACKS : -1]
    )
    text = b"".join(content for name, content in results[0].items() if "json" in name).decode()
    assert str(tmp_path) not in text


def _plan_of_train(tmp_path):
    builder = ToyBuilder(data_dir=tmp_path / "plan", log=tmp_path / "none")
    plan = shards.plan_shards("train", builder.list_tracks("train"))
    assert [len(shard.tracks) for shard in plan] == [16, 14]
    return [track for shard in plan for track in shard.tracks]


def test_workers_start_when_a_build_turns_out_to_be_long(tmp_path, log, monkeypatch, capsys):
    monkeypatch.setattr(building, "SERIAL_SECONDS", 0.1)
    monkeypatch.setattr(building, "MIN_PARALLEL_SECONDS", 0.1)
    monkeypatch.setattr(progress, "_INITIAL_DELAY_SECONDS", 0.1)
    monkeypatch.setattr(progress, "_LOG_INTERVAL_SECONDS", 0.1)
    monkeypatch.setattr(building, "count_cores", lambda: 2)
    started = []
    monkeypatch.setattr(
        building, "ShardWorker", lambda *a: started.append(1) or shard_worker.ShardWorker(*a)
    )
    builder = ToyBuilder(data_dir=tmp_path / "data", log=log, seconds=0.03)
    builder.build()
    assert len(started) == 2 and set(_made(log).values()) == {1}
    told = capsys.readouterr().err
    assert re.search(r"made: \d+ of 40 tracks \(\d+%\), [\d.]+ tracks/s, \ds left, 0 refused", told)


def test_a_worker_that_is_killed_ends_the_build_with_a_sentence(tmp_path, log):
    (tmp_path / "SIGKILL").touch()
    builder = ToyBuilder(data_dir=tmp_path / "data", log=log, failure_modes={7: "SIGKILL"})
    with pytest.raises(
        BuildInterruptedError, match=r"SIGKILL, as .* out, while it made t.*kept"
    ) as caught:
        builder.build(num_workers=2)
    assert "\n" not in str(caught.value) and not builder.directory.exists()
    assert Dataset(builder.build(num_workers=2)).spec.split_sizes["train"] == 30
    made = _made(log)
    # What the two workers had in their hands is made again, and nothing else.
    assert made["track 7"] == 2 and sum(made.values()) <= 42


def test_an_error_in_a_worker_is_told_as_it_is(tmp_path, log):
    builder = ToyBuilder(data_dir=tmp_path / "data", log=log, failure_modes={7: "error"})
    for workers in (1, 2):
        with pytest.raises(BuildError, match="it cannot be built"):
            builder.build(num_workers=workers)
    assert not builder.directory.exists()


def test_ctrl_c_stops_the_workers_too_and_the_same_command_goes_on(tmp_path, log, repository):
    settings = (tmp_path / "data", log, 60, 0.02)
    with _start(repository, "main", *settings, 2, stderr=subprocess.PIPE) as build:
        while not log.exists():
            time.sleep(0.01)
        build.send_signal(signal.SIGINT)
        said = build.communicate(timeout=20)[1]
    assert build.returncode != 0 and "stopped; finished work is kept" in said
    num_made = sum(_made(log).values())
    time.sleep(0.2)
    assert sum(_made(log).values()) == num_made < 60
    toy_builds.build(*settings, 1)
    assert len(_made(log)) == 60 and sum(_made(log).values()) <= 62


def test_two_builds_at_once_make_everything_once(tmp_path, log, repository):
    settings = (tmp_path / "data", log, 40, 0.02, 1)
    both = [_start(repository, "main", *settings, stderr=subprocess.PIPE) for _ in range(2)]
    said = [build.communicate(timeout=60)[1] for build in both]
    assert [build.returncode for build in both] == [0, 0]
    assert set(_made(log).values()) == {1} and len(_made(log)) == 40
    assert any(
        re.search(r"waiting for process \d+ on host .*, which is building toy", x) for x in said
    )


def test_a_lock_of_another_machine_is_respected_and_one_of_a_dead_process_is_not(tmp_path, log):
    builder = ToyBuilder(data_dir=tmp_path / "data", log=log)
    folder = builder.directory.with_name("1.0.0.building")
    folder.mkdir(parents=True)
    (folder / "lock").write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    with pytest.raises(BuildInterruptedError, match=r"process 1 on host elsewhere.*remove .*lock"):
        builder.build()
    (folder / "lock").write_text(json.dumps({"host": socket.gethostname(), "pid": 2**22 + 1}))
    assert builder.build().exists()


def test_who_gets_the_lock_after_the_data_set_was_finished_builds_nothing(tmp_path):
    answers = iter([False, True])
    with build_lock.lock_build_folder(
        tmp_path / "x.building", "toy", lambda: next(answers)
    ) as lock:
        assert lock is None
    assert not (tmp_path / "x.building").exists() and not list(answers)


def test_without_locks_in_the_file_system_the_process_id_tells(tmp_path, log, monkeypatch):
    def no_locks(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    builder = ToyBuilder(data_dir=tmp_path / "data", log=log)
    folder = builder.directory.with_name("1.0.0.building")
    folder.mkdir(parents=True)
    with subprocess.Popen(["sleep", "30"]) as other:
        (folder / "lock").write_text(json.dumps({"host": socket.gethostname(), "pid": other.pid}))
        with build_lock.lock_build_folder(
            folder, "toy", has_waited := iter([False, True]).__next__
        ) as it:
            assert it is None and has_waited is not None
        other.kill()
    assert builder.build().exists()


def test_what_was_made_of_other_tracks_is_not_taken(tmp_path, log, capsys):
    broken = ToyBuilder(data_dir=tmp_path / "data", log=log, failure_modes={3: "error"})
    with pytest.raises(BuildError):
        broken.build()
    changed = ToyBuilder(data_dir=tmp_path / "data", log=log, content="changed")
    changed.build()
    assert "starting anew" in capsys.readouterr().err
    assert _made(log)["track 3"] == 2


def test_a_data_set_of_other_content_stays_until_its_successor_is_whole(tmp_path, log):
    old = ToyBuilder(data_dir=tmp_path / "data", log=log).build()
    broken = ToyBuilder(
        data_dir=tmp_path / "data", log=log, content="new", failure_modes={3: "error"}
    )
    with pytest.raises(BuildError):
        broken.build()
    assert Dataset(old).tracks("train").track_ids
    builder = ToyBuilder(data_dir=tmp_path / "data", log=log, content="new", num_tracks=20)
    builder.build()
    fresh = ToyBuilder(data_dir=tmp_path / "fresh", log=log, content="new", num_tracks=20)
    for name in ("dataset_info.json", "metadata.json", "build_report.json"):
        assert (old / name).read_bytes() == (fresh.build() / name).read_bytes()
    assert builder.info.splits["train"].num_examples == 15


def test_another_process_knows_the_tracks_again(tmp_path, folder):
    code = """
import sys
from musrep_jax.data.datasets import make_builder
data_dir, folder = sys.argv[1:]
for name, options in [
    ("synthetic_cultures/makam", {"num_tracks": 12, "seconds": 1.0}), ("audio_folder:" + folder, {})
]:
    try:
        make_builder(name, data_dir=data_dir, **options).build()
    except OSError:
        print("stopped")
"""
    stop = "from musrep_jax.data.build import shards\n" + (
        "def full(*a): raise OSError(28, '')\nshards.write_json = full\n"
    )
    for seed, text in ((1, stop + code), (2, code)):
        told = subprocess.run(
            [sys.executable, "-c", text, str(tmp_path / "data"), str(folder)],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        )
    assert "starting anew" not in told.stderr
    assert told.stderr.count("going on: ") == 2 and told.stdout.count("built ") == 2


def test_what_earlier_versions_left_is_named(tmp_path, log, capsys):
    builder = ToyBuilder(data_dir=tmp_path / "data", log=log)
    left = builder.directory.parent / "incomplete.ABCDEF_1.0.0"
    left.mkdir(parents=True)
    builder.build()
    assert f"{left} is left of a build by an earlier version" in capsys.readouterr().err
    assert left.exists()


def test_tfds_asks_for_a_build_in_its_own_way(tmp_path, log):
    builder = ToyBuilder(data_dir=tmp_path / "data", log=log)
    builder.download_and_prepare()
    assert set(_made(log).values()) == {1}
    assert len(builder.as_data_source("train")) == 30
    examples = dict(builder._split_generators(None)["test"])
    assert sorted(examples) == sorted(
        str(x["track_id"], "utf-8") for x in builder.as_data_source("test")
    )


def test_a_disk_that_is_too_small_is_told_before(tmp_path, log, capsys):
    builder = ToyBuilder(data_dir=tmp_path / "data", log=log, estimate=10**18)
    with pytest.raises(
        BuildInterruptedError, match=r"needs about 1[\d.]+ GB, and [\d.]+ GB are free in"
    ):
        builder.build()
    assert not log.exists()
    builder = ToyBuilder(data_dir=tmp_path / "data", log=log, estimate=10**9)
    builder.build(num_workers=1)
    assert "needs about 1.4 GB, and" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["piece", "shard", "end"])
def test_a_disk_that_fills_up_is_told_and_nothing_is_lost(tmp_path, log, monkeypatch, where):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    builder = ToyBuilder(data_dir=tmp_path / "data", log=log)
    with monkeypatch.context() as patch:
        if where == "piece":
            patch.setattr(shards, "_write_piece", full)
        elif where == "shard":
            patch.setattr(shards, "write_json", full)
        else:
            patch.setattr(toy_builds.ToyBuilder, "extra_report_fields", full)
        with pytest.raises(
            BuildInterruptedError, match=r"the disk is full .* finished work is kept"
        ):
            builder.build()
    assert not builder.directory.exists()
    builder.build()
    assert sum(_made(log).values()) <= 41
    whole = ToyBuilder(data_dir=tmp_path / "whole", log=log).build()
    assert _content(builder.directory) == _content(whole)


def test_records_that_cannot_be_written_say_so(tmp_path, log):
    codec = TrackCodec(ToyBuilder(data_dir=tmp_path, log=log).spec())
    with pytest.raises(OSError) as told:
        codec.write(pathlib.Path("/dev/full"), [bytes(1000)])
    assert told.value.errno == errno.ENOSPC
    with pytest.raises(OSError):
        codec.write(tmp_path / "nowhere" / "x", [b""])


def test_on_a_disk_that_is_really_full(tmp_path, log, repository):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here; the other tests of a full disk have run")
    try:
        builder = ToyBuilder(data_dir=disk, log=log, num_tracks=400)
        for workers in (1, 2, 2):
            with pytest.raises(
                BuildInterruptedError, match=r"the disk is full \([\d.]+ MB are free"
            ):
                builder.build(num_workers=workers)
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        whole = ToyBuilder(data_dir=tmp_path / "whole", log=tmp_path / "log", num_tracks=400)
        assert _content(builder.build(num_workers=1)) == _content(whole.build(num_workers=1))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_damaged_piece_is_made_again(tmp_path, log):
    builder = ToyBuilder(data_dir=tmp_path / "data", log=log, failure_modes={3: "error"})
    with pytest.raises(BuildError):
        builder.build(num_workers=1)
    pieces = sorted(builder.directory.parent.glob("1.0.0.building/pieces/*/??????"))
    content = pieces[0].read_bytes()
    pieces[0].write_bytes(content[:-1] + b"?")
    pieces[1].write_bytes(b"")
    toy = ToyBuilder(data_dir=tmp_path / "data", log=log)
    num_before = sum(_made(log).values())
    with pytest.raises(BuildError):
        builder.build(num_workers=1)
    assert sum(_made(log).values()) == num_before + 3
    assert not toy.directory.exists()


def test_apache_beam_makes_the_same_bytes_and_goes_on(tmp_path, log):
    pytest.importorskip("apache_beam", reason="the extra `beam` is not installed; CI installs it")
    whole = ToyBuilder(
        data_dir=tmp_path / "whole", log=tmp_path / "log", failure_modes={1: "refused"}
    )
    builder = ToyBuilder(
        data_dir=tmp_path / "data", log=log, failure_modes={1: "refused", 7: "SIGINT"}
    )
    (tmp_path / "SIGINT").touch()
    with pytest.raises(KeyboardInterrupt):
        builder.build(num_workers=1)
    assert 0 < sum(_made(log).values()) < 40
    builder.build(beam_options=["--runner=DirectRunner"])
    assert _content(builder.directory) == _content(whole.build())
    assert len(_made(log)) == 40 and sum(_made(log).values()) == 41


def test_a_failure_on_beam_is_a_sentence(tmp_path, log):
    pytest.importorskip("apache_beam", reason="the extra `beam` is not installed; CI installs it")
    builder = ToyBuilder(data_dir=tmp_path / "data", log=log, failure_modes={7: "error"})
    with pytest.raises(
        BuildInterruptedError, match=r"pipeline failed .*it cannot be built.* resumes"
    ) as told:
        builder.build(beam_options=[])
    assert "\n" not in str(told.value)
    with pytest.raises(ValueError, match="does not accept '--runner=Nowhere'"):
        builder.build(beam_options=["--runner=Nowhere"])


def test_without_beam_it_says_how_to_install_it(tmp_path, log, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(ValueError, match=r"pip install \"musrep_jax\[beam\]\""):
        ToyBuilder(data_dir=tmp_path / "data", log=log).build(beam_options=[])


@pytest.fixture
def run(capsys):
    """Runs `musrep` in this process; returns exit code, standard output and error."""

    def run_here(*words):
        with pytest.raises(SystemExit) as ended:
            app([str(word) for word in words], prog_name="musrep")
        return int(ended.value.code or 0), *capsys.readouterr()

    return run_here


@pytest.fixture
def folder(tmp_path):
    """Six recordings, one of them damaged."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    lines = ["path\tlabels"]
    for number in range(6):
        audio = np.random.default_rng(number).uniform(-0.5, 0.5, 800)
        soundfile.write(folder / f"{number}.wav", audio, 16000)
        lines.append(f"{number}.wav\tnoise")
    (folder / "5.wav").write_bytes(b"RIFF")
    (folder / "labels.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_musrep_build_prints_the_report(run, folder, tmp_path):
    words = ("build", f"audio_folder:{folder}", "--data-dir", tmp_path / "data")
    code, out, _ = run(*words, "--workers", 1, "--sample-rate", 8000)
    assert code == 0 and "building audio_folder:recordings in" in out
    assert "1 refused" in out and "5.wav: cannot be read" in out
    code, out, _ = run(*words, "--sample-rate", 8000)
    assert code == 0 and "5.wav" in out and "nothing to do: the build is in" in out
    code, out, err = run("build", "audio_folder", "--folder", folder, *words[2:], "--json")
    report = json.loads(out)
    assert code == 0 and sum(report["num_tracks"].values()) == 5 and "building" in err
    assert Dataset(report["directory"]).spec.sample_rate == 16000


def test_musrep_build_refuses_with_a_sentence(run, folder, tmp_path):
    for words, message in [
        (("synthetic_cultures/makan",), "Did you mean 'makam'"),
        (("audio_folder:nowhere",), "does not exist"),
        (("synthetic_cultures", "--folder", folder), "has no option 'folder'"),
        (("synthetic_cultures", "--beam-options=--runner=FlinkRunner"), "are for --beam"),
        (("synthetic_cultures", "--beam", "--beam-options", "'x"), "No closing quotation"),
    ]:
        code, out, err = run("build", *words, "--data-dir", tmp_path / "data")
        assert (code, out) == (2, "") and message in err and err.count("\n") == 1


def test_musrep_build_on_a_full_disk_exits_with_one(run, folder, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shards, "_write_piece", full)
    words = ("build", f"audio_folder:{folder}", "--data-dir", tmp_path / "data")
    code, _, err = run(*words)
    assert code == 1 and err.startswith("error: No room left on the disk") and err.count("\n") == 1
