"""`musrep search`: finds tracks of a store by the tags they have and lack."""

from typing import Annotated

import typer

from musrep_jax.cli.common import Json, print_json
from musrep_jax.cli.similar import Count, StorePath, describe, print_tracks


def search(
    store: StorePath,
    query: Annotated[
        str, typer.Argument(help='Labels: "ney, -voice", "oud^2, dance", "ney AND NOT voice".')
    ],
    k: Count = 10,
    json: Json = False,
) -> None:
    """Print the tracks of a store that most probably match a query of tags.

    Separate labels by commas or AND; a minus or NOT before a label requires its absence, ^2 after
    it counts it twice; put a label with a comma in quotation marks. The score is the probability
    that the whole query holds, assuming independent labels.
    """
    from musrep_jax.store import Store, StoreError, parse_tags, rank_by_tags

    opened = Store(store)
    if not opened.labels:
        raise StoreError(f"{store} was made by a backbone, which has no tags: use musrep similar.")
    terms = parse_tags(query, opened.labels)
    rows, scores = rank_by_tags(opened.probabilities, terms, k, opened.is_present())
    columns = list(dict.fromkeys(term.column for term in terms))
    found = []
    for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
        tags = {opened.labels[c]: float(opened.probabilities[row, c]) for c in columns}
        found.append(describe(opened, row, score) | {"tags": tags})
    if json:
        print_json({"query": query, "tracks": found})
    else:
        print_tracks(found, [opened.labels[c] for c in columns])
