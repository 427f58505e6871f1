"""What the engine computes while a fixed text is typed: asserted, so that reuse can't get worse."""

from collections.abc import Iterator

import pytest

from benchmarks.engine_work import CountingBackend, cancel_cold_requests, counting_engine, replay
from server.bundle import EMBEDDED_FOLDER, read_bundle
from server.completion.engines.local import LocalEngine
from server.decoding.generate import PREFILL_CHUNK_TOKENS
from server.options import Options

LINE = (
    "    def area_{0}(self, width: int, height: int) -> int:\n"
    "        return width * height + {0}\n\n"
)
# Three times what the window of the embedded model holds.
LONG = "class Shapes:\n" + "".join(LINE.format(index) for index in range(60))
TYPED = "    def outline(self, points: list[int]) -> int:\n        return sum(points)\n"


@pytest.fixture
def counted() -> Iterator[tuple[LocalEngine, CountingBackend]]:
    """The engine of the embedded model, counted."""
    options = Options(backend="ort", device="cpu", threads=1)
    engine, counter = counting_engine(read_bundle(EMBEDDED_FOLDER), options)
    yield engine, counter
    engine.close()


def test_typing_computes_hardly_a_prompt_token_twice(
    counted: tuple[LocalEngine, CountingBackend],
) -> None:
    reuse = replay(*counted, LONG, TYPED, lambda _: None)
    assert reuse.n_prompt > 300 * len(TYPED)
    # Typed text, healed tokens that are read again, and no window moved.
    assert reuse.n_prefilled < 4 * len(TYPED)
    assert reuse.share > 0.97


def test_a_window_that_jumps_was_read_ahead(
    counted: tuple[LocalEngine, CountingBackend],
) -> None:
    """A long document goes on over several jumps of its window, a few letters at a time."""
    typed = "".join(LINE.format(index) for index in range(60, 82))
    keys = [typed[start : start + 5] for start in range(0, len(typed), 5)]
    hurried = replay(*counted, LONG, keys, lambda _: None, is_idle=False)
    assert hurried.n_ahead == 0
    n_jumps = sum(n > 3 * PREFILL_CHUNK_TOKENS for n in hurried.prefilled)
    assert n_jumps >= 3
    counted[0].forget("file:///benchmark/replay.py")
    idle = replay(*counted, LONG, keys, lambda _: None)
    assert max(idle.prefilled) <= PREFILL_CHUNK_TOKENS
    assert idle.n_ahead >= 3 * PREFILL_CHUNK_TOKENS * n_jumps
    # What was read ahead was not read again: all in all it costs the stretch that windows share.
    assert idle.n_prefilled + idle.n_ahead < 1.5 * hurried.n_prefilled


def test_every_token_is_counted(counted: tuple[LocalEngine, CountingBackend]) -> None:
    engine, counter = counted
    n_before = counter.n_tokens
    reuse = replay(engine, counter, "x = [", "1, 2", lambda _: None)
    assert 0 < reuse.n_prefilled + reuse.n_ahead + reuse.n_decoded <= counter.n_tokens - n_before


def test_no_pass_begins_after_a_cancellation(
    counted: tuple[LocalEngine, CountingBackend],
) -> None:
    """One may stand between its check and its beginning; never two."""
    for one in cancel_cold_requests(*counted, LONG, 4, 0, lambda _: None):
        assert one.n_begun <= 1
        assert one.idle_ms > 0
