"""Shares: the parts of an experiment that several machines run."""

import dataclasses
import re
from collections.abc import Sequence

from musrep_jax.config import ConfigError
from musrep_jax.tasks.jobs import Job, list_needed


@dataclasses.dataclass(frozen=True)
class JobShard:
    """A part of an experiment's jobs, for one of several machines.

    Attributes:
        number: from 1 to `count`.
        count: of shares.
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "JobShard | None":
        """Returns the share that `--cells` names, None for all cells.

        Args:
            text: such as "3/16", or "".

        Raises:
            ConfigError: if there is no such share.
        """
        if not text:
            return None
        match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise ConfigError(
                f"--cells is {text!r}: name a share and the number of shares, such as 3/16, the "
                "third of sixteen."
            )
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def of(self, jobs: Sequence[Job]) -> tuple[list[Job], list[Job]]:
        """Returns the jobs of this share, and the jobs that they need beside them.

        What starts from the same jobs stands together, so that few shares need the same ones; two
        shares differ by at most one job. Every job is in one share.

        Args:
            jobs: of the experiment; the result depends on them and the share alone.

        Returns:
            The share's jobs, and those of other shares that they need, both in the order given.
        """
        places = {job.key: place for place, job in enumerate(jobs)}
        first = {}
        for job in jobs:
            first.setdefault(_group_of(job), len(first))
        grouped = sorted(jobs, key=lambda job: (first[_group_of(job)], places[job.key]))
        start, end = (len(jobs) * k // self.count for k in (self.number - 1, self.number))
        ours = set(grouped[start:end])
        return [job for job in jobs if job in ours], list_needed(jobs, ours)


def _group_of(job: Job) -> tuple[str, ...]:
    """Returns the common job of a group: the one they need, or the one that others need."""
    return job.needs or (job.key,)
