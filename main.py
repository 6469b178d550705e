"""Runs an experiment: `python main.py --config=configs/transfer.py [--workdir=DIR]`.

Every field of the config can be set: `--config.seeds=0,1,2`. The config files say what they run.
"""

import sys

from musrep_jax.command_line import main
from musrep_jax.runtime.signals import exit_program

if __name__ == "__main__":
    exit_program(main(sys.argv))
