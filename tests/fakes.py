"""Doubles for tests: no weights, no clock, no thread of their own.

FakeBackend     a network that says what a script tells it to say, and remembers every pass
FakeBackends    backends that are tried one after another
ByteTokenizer   a token per byte, and four special tokens
FakeEngine      completes text from a script, piece by piece, when the test allows it
FakePlugins     the registered plugins, and those that a test provides
ManualClock     a time that passes when the test says so
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from server.backends.contract import (
    Backend,
    BackendInfo,
    BackendOptions,
    Logits,
    TokenIds,
    check_forward_arguments,
    check_truncation,
)
from server.bundle import Bundle
from server.completion.engine import (
    CancelToken,
    CompletionEngine,
    EngineInfo,
    EngineRequest,
    EngineUsage,
    OnProgress,
    TextDelta,
    untold,
)
from server.decoding.tokenizer import Tokenizer, byte_alphabet
from server.errors import BackendFailedError, CompletionServerError
from server.manifest import ModelSpec
from server.options import Options
from server.plugins import Group, Plugins

FAKE_SPEC = ModelSpec(n_layer=1, n_head=1, n_kv_head=1, n_embd=1, n_ctx=64, n_vocab=260)
"""Room for the 256 bytes and four special tokens."""


@dataclass(frozen=True, slots=True)
class ForwardPass:
    """One call of `FakeBackend.forward`."""

    n_past: int
    token_ids: tuple[int, ...]
    n_logits: int


class FakeCache:
    """A KV cache that holds the token ids themselves."""

    def __init__(self) -> None:
        self.token_ids: list[int] = []

    @property
    def n_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def n_bytes(self) -> int:
        return 8 * len(self.token_ids)

    def truncate(self, n_tokens: int) -> None:
        check_truncation(n_tokens, len(self.token_ids))
        del self.token_ids[n_tokens:]


class FakeBackend(Backend):
    """A network whose next token, or whole row of logits, follows from all tokens before it.

    Args:
        script: either a sequence, the text of which every prompt is a part: after n tokens comes
            its n-th, and `end` when it is over; or a function from all tokens so far to the next
            token or to its logits [V].
        spec: sizes; the scripted tokens must lie inside the vocabulary.
        end: the token after the script's end.
        margin: by how much the scripted token's logit lies above the others, which are 0.
        fail_at: the pass, counted from 0, that raises `BackendFailedError`.
        before_pass: called before each pass, so that a test may cancel or wait there.
    """

    def __init__(
        self,
        script: Sequence[int] | Callable[[tuple[int, ...]], int | Logits] = (),
        *,
        spec: ModelSpec = FAKE_SPEC,
        end: int = 256,
        margin: float = 20.0,
        fail_at: int | None = None,
        before_pass: Callable[[ForwardPass], None] | None = None,
    ) -> None:
        self.spec = spec
        self.info = BackendInfo(name="fake", device="cpu", provider="script", dtype="fp32")
        self.passes: list[ForwardPass] = []
        self.caches: list[FakeCache] = []
        self.is_closed = False
        self._script = script
        self._end = end
        self._margin = margin
        self._fail_at = fail_at
        self._before_pass = before_pass

    @classmethod
    def load(cls, bundle: Bundle, options: BackendOptions) -> FakeBackend:
        return cls(spec=bundle.manifest.spec, end=bundle.manifest.special_tokens.end)

    def new_cache(self) -> FakeCache:
        self.caches.append(FakeCache())
        return self.caches[-1]

    def forward(self, token_ids: TokenIds, cache: FakeCache, n_logits: int = 1) -> Logits:
        check_forward_arguments(self.spec, token_ids, cache.n_tokens, n_logits)
        assert any(cache is mine for mine in self.caches), "the cache of another backend"
        this = ForwardPass(cache.n_tokens, tuple(token_ids), n_logits)
        if self._before_pass is not None:
            self._before_pass(this)
        self.passes.append(this)
        if len(self.passes) - 1 == self._fail_at:
            raise BackendFailedError(f"the fake fails at pass {self._fail_at}")
        cache.token_ids.extend(token_ids)
        n = cache.n_tokens
        rows = [self._row(tuple(cache.token_ids[:end])) for end in range(n - n_logits + 1, n + 1)]
        return np.stack(rows) if rows else np.zeros((0, self.spec.n_vocab), np.float32)

    @property
    def n_prefilled(self) -> int:
        """Tokens that all passes together were given: what a real network would have computed."""
        return sum(len(one.token_ids) for one in self.passes)

    def close(self) -> None:
        self.is_closed = True

    def _row(self, tokens: tuple[int, ...]) -> Logits:
        if callable(self._script):
            said = self._script(tokens)
        else:
            said = self._script[len(tokens)] if len(tokens) < len(self._script) else self._end
        if isinstance(said, np.ndarray):
            return said.astype(np.float32)
        row = np.zeros(self.spec.n_vocab, np.float32)
        row[said] = self._margin
        return row


class ManualClock:
    """A time that passes when the test says so."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        sleeper = (self._now + seconds, asyncio.get_running_loop().create_future())
        self._sleepers.append(sleeper)
        try:
            await sleeper[1]
        finally:
            self._sleepers.remove(sleeper)

    def advance(self, seconds: float) -> None:
        """Let time pass; sleepers whose time has come wake at the event loop's next turn."""
        self._now += seconds
        for wakes_at, future in list(self._sleepers):
            if wakes_at <= self._now and not future.done():
                future.set_result(None)

    @property
    def n_sleepers(self) -> int:
        return len(self._sleepers)


class FakePlugins(Plugins):
    """The registered plugins, and those that a test provides."""

    def __init__(self) -> None:
        super().__init__()
        self.provided: dict[tuple[Group, str], Any] = {}

    def provide(self, group: Group, name: str, plugin: Any) -> None:
        self.provided[group, name] = plugin

    def load(self, group: Group, name: str) -> Any:
        if (group, name) in self.provided and (group, name) not in self._blocked:
            return self.provided[group, name]
        return super().load(group, name)


Script = str | Callable[[EngineRequest], Sequence[str | TextDelta]]


class FakeEngine(CompletionEngine):
    """Completes text from a script, piece by piece.

    Args:
        script: a document of which every prefix is a beginning, the rest of which is said word by
            word; or a function from the request to the pieces.
        is_gated: each piece waits until the test allows it.
        error: raised after the last piece.
        load_error: raised by `load`.
    """

    def __init__(
        self,
        script: Script = "",
        *,
        is_gated: bool = False,
        error: Exception | None = None,
        load_error: Exception | None = None,
    ) -> None:
        self.script = script
        self.error = error
        self.load_error = load_error
        self.streams: list[EngineRequest] = []
        self.warmed: list[EngineRequest] = []
        self.warmed_ahead: list[EngineRequest] = []
        self.n_ahead = 0
        """Tokens that each warming ahead prefills."""
        self.forgotten: list[str] = []
        self.rated: list[tuple[str, str]] = []
        self.rating: Callable[[str, str], float] | None = None
        self.n_said = 0
        self.n_taken = 0
        """Pieces that were handed over: the next one was asked for, or the end came."""
        self.n_cancelled = 0
        self.is_closed = False
        self.threads: set[str] = set()
        self.is_open = not is_gated
        """Whether pieces need no permission."""
        self._gate = threading.Semaphore(0)

    def as_plugin(self) -> type[CompletionEngine]:
        """Return a class whose `load` gives this engine."""
        engine = self

        class Loaded(FakeEngine):
            @classmethod
            def load(cls, options: Options, on_progress: OnProgress = untold) -> CompletionEngine:
                if engine.load_error is not None:
                    raise engine.load_error
                return engine

        return Loaded

    @classmethod
    def load(cls, options: Options, on_progress: OnProgress = untold) -> CompletionEngine:
        raise CompletionServerError("a fake engine is provided by its test")

    @property
    def info(self) -> EngineInfo:
        return EngineInfo(engine="fake", model="script")

    def allow(self, n_pieces: int = 1) -> None:
        """Let a gated engine say so many pieces more."""
        self._gate.release(n_pieces)

    def warm(self, request: EngineRequest, cancel: CancelToken) -> None:
        self.threads.add(threading.current_thread().name)
        self.warmed.append(request)

    def warm_ahead(self, request: EngineRequest, cancel: CancelToken) -> int:
        self.threads.add(threading.current_thread().name)
        self.warmed_ahead.append(request)
        return self.n_ahead

    def stream(
        self, request: EngineRequest, cancel: CancelToken, usage: EngineUsage
    ) -> Iterator[TextDelta]:
        self.threads.add(threading.current_thread().name)
        self.streams.append(request)
        for piece in self._pieces(request)[: request.max_new_tokens]:
            if not self._may_go_on(cancel):
                self.n_cancelled += 1
                usage.finish_reason = "cancelled"
                return
            usage.new_tokens += 1
            self.n_said += 1
            try:
                yield piece
            finally:
                self.n_taken += 1
        if self.error is not None:
            raise self.error
        is_cut = usage.new_tokens >= request.max_new_tokens
        usage.finish_reason = "length" if is_cut else "stop"

    def rate(self, request: EngineRequest, text: str, cancel: CancelToken) -> float | None:
        self.rated.append((request.prefix, text))
        return None if self.rating is None else self.rating(request.prefix, text)

    def forget(self, document: str) -> None:
        self.forgotten.append(document)

    def close(self) -> None:
        self.is_closed = True

    def _may_go_on(self, cancel: CancelToken) -> bool:
        while not self.is_open and not cancel.is_cancelled:
            if self._gate.acquire(timeout=0.001):
                break
        return not cancel.is_cancelled

    def _pieces(self, request: EngineRequest) -> list[TextDelta]:
        if callable(self.script):
            said: Sequence[str | TextDelta] = self.script(request)
        elif self.script.startswith(request.prefix):
            said = re.findall(r"\s*\w+|\s*\W", self.script[len(request.prefix) :])
        else:
            said = []
        return [
            TextDelta(text=piece, logprob=math.log(0.9)) if isinstance(piece, str) else piece
            for piece in said
            if piece
        ]


async def say_by_turns(engine: FakeEngine, task: asyncio.Task[Any]) -> None:
    """Let a gated engine say each piece when the one before has come to the event loop, until a
    task is done.
    """
    while not task.done():
        n_taken = engine.n_taken
        engine.allow()
        while engine.n_taken == n_taken and not task.done():
            await asyncio.sleep(0)
        for _ in range(3):  # Woken, called, told.
            await asyncio.sleep(0)


class FakeBackends:
    """Backends that are tried one after another, and why each was given up."""

    def __init__(self, *backends: Backend) -> None:
        self.failures: list[BackendFailedError] = []
        self.is_closed = False
        self._backends = backends

    def current(self) -> Backend:
        return self._backends[len(self.failures)]

    def fail(self, exc: BackendFailedError) -> None:
        self.failures.append(exc)
        if len(self.failures) == len(self._backends):
            raise exc

    def close(self) -> None:
        self.is_closed = True


class ByteTokenizer(Tokenizer):
    """A real tokenizer whose token ids are bytes; ids from 256 on are special."""

    END, PREFIX, SUFFIX, MIDDLE = 256, 257, 258, 259

    def __init__(self, n_vocab: int = FAKE_SPEC.n_vocab) -> None:
        super().__init__(byte_tokenizer_json(), n_vocab)


def byte_tokenizer_json() -> str:
    """Return the tokenizer.json of `ByteTokenizer`, for bundles made by tests."""
    special = {
        256: "<|endoftext|>",
        257: "<|fim_prefix|>",
        258: "<|fim_suffix|>",
        259: "<|fim_middle|>",
    }
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
    raw = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": text, "special": True, **flags} for i, text in special.items()
        ],
        "normalizer": None,
        "pre_tokenizer": byte_level | {"use_regex": True},
        "post_processor": None,
        "decoder": byte_level | {"use_regex": True},
        "model": {
            "type": "BPE",
            "vocab": byte_alphabet(),
            "merges": [],
        },
    }
    return json.dumps(raw)
