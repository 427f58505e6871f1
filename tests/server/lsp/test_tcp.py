"""The listener as strangers on the same machine try it."""

from __future__ import annotations

import hmac
import json
import socket
import threading
from typing import Any

import pytest

from server.lsp import tcp
from server.lsp.tcp import Listener, knows_token

TOKEN = "t" * 43


def first_message(token: str) -> bytes:
    params = {"capabilities": {}, "initializationOptions": {"token": token}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    return json.dumps(message).encode()


def test_tokens_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the function that is made for it: the time of `==` tells how much was guessed."""
    compared: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest

    def compare(given: bytes, wanted: bytes) -> bool:
        compared.append((given, wanted))
        return real(given, wanted)

    monkeypatch.setattr(tcp.hmac, "compare_digest", compare)
    assert not knows_token(first_message("t"), TOKEN)
    assert knows_token(first_message(TOKEN), TOKEN)
    assert compared == [(b"t", TOKEN.encode()), (TOKEN.encode(), TOKEN.encode())]


def test_strangers_that_trickle_keep_no_editor_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each place is held by one that sends a byte now and then and never a message."""
    monkeypatch.setattr(tcp, "TOKEN_S", 0.3)
    listener = Listener("127.0.0.1", 0, TOKEN)
    accepted: list[Any] = []
    waiting = threading.Thread(target=lambda: accepted.append(listener.accept()))
    waiting.start()
    strangers = [socket.create_connection(listener.address) for _ in range(tcp.WAITING_CONNECTIONS)]
    is_over = threading.Event()

    def trickle() -> None:
        while not is_over.wait(0.05):
            for stranger in strangers:
                try:
                    stranger.send(b"C")
                except OSError:
                    continue

    trickling = threading.Thread(target=trickle)
    trickling.start()
    editor = socket.create_connection(listener.address)
    body = first_message(TOKEN)
    editor.sendall(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    waiting.join(30)
    is_over.set()
    trickling.join()
    for one in [*strangers, editor]:
        one.close()
    assert [message for _, _, message in accepted] == [body]
    for reader, writer, _ in accepted:
        reader.close()
        writer.close()
