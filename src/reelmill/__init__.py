"""Reelmill: captioned clips in, a text-to-video diffusion model with its evidence out."""

__version__ = "0.1.0"
