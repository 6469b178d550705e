"""`python -m musrep_jax` is the command `musrep`."""

from musrep_jax.cli import run

if __name__ == "__main__":
    run()
