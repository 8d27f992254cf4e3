"""The background behind the object: a slow gradient, fitted to the frame's border."""

import functools

import numpy as np
from jaxtyping import Float32, UInt8

RING_SHARE = 0.125  # of the side: the border that the gradient is fitted to
NEAR_LEVELS = 40  # 8-bit: first trim, around the border's median
TIGHT_LEVELS = 6  # 8-bit: least second trim, around the first fit


def background_model(frames: UInt8[np.ndarray, "f h w 3"]) -> Float32[np.ndarray, "f h w 3"]:
    """The clip's background: a quadratic surface per channel, shifted per frame.

    The surface is fitted by trimmed least squares to the border's median over time, so that an
    object that touches the border now and then does not bend it.
    """
    height, width = frames.shape[1:3]
    basis, ring = _basis(height, width)
    border = frames[:, ring].astype(np.float32)  # [f, pixels, 3]
    still = np.median(border, axis=0)
    surface = np.stack([_fit(basis, basis[ring], still[:, channel]) for channel in range(3)], axis=-1)
    shift = np.median(border - surface[ring], axis=1)  # [f, 3]
    return surface + shift[:, None, None, :]


def _fit(basis: np.ndarray, ring_basis: np.ndarray, values: np.ndarray) -> np.ndarray:
    off = np.abs(values - np.median(values))
    keep = off < NEAR_LEVELS
    for _ in range(2):
        if keep.sum() < values.size // 4:  # no background to speak of: the level alone
            return np.full(basis.shape[:2], np.median(values), np.float32)
        terms = ring_basis[keep]
        weights = np.linalg.solve(
            terms.T @ terms + 1e-3 * np.eye(terms.shape[1], dtype=np.float32), terms.T @ values[keep]
        )
        off = np.abs(values - ring_basis @ weights)
        keep = off < max(TIGHT_LEVELS, 4 * np.median(off))
    return (basis @ weights).astype(np.float32)


@functools.lru_cache(maxsize=8)
def _basis(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    basis = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
    edge = 1 - 2 * RING_SHARE
    ring = (np.abs(x) > edge) | (np.abs(y) > edge)
    ring[1::2, ::2] = ring[::2, 1::2] = False  # every other pixel does as well
    return basis.astype(np.float32), ring
