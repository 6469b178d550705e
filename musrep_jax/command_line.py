"""From the words of a command to a recipe, and from errors to sentences."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections

from musrep_jax import __version__
from musrep_jax.config import ConfigError, move_config_first, parse_command_line, plain
from musrep_jax.data.datasets import default_data_dir
from musrep_jax.recipes import load_recipe
from musrep_jax.runtime import distributed
from musrep_jax.runtime.compilation_cache import enable_compilation_cache
from musrep_jax.runtime.heap import retain_freed_memory
from musrep_jax.runtime.signals import exit_code, raise_on_signals
from musrep_jax.schema.checks import check_config, check_jobs
from musrep_jax.schema.names import check_names
from musrep_jax.training.logs import tolerate_output_errors
from musrep_jax.usage import is_help, make_usage

EXIT_FAILED, EXIT_USAGE = 1, 2


def main(argv: Sequence[str]) -> int:
    """Runs what the command line says; returns the exit code.

    Args:
        argv: the command line, with the program's name first.

    Returns:
        0 when all is done, 1 when parts failed, 2 when the command is wrong; 129 after SIGHUP (the
        terminal was closed), 130 after Ctrl-C, 143 after SIGTERM (the machine is taken away): the
        same command resumes.
    """
    retain_freed_memory()
    for stream in (sys.stdout, sys.stderr):  # letters that their encoding lacks become escapes
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    with tolerate_output_errors():
        return _main(argv)


def _main(argv: Sequence[str]) -> int:
    try:
        if is_help(argv[1:]):
            print(make_usage(argv))
            return 0
        with raise_on_signals(), distributed.leaving():
            config, workdir = parse_command_line(argv)
            check_config(config)
            check_names(config)
            num_processes = distributed.start(config.distributed)
            enable_compilation_cache(Path(config.data.data_dir or default_data_dir()))
            configure_cpu_devices(config, num_processes)
            check_processes(config, workdir)
            distributed.connect_devices()
            check_jobs(config)
            return load_recipe(config.recipe)(config, workdir or get_default_workdir(argv))
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    except distributed.DistributedError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(
            f"error: {where}{error.strerror or error}. Finished work is kept; the same command "
            "resumes.",
            file=sys.stderr,
        )
        return EXIT_FAILED
    except KeyboardInterrupt as error:
        print("Stopped.", file=sys.stderr)
        return exit_code(error)


def get_default_workdir(argv: Sequence[str]) -> str:
    """Returns `runs/NAME` for `--config=configs/NAME.py`, `runs/NAME-ARG` with an argument."""
    words = move_config_first(argv)
    text = next((a for a in words if a.startswith("--config=")), "--config=experiment")
    file, _, argument = text.removeprefix("--config=").partition(":")
    name = re.sub(r"[^\w.-]+", "_", "-".join(p for p in (Path(file).stem, argument) if p))
    return str(Path("runs") / name)


def check_processes(config: ml_collections.ConfigDict, workdir: str) -> None:
    """Raises unless all processes of a run were started with the same command and versions.

    Args:
        config: of this process; where its data are stored and how it reads them may differ.
        workdir: as it was given.

    Raises:
        ConfigError: naming what differs.
    """

    def facts() -> dict[str, Any]:
        own = {"distributed": config.distributed, "data": ("data_dir", "num_workers")}
        command = plain(config)
        for settings in (command, command["overrides"]):
            for section, names in own.items():
                settings[section] = {
                    k: v for k, v in settings.get(section, {}).items() if k not in names
                }
        versions = {"musrep_jax": __version__, "jax": jax.__version__}
        # Counting them sets them up, for which JAX needs all processes at the same time.
        num_devices = jax.local_device_count()
        return {
            "config": command, "workdir": workdir, "version": versions, "num_devices": num_devices
        }  # fmt: skip

    distributed.check_processes_agree("command", facts, "start all processes with the same command")


def configure_cpu_devices(config: ml_collections.ConfigDict, num_processes: int = 1) -> None:
    """Takes as many virtual CPU devices as `train.num_cpu_devices` asks for, or fewer.

    Their number has to divide the batch. One is the default and the fastest: its operations are
    spread over the cores and have faster formulations (`musrep_jax/kernels/cpu.py`).

    Args:
        config: of the experiment.
        num_processes: that share a batch.
    """
    wanted, batch_size = config.train.num_cpu_devices, config.train.batch_size
    fitting = [d for d in range(1, wanted + 1) if batch_size % (d * num_processes) == 0]
    devices = max(fitting, default=1)
    try:
        jax.config.update("jax_num_cpu_devices", devices)
    except RuntimeError:
        # A notebook or a test has used JAX before: its devices stay as they are.
        print("JAX is in use already: its devices stay as they are", file=sys.stderr)
