"""What the server is doing, as an editor shows it. Plain data; does not know who shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from server.completion.engine import EngineInfo

State = Literal["loading", "ready", "busy", "off", "inactive", "error"]
"""loading: the model is being loaded; ready; busy: completing; off: switched off by a setting;
inactive: not for this document (see `message`); error: nothing can be completed (see `message`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One line for a status bar."""

    state: State
    message: str = ""
    percent: int | None = None
    """How much of the loading is done, in [0, 100]; None in every other state."""
    engine: EngineInfo | None = None
