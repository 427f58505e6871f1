"""Turns a checkpoint into a servable bundle: `python -m export MODEL`."""
