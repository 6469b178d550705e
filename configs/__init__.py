"""Experiments, one small file each; `--config=NAME` finds them wherever the package is."""
