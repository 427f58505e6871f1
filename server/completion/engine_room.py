"""The engine on its thread, as the event loop sees it: load, warm, run, forget, close.

The only place where two threads meet. The engine is touched by the worker's thread alone; what it
says comes to the event loop through `call_soon_threadsafe`, in order.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from server.completion.engine import (
    CancelToken,
    CompletionEngine,
    EngineInfo,
    EngineRequest,
    TextDelta,
)
from server.completion.generation import Generation, Run
from server.completion.worker import Job, Worker
from server.errors import CompletionServerError, PluginError
from server.options import Options
from server.plugins import Plugins

logger = logging.getLogger(__name__)

_CLOSE_S = 5.0
"""How long closing waits for the engine, which may be in a long forward pass (guessed)."""


class EngineRoom:
    """Owns the worker and the engine on it. Every method is called on the event loop.

    Args:
        on_loaded: is told what runs, or why nothing does.
        on_growth: is called after a generation grew, ended or failed.
    """

    def __init__(
        self,
        *,
        on_loaded: Callable[[EngineInfo | None, str], None],
        on_growth: Callable[[Generation], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._worker = Worker()
        self._engine: CompletionEngine | None = None
        self._on_loaded = on_loaded
        self._on_growth = on_growth
        self.info: EngineInfo | None = None

    @property
    def is_idle(self) -> bool:
        """Whether the worker does nothing and has nothing to do."""
        return self._worker.is_idle

    def load(self, options: Options, plugins: Plugins) -> None:
        """Load the engine that the options name."""

        def run(cancel: CancelToken) -> None:
            try:
                engine = _load_engine(options, plugins)
            except CompletionServerError as exc:
                logger.error("the engine cannot be loaded: %s", exc)
                self._post(self._loaded, None, str(exc))
            else:
                self._engine = engine
                self._post(self._loaded, engine.info, "")

        self._worker.submit(Job(run=run))

    def warm(self, request: EngineRequest, *, is_background: bool) -> CancelToken:
        """Prefill for a request; return the token that stops it."""

        def run(cancel: CancelToken) -> None:
            if self._engine is None or cancel.is_cancelled:
                return
            try:
                self._engine.warm(request, cancel)
            except Exception:  # an engine may be a stranger's; the stream will say what is wrong
                logger.warning("warming failed", exc_info=True)

        job = Job(run=run, is_background=is_background)
        self._worker.submit(job)
        return job.cancel

    def start(
        self,
        generation: Generation,
        is_enough: Callable[[Sequence[TextDelta]], bool],
        now_s: float,
        *,
        is_background: bool = False,
    ) -> None:
        """Let the engine go on with a generation until it is enough."""
        run = Run(is_enough=is_enough, started_s=now_s)
        generation.run = run
        generation.usage = run.usage
        request = generation.continued()
        known = list(generation.deltas)

        def work(cancel: CancelToken) -> None:
            is_ended, error = False, ""
            if not cancel.is_cancelled:
                is_ended, error = self._stream(generation, run, request, known)
            info = self._engine.info if self._engine is not None else None
            self._post(self._ended, generation, run, is_ended, error, info)

        self._worker.submit(Job(run=work, cancel=run.cancel, is_background=is_background))

    def rate(
        self, asked: Sequence[tuple[EngineRequest, str]]
    ) -> tuple[asyncio.Future[list[float | None]], CancelToken]:
        """Let the engine rate texts; return what will be the ratings, and the token to stop it."""
        ratings: asyncio.Future[list[float | None]] = self._loop.create_future()

        def tell(values: list[float | None]) -> None:
            if not ratings.done():
                ratings.set_result(values)

        def run(cancel: CancelToken) -> None:
            values: list[float | None] = []
            try:
                if self._engine is not None and not cancel.is_cancelled:
                    values += [self._engine.rate(request, text, cancel) for request, text in asked]
            except Exception:  # an engine may be a stranger's; without ratings the order stays
                logger.warning("rating failed", exc_info=True)
            self._post(tell, values)

        job = Job(run=run)
        self._worker.submit(job)
        return ratings, job.cancel

    def forget(self, document: str) -> None:
        """Let the engine drop what it remembers of a document."""

        def run(cancel: CancelToken) -> None:
            if self._engine is not None:
                self._engine.forget(document)

        self._worker.submit(Job(run=run, is_background=True))

    async def close(self) -> None:
        """Stop what runs, close the engine, end the thread."""

        def run(cancel: CancelToken) -> None:
            engine, self._engine = self._engine, None
            if engine is not None:
                engine.close()

        self._worker.submit(Job(run=run))
        self._worker.close()
        if not await asyncio.to_thread(self._worker.join, _CLOSE_S):
            logger.warning("the engine did not stop within %g s", _CLOSE_S)

    def _stream(
        self, generation: Generation, run: Run, request: EngineRequest, known: list[TextDelta]
    ) -> tuple[bool, str]:
        """Run the engine on the worker's thread; return whether it ended, and an error."""
        if self._engine is None:
            return False, ""
        try:
            stream = self._engine.stream(request, run.cancel, run.usage)
            for delta in stream:
                if run.cancel.is_cancelled:
                    break
                known.append(delta)
                self._post(self._grew, generation, run, delta)
                if run.is_enough(known):
                    break
            else:
                return not run.cancel.is_cancelled, ""
            close = getattr(stream, "close", None)
            if close is not None:
                close()
        except CompletionServerError as exc:
            return False, str(exc)
        except Exception as exc:  # an engine may be a stranger's and raise anything
            logger.exception("the engine failed")
            return False, f"the engine failed: {type(exc).__name__}: {exc}"
        return False, ""

    def _post(self, callback: Callable[..., None], *args: Any) -> None:
        """Call back on the event loop; a loop that is closed has nobody left to tell."""
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            logger.debug("the event loop is closed")

    def _loaded(self, info: EngineInfo | None, error: str) -> None:
        self.info = info
        self._on_loaded(info, error)

    def _grew(self, generation: Generation, run: Run, delta: TextDelta) -> None:
        if generation.run is run:
            generation.add(delta)
            self._on_growth(generation)

    def _ended(
        self, generation: Generation, run: Run, is_ended: bool, error: str, info: EngineInfo | None
    ) -> None:
        self.info = info or self.info
        if generation.run is run:
            generation.run = None
            generation.is_ended = is_ended
            generation.is_cut = is_ended and run.usage.finish_reason == "length"
            generation.error = error
            self._on_growth(generation)


def _load_engine(options: Options, plugins: Plugins) -> CompletionEngine:
    """Load the engine that the options name.

    Raises:
        CompletionServerError: it cannot be loaded; the message is for the user.
    """
    kind = plugins.load("engines", options.engine)
    if not (isinstance(kind, type) and issubclass(kind, CompletionEngine)):
        plugins.block("engines", options.engine, "it is no subclass of CompletionEngine")
        raise PluginError(f"engine {options.engine!r} is no subclass of CompletionEngine")
    try:
        return kind.load(options)
    except CompletionServerError:
        raise
    except Exception as exc:  # a stranger's engine may raise anything
        logger.exception("the engine %r failed to load", options.engine)
        raise PluginError(
            f"engine {options.engine!r} failed to load: {type(exc).__name__}: {exc}"
        ) from exc
