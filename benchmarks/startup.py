"""How long a program takes to its first training step: with nothing at hand, and a second time.

    python benchmarks/startup.py
    python benchmarks/startup.py --config=configs/tagging.py:smoke --config.model.name=musicnn

The first run makes the data set and compiles; the second finds both (`data.data_dir` holds the data
sets and the compiled programs). Seconds by the clock, and of CPU time in brackets, which says more
on a busy machine.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

# So that it runs from a checkout that is not installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.phases import NOT_COUNTED, PHASES, Run, time_phases

START, FIRST_STEP = PHASES[0], "to the first step"


def detect_phase(phase: str, line: str) -> str:
    """Returns the phase that has begun with a line that was printed."""
    if "writing to" in line:
        return FIRST_STEP
    return NOT_COUNTED if "step 1/" in line else phase


def main(flags: Sequence[str]) -> dict[str, Run]:
    """Runs the program twice and returns what both runs took.

    Args:
        flags: of `main.py`, in place of its default; one step is trained in any case.
    """
    flags = list(flags) or ["--config=configs/tagging.py"]
    flags += ["--config.train.num_steps=1", "--config.train.evaluate_every_steps=1"]
    runs = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("first", "second"):
            folders = [f"--config.data.data_dir={scratch}/data", f"--workdir={scratch}/{name}"]
            runs[name] = time_phases([sys.executable, "main.py", *flags, *folders], detect_phase)
    print("| run | start-up | from there to the first step | together |\n|---|---|---|---|")
    for name, run in runs.items():
        wall, cpu = ([seconds[p] for p in (START, FIRST_STEP)] for seconds in (run.wall, run.cpu))
        pairs = [*zip(wall, cpu, strict=True), (sum(wall), sum(cpu))]
        print(f"| {name} |" + "".join(f" {a:.1f} ({b:.1f}) |" for a, b in pairs))
    return runs


if __name__ == "__main__":
    main(sys.argv[1:])
