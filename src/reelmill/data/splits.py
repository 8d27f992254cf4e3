"""Which split and draw weight a clip has."""

from collections import Counter
from collections.abc import Iterable

from reelmill.config import Data
from reelmill.data.findings import Finding
from reelmill.storage import hash_value

SPLITS = ("train", "validation", "test")
MIN_RECORDINGS = 3  # one a split
FEW_RECORDINGS = 10  # below it a chance pick can take most windows away from training


def split_recordings(recording_hashes: Iterable[str], data: Data) -> dict[str, str]:
    """Split whole recordings, ranked by the hash of their content and data.seed.

    Of few recordings those with the fewest windows come first, and go to test and validation.
    Copies of a file share a split, and a renamed file keeps its own. Validation and test get
    their share, rounded, at least one recording each, and leave at least one for training.

    Args:
        recording_hashes: of every window the hash of its recording.

    Returns:
        The split of each recording hash; empty with fewer than `MIN_RECORDINGS` different ones.
    """
    windows = Counter(recording_hashes)
    ranked = sorted(windows, key=lambda content: hash_value([data.seed, content]))
    if len(ranked) < FEW_RECORDINGS:
        ranked.sort(key=lambda content: windows[content])
    if len(ranked) < MIN_RECORDINGS:
        return {}
    num_test = min(max(1, round(data.test_share * len(ranked))), len(ranked) - 2)
    num_validation = min(max(1, round(data.validation_share * len(ranked))), len(ranked) - 1 - num_test)
    names = ["test"] * num_test + ["validation"] * num_validation
    names += ["train"] * (len(ranked) - len(names))
    return dict(zip(ranked, names, strict=True))


def too_few(folder: str, found: int) -> Finding:
    """The finding for a folder that cannot be split into three."""
    return Finding(
        "error",
        "too few recordings",
        folder,
        f"{found} different recordings can be used, and they are split whole: training, validation and test need one each",
        f"Add recordings until there are at least {MIN_RECORDINGS} (cut a long one into files if need be), "
        "or set data.source to samples in params.yaml.",
    )


def draw_weights(train_sources: list[str], samples_weight: float) -> dict[str, float]:
    """Weight of a training clip by source, mean 1, so that the expected share of samples among
    draws is ``samples_weight``. With one source all weights are 1."""
    counts = {source: train_sources.count(source) for source in ("samples", "videos")}
    if not all(counts.values()):
        return dict.fromkeys(counts, 1.0)
    total = len(train_sources)
    return {
        "samples": samples_weight * total / counts["samples"],
        "videos": (1 - samples_weight) * total / counts["videos"],
    }
