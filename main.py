"""Runs an experiment: `python main.py --config=configs/transfer.py [--workdir=DIR]`.

Every field of the config can be set: `--config.seeds=0,1,2`. The config files say what they run.
"""

import sys

from musrep_jax.command_line import main

if __name__ == "__main__":
    sys.exit(main(sys.argv))
