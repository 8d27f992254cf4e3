"""Clips: drawing, reading and writing, sources, windows, measurements, the data gate."""
