"""Tells a worker that hangs from one that is slow: by signs of life, counted at regular looks.

Pure. Counts looks, not seconds: a machine that slept, or a clock that jumped, is one look like any
other.
"""

from __future__ import annotations

from server.completion.worker import Job

LOOK_S = 2.0
"""Between two looks at a worker that has something to do."""
CALL_LOOKS = 5
"""Looks without a sign of life after which a call hangs: ten seconds. Guessed: many times the
longest forward pass, which is between two signs of life."""
LOAD_LOOKS = 60
"""The same while something is loaded, which gives no signs: two minutes. Guessed: a network of
gigabytes from a slow disk."""


class Watchdog:
    """Counts the looks at one worker in which nothing had happened since the look before."""

    def __init__(self) -> None:
        self._pulse: tuple[Job | None, int] = (None, 0)
        self._n_silent = 0

    def hangs(self, pulse: tuple[Job | None, int], *, is_loading: bool) -> bool:
        """Look, and return whether the job that runs is to be given up.

        Args:
            pulse: `Worker.pulse` now.
            is_loading: the silence may be a load.
        """
        is_silent = pulse == self._pulse and pulse[0] is not None
        self._n_silent = self._n_silent + 1 if is_silent else 0
        self._pulse = pulse
        return self._n_silent >= (LOAD_LOOKS if is_loading else CALL_LOOKS)

    @staticmethod
    def patience(*, is_loading: bool) -> str:
        """Return for how long nothing happened, for a message."""
        return f"{(LOAD_LOOKS if is_loading else CALL_LOOKS) * LOOK_S:g} s"
