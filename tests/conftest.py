"""How all tests that try many examples do so: the same ones each time, however long one takes."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("here", deadline=None, derandomize=True)
settings.load_profile("here")
