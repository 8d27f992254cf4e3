"""Prefect flows: what runs the pipeline, when, and what becomes of its model. Stages run through dvc only."""
