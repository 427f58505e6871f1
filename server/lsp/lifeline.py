"""Nothing outlives the editor: its process is watched, and the end of ours is enforced.

Does not know the protocol.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

WATCH_S = 0.5
"""Between two looks at the editor's process. With `EXIT_S` under the two seconds that are kept."""
EXIT_S = 1.2
"""For closing in good order; then the process ends in any order."""


def watch_parent(process_id: int, on_gone: Callable[[], None]) -> None:
    """Call back once, from a thread of its own, when the process is gone.

    A process that is gone already, or can't be looked at, is not watched: the number may be from
    another machine or another namespace of processes, and the end of stdin tells as well.
    """
    import psutil  # Not needed before the editor has its answer to `initialize`.

    try:
        parent = psutil.Process(process_id)
        parent.create_time()
    except (psutil.Error, ValueError, OverflowError):
        logger.info("the editor's process can't be watched")
        return

    def is_alive() -> bool:
        try:  # Compares the start time too, so a number that is used again doesn't deceive.
            return parent.is_running() and parent.status() != psutil.STATUS_ZOMBIE
        except psutil.AccessDenied:
            return True
        except psutil.Error:
            return False

    def watch() -> None:
        while is_alive():
            time.sleep(WATCH_S)
        logger.info("the editor's process is gone")
        on_gone()

    threading.Thread(target=watch, name="watch-parent", daemon=True).start()


def exit_after(code: int, seconds: float = EXIT_S) -> None:
    """End the process with `code` after a while, whatever still runs then."""

    def end() -> None:
        time.sleep(seconds)
        os._exit(code)

    threading.Thread(target=end, name="exit", daemon=True).start()
