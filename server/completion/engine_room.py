"""The engine on its thread, as the event loop sees it: load, warm, run, forget, close.

The only place where two threads meet. The engine is touched by the worker's thread alone; what it
says comes to the event loop through a `Handover`, in order. A call that does not come back is given
up with its thread: another engine goes on, on another thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from server.completion.engine import (
    CancelToken,
    CompletionEngine,
    EngineInfo,
    EngineRequest,
    MemoryInfo,
    TextDelta,
    WorkspaceFile,
)
from server.completion.engine_source import EngineSource
from server.completion.generation import Generation, Run
from server.completion.handover import FRAME_S, Handover
from server.completion.watchdog import LOOK_S, Watchdog
from server.completion.worker import Job, Worker
from server.errors import CompletionServerError, told
from server.options import Options
from server.plugins import Plugins

logger = logging.getLogger(__name__)

_CLOSE_S = 5.0
"""How long closing waits for the engine, which may be in a long forward pass (guessed)."""


class EngineRoom:
    """Owns the worker and the engine on it. Every method is called on the event loop.

    Args:
        on_progress: is told how many percent of the loading are done.
        on_loaded: is told what runs, or why nothing does.
        on_growth: is called after a generation grew, ended or failed.
        on_hang: is told that the engine was given up, and why; `on_loaded` follows.
        frame_s: so long text may be kept back, so that pieces come together.
    """

    def __init__(
        self,
        *,
        on_progress: Callable[[int], None] = lambda _: None,
        on_loaded: Callable[[EngineInfo | None, str], None],
        on_growth: Callable[[Generation], None],
        on_hang: Callable[[str], None],
        frame_s: float = FRAME_S,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._handover = Handover(self._loop, frame_s)
        self._worker = Worker()
        self._engine: CompletionEngine | None = None
        self._on_progress = on_progress
        self._on_loaded = on_loaded
        self._on_growth = on_growth
        self._on_hang = on_hang
        self._source: EngineSource | None = None
        self._watchdog = Watchdog()
        self._look_is_due: asyncio.TimerHandle | None = None
        self._error = "no engine is loaded"
        """Why there is no engine, when there is none."""
        self.info: EngineInfo | None = None

    @property
    def is_idle(self) -> bool:
        """Whether the worker does nothing and has nothing to do."""
        return self._worker.is_idle

    def catch_up(self) -> None:
        """Take over at once what the engine said so far."""
        self._handover.deliver()

    def load(self, options: Options, plugins: Plugins) -> None:
        """Load the engine that the options name."""
        self._source = EngineSource(options, plugins, self._tell_progress)
        self._submit(self._load_job(self._source.load))

    def _load_job(self, load: Callable[[], CompletionEngine]) -> Job:
        worker = self._worker

        def run(cancel: CancelToken) -> None:
            try:
                engine = load()
                info = engine.info
            except CompletionServerError as exc:
                logger.error("the engine cannot be loaded: %s", exc)
                if self._worker is worker:
                    self._error = str(exc)
                self._handover.post(self._loaded, worker, None, str(exc))
            else:
                if self._worker is worker:  # It was not given up meanwhile.
                    self._engine = engine
                self._handover.post(self._loaded, worker, info, "")

        return Job(run=run)

    def _submit(self, job: Job) -> None:
        self._worker.submit(job)
        self._look_later()

    def _look_later(self) -> None:
        if self._look_is_due is None:
            self._look_is_due = self._loop.call_later(LOOK_S, self.look)

    def look(self) -> None:
        """Look whether the worker still works; give it up if it hangs. Calls itself as long as
        there is something to do.
        """
        self._look_is_due = None
        if self._worker.is_idle:
            return
        is_loading = self._engine is None or self._engine.is_loading
        if self._watchdog.hangs(self._worker.pulse, is_loading=is_loading):
            self._give_up(is_loading=is_loading)
        self._look_later()

    def _give_up(self, *, is_loading: bool) -> None:
        """Leave the thread that hangs, and let another engine go on with what waits."""
        what = "loading a backend" if is_loading else "the backend"
        reason = f"{what} did not come back for {Watchdog.patience(is_loading=is_loading)}"
        logger.error("%s; its thread is given up", reason)
        hung, waiting = self._worker.abandon()
        engine, self._engine, self._error = self._engine, None, reason
        self._worker, self._watchdog = Worker(), Watchdog()
        self._on_hang(reason)
        if (source := self._source) is not None:
            self._submit(self._load_job(lambda: source.replace(engine, reason)))
        for job in waiting:
            self._submit(job)
        if hung is not None:
            hung.on_abandoned()

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
        self._submit(job)
        return job.cancel

    def warm_ahead(self, request: EngineRequest, on_done: Callable[[int], None]) -> CancelToken:
        """Prefill in idle time for later requests; return the token that stops it.

        Args:
            request: the last one.
            on_done: is told how many tokens were prefilled, if there were any.
        """

        def run(cancel: CancelToken) -> None:
            if self._engine is None or cancel.is_cancelled:
                return
            try:
                n_tokens = self._engine.warm_ahead(request, cancel)
            except Exception:  # an engine may be a stranger's; the stream will say what is wrong
                logger.warning("warming ahead failed", exc_info=True)
                return
            if n_tokens:
                self._handover.post(on_done, n_tokens)

        job = Job(run=run, is_background=True)
        self._submit(job)
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
            engine = self._engine
            is_ended, error = False, ""
            if engine is None:
                error = self._error
            elif not cancel.is_cancelled:
                is_ended, error = self._stream(engine, generation, run, request, known)
            info = engine.info if engine is not None and engine is self._engine else None
            self._handover.post(self._ended, generation, run, is_ended, error, info)

        def abandoned() -> None:
            self._ended(generation, run, False, "", None)

        self._submit(
            Job(
                run=work,
                cancel=run.cancel,
                is_background=is_background,
                on_abandoned=abandoned,
            )
        )

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
            self._handover.post(tell, values)

        job = Job(run=run, on_abandoned=lambda: tell([]))
        self._submit(job)
        return ratings, job.cancel

    def learn(self, files: Iterable[WorkspaceFile], cancel: CancelToken) -> None:
        """Let the engine learn texts of the workspace, on the caller's thread."""
        engine = self._engine
        if engine is not None:
            try:
                engine.learn(files, cancel)
            except Exception:  # an engine may be a stranger's; completions go on without
                logger.warning("learning the workspace failed", exc_info=True)

    def unlearn(self, paths: Sequence[str]) -> None:
        """Let the engine silence texts of the workspace at once, on the caller's thread."""
        engine = self._engine
        if engine is not None:
            try:
                engine.unlearn(paths)
            except Exception:  # an engine may be a stranger's
                logger.warning("unlearning failed", exc_info=True)

    @property
    def memory(self) -> MemoryInfo:
        """How much the engine knows of the workspace."""
        return self._engine.memory if self._engine is not None else MemoryInfo()

    def forget(self, document: str) -> None:
        """Let the engine drop what it remembers of a document."""

        def run(cancel: CancelToken) -> None:
            if self._engine is not None:
                self._engine.forget(document)

        self._submit(Job(run=run, is_background=True))

    async def close(self) -> None:
        """Stop what runs, close the engine, end the thread."""

        def run(cancel: CancelToken) -> None:
            engine, self._engine = self._engine, None
            if engine is not None:
                engine.close()

        self._worker.submit(Job(run=run))
        self._worker.close()
        if self._look_is_due is not None:
            self._look_is_due.cancel()
        if not await asyncio.to_thread(self._worker.join, _CLOSE_S):
            logger.warning("the engine did not stop within %g s", _CLOSE_S)

    def _stream(
        self,
        engine: CompletionEngine,
        generation: Generation,
        run: Run,
        request: EngineRequest,
        known: list[TextDelta],
    ) -> tuple[bool, str]:
        """Run the engine on the worker's thread; return whether it ended, and an error."""
        try:
            stream = engine.stream(request, run.cancel, run.usage)
            for delta in stream:
                if run.cancel.is_cancelled:
                    break
                known.append(delta)
                run.arrived.append(delta)
                if run.is_enough(known):
                    break
                self._handover.post(self._grew, generation, run, may_wait=True)
            else:
                return not run.cancel.is_cancelled, ""
            close = getattr(stream, "close", None)
            if close is not None:
                close()
        except CompletionServerError as exc:
            return False, str(exc)
        except Exception as exc:  # an engine may be a stranger's and raise anything
            logger.exception("the engine failed")
            return False, f"the engine failed: {told(exc)}"
        return False, ""

    def _tell_progress(self, percent: int) -> None:
        """Hand on, from the worker's thread, how much is loaded."""
        self._handover.post(self._on_progress, percent)

    def _loaded(self, worker: Worker, info: EngineInfo | None, error: str) -> None:
        if worker is not self._worker:
            return
        self.info = info
        self._on_loaded(info, error)

    def _grew(self, generation: Generation, run: Run) -> None:
        if generation.run is run and generation.take(run):
            self._on_growth(generation)

    def _ended(
        self, generation: Generation, run: Run, is_ended: bool, error: str, info: EngineInfo | None
    ) -> None:
        self.info = info or self.info
        if generation.run is run:
            generation.take(run)
            generation.run = None
            generation.is_ended = is_ended
            generation.is_cut = is_ended and run.usage.finish_reason == "length"
            generation.error = error
            self._on_growth(generation)
