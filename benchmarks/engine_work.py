"""What the engine really computes while somebody types, counted at the backend; no clock decides.

The server's records count what ran for a request; the warming that ran before it is not in them.
Here the local engine runs in this process over a backend that counts every token, so that nothing
is left out: a keystroke warms, and every few keys a completion is generated.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from server.backends.choice import BackendChoice
from server.backends.contract import Backend, Logits, TokenIds
from server.backends.predictions import Prediction
from server.bundle import Bundle
from server.completion.engine import CancelToken, EngineRequest, EngineUsage
from server.completion.engines.local import LocalEngine
from server.options import Options

COMPLETE_EVERY = 5
"""Keystrokes between two completions: what a debounce lets through of quick typing. Guessed."""
LINE_TOKENS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Reuse:
    """Token counts of a replay."""

    n_prompt: int
    """Tokens of the prompts of all keystrokes."""
    prefilled: tuple[int, ...]
    """Tokens that the network ran over to read the prompt, for each keystroke, warming included."""
    n_ahead: int
    """Tokens that it ran over between two keystrokes, for prompts to come."""
    n_decoded: int

    @property
    def n_prefilled(self) -> int:
        """Tokens that the keystrokes waited for."""
        return sum(self.prefilled)

    @property
    def share(self) -> float:
        """Share of the prompt tokens that were not computed again, ahead or when they were due."""
        return 1 - (self.n_prefilled + self.n_ahead) / self.n_prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancellation:
    """How one cancellation went."""

    idle_ms: float
    """From the cancellation to the engine's return."""
    n_begun: int
    """Forward passes that began after it."""


class CountingBackend(Backend):
    """Another backend that counts what it is given."""

    def __init__(self, backend: Backend) -> None:
        self.spec, self.info = backend.spec, backend.info
        self.n_tokens = 0
        self.n_passes = 0
        self._backend = backend

    @classmethod
    def load(cls, bundle: Any, options: Any) -> Backend:
        """Not used: it wraps a backend that is loaded.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("wrap a loaded backend")

    def new_cache(self) -> Any:
        """Return the other's cache."""
        return self._backend.new_cache()

    def forward(self, token_ids: TokenIds, cache: Any, n_logits: int = 1) -> Logits:
        """Count and pass on."""
        self.n_passes += 1
        self.n_tokens += len(token_ids)
        return self._backend.forward(token_ids, cache, n_logits)

    def predict(self, token_ids: TokenIds, cache: Any, n_rows: int = 1) -> Sequence[Prediction]:
        """Count and pass on."""
        self.n_passes += 1
        self.n_tokens += len(token_ids)
        return self._backend.predict(token_ids, cache, n_rows)

    def close(self) -> None:
        """Close the other."""
        self._backend.close()


class CountingChoice(BackendChoice):
    """The server's choice, counted."""

    counted: CountingBackend | None = None

    def current(self) -> Backend:
        """Return the chosen backend inside a counter."""
        if self.counted is None:
            self.counted = CountingBackend(super().current())
        return self.counted


def counting_engine(bundle: Bundle, options: Options) -> tuple[LocalEngine, CountingBackend]:
    """Return the local engine and the counter at its backend.

    Raises:
        CompletionServerError: nothing runs the bundle.
    """
    choice = CountingChoice.from_options(bundle, options)
    assert isinstance(choice, CountingChoice)
    engine = LocalEngine(bundle, choice)
    assert choice.counted is not None
    return engine, choice.counted


def replay(
    engine: LocalEngine,
    counter: CountingBackend,
    prefix: str,
    typed: Sequence[str],
    step: Callable[[str], None],
    *,
    is_idle: bool = True,
) -> Reuse:
    """Type at the end of a document; the first prefill of the document is not counted.

    Args:
        engine: completes.
        counter: at its backend.
        prefix: the document before.
        typed: what each keystroke adds.
        step: is told of each.
        is_idle: whether there is time between two keystrokes.
    """
    cancel = CancelToken()
    document = "file:///benchmark/replay.py"
    engine.warm(_request(document, prefix), cancel)
    n_prompt, n_ahead, n_decoded = 0, 0, 0
    prefilled = []
    for index, text in enumerate(typed, 1):
        step("replay")
        prefix += text
        request = _request(document, prefix)
        n_before = counter.n_tokens
        engine.warm(request, cancel)
        # Only a stream tells how long its prompt is, so every key generates one token at least.
        n_wanted = LINE_TOKENS if index % COMPLETE_EVERY == 0 else 1
        usage = EngineUsage()
        for _ in islice(engine.stream(request, cancel, usage), n_wanted):
            pass
        # The last token that was generated is not run over; drafts that were refused are.
        n_refused = usage.drafted_tokens - usage.accepted_tokens
        n_generated = max(0, usage.new_tokens - 1) + n_refused
        prefilled.append(max(0, counter.n_tokens - n_before - n_generated))
        n_prompt += usage.prompt_tokens
        n_decoded += n_generated
        if is_idle:
            n_ahead += engine.warm_ahead(request, cancel)
    return Reuse(
        n_prompt=n_prompt, prefilled=tuple(prefilled), n_ahead=n_ahead, n_decoded=n_decoded
    )


def cancel_cold_requests(
    engine: LocalEngine,
    counter: CountingBackend,
    prefix: str,
    n: int,
    seed: int,
    step: Callable[[str], None],
) -> list[Cancellation]:
    """Cancel completions of documents never seen before, each at a random moment of its prefill.

    Those that ended before their moment came are left out.
    """
    random = np.random.default_rng(seed)
    started_s = time.perf_counter()
    _complete(engine, "file:///benchmark/whole.py", prefix, CancelToken())
    whole_s = time.perf_counter() - started_s
    results = []
    for index in range(n):
        step("cancelling")
        document = f"file:///benchmark/cancelled-{index}.py"
        canceller = _Canceller(counter)
        timer = threading.Timer(float(random.uniform(0, whole_s)), canceller.cancel)
        timer.start()
        _complete(engine, document, f"# {index}\n{prefix}", canceller.token)
        ended_s = time.perf_counter()
        n_passes = counter.n_passes
        timer.cancel()
        timer.join()
        engine.forget(document)
        if canceller.when_s is not None and canceller.when_s < ended_s:
            idle_ms = 1e3 * (ended_s - canceller.when_s)
            n_begun = n_passes - canceller.n_passes
            results.append(Cancellation(idle_ms=idle_ms, n_begun=n_begun))
    return results


class _Canceller:
    """Cancels from another thread, and notes when and after how many passes."""

    def __init__(self, counter: CountingBackend) -> None:
        self.token = CancelToken()
        self.when_s: float | None = None
        self.n_passes = 0
        self._counter = counter

    def cancel(self) -> None:
        self.token.cancel()
        self.when_s, self.n_passes = time.perf_counter(), self._counter.n_passes


def _complete(engine: LocalEngine, document: str, prefix: str, cancel: CancelToken) -> None:
    stream = engine.stream(_request(document, prefix), cancel, EngineUsage())
    for _ in islice(stream, LINE_TOKENS):
        pass


def _request(document: str, prefix: str) -> EngineRequest:
    return EngineRequest(
        document=document,
        prefix=prefix,
        suffix="",
        language="python",
        max_new_tokens=64,
        single_line=True,
    )
