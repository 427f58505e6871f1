"""The local engine: completes text with a network on this machine.

The door between the rooms: text comes in, token ids go through `decoding`, text goes out. Does not
know the protocol, nor which backend runs the network.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from server.backends.choice import Attempt, BackendChoice, Skipped
from server.bundle import Bundle, locate_bundle, read_bundle
from server.completion.brackets import standing_closer
from server.completion.engine import (
    CancelToken,
    CompletionEngine,
    EngineInfo,
    EngineRequest,
    EngineUsage,
    MemoryInfo,
    OnProgress,
    TextDelta,
    WorkspaceFile,
    untold,
)
from server.completion.engines.local_memory import CopySources, LocalMemory
from server.completion.engines.local_prompts import LocalPrompts, Plan
from server.completion.languages import first_line, last_line
from server.decoding.decoder import Decoder, Job
from server.decoding.generate import no_draft
from server.decoding.healing import Vocabulary, make_healing
from server.decoding.memory.answer import AnswerMemory
from server.decoding.prevention import forbid_start
from server.decoding.sampling import Choose, Processor, make_choose
from server.decoding.tokenizer import Detokenizer, Tokenizer
from server.errors import UnknownBackendError
from server.options import Options

logger = logging.getLogger(__name__)

READ_PERCENT = 50
DEFAULT_MEMORY_BYTES = Options().memory_bytes
# Further candidates shall differ even where the first is greedy. Guessed. They are sampled one by
# one over the same prefill, not in a batch: with the embedded model, the second and third took
# 15 and 12 ms after the first one's 32, decoding 9 of them, and a pass of three tokens costs 1.8 as
# much as one, so a batch would save 4 ms of 59 (measured, one thread) and have no use for drafts.
CANDIDATE_TEMPERATURE = 0.8
CANDIDATE_TOP_P = 0.95


class LocalEngine(CompletionEngine):
    """Completes text with the network of a bundle."""

    heals: ClassVar[bool] = True
    """Whether the last tokens before the cursor are written again, so that it need not be a token
    boundary; a measurement of what that brings leaves it out."""

    def __init__(
        self,
        bundle: Bundle,
        backends: BackendChoice,
        *,
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
    ) -> None:
        """Read a bundle's tokenizer.

        Raises:
            BundleError: it can't be read.
            BackendError: no backend runs.
        """
        self._bundle = bundle
        self._manifest = bundle.manifest
        self._n_ctx = bundle.manifest.spec.n_ctx
        self._backends = backends
        self._decoder = Decoder(backends, time.perf_counter)
        special = self._manifest.special_tokens
        self._tokenizer = Tokenizer.from_file(
            bundle.tokenizer_path, self._manifest.spec.n_vocab, {special.end, *special.fim_ids}
        )
        self._prompts = LocalPrompts(self._tokenizer, self._manifest, heals=self.heals)
        self._vocabulary = Vocabulary(self._tokenizer.token_bytes)
        self._workspace = LocalMemory(bundle, self._tokenizer, memory_bytes)

    @classmethod
    def load(cls, options: Options, on_progress: OnProgress = untold) -> LocalEngine:
        """Read the bundle that the options name and start the first backend that runs it.

        A backend that nobody knows is passed over for `auto`; the log and the status say so. Half
        is done when the bundle is read and checked, by the number of steps.
        """
        bundle = read_bundle(locate_bundle(options.model))
        on_progress(READ_PERCENT)
        try:
            backends = BackendChoice.from_options(bundle, options)
        except UnknownBackendError as exc:
            logger.warning("%s; keeping 'auto'", exc)
            backends = BackendChoice.from_options(bundle, replace(options, backend="auto"))
            backends.skipped.append(Skipped(Attempt(options.backend, options.device), str(exc)))
        return cls(bundle, backends, memory_bytes=options.memory_bytes)

    @property
    def info(self) -> EngineInfo:
        """What really runs now."""
        backend = self._backends.current().info
        return EngineInfo(
            engine="local",
            model=self._manifest.name,
            backend=backend.name,
            provider=backend.provider,
            device=backend.device,
            dtype=backend.dtype,
            details=backend.details,
        )

    @property
    def is_loading(self) -> bool:
        """Whether the next backend is being loaded."""
        return self._backends.is_loading

    def after_hang(self, reason: str) -> LocalEngine:
        """Return an engine on the next backend; no cache of this one can be trusted.

        What was learned of the workspace goes on: any thread may use it.
        """
        backends = self._backends.without_present(reason)
        engine = type(self)(self._bundle, backends, memory_bytes=0)
        engine._workspace = self._workspace
        return engine

    def warm(self, request: EngineRequest, cancel: CancelToken) -> None:
        """Prefill the prompt of a request, then encode the rest of its document, which the memory
        is asked with.
        """
        prompt = self._prompts.plan(request).prompt
        self._decoder.warm(prompt, request.document, lambda: cancel.is_cancelled)
        if _draws_on_text(request) and not cancel.is_cancelled:
            self._prompts.around(request)

    def warm_ahead(self, request: EngineRequest, cancel: CancelToken) -> int:
        """Prefill the prompt after the window's next jump, once that is near."""
        ahead = self._prompts.plan_ahead(request)
        if ahead is None:
            return 0
        present = self._prompts.plan(request).prompt
        return self._decoder.warm_ahead(
            ahead, present, request.document, lambda: cancel.is_cancelled
        )

    def stream(
        self, request: EngineRequest, cancel: CancelToken, usage: EngineUsage
    ) -> Iterator[TextDelta]:
        """Yield the completion piece by piece; a backend that fails is replaced on the way."""
        plan = self._prompts.plan(request)
        recalled = self._recalled(request, plan)
        job = Job(
            prompt=plan.prompt,
            choose=self._make_choose(request, plan, recalled),
            end_ids=plan.end_ids,
            max_new_tokens=request.max_new_tokens + len(plan.prompt.healed_ids),
            is_cancelled=lambda: cancel.is_cancelled,
            owner=request.document,
            propose=recalled.propose if recalled and request.drafts else no_draft,
            pace=self._workspace.pace,
        )
        detokenizer = Detokenizer(self._tokenizer.token_bytes, n_skipped=len(plan.healed))
        sources = CopySources(self._workspace)
        logprob = 0.0
        try:
            n_new = 0
            for n_before, token in enumerate(self._decoder.run(job, usage)):
                logprob += token.logprob
                source = None
                if recalled is not None and not detokenizer.is_skipping:
                    source = sources.of(recalled.copied(token.token_id, n_before, n_new))
                    n_new += 1
                if text := detokenizer.add(token.token_id):
                    yield TextDelta(text=text, logprob=logprob, copied_from=source)
                    logprob = 0.0
                    if request.single_line and "\n" in text:
                        usage.finish_reason = "stop"
                        return
            usage.finish_reason = job.progress.finish_reason
        finally:  # The consumer may have had enough.
            self._workspace.count(helped=recalled is not None and recalled.n_helped > 0)

    def rate(self, request: EngineRequest, text: str, cancel: CancelToken) -> float | None:
        """Return the log-probability per token of a text after the request's prefix."""
        prompt = self._prompts.plan(request).prompt
        prompt_ids = [*prompt.token_ids, *prompt.healed_ids]
        token_ids = self._tokenizer.encode(text)[: self._n_ctx - len(prompt_ids)]
        if not token_ids:
            return None
        return self._decoder.rate(
            prompt_ids, token_ids, request.document, lambda: cancel.is_cancelled
        )

    def forget(self, document: str) -> None:
        """Drop windows and KV caches of a closed document."""
        self._prompts.forget(document)
        self._decoder.forget(document)

    def learn(self, files: Iterable[WorkspaceFile], cancel: CancelToken) -> None:
        """Take texts into the memory of the workspace; from any thread."""
        self._workspace.learn(files, cancel)

    def unlearn(self, paths: Sequence[str]) -> None:
        """Silence texts at once; from any thread."""
        self._workspace.unlearn(paths)

    @property
    def memory(self) -> MemoryInfo:
        """How much is known of the workspace; from any thread."""
        return self._workspace.info

    def close(self) -> None:
        """Stop the backends."""
        self._backends.close()

    def _recalled(self, request: EngineRequest, plan: Plan) -> AnswerMemory | None:
        """Return the memory as this answer asks it; None: it asks nothing."""
        if not _draws_on_text(request):
            return None
        before, after = self._prompts.around(request)
        # Text that is taken back is written anew, so it must not be there to be copied.
        before = before[: len(before) - len(plan.prompt.healed_ids)]
        return self._workspace.for_answer(request, plan.context_ids, before, after)

    def _make_choose(
        self, request: EngineRequest, plan: Plan, recalled: AnswerMemory | None
    ) -> Choose:
        """Compose what a token is chosen by."""
        sampling = request.sampling
        if request.candidate > 0 and sampling.temperature == 0:
            sampling = replace(
                sampling,
                temperature=CANDIDATE_TEMPERATURE,
                top_p=min(sampling.top_p, CANDIDATE_TOP_P),
            )
        processors: list[Processor] = []
        if recalled is not None and request.memory != "off":
            processors.append(recalled.process)
        if plan.healed:  # After the mixture: what is forbidden stays so.
            processors.append(make_healing(self._vocabulary, plan.healed))
        # Only for who asks: while typing it offered arguments to calls that take none (measured
        # with the embedded model at 108 inserted brackets: for 24 of 25 such calls, before for 7;
        # right were 6 completions, before 5).
        cursor_line, rest = last_line(request.prefix), first_line(request.suffix)
        if request.is_explicit and (closer := standing_closer(cursor_line, rest)):
            processors.append(forbid_start(self._vocabulary, plan.healed, closer.encode()))
        return make_choose(
            sampling,
            np.random.default_rng([sampling.seed, request.candidate]),
            processors=processors,
            forbidden_ids=[i for i in self._vocabulary.silent_ids if i not in plan.end_ids],
        )


def _draws_on_text(request: EngineRequest) -> bool:
    """Whether text that is there already has a say in the answer, or is drafted."""
    return request.memory != "off" or request.drafts
