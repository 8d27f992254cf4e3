"""What the autoencoder keeps: PSNR and SSIM of reconstructed clips."""

import itertools
from typing import Any

import numpy as np
from jaxtyping import UInt8
from skimage.metrics import structural_similarity

from reelmill.config import Data
from reelmill.data.manifest import Clip, read_clips
from reelmill.models.autoencoder import reconstruct
from reelmill.storage import hash_value

MAX_CLIPS = 128  # the mean's standard error is then below 0.3 dB for clips that spread by 3 dB
BATCH = 4


def reconstruction_figures(model: Any, clips: list[Clip], split: str, data: Data) -> dict[str, float]:
    """Mean over clips of PSNR (dB, 8-bit, against the decoded input) and SSIM (Wang et al. 2004)."""
    chosen = sorted((clip for clip in clips if clip.split == split), key=lambda clip: hash_value(clip.clip_id))[
        :MAX_CLIPS
    ]
    frames = read_clips(chosen, data)
    ratios, similarities = [], []
    while batch := list(itertools.islice(frames, BATCH)):
        for original, copy in zip(batch, reconstruct(model, np.stack(batch)), strict=True):
            ratios.append(psnr_db(original, copy))
            similarities.append(ssim(original, copy))
    return {
        "psnr_db": round(float(np.mean(ratios)), 3),
        "ssim": round(float(np.mean(similarities)), 4),
        "clips": len(ratios),
    }


def psnr_db(original: UInt8[np.ndarray, "f h w c"], copy: UInt8[np.ndarray, "f h w c"]) -> float:
    """Peak signal-to-noise ratio of a clip in dB, peak 255; identical clips give 100."""
    error = np.square(original.astype(np.float64) - copy).mean()
    return 100.0 if error == 0 else float(10 * np.log10(255**2 / error))


def ssim(original: UInt8[np.ndarray, "f h w c"], copy: UInt8[np.ndarray, "f h w c"]) -> float:
    """Structural similarity, the mean over frames."""
    return float(np.mean([structural_similarity(a, b, channel_axis=2) for a, b in zip(original, copy, strict=True)]))
