"""Two pipes and their threads, with a client that does what a client should not."""

from __future__ import annotations

import asyncio
import os
from typing import BinaryIO

from server.lsp.connection import PENDING_BYTES, Connection
from server.lsp.framing import frame


class Peer:
    """The other ends of a connection's pipes."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self.messages: asyncio.Queue[bytes] = asyncio.Queue()
        ours, self._input = os.pipe()
        self._output, theirs = os.pipe()
        self.output: BinaryIO = os.fdopen(self._output, "rb")
        self.input: BinaryIO = os.fdopen(self._input, "wb", buffering=0)
        self._ends = [os.fdopen(ours, "rb"), os.fdopen(theirs, "wb", buffering=0)]
        self.connection = Connection(self._ends[0], self._ends[1])
        self.connection.start(
            asyncio.get_running_loop(),
            on_message=self.messages.put_nowait,
            on_oversized=lambda: None,
            on_closed=self.closed.set,
        )

    async def close(self) -> None:
        for stream in (self.output, self.input):
            stream.close()
        await self.closed.wait()
        self.connection.close()
        for stream in self._ends:
            stream.close()


async def test_messages_arrive_in_order_and_the_end_is_told() -> None:
    peer = Peer()
    for i in range(1000):
        peer.input.write(frame(b"%d" % i))
        assert await peer.messages.get() == b"%d" % i
    assert not peer.closed.is_set()
    await peer.close()


async def test_writing_never_waits_for_a_reader_and_loses_nothing() -> None:
    peer = Peer()
    pieces = [b"%08d" % i for i in range(100_000)]
    for piece in pieces:
        peer.connection.write(piece)
    assert peer.connection.is_congested
    read = await asyncio.to_thread(peer.output.read, len(pieces) * 8)
    assert read == b"".join(pieces)
    await peer.close()


async def test_a_client_that_never_reads_is_given_up() -> None:
    peer = Peer()
    piece = b"x" * (1 << 20)
    for _ in range(PENDING_BYTES // len(piece) + 2):
        peer.connection.write(piece)
    await peer.closed.wait()
    assert peer.connection.is_broken
    peer.connection.write(piece)
    assert not peer.connection.is_congested
    await peer.close()
