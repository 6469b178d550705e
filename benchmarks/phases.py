"""What the phases of a program take, told by the lines that it prints."""

import dataclasses
import os
import pathlib
import subprocess
import time
from collections.abc import Callable, Sequence

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
MODES = ("source", "scratch", "output_layer", "all_layers")
PHASES = ("start-up", "data preparation", *MODES, "tables")
NOT_COUNTED = "not counted"


@dataclasses.dataclass
class Run:
    """What one side took.

    Attributes:
        wall: phase -> seconds by the clock.
        cpu: phase -> seconds of CPU time; NaN where the system does not tell.
        evaluation: seconds by the clock spent on validation and test, a part of the modes.
        results: cell -> metrics.
        log: what was printed.
    """

    wall: dict[str, float]
    cpu: dict[str, float]
    evaluation: float = 0.0
    results: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    log: list[str] = dataclasses.field(default_factory=list)

    def total(self, kind: str) -> float:
        """Returns the seconds of all phases that count."""
        phases = getattr(self, kind)
        return sum(value for phase, value in phases.items() if phase != NOT_COUNTED)


def cpu_seconds(pid: int) -> float:
    """Returns the CPU time of a process and of its ended children; NaN where not told."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return float("nan")
    ticks = text.rpartition(")")[2].split()[11:15]  # utime, stime, cutime, cstime
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def time_phases(command: Sequence[str], detect_phase: Callable[[str, str], str]) -> Run:
    """Runs a command and returns what each phase took.

    Args:
        command: to run in the repository.
        detect_phase: (phase, line printed) -> the phase that has begun with it.

    Raises:
        SystemExit: with its last lines, if the command fails.
    """
    hidden = ("JAX_COMPILATION_CACHE_DIR", "XLA_FLAGS", "MUSREP_DATA")
    environment = {k: v for k, v in os.environ.items() if k not in hidden}
    run = Run(dict.fromkeys(PHASES, 0.0), dict.fromkeys(PHASES, 0.0))
    clock, cpu, phase = time.perf_counter(), 0.0, PHASES[0]
    process = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env={**environment, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    def charge(used: float) -> None:
        nonlocal clock, cpu
        now = time.perf_counter()
        run.wall[phase] = run.wall.get(phase, 0.0) + now - clock
        run.cpu[phase] = run.cpu.get(phase, 0.0) + used - cpu
        clock, cpu = now, used

    for line in process.stdout:
        charge(cpu_seconds(process.pid))
        run.log.append(line.rstrip())
        phase = detect_phase(phase, line)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    charge(usage.ru_utime + usage.ru_stime)
    if process.returncode:
        tail = "\n".join(run.log[-15:])
        raise SystemExit(f"{' '.join(command)} failed ({process.returncode}):\n{tail}")
    return run
