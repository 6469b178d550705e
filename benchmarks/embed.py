"""Speed of `musrep embed` on a folder, beside the way the PyTorch originals tag their files.

    python benchmarks/embed.py                                  # 200 clips of 30 s, two models
    python benchmarks/embed.py --models musicnn-msd             # a pretrained model, by its name
    python benchmarks/embed.py --models musicnn --clips 40 --repeats 1 --files FOLDER

Ours is the command itself, a process that loads the model, decodes, embeds, tags and writes a new
store. Its opponents are processes too: they load the same architecture in PyTorch (eager,
`benchmarks/torch_models.py`), and for every file call `librosa.load` at the model's rate, cut it
into chunks and do one forward pass. `torch` takes the chunks that we take; `torch_16` takes 16
chunks at even distances whatever the length, as the published evaluation of
minzwon/sota-music-tagging-models does with its batch size of 16. Both import our package to know
the sizes of the model: what that costs is subtracted. Their weights are random, ours those of the
export, which is random too, or pretrained.

They run in turn, A B C A B C. Ratios are the opponent's seconds over ours.
"""

import argparse
import json
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

ORIGINAL_NUM_CHUNKS = 16
BASELINES = ("torch", "torch_16")


def parse_arguments() -> argparse.Namespace:
    """Returns the command line's settings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--models", default="musicnn,short_chunk_cnn", help="see `make_model`, comma-separated")
    add("--clips", type=int, default=200)
    add("--seconds", type=float, default=30.0, help="of a clip")
    add("--files", default="", help="folder of audio to use instead; or where clips are kept")
    add("--repeats", type=int, default=3)
    add("--out", default="", help="a JSON file with every measurement")
    add("--opponent", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def make_clips(folder: pathlib.Path, number: int, seconds: float) -> None:
    """Writes mp3 files, 44.1 kHz, stereo: chords with a little noise; those that stand are kept."""
    import numpy as np
    import soundfile

    folder.mkdir(parents=True, exist_ok=True)
    for index in range(number):
        path = folder / f"{index:04d}.mp3"
        if path.exists():
            continue
        random = np.random.default_rng(index)
        instant = np.arange(int(44100 * seconds)) / 44100
        audio = 0.05 * random.standard_normal((len(instant), 2))
        for pitch in random.uniform(80, 2000, 5):
            swell = np.sin(2 * np.pi * random.uniform(0.1, 4) * instant) ** 2
            audio += 0.1 * (swell * np.sin(2 * np.pi * pitch * instant))[:, None]
        temporary = path.with_suffix(".part")
        soundfile.write(temporary, audio, 44100, format="MP3")
        temporary.rename(path)


def make_model(name: str) -> tuple[str, Any]:
    """Returns the architecture of a name, and the model at its published size.

    Args:
        name: of an architecture or of a pretrained model, with or without "pretrained:".
    """
    from musrep_jax.models import create_model
    from musrep_jax.weights.pretrained import PREFIX, PRETRAINED

    known = PRETRAINED.get(name.removeprefix(PREFIX))
    if known is None:
        return name, create_model(name, 50)
    return known.model, create_model(known.model, max(1, len(known.labels)), dict(known.settings))


def prepare_export(name: str, folder: pathlib.Path) -> str:
    """Returns what `musrep embed` is to take: a pretrained model, fetched, or a random export.

    Args:
        name: see `make_model`.
        folder: where a random export of an architecture is written.
    """
    import jax
    import jax.numpy as jnp

    from musrep_jax.data.specs import DatasetSpec
    from musrep_jax.inference.tagger import make_card
    from musrep_jax.training.checkpoints import save_export
    from musrep_jax.weights.fetching import fetch

    architecture, model = make_model(name)
    if architecture != name:
        return str(fetch(name))
    audio = jnp.zeros((1, model.num_samples))
    variables = jax.jit(lambda: model.init(jax.random.key(0), audio, train=False))()
    spec = DatasetSpec(
        name="random", label_names=tuple(f"label {i}" for i in range(50)), sample_rate=16000,
        stored_form="pcm16", split_sizes={}, licence="CC0-1.0", citation="", description="",
    )  # fmt: skip
    card = make_card(model, name=name, data=spec, training={}, metrics={}, versions={})
    save_export(folder, variables, card)
    return str(folder)


def run_baseline(name: str, kind: str, folder: pathlib.Path) -> None:
    """Tags a folder as the PyTorch originals do, and prints what is to be subtracted.

    Args:
        name: of the model.
        kind: of `BASELINES`.
        folder: of the files.
    """
    import librosa
    import numpy as np
    import torch

    started, cpu = time.perf_counter(), time.process_time()
    from benchmarks.torch_models import TORCH_MODELS

    architecture, model = make_model(name)
    ours = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu}
    module = TORCH_MODELS[architecture](model).eval()
    size, found = model.num_samples, {}
    for path in sorted(folder.iterdir()):
        audio, _ = librosa.load(path, sr=model.sample_rate)
        if kind == "torch_16":
            hop = (len(audio) - size) // ORIGINAL_NUM_CHUNKS
            starts = [index * hop for index in range(ORIGINAL_NUM_CHUNKS)]
        else:
            starts = [*range(0, len(audio) - size + 1, size)]
            starts += [len(audio) - size] * (starts[-1] + size < len(audio))
        chunks = torch.from_numpy(np.stack([audio[start : start + size] for start in starts]))
        with torch.no_grad():
            found[path.name] = torch.sigmoid(module(chunks)).mean(dim=0).numpy()
    with tempfile.TemporaryFile() as file:
        np.savez(file, **found)
    print(json.dumps({"files": len(found), "subtract": ours}))


def measure(command: list[str]) -> dict[str, Any]:
    """Returns seconds by the clock and of CPU of a process and its children, and what it said."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    said = json.loads(done.stdout[done.stdout.index("{") :])
    return {"seconds": seconds, "cpu": cpu, "said": said}


def compare(name: str, folder: pathlib.Path, settings: argparse.Namespace) -> dict[str, Any]:
    """Returns every measurement of a model and its opponents.

    Args:
        name: of the model.
        folder: of the files.
        settings: of the command line.
    """
    found: dict[str, Any] = {kind: [] for kind in ("ours", *BASELINES)}

    def keep(kind: str, one: dict[str, Any]) -> None:
        found[kind].append(one)
        told = f"{one['seconds']:.1f} s, {one['cpu']:.1f} s of CPU"
        print(f"{name}, {kind}: {one['files']} files in {told}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as place:
        store = pathlib.Path(place, "store")
        export = prepare_export(name, pathlib.Path(place, "export"))
        for _ in range(settings.repeats):
            embed = ["-c", "from musrep_jax.cli import app; app()", "embed", export]
            one = measure([sys.executable, *embed, str(folder), "--store", str(store), "--json"])
            keep("ours", one | {"files": one.pop("said")["added"]})
            shutil.rmtree(store)
            for kind in BASELINES:
                other = [__file__, "--models", name, "--files", str(folder), "--opponent", kind]
                one = measure([sys.executable, *other])
                said = one.pop("said")
                for clock in ("seconds", "cpu"):
                    one[clock] -= said["subtract"][clock]
                keep(kind, one | {"files": said["files"]})
    return found


def main() -> None:
    """Prints a line per model and opponent."""
    settings = parse_arguments()
    if settings.opponent:
        run_baseline(settings.models, settings.opponent, pathlib.Path(settings.files))
        return
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(settings.files or place).absolute()
        if not (settings.files and folder.is_dir() and any(folder.iterdir())):
            make_clips(folder, settings.clips, settings.seconds)
        results = {}
        print("| model | clips | ours, clips/s | torch / ours | CPU | torch_16 / ours | CPU |")
        print("|---|---|---|---|---|---|---|")
        for name in settings.models.split(","):
            results[name] = found = compare(name, folder, settings)

            def middle(kind: str, clock: str, found: dict[str, Any] = found) -> float:
                return statistics.median(one[clock] for one in found[kind])

            cells = [name, str(found["ours"][0]["files"])]
            cells.append(f"{found['ours'][0]['files'] / middle('ours', 'seconds'):.1f}")
            for kind in BASELINES:
                for clock in ("seconds", "cpu"):
                    cells.append(f"{middle(kind, clock) / middle('ours', clock):.2f}")
            print(f"| {' | '.join(cells)} |", flush=True)
    if settings.out:
        facts = {"cores": len(os.sched_getaffinity(0)), "settings": vars(settings)}
        pathlib.Path(settings.out).write_text(json.dumps(facts | {"results": results}, indent=1))


if __name__ == "__main__":
    main()
