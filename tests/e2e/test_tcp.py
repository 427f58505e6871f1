"""One editor over TCP: only with the token, only in the protocol's own words."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.client import PATIENCE_S, ROOT, Client, server_environment

pytestmark = pytest.mark.e2e


@dataclass
class Listening:
    """A server that waits for its editor."""

    process: subprocess.Popen[bytes]
    port: int
    token: str

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)

    def refuses(self, data: bytes) -> bool:
        """Whether the server closes a connection that begins with this, and says nothing."""
        with self.connect() as connection:
            try:
                connection.sendall(data)
                return connection.recv(100) == b""
            except ConnectionResetError:
                return True


@pytest.fixture
def listening() -> Iterator[Listening]:
    command = [sys.executable, "-m", "server", "--tcp", "127.0.0.1:0", "--engine", "echo"]
    with subprocess.Popen(
        command,
        env=server_environment(("echo-engine",)),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        yield Listening(process, told["port"], told["token"])
        process.kill()


def first_message(token: object) -> bytes:
    params = {"capabilities": {}, "initializationOptions": {"token": token}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    body = json.dumps(message).encode()
    return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def test_strangers_are_refused_and_the_editor_is_served(listening: Listening) -> None:
    good = first_message(listening.token)
    assert listening.refuses(first_message("guess"))
    assert listening.refuses(first_message(None))
    assert listening.refuses(first_message(["a"]))
    assert listening.refuses(b"Content-Length: 2\r\n\r\n{}")
    assert listening.refuses(b"Content-Length: 999999999\r\n\r\n")
    assert listening.refuses(b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + good)
    assert listening.refuses(b"Origin: http://example.org\r\n" + good)
    with (
        listening.connect() as connection,
        Client(connection.makefile("rb"), connection.makefile("wb")) as client,
    ):
        client.initialize({"token": listening.token})
        client.wait_ready()
        client.open("file:///a.py", "x = ")
        (item,) = client.complete("file:///a.py", 0, 4)
        assert item["insertText"] == "echo_4(one, two)"
        with pytest.raises(ConnectionRefusedError):
            listening.connect()
        client.request("shutdown", None)
        client.notify("exit", None)
        assert listening.process.wait(PATIENCE_S) == 0


def test_the_server_ends_with_its_connection(listening: Listening) -> None:
    with (
        listening.connect() as connection,
        Client(connection.makefile("rb"), connection.makefile("wb")) as client,
    ):
        client.initialize({"token": listening.token})
        connection.shutdown(socket.SHUT_RDWR)
        assert listening.process.wait(PATIENCE_S) == 1
