"""Freed memory is kept for the next step, and the user's own settings come first."""

import os
import platform
import subprocess
import sys

import pytest

CODE = """
import resource, sys
import numpy as np
from musrep_jax.runtime.heap import retain_freed_memory

def faults_of_a_step():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        np.ones(2**24, np.float32)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 5

plain = faults_of_a_step()
is_kept = retain_freed_memory()
faults_of_a_step()
print(is_kept, plain, faults_of_a_step())
"""


def run(repository, **variables: str) -> tuple[bool, float, float]:
    """Whether memory was kept; page faults per array of 64 MB before and after."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=repository, env={**environment, **variables},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    is_kept, before, after = done.stdout.split()
    return is_kept == "True", float(before), float(after)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_an_array_is_made_of_the_pages_of_the_one_before(repository):
    is_kept, before, after = run(repository)
    assert is_kept
    # Numpy asks for huge pages for large arrays: then there are fewer faults, but never so few.
    assert before > 20 > after


@pytest.mark.parametrize(
    "variables",
    [{"MALLOC_ARENA_MAX": "4"}, {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}],
    ids=["variable", "tunables"],
)
def test_settings_of_the_user_stay(repository, variables):
    is_kept, _, _ = run(repository, **variables)
    assert not is_kept
