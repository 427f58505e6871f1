"""A fixed text is typed: how many tokens are reused, prefilled, decoded and wasted. No time counts.

The completer and the local engine are real; the network knows by heart what is typed, but for one
name, and counts its passes. A token is a byte.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path

from server.bundle import Bundle
from server.completion.completer import Completer
from server.completion.engine import OnProgress, untold
from server.completion.engines.local import LocalEngine
from server.completion.records import RequestRecord
from server.completion.request import CompletionRequest
from server.manifest import Manifest, SpecialTokens, TensorNames
from server.options import Options
from tests.fakes import (
    FAKE_SPEC,
    ByteTokenizer,
    FakeBackend,
    FakeBackends,
    FakePlugins,
    ManualClock,
    byte_tokenizer_json,
)

SPEC = replace(FAKE_SPEC, n_ctx=512)
ABOVE = "".join(
    f"def area_{i}(width, height):\n    return width * height + {i}\n\n\n" for i in range(6)
)
KNOWN = "def outline(points):\n    return sum(points)\n"
TYPED = "def outline(corners):\n    return sum(points)\n"
OPTIONS = Options(
    engine="counted", debounce_ms=0, max_debounce_ms=0, memory="off", drafts=False, min_confidence=0
)


def following(tokens: tuple[int, ...]) -> int:
    """What comes after the last twelve bytes in the text that the network knows."""
    text = (ABOVE + KNOWN).encode()
    tail = bytes(token for token in tokens if token < 256)[-12:]
    end = text.rfind(tail) + len(tail)
    return text[end] if tail in text and end < len(text) else ByteTokenizer.END


def engine_over(backend: FakeBackend, folder: Path) -> type[LocalEngine]:
    """Return the local engine on a scripted network, as a plugin."""
    (folder / "tokenizer.json").write_text(byte_tokenizer_json(), encoding="utf-8")
    manifest = Manifest(
        name="counted",
        spec=SPEC,
        layout="fused",
        dtype="fp32",
        tensors=TensorNames(),
        special_tokens=SpecialTokens(end=ByteTokenizer.END),
    )

    class Counted(LocalEngine):
        @classmethod
        def load(cls, options: Options, on_progress: OnProgress = untold) -> LocalEngine:
            return cls(Bundle(folder=folder, manifest=manifest), FakeBackends(backend))

    return Counted


async def typed(backend: FakeBackend, folder: Path) -> tuple[list[RequestRecord], int]:
    """Type key by key, waiting for each answer and for what is done in idle time after it.

    Returns:
        What was answered, and the tokens that were read ahead of the window's next move.
    """
    plugins = FakePlugins()
    plugins.provide("engines", "counted", engine_over(backend, folder))
    completer = Completer(OPTIONS, plugins, clock=ManualClock(), on_status=lambda status: None)
    completer.start()
    assert await completer.wait_ready()
    for n in range(1, len(TYPED) + 1):
        await completer.complete(
            CompletionRequest(
                document="file:///a.py",
                version=n,
                prefix=ABOVE + TYPED[:n],
                suffix="",
                language="python",
                path="a.py",
            )
        )
        while not completer.is_idle:
            await asyncio.sleep(0)
    records = list(completer.requests)
    await completer.close()
    return records, completer.counters.ahead_tokens


async def test_tokens_of_a_fixed_replay(tmp_path: Path) -> None:
    """The prompt is read once; after it each request runs one token of it. What is typed along
    takes no pass. What the network says again to heal a word, or says and is not shown, is wasted.
    """
    backend = FakeBackend(following, spec=SPEC)
    records, n_ahead = await typed(backend, tmp_path)
    usages = [one.usage for one in records]
    decoded = sum(usage.new_tokens for usage in usages)
    assert Counter(one.source for one in records) == {"model": 2, "cache": 24, "none": 19}
    assert {
        "prompt": sum(usage.prompt_tokens for usage in usages),
        "reused": sum(usage.reused_tokens for usage in usages),
        "prefilled": sum(usage.prefilled_tokens for usage in usages),
        "decoded": decoded,
        "wasted": decoded - sum(one.shown_chars for one in records if one.source == "model"),
        "ahead": n_ahead,
        "run by the network": backend.n_prefilled,
    } == {
        "prompt": 7467,
        "reused": 7094,
        "prefilled": 373,
        "decoded": 104,
        "wasted": 48,
        "ahead": 256,
        "run by the network": 732,
    }
