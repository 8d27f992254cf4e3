"""Statistics of proportions: what an accuracy of so many clips is worth."""

from collections import Counter
from collections.abc import Hashable, Sequence
from statistics import NormalDist


def wilson_interval(successes: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a proportion (Wilson 1927, eq. 4).

    The set of p with (p_hat - p)^2 <= z^2 p (1 - p) / n. It stays within [0, 1] and has width at
    p_hat = 0 and 1, where the textbook interval has none. Nothing seen is (0, 1).
    """
    assert 0 <= successes <= total, (successes, total)
    if total == 0:
        return 0.0, 1.0
    z2 = NormalDist().inv_cdf(0.5 + confidence / 2) ** 2
    p_hat = successes / total
    center = (p_hat + z2 / (2 * total)) / (1 + z2 / total)
    half = (z2 * (p_hat * (1 - p_hat) / total + z2 / (4 * total**2))) ** 0.5 / (1 + z2 / total)
    # The ends are exact where all or nothing succeeded; rounding would leave 1e-17 there.
    low = 0.0 if successes == 0 else center - half
    high = 1.0 if successes == total else center + half
    return low, high


def shuffled_agreement(seen: Sequence[Hashable], wanted: Sequence[Hashable]) -> float:
    """Expected share of matches if ``wanted`` were shuffled at random, over all n! orders.

    Each pair meets in 1/n of the orders, so it is sum over values of count_seen * count_wanted / n^2:
    what a model would score that ignores the prompt but draws its values as often as they are asked for.
    """
    assert len(seen) == len(wanted) > 0, (len(seen), len(wanted))
    counts_seen, counts_wanted = Counter(seen), Counter(wanted)
    return sum(count * counts_wanted[value] for value, count in counts_seen.items()) / len(seen) ** 2
