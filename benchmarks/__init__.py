"""Side-by-side measurements, run by hand."""

from reelmill.workspace import prepare_environment

prepare_environment()  # as the stages do, before torch is imported
