"""Queries: the exact nearest neighbors of a vector, and the best matches for tags.

A query by tags is a list of labels, separated by commas or AND; a minus or NOT before a label
requires its absence, `^2` after it counts it twice: `ney, -voice`, `ney AND NOT voice`, `oud^2,
dance`. A label with a comma is quoted, or its comma is escaped with a backslash: `"Air horn,
truck horn", -"Train horn"`. The score is the probability that the whole query holds, assuming
independent labels: the product of p, or 1 - p, raised to their weights.
"""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from musrep_jax.runtime.names import (
    ESCAPE,
    LABEL_SEPARATOR,
    fold_case,
    is_same_but_for_case,
    normalize_name,
    split_outside_quotes,
    unquote,
)
from musrep_jax.runtime.suggestions import suggest_name
from musrep_jax.store.files import StoreError

_MAX_BLOCK_VALUES = 1 << 18
"""In a block of rows: 1 MB stays in a core's cache while it is read a second time."""
_SEPARATOR = re.compile(r",|\s+AND\s+")
_TERM = re.compile(r"(?P<absent>-|!|NOT\s+)?(?P<label>.*?)(?:\^(?P<weight>\d+(?:\.\d+)?))?")


class QueryError(StoreError):
    """A query is invalid; the message says what is valid."""


@dataclasses.dataclass(frozen=True)
class Term:
    """A label in a query.

    Attributes:
        column: of the label.
        is_absent: whether its absence is required.
        weight: the power of its probability.
    """

    column: int
    is_absent: bool = False
    weight: float = 1.0


def parse_tags(query: str, labels: Sequence[str]) -> list[Term]:
    """Returns the terms of a query.

    >>> parse_tags("ney, -voice", ("voice", "ney"))
    [Term(column=1, is_absent=False, weight=1.0), Term(column=0, is_absent=True, weight=1.0)]

    Args:
        query: as the head of this file says; upper and lower case of labels are the same, and so
            are the Unicode forms of accents.
        labels: names of the columns.

    Raises:
        QueryError: if the query is empty, or names a label that is not there.
    """
    terms, known = [], [normalize_name(label) for label in labels]
    for text in _split_terms(query, known):
        whole = normalize_name(unquote(text))
        if whole in known:  # also one that begins with a minus
            terms.append(Term(known.index(whole)))
            continue
        found = _TERM.fullmatch(text)
        column = find_label(unquote(found["label"]), labels)
        terms.append(Term(column, bool(found["absent"]), float(found["weight"] or 1)))
    if not terms:
        raise QueryError("the query is empty; name a label, for example `ney, -voice`.")
    return terms


def _split_terms(query: str, known: Sequence[str]) -> list[str]:
    """Returns the terms of a query unparsed; labels with commas are recognized without quotes."""
    parts = split_outside_quotes(query, _SEPARATOR)
    terms = [part.strip() for part in parts if part.strip()]
    commas = {_plain(label) for label in known if LABEL_SEPARATOR in label}
    at = 0
    while commas and at < len(terms):
        for end in range(len(terms), at + 1, -1):
            joined = ", ".join(terms[at:end])
            if _plain(_TERM.fullmatch(joined)["label"]) in commas and terms[at] not in known:
                terms[at:end] = [joined.replace(LABEL_SEPARATOR, ESCAPE + LABEL_SEPARATOR)]
                break
        at += 1
    return terms


def find_label(name: str, labels: Sequence[str]) -> int:
    """Returns the column of a label; case, underscores, hyphens and Unicode forms do not matter.

    Args:
        name: as it was typed.
        labels: names of the columns.

    Raises:
        QueryError: if there is none, or more than one; with the nearest.
    """
    name, known = normalize_name(name), [normalize_name(label) for label in labels]
    if name in known:
        return known.index(name)
    columns = [
        column
        for column, label in enumerate(known)
        if is_same_but_for_case(_without_marks(label), _without_marks(name))
    ]
    if len(columns) == 1:
        return columns[0]
    if columns:
        which = " and ".join(repr(labels[column]) for column in columns)
        raise QueryError(f"the label {name!r} may be {which}: write it as it is.")
    more = f" and {len(labels) - 10} more" if len(labels) > 10 else ""
    hint = suggest_name(name, labels, num=3, simplify=_plain)
    hint = hint or f" There are {', '.join(labels[:10])}{more}."
    raise QueryError(f"there is no label {name!r}.{hint}")


def _plain(label: str) -> str:
    return fold_case(_without_marks(label))


def _without_marks(label: str) -> str:
    return " ".join(re.split(r"[\s_\-]+", label)).strip()


def rank_by_tags(
    probabilities: np.ndarray, terms: Sequence[Term], k: int, present: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows that match a query most probably, and their probabilities.

    Args:
        probabilities: (tracks, labels).
        terms: of the query.
        k: rows at most.
        present: bool (tracks,), rows that may be found; None for all.

    Returns:
        Rows (k,) and scores (k,) in [0, 1], best first, among equals the earlier row.
    """
    scores = np.ones(len(probabilities), np.float32)
    for term in terms:
        values = np.array(probabilities[:, term.column])
        values = 1 - values if term.is_absent else values
        scores *= values**term.weight
    return top(scores, k, present)


def rank_by_vector(
    embeddings: np.ndarray,
    query: np.ndarray,
    k: int,
    *,
    metric: str = "cosine",
    present: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows nearest to a vector and their scores: exact, one pass in blocks.

    Args:
        embeddings: float32 (tracks, width), perhaps mapped.
        query: (width,).
        k: rows at most.
        metric: `cosine` similarity, `dot` product, or `euclidean` distance (negative).
        present: bool (tracks,), rows that may be found; None for all.

    Returns:
        Rows (k,) and scores (k,), best first, among equals the earlier row.

    Raises:
        QueryError: if there is no such metric, or the vector does not fit.
    """
    query = check_query(embeddings, query, metric)
    scores = np.empty(len(embeddings), np.float32)
    num_rows = max(1, _MAX_BLOCK_VALUES // max(1, len(query)))
    for start in range(0, len(embeddings), num_rows):
        block = np.asarray(embeddings[start : start + num_rows])
        scores[start : start + len(block)] = METRICS[metric](block, query)
    return top(scores, k, present)


def check_query(embeddings: np.ndarray, query: np.ndarray, metric: str) -> np.ndarray:
    """Returns a vector as float32, after checking it and the metric.

    Args:
        embeddings: (tracks, width).
        query: (width,).
        metric: a key of `METRICS`.

    Raises:
        QueryError: if there is no such metric, or the vector does not fit.
    """
    if metric not in METRICS:
        raise QueryError(f"metric {metric!r} is not known; choose {', '.join(METRICS)}.")
    query = np.asarray(query, np.float32)
    if query.shape != embeddings.shape[1:]:
        raise QueryError(
            f"the vector has shape {query.shape}; embeddings here have {embeddings.shape[1:]}."
        )
    return query


def _cosine(block: np.ndarray, query: np.ndarray) -> np.ndarray:
    lengths = np.sqrt(np.einsum("ij,ij->i", block, block)) * np.linalg.norm(query)
    return block @ query / np.maximum(lengths, np.finfo(np.float32).tiny)


def _euclidean(block: np.ndarray, query: np.ndarray) -> np.ndarray:
    return -np.linalg.norm(block - query, axis=1)


METRICS = {"cosine": _cosine, "dot": np.matmul, "euclidean": _euclidean}
"""Name -> function of (rows, width) and (width,), larger is nearer."""


def top(
    scores: np.ndarray, k: int, present: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows of the largest scores, and the scores, best first.

    >>> top(np.array([0.1, 0.3, 0.3]), 2)
    (array([1, 2]), array([0.3, 0.3]))

    Args:
        scores: (tracks,).
        k: rows at most.
        present: bool (tracks,), rows that may be found; None for all.
    """
    rows = np.arange(len(scores)) if present is None else np.flatnonzero(present)
    values = scores[rows]
    if k < len(values):
        edge = np.partition(values, len(values) - k)[len(values) - k]
        best = np.flatnonzero(values >= edge)  # all that tie at the edge, so that order decides
        rows, values = rows[best], values[best]
    order = np.argsort(-values, kind="stable")[:k]
    return rows[order], values[order]
