"""K-means on vectors, told in an order that does not depend on how it numbered its groups. N questions, D width."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from kpod.runner import Question, StageError

if TYPE_CHECKING:
    from kpod.stages.clustering._vectors import Matrix

NUM_EXAMPLES = 3


class Groups(NamedTuple):
    """What K-means found.

    Args:
        labels: the cluster of each row, from 0, the largest cluster first; among equals, the one with the earliest row.
        nearest: for each cluster its rows nearest the centre, up to NUM_EXAMPLES, the nearest first.
        inertia: sum of squared distances to the centres.
    """

    labels: list[int]
    nearest: list[list[int]]
    inertia: float


class GroupFacts(TypedDict):
    """One cluster as the report shows it: its size and the texts of the questions nearest its centre."""

    cluster: int
    size: int
    examples: list[str]


def check_enough(questions: Sequence[Question], *, num_clusters: int) -> None:
    """There are at least as many questions as clusters.

    Raises:
        StageError: there are fewer.
    """
    num_distinct = len({question.id for question in questions})
    if num_distinct < num_clusters:
        raise StageError(
            f"{num_distinct} distinct questions cannot make {num_clusters} clusters\n"
            f"set clusters to at most {num_distinct}, or take more questions"
            if num_distinct
            else "there are no questions to cluster; look at the data stage's limit and split"
        )


def group(
    vectors_ND: Matrix,
    *,
    num_clusters: int,
    max_iter: int,
    num_init: int,
    seed: int,
    threads: int | None,
) -> Groups:
    """Lloyd's K-means, the tightest of several starts (k-means++).

    Args:
        vectors_ND: one row a question.
        num_clusters: K.
        max_iter: most rounds of one start.
        num_init: number of starts.
        seed: where the starts come from.
        threads: of the arithmetic; one thread adds in one order, so that equal input gives equal labels to the last bit. None:
            as many as the libraries choose.

    Raises:
        StageError: fewer than K vectors differ.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    means = KMeans(
        n_clusters=num_clusters, max_iter=max_iter, n_init=num_init, random_state=seed, algorithm="lloyd",
    )  # fmt: skip
    with threadpool_limits(limits=threads), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # told below, as an error
        found = [int(label) for label in means.fit_predict(vectors_ND)]
        distance_NK = means.transform(vectors_ND)
    sizes = {label: found.count(label) for label in dict.fromkeys(found)}
    if len(sizes) < num_clusters:
        raise StageError(
            f"only {len(sizes)} of the {len(found)} questions' vectors differ, too few for {num_clusters} clusters\n"
            f"set clusters to at most {len(sizes)}, or compare the questions by other vectors"
        )
    order = sorted(sizes, key=lambda label: -sizes[label])  # stable: equals by their first row
    nearest = [
        sorted(
            (row for row, other in enumerate(found) if other == label),
            key=lambda row: (float(distance_NK[row, label]), row),
        )[:NUM_EXAMPLES]
        for label in order
    ]
    rank_of = {label: rank for rank, label in enumerate(order)}
    return Groups([rank_of[label] for label in found], nearest, float(means.inertia_))


def group_facts(groups: Groups, questions: Sequence[Question]) -> list[GroupFacts]:
    """Size and examples of every cluster."""
    return [
        GroupFacts(
            cluster=cluster,
            size=groups.labels.count(cluster),
            examples=[questions[row].text for row in rows],
        )
        for cluster, rows in enumerate(groups.nearest)
    ]
