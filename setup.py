"""Which packages an installation holds; everything else is in `setup.cfg`.

`configs` and `tfds_builders` are folders of their own in the repository and parts of `musrep_jax`
where it is installed: nobody's import names `configs` and `tfds_builders` are claimed.
"""

from setuptools import find_packages, setup

MOVED = ("configs", "tfds_builders")

setup(
    packages=[
        *find_packages(include=["musrep_jax", "musrep_jax.*"]),
        *(
            f"musrep_jax.{name}"
            for root in MOVED
            for name in find_packages(include=[root, f"{root}.*"])
        ),
    ],
    package_dir={f"musrep_jax.{root}": root for root in MOVED},
)
