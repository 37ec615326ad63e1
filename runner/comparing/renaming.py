"""Two clusterings of the same questions: which cluster of B is which of A.

The numbers of clusters mean nothing: another seed gives the same clusters other numbers. So each cluster of B is called as one
of A, such that as many questions as can be keep their cluster: exact, by the Hungarian method. scipy.optimize has it too,
but its import takes longer than a whole diff; the tests hold this to it.

Source: Kuhn 1955, The Hungarian Method for the Assignment Problem, Naval Research Logistics Quarterly 2; by shortest
augmenting paths: Edmonds and Karp 1972, Journal of the ACM 19(2). Takes the cube of the number of clusters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import count
from math import inf


def names_in_a(a: Mapping[str, int], b: Mapping[str, int]) -> dict[int, int]:
    """What A calls each cluster of B.

    Args:
        a: by question, its cluster.
        b: likewise; questions that only one of them has do not count.

    Returns:
        By number in B the number in A, none twice; clusters for which A has none get numbers that A does not use. Of
        ways that are equally good the one that leaves most numbers as they are.
    """
    overlaps = Counter((a[key], b[key]) for key in a if key in b)
    of_a, of_b = sorted(set(a.values())), sorted(set(b.values()))
    size = max(len(of_a), len(of_b))
    costs = [[0] * size for _ in range(size)]
    for row, ours in enumerate(of_b):
        for column, theirs in enumerate(of_a):
            # One question counts more than all names together.
            costs[row][column] = -(overlaps[theirs, ours] * (size + 1) + (ours == theirs))
    unused = count(max(of_a, default=-1) + 1)
    return {
        ours: of_a[column] if column < len(of_a) else next(unused)
        for ours, column in zip(of_b, cheapest(costs), strict=False)
    }


def cheapest(costs: Sequence[Sequence[int]]) -> list[int]:
    """For each row of a square of costs a column, none twice, such that their sum is least."""
    square = _Square(costs)
    for row in range(len(costs)):
        square.add(row)
    column_of = {row: column for column, row in square.row_of.items()}
    return [column_of[row] for row in range(len(costs))]


class _Square:
    """Rows that have a column so far, and prices: a cost less those of its row and column is never below 0, and 0 where it is chosen."""

    def __init__(self, costs: Sequence[Sequence[int]]) -> None:
        self.row_of: dict[int, int] = {}
        self._costs = costs
        self._row_prices = [0.0] * len(costs)
        self._column_prices = [0.0] * len(costs)

    def add(self, new_row: int) -> None:
        """Give one more row a column: other rows move over, along the cheapest chain that ends at a column which is free."""
        open_columns = dict.fromkeys(range(len(self._costs)), inf)
        before: dict[int, int | None] = {}
        reached: dict[int, float] = {}
        row, column, length = new_row, None, 0.0
        while True:
            self._look_from(row, column, length, open_columns, before)
            column = min(open_columns, key=open_columns.__getitem__)
            length = reached[column] = open_columns.pop(column)
            if column not in self.row_of:
                break
            row = self.row_of[column]
        self._row_prices[new_row] += length
        for passed, distance in reached.items():
            self._column_prices[passed] -= length - distance
            if passed != column:
                self._row_prices[self.row_of[passed]] += length - distance
        while column is not None:
            previous = before[column]
            self.row_of[column] = new_row if previous is None else self.row_of[previous]
            column = previous

    def _look_from(
        self, row: int, column: int | None, length: float, open_columns: dict[int, float], before: dict[int, int | None],
    ) -> None:  # fmt: skip
        """Note the columns that are nearer by way of this row, which has this column."""
        so_far = length - self._row_prices[row]
        for other, distance in open_columns.items():
            also = so_far + self._costs[row][other] - self._column_prices[other]
            if also < distance:
                open_columns[other], before[other] = also, column
