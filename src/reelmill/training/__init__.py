"""Training: the loops, the optimizers, the saved state."""
