"""The local engine: completes text with a network on this machine.

The door between the rooms: text comes in, token ids go through `decoding`, text goes out. Does not
know the protocol, nor which backend runs the network.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from server.backends.choice import Attempt, BackendChoice, Skipped
from server.bundle import Bundle, locate_bundle, read_bundle
from server.completion.brackets import standing_closer
from server.completion.engine import (
    CancelToken,
    CompletionEngine,
    CopySource,
    EngineInfo,
    EngineRequest,
    EngineUsage,
    MemoryInfo,
    OnProgress,
    TextDelta,
    WorkspaceFile,
    untold,
)
from server.completion.engines.local_memory import LocalMemory
from server.completion.languages import first_line, last_line
from server.completion.window import HEAD_CHARS, Window, choose_order, place_window, suffix_limit
from server.decoding.decoder import Decoder, Job
from server.decoding.generate import no_draft
from server.decoding.healing import Vocabulary, count_healed, make_healing, spelled
from server.decoding.memory.answer import AnswerMemory
from server.decoding.prevention import forbid_start
from server.decoding.prompt import Prompt, build_prompt
from server.decoding.sampling import Choose, Processor, make_choose
from server.decoding.tokenizer import Detokenizer, IncrementalEncoder, Tokenizer
from server.errors import UnknownBackendError
from server.options import Options

logger = logging.getLogger(__name__)

N_FIM_TOKENS = 3
READ_PERCENT = 50
DEFAULT_MEMORY_BYTES = Options().memory_bytes
MAX_DOCUMENTS = 32  # Whose windows are remembered: a few kilobytes each. Guessed.
MAX_WINDOWS = 4  # Of one document, so that going back and forth finds what was prefilled. Guessed.
MAX_PARTS = 512  # Lines whose tokens are remembered: those of a suffix and a context. Guessed.
# Further candidates shall differ even where the first is greedy. Guessed. They are sampled one by
# one over the same prefill, not in a batch: with the embedded model, the second and third took
# 15 and 12 ms after the first one's 32, decoding 9 of them, and a pass of three tokens costs 1.8 as
# much as one, so a batch would save 4 ms of 59 (measured, one thread) and have no use for drafts.
CANDIDATE_TEMPERATURE = 0.8
CANDIDATE_TOP_P = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """A request as the network is asked it."""

    prompt: Prompt
    healed: bytes
    """What the generated tokens must spell before anything new."""
    end_ids: frozenset[int]
    context_ids: list[int]
    """Tokens of the window's prefix that are left when the healed ones are taken back."""


class _DocumentTokens:
    """What is remembered of a document from request to request."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.encoder = IncrementalEncoder(tokenizer)
        self.windows: list[Window] = []
        """The last used first."""
        self.encode_part = lru_cache(MAX_PARTS)(lambda text: tuple(tokenizer.encode(text)))
        """Token ids of lines, suffix and context, which are asked for again and again."""
        self.encode_before = IncrementalEncoder(tokenizer).encode
        """Token ids of all that stands before the cursor, beyond the window too."""
        self.encode_after = lru_cache(2)(lambda text: tuple(tokenizer.encode(text)))

    def remember(self, window: Window) -> None:
        """Put a window first, in the place of the one that it grew from."""
        others = [w for w in self.windows if not window.prefix.startswith(w.prefix[:HEAD_CHARS])]
        self.windows = [window, *others][:MAX_WINDOWS]


class LocalEngine(CompletionEngine):
    """Completes text with the network of a bundle."""

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
        fim = special.fim
        self._fim_ids = frozenset((fim.prefix, fim.suffix, fim.middle) if fim else ())
        self._tokenizer = Tokenizer.from_file(
            bundle.tokenizer_path, self._manifest.spec.n_vocab, {special.end} | self._fim_ids
        )
        self._vocabulary = Vocabulary(self._tokenizer.token_bytes)
        self._workspace = LocalMemory(bundle, self._tokenizer, memory_bytes)
        self._documents: OrderedDict[str, _DocumentTokens] = OrderedDict()

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
        """Prefill the prompt of a request."""
        plan = self._plan(request)
        self._decoder.warm(plan.prompt, request.document, lambda: cancel.is_cancelled)

    def stream(
        self, request: EngineRequest, cancel: CancelToken, usage: EngineUsage
    ) -> Iterator[TextDelta]:
        """Yield the completion piece by piece; a backend that fails is replaced on the way."""
        plan = self._plan(request)
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
        logprob = 0.0
        try:
            n_new = 0
            for n_before, token in enumerate(self._decoder.run(job, usage)):
                logprob += token.logprob
                source = None
                if recalled is not None and not detokenizer.is_skipping:
                    source = self._source(recalled, token.token_id, n_before, n_new)
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
        prompt = self._plan(request).prompt
        prompt_ids = [*prompt.token_ids, *prompt.healed_ids]
        token_ids = self._tokenizer.encode(text)[: self._n_ctx - len(prompt_ids)]
        if not token_ids:
            return None
        return self._decoder.rate(
            prompt_ids, token_ids, request.document, lambda: cancel.is_cancelled
        )

    def forget(self, document: str) -> None:
        """Drop windows and KV caches of a closed document."""
        self._documents.pop(document, None)
        self._decoder.forget(document)

    def learn(self, files: Sequence[WorkspaceFile], cancel: CancelToken) -> None:
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

    def _plan(self, request: EngineRequest) -> _Plan:
        """Turn a request's text into a prompt that has most in common with an earlier one."""
        known = self._tokens(request.document)
        window = self._place_window(request, known)
        known.remember(window)
        context_ids = known.encode_part(window.context)
        suffix_ids = known.encode_part(window.suffix)
        prefix_ids = known.encoder.encode(window.prefix)
        # The window was measured line by line, which may be a few tokens off in a tiny context.
        n_most = self._n_ctx - 1 - N_FIM_TOKENS - len(context_ids) - len(suffix_ids)
        prefix_ids = prefix_ids[-max(1, n_most) :]
        token_bytes = self._tokenizer.token_bytes
        n_healed = self._count_healed(prefix_ids, known)
        healed = spelled(token_bytes, prefix_ids[len(prefix_ids) - n_healed :])
        # A tokenizer that drops characters must not make us take back what is not there.
        if not window.prefix[-len(healed) :].encode().endswith(healed):
            n_healed, healed = 0, b""
        prompt = build_prompt(
            self._manifest.special_tokens,
            window.order,
            prefix_ids=[*context_ids, *prefix_ids],
            suffix_ids=suffix_ids,
            n_healed=n_healed,
        )
        end_ids = {self._manifest.special_tokens.end} | (self._fim_ids if window.order else set())
        return _Plan(
            prompt=prompt,
            healed=healed,
            end_ids=frozenset(end_ids),
            context_ids=prefix_ids[: len(prefix_ids) - n_healed],
        )

    def _count_healed(self, prefix_ids: list[int], known: _DocumentTokens) -> int:
        n_last_word_tokens = known.encoder.n_last_word_tokens
        return count_healed(self._tokenizer.token_bytes, prefix_ids, n_last_word_tokens)

    def _place_window(self, request: EngineRequest, known: _DocumentTokens) -> Window:
        fim = self._manifest.special_tokens.fim
        order = choose_order(
            fim.order if fim else None, request.suffix, is_explicit=request.is_explicit
        )
        n_room = self._n_ctx - min(request.max_new_tokens, self._n_ctx // 2) - N_FIM_TOKENS
        n_room = max(1, n_room)
        return place_window(
            request.prefix,
            request.suffix,
            request.context,
            order=order,
            max_tokens=n_room,
            max_suffix_tokens=suffix_limit(order, n_room, is_explicit=request.is_explicit),
            previous=known.windows,
            count=lambda text: len(known.encode_part(text)),
            count_prefix=lambda text: len(known.encoder.encode(text)),
        )

    def _recalled(self, request: EngineRequest, plan: _Plan) -> AnswerMemory | None:
        """Return the memory as this answer asks it; None: it asks nothing."""
        if request.memory == "off" and not request.drafts:
            return None
        known = self._tokens(request.document)
        before = known.encode_before(request.prefix)
        # Text that is taken back is written anew, so it must not be there to be copied.
        before = before[: len(before) - len(plan.prompt.healed_ids)]
        after = known.encode_after(request.suffix)
        return self._workspace.for_answer(request, plan.context_ids, before, after)

    def _source(
        self, recalled: AnswerMemory, token_id: int, n_before: int, n_new: int
    ) -> CopySource | None:
        copy = recalled.copied(token_id, n_before, n_new)
        return self._workspace.source_of(copy) if copy is not None else None

    def _make_choose(
        self, request: EngineRequest, plan: _Plan, recalled: AnswerMemory | None
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

    def _tokens(self, document: str) -> _DocumentTokens:
        if document not in self._documents:
            self._documents[document] = _DocumentTokens(self._tokenizer)
            if len(self._documents) > MAX_DOCUMENTS:
                self._documents.popitem(last=False)
        self._documents.move_to_end(document)
        return self._documents[document]
