"""What every command ends with, in one place; docs/operations.md says the same to people."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The codes, each with what it means."""

    meaning: str

    DONE = (0, "Done. The server: its editor said `shutdown` and `exit`.")
    FAILED = (
        1,
        "Tried, and failed or found nothing. The server: its editor went away without a word.",
    )
    MISUSED = (2, "Can't be done as asked: a flag, a setting, a file or a model is wrong.")
    INTERRUPTED = (130, "Ctrl-C.")

    def __new__(cls, code: int, meaning: str) -> ExitCode:
        """Make one from its number and its meaning."""
        made = int.__new__(cls, code)
        made._value_ = code
        made.meaning = meaning
        return made
