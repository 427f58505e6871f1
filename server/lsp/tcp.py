"""One editor over TCP: loopback only, and only with the token that was printed at the start.

A web page can make a browser connect to a local port, so a connection speaks this protocol from its
first line or is closed, and no other address than loopback can be bound.
Source: microsoft/language-server-protocol#66.
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import json
import logging
import queue
import secrets
import socket
import threading
from typing import BinaryIO

from server.errors import OptionsError
from server.lsp.framing import FramingError, OversizedMessageError, read_message

logger = logging.getLogger(__name__)

TOKEN_S = 10.0
"""Time to send the first message. Guessed."""
WAITING_CONNECTIONS = 8
"""Connections that may be about to send their first message."""
_FIRST_MESSAGE_BYTES = 1 << 20


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port of `127.0.0.1:PORT` or `[::1]:PORT`; port 0 lets the system choose.

    Raises:
        OptionsError: no such address, or not loopback.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    host = "127.0.0.1" if host in ("", "localhost") else host
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise OptionsError(f"--tcp is {text!r}, expected 127.0.0.1:PORT")
    if not is_loopback:
        raise OptionsError(
            f"--tcp is {text!r}; the server binds loopback only, expected 127.0.0.1:PORT"
        )
    return host, int(port)


def new_token() -> str:
    """Return a token that can't be guessed."""
    return secrets.token_urlsafe(32)


class Listener:
    """Waits for the one connection that knows the token."""

    def __init__(self, host: str, port: int, token: str) -> None:
        """Bind the address.

        Raises:
            OptionsError: it is taken.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family)
        except OSError as exc:
            raise OptionsError(f"{host}:{port} can't be bound: {exc.strerror}") from exc
        self._token = token
        self._is_taken = False
        self._accepted: queue.SimpleQueue[tuple[BinaryIO, BinaryIO, bytes]] = queue.SimpleQueue()
        self._free = threading.Semaphore(WAITING_CONNECTIONS)

    @property
    def address(self) -> tuple[str, int]:
        """The host and the port that was bound."""
        host, port = self._socket.getsockname()[:2]
        return str(host), int(port)

    def accept(self) -> tuple[BinaryIO, BinaryIO, bytes]:
        """Wait for the editor; return its streams and its first message. Others are closed."""
        threading.Thread(target=self._accept_all, name="tcp-accept", daemon=True).start()
        accepted = self._accepted.get()
        self._is_taken = True
        with contextlib.suppress(OSError):  # Wakes the thread that accepts, where the system does.
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        return accepted

    def _accept_all(self) -> None:
        while True:
            self._free.acquire()
            try:
                connection, _ = self._socket.accept()
            except OSError:  # Closed: the editor is there.
                return
            if self._is_taken:
                connection.close()
                return
            threading.Thread(
                target=self._authenticate, args=[connection], name="tcp-token", daemon=True
            ).start()

    def _authenticate(self, connection: socket.socket) -> None:
        # In all, not per byte: who sends one now and then would keep the editor's place for ever.
        too_late = threading.Timer(TOKEN_S, _hang_up, args=[connection])
        too_late.daemon = True
        too_late.start()
        try:
            reader = connection.makefile("rb")
            first = read_message(reader, is_strict=True, max_bytes=_FIRST_MESSAGE_BYTES)
            if not knows_token(first, self._token):
                raise FramingError("the token is missing or wrong")
        except (EOFError, FramingError, OversizedMessageError, OSError) as exc:
            logger.warning("a connection was refused: %s", exc)
            connection.close()
        else:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            writer = connection.makefile("wb")
            connection.close()  # Once both streams are.
            self._accepted.put((reader, writer, first))
        finally:
            too_late.cancel()
            self._free.release()


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # It is closed already.
        connection.shutdown(socket.SHUT_RDWR)


def knows_token(first: bytes, token: str) -> bool:
    """Whether a first message is an `initialize` whose options hold the token."""
    try:
        message = json.loads(first)
        given = message["params"]["initializationOptions"]["token"]
        is_initialize = message["method"] == "initialize"
    except (ValueError, LookupError, TypeError, RecursionError):
        return False
    is_text = isinstance(given, str) and is_initialize
    return is_text and hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())
