"""Bodies out of bytes, garbage included."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.lsp.framing import FramingError, OversizedMessageError, frame, read_message


def bodies(data: bytes, *, is_strict: bool = False, max_bytes: int = 100) -> list[bytes]:
    stream, found = io.BytesIO(data), []
    while True:
        try:
            found.append(read_message(stream, is_strict=is_strict, max_bytes=max_bytes))
        except OversizedMessageError:
            found.append(b"oversized")
        except EOFError:
            return found


@given(st.lists(st.binary(max_size=50)))
def test_what_is_framed_is_read_back(messages: list[bytes]) -> None:
    assert bodies(b"".join(map(frame, messages))) == messages


@given(st.binary(max_size=200).filter(lambda data: b"ontent" not in data.lower()))
def test_garbage_before_a_header_is_skipped(garbage: bytes) -> None:
    assert bodies(garbage + b"\r\n" + frame(b"{}")) == [b"{}"]


@pytest.mark.parametrize(
    "header",
    [
        b"Content-Length: 2\r\n\r\n",
        b"content-length:2\r\n\r\n",
        b"Content-Type: application/vscode-jsonrpc; charset=utf-8\r\nContent-Length: 2\r\n\r\n",
        b"Content-Length: 2\n\n",
        b"X-Other: 1\r\nContent-Length: 2\r\n\r\n",
        b"rest of a body}Content-Length: 2\r\n\r\n",
    ],
)
def test_headers_of_all_clients_are_read(header: bytes) -> None:
    assert bodies(header + b"{}") == [b"{}"]


def test_a_message_that_is_too_long_is_skipped() -> None:
    assert bodies(frame(b"x" * 101) + frame(b"{}")) == [b"oversized", b"{}"]


def test_a_message_that_ends_early_is_the_end() -> None:
    assert bodies(frame(b"{}")[:-1]) == []


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\n", b"Host: a\r\n", b"Content-Length 2\r\n", b"x" * 9000]
)
def test_a_strict_reader_refuses_all_but_the_protocol(first: bytes) -> None:
    with pytest.raises(FramingError):
        bodies(first + frame(b"{}"), is_strict=True)
    assert bodies(frame(b"{}"), is_strict=True) == [b"{}"]


def test_a_strict_reader_does_not_read_what_is_too_long() -> None:
    with pytest.raises(FramingError):
        bodies(b"Content-Length: 999999999999\r\n\r\n", is_strict=True)
