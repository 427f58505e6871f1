"""One client's pair of streams: a thread that reads, a thread that writes, neither on the loop.

Does not know what a message means. Own threads, because pygls reads in the pool that handlers share
and writes on the event loop: a client that stops reading would stop the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import BinaryIO

from server.lsp.framing import FramingError, OversizedMessageError, read_message

logger = logging.getLogger(__name__)

CONGESTED_BYTES = 256 << 10
"""With more than this unsent, what may be left out is left out. Guessed: four pipes full."""
PENDING_BYTES = 64 << 20
"""With more than this unsent, the client is taken for dead. Guessed."""
UNREAD_MESSAGES = 256
"""Messages read but not handled, at the most; then the client has to wait. Guessed."""


class Connection:
    """Two streams of bytes with their threads; the writer is what pygls writes to."""

    def __init__(
        self,
        reader: BinaryIO,
        writer: BinaryIO,
        *,
        is_strict: bool = False,
        first: bytes | None = None,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._is_strict = is_strict
        self._first = first
        self._unread = threading.Semaphore(UNREAD_MESSAGES)
        self._pending: deque[bytes] = deque()
        self._n_pending = 0
        self._changed = threading.Condition()
        self._is_closing = False
        self._is_broken = False
        self._report_closed: Callable[[], object] = lambda: None
        self._writer_thread = threading.Thread(target=self._write, name="lsp-write", daemon=True)

    def start(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        on_message: Callable[[bytes], None],
        on_oversized: Callable[[], None],
        on_closed: Callable[[], None],
    ) -> None:
        """Start both threads; the callbacks are called on the loop, in the stream's order.

        `on_closed` may be called twice: once for each stream.
        """

        def deliver(body: bytes) -> None:
            self._unread.release()
            on_message(body)

        def tell(callback: Callable[..., None], *arguments: object) -> None:
            with contextlib.suppress(RuntimeError):  # The loop is closed: nobody is there to tell.
                loop.call_soon_threadsafe(callback, *arguments)

        def read() -> None:
            self._read(partial(tell, deliver), partial(tell, on_oversized))
            tell(on_closed)

        self._report_closed = partial(tell, on_closed)
        self._writer_thread.start()
        threading.Thread(target=read, name="lsp-read", daemon=True).start()

    @property
    def is_congested(self) -> bool:
        """Whether the client reads more slowly than the server writes."""
        return self._n_pending > CONGESTED_BYTES

    @property
    def is_broken(self) -> bool:
        """Whether the client can't be written to any more."""
        return self._is_broken

    def write(self, data: bytes) -> None:
        """Queue bytes; never blocks, never raises."""
        with self._changed:
            if self._is_broken or self._is_closing:
                return
            self._pending.append(data)
            self._n_pending += len(data)
            if self._n_pending > PENDING_BYTES:
                logger.error("the client does not read; %d bytes are unsent", self._n_pending)
                self._break()
            self._changed.notify()

    def close(self, timeout_s: float = 1.0) -> None:
        """Write what is queued, as far as the time allows, and stop writing."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        if self._writer_thread.is_alive():
            self._writer_thread.join(timeout_s)

    def _break(self) -> None:
        self._is_broken = True
        self._pending.clear()
        self._n_pending = 0
        self._report_closed()

    def _read(
        self, on_message: Callable[[bytes], object], on_oversized: Callable[[], object]
    ) -> None:
        if self._first is not None:
            self._unread.acquire()
            on_message(self._first)
        while not self._is_broken:
            try:
                body = read_message(self._reader, is_strict=self._is_strict)
            except OversizedMessageError as exc:
                logger.error("%s", exc)
                on_oversized()
            except EOFError:
                return
            except (FramingError, OSError, ValueError) as exc:
                logger.error("the connection ends: %s", exc)
                return
            else:
                self._unread.acquire()
                on_message(body)

    def _write(self) -> None:
        while True:
            with self._changed:
                while not self._pending and not self._is_closing and not self._is_broken:
                    self._changed.wait()
                if not self._pending:
                    return
                data = b"".join(self._pending)
                self._pending.clear()
            try:
                self._writer.write(data)
                self._writer.flush()
            except (OSError, ValueError) as exc:
                logger.info("the client is gone: %s", type(exc).__name__)
                with self._changed:
                    self._break()
                return
            with self._changed:
                self._n_pending = max(0, self._n_pending - len(data))
