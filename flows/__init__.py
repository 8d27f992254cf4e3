"""Prefect flows: what runs the pipeline, when, and what becomes of its model. Stages run through dvc only."""

from reelmill.workspace import prepare_environment

prepare_environment()  # before Prefect is imported: telemetry off
