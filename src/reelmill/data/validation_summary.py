"""Figures of a validation: results/validate-data/metrics.json."""

from collections import Counter

import numpy as np

from reelmill.config import Expectations
from reelmill.data.clip_table import ClipTable
from reelmill.data.splits import SPLITS
from reelmill.data.validation import Verdict


def summarise(table: ClipTable, verdict: Verdict) -> dict:
    """Counts and mean measurements; nothing that depends on speed or place."""
    splits = Counter(clip.split for clip in table.clips)
    sources = Counter(clip.source for clip in table.clips)
    return {
        "recordings": table.num_recordings,
        "recordings_left_out": len(table.too_short),
        "scenes": table.num_scenes,
        "clips": len(table.clips),
        "clips_by_split": {split: splits[split] for split in SPLITS},
        "clips_by_source": dict(sorted(sources.items())),
        "errors": len(verdict.of_level("error")),
        "warnings": len(verdict.of_level("warning")),
        "mean": {
            name: round(float(np.mean([getattr(clip, name) for clip in table.clips])), 6) if table.clips else 0.0
            for name in Expectations.model_fields
        },
    }
