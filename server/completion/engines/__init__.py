"""Completion engines: text in, text deltas out."""
