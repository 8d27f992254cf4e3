"""Do the videos of one prompt differ as clips of the data do, and are they copies of training clips?"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float32

from reelmill.evaluation.reading import Reading

CHUNK_CLIPS = 256  # training clips compared at a time
CLOSE_QUANTILE = 0.05


def diversity(readings: Sequence[Reading], keys: Sequence[Hashable]) -> float | None:
    """Mean distance, 8-bit levels, between clips of the same key (a prompt), the keys weighing alike.

    None when no key has two clips.
    """
    means = []
    for members in _by_key(readings, keys).values():
        distances = [np.linalg.norm(a.fingerprint - b.fingerprint) for a, b in combinations(members, 2)]
        if distances:
            means.append(np.mean(distances))
    return float(np.mean(means)) if means else None


@dataclass(frozen=True)
class Spread:
    """Standard deviations within a combination, pooled over the combinations."""

    start: float  # of x and y (root mean square of the two), share of the side
    size: float  # of the logarithm of the size


def spread(readings: Sequence[Reading], keys: Sequence[Hashable]) -> Spread | None:
    """How start position and size vary among clips of the same key; None without two of one key."""
    squares, freedom = np.zeros(3), 0
    for members in _by_key(readings, keys).values():
        values = np.array([(*m.start, np.log(m.size)) for m in members if m.start is not None and m.size])
        if len(values) > 1:
            squares += ((values - values.mean(axis=0)) ** 2).sum(axis=0)
            freedom += len(values) - 1
    if freedom == 0:
        return None
    variance = squares / freedom
    return Spread(start=float(np.sqrt(variance[:2].mean())), size=float(np.sqrt(variance[2])))


def _by_key(readings: Sequence[Reading], keys: Sequence[Hashable]) -> dict[Hashable, list[Reading]]:
    groups: dict[Hashable, list[Reading]] = defaultdict(list)
    for reading, key in zip(readings, keys, strict=True):
        groups[key].append(reading)
    return groups


class NearestClips:
    """Distances of some clips to the nearest of a stream of clips, in memory that does not grow with it."""

    def __init__(self, queries: Float32[np.ndarray, "q d"]) -> None:
        self._queries = queries.astype(np.float64)
        self._pending: list[np.ndarray] = []
        self._squares = np.full(len(queries), np.inf)
        self._nearest = np.full(len(queries), -1)
        self._count = 0

    def add(self, fingerprint: Float32[np.ndarray, "d"]) -> None:
        """Take in one clip of the stream."""
        self._pending.append(fingerprint)
        if len(self._pending) == CHUNK_CLIPS:
            self._compare()

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Distance to the nearest clip of the stream, 8-bit levels, and that clip's number in it."""
        if self._pending:
            self._compare()
        return np.sqrt(self._squares), self._nearest

    def _compare(self) -> None:
        chunk = np.stack(self._pending).astype(np.float64)
        # Not `@`: two processes whose OpenBLAS threads wait for each other on two cores stood still for minutes here.
        cross = np.einsum("qd,nd->qn", self._queries, chunk)
        squares = (self._queries**2).sum(1)[:, None] - 2 * cross + (chunk**2).sum(1)[None]
        best = squares.argmin(axis=1)
        least = np.maximum(squares[np.arange(len(best)), best], 0)
        closer = least < self._squares
        self._nearest[closer] = self._count + best[closer]
        self._squares[closer] = least[closer]
        self._count += len(chunk)
        self._pending.clear()


def compare_nearest(generated: Iterable[float], drawn: Iterable[float]) -> dict[str, float]:
    """Distances to the nearest training clip: of generated clips against clips that nobody trained on.

    ``close_share`` is the share of generated clips that are closer than all but 5 % of the others:
    near 0.05 when the model copies no more than the data repeat themselves.
    """
    ours, theirs = np.array(list(generated)), np.array(list(drawn))
    return {
        "generated_median": float(np.median(ours)),
        "test_median": float(np.median(theirs)),
        "ratio": float(np.median(ours) / max(np.median(theirs), 1e-9)),
        "close_share": float((ours < np.quantile(theirs, CLOSE_QUANTILE)).mean()),
    }
