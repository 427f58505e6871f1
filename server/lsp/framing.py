"""Messages in a stream of bytes: a header, an empty line, a body of known length.

Does not know what a body means. After garbage it finds the next header by itself: a body is one
line of JSON, so nothing inside it looks like a header line.

Source: LSP 3.18, "Base Protocol".
"""

from __future__ import annotations

import re
from typing import BinaryIO

MESSAGE_BYTES = 128 << 20
"""A longer message is skipped. Guessed: ten times a document that is offered no completions."""
_HEADER_LINE_BYTES = 8192
_GARBAGE_BYTES = 16 << 20
_PIECE_BYTES = 1 << 20
_LENGTH = re.compile(rb"Content-Length:[ \t]*(\d{1,18})[ \t]*\r?\n\Z", re.IGNORECASE)
_KNOWN_HEADER = re.compile(rb"Content-(Length|Type):[ -~\t]*\r\n\Z", re.IGNORECASE)


class FramingError(Exception):
    """The stream can't be read on."""


class OversizedMessageError(Exception):
    """A message was longer than `MESSAGE_BYTES` and was skipped; the next one can be read."""


def read_message(stream: BinaryIO, *, is_strict: bool, max_bytes: int = MESSAGE_BYTES) -> bytes:
    """Read one body; blocks.

    Args:
        stream: buffered bytes.
        is_strict: refuse all but the two headers that the protocol has. A browser can be made to
            send a request to a local port, and its lines would be skipped as garbage otherwise
            (microsoft/language-server-protocol#66).
        max_bytes: longest body.

    Raises:
        EOFError: the stream ended, perhaps inside a message.
        FramingError: too much garbage, or a header that is refused.
        OversizedMessageError: the message was skipped.
    """
    n_bytes = _read_headers(stream, is_strict=is_strict)
    if n_bytes > max_bytes:
        if is_strict:
            raise FramingError(f"a message of {n_bytes} bytes is longer than {max_bytes}")
        _skip(stream, n_bytes)
        raise OversizedMessageError(f"a message of {n_bytes} bytes was skipped")
    body = stream.read(n_bytes)
    if len(body) < n_bytes:
        raise EOFError("the stream ended inside a message")
    return body


def frame(body: bytes) -> bytes:
    """Return a body with its header."""
    return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def _read_headers(stream: BinaryIO, *, is_strict: bool) -> int:
    """Return the announced length of the body that follows."""
    n_bytes: int | None = None
    garbage = 0
    while True:
        line = stream.readline(_HEADER_LINE_BYTES)
        if not line:
            raise EOFError("the stream ended")
        if line in (b"\r\n", b"\n"):
            if n_bytes is not None:
                return n_bytes
            continue
        if is_strict and not _KNOWN_HEADER.fullmatch(line):
            raise FramingError("a header that is not of this protocol")
        if found := _LENGTH.search(line):
            n_bytes = int(found[1])
            garbage = 0
        else:
            garbage += len(line)
        if garbage > _GARBAGE_BYTES:
            raise FramingError("no message header in sight")


def _skip(stream: BinaryIO, n_bytes: int) -> None:
    while n_bytes > 0:
        piece = stream.read(min(n_bytes, _PIECE_BYTES))
        if not piece:
            raise EOFError("the stream ended inside a message")
        n_bytes -= len(piece)
