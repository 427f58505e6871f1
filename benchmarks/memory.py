"""What the workspace memory costs: to build, at each token, and to whoever waits meanwhile."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from benchmarks.figures import Figure, figure, ratio
from benchmarks.results import Recorder
from benchmarks.workspaces import make_files, make_texts, read_files
from server.backends.predictions import log_softmax
from server.bundle import Bundle
from server.completion.engine import (
    CancelToken,
    EngineRequest,
    EngineUsage,
    MemoryInfo,
    MemoryScope,
    WorkspaceFile,
)
from server.completion.engines.local import LocalEngine
from server.completion.workspace.reading import WorkspaceReading
from server.decoding.memory.answer import AnswerMemory
from server.decoding.memory.coefficients import Coefficients
from server.decoding.memory.drafts import Pace
from server.decoding.memory.index import LearnedText, WorkspaceIndex
from server.decoding.memory.recall import DocumentText, Recall
from server.decoding.memory.stream import MAX_MATCH_TOKENS, TokenWidth
from server.decoding.tokenizer import Tokenizer
from server.options import Options
from server.process import give_memory_back, lower_priority

DOCUMENT_TOKENS = 4_000
N_QUERIES = 2_000
N_ANSWERS = 40  # Before anything is learned; and in turn with the memory and without it.
ANSWER_TOKENS = 32
REST_S = 0.2  # Between two answers: as between two keystrokes.
BATCH_FILES = 300  # As many as the server learns at once, by their size.
N_SAVES = 10
N_PARTS = 3  # After the rounds.
INDEX_BYTES = 2_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """How much is learned and asked."""

    n_tokens: int
    """Of the workspace that is made."""
    folder: Path | None
    """Whose Python files are the workspace instead."""
    n_rounds: int
    """So often it is learned."""
    n_threads: int
    seed: int


def measure(
    recorder: Recorder, bundle: Bundle, plan: MemoryPlan, step: Callable[[str], None]
) -> None:
    """Learn a workspace, save files into it, ask it; and answer meanwhile.

    Args:
        recorder: takes the figures.
        bundle: whose tokenizer and network are used.
        plan: how much.
        step: told after each part what was done.
    """
    spec = bundle.manifest.spec
    tokenizer = Tokenizer.from_file(bundle.tokenizer_path, spec.n_vocab)
    if plan.folder is None:
        ids = make_texts(plan.n_tokens, spec.n_vocab, plan.seed)
        files = make_files(ids, tokenizer)
    else:
        files = read_files(plan.folder)
        ids = [np.array(tokenizer.encode(file.text)) for file in files]
    options = Options(model=str(bundle.folder), threads=plan.n_threads, memory_bytes=INDEX_BYTES)
    learned = _Learned()
    for i in range(plan.n_rounds):
        engine = LocalEngine.load(options)
        learned.measure(engine, files)
        step(f"answered alone and while learning, {i + 1} of {plan.n_rounds}")
        if i < plan.n_rounds - 1:
            engine.close()
    recorder.figures += learned.figures()
    saves = []
    for i in range(N_SAVES):
        changed = WorkspaceFile(path=files[i].path, text=f"{i}\n{files[i].text}")
        begun = time.perf_counter()
        engine.learn([changed], CancelToken())
        saves.append(time.perf_counter() - begun)
    recorder.figures.append(figure("engine", "saved_file_is_current", "s", saves))
    step("saved files")
    # What a look-up brings is learned by an engine for all its answers.
    drafting = LocalEngine.load(options)
    _compare(recorder, engine, drafting, files)
    drafting.close()
    engine.close()
    step("answered with the memory and without it")
    recorder.figures.append(
        figure("memory", "mixed_token", "ms", _mixing_ms(ids, spec.n_vocab, plan.seed))
    )
    step("mixed tokens")


class _Learned:
    """What learning a workspace took and cost those who waited meanwhile, over some rounds."""

    def __init__(self) -> None:
        self._alone_ms: list[float] = []
        self._beside_ms: list[float] = []
        self._late_alone_ms: list[float] = []
        self._late_ms: list[float] = []
        self._late_passes: list[float] = []
        self._learn_s: list[float] = []
        self._growth_mb: list[float] = []
        self._told = MemoryInfo()

    def measure(self, engine: LocalEngine, files: Sequence[WorkspaceFile]) -> None:
        """Let an engine that knows nothing answer, and then answer while it learns all files.

        An answer is late by what it takes longer than one whose tokens each take the median of
        this round's answers before.
        """
        alone = _Answers(engine, files)
        alone.ask(N_ANSWERS)
        usual_ms = statistics.median(alone.token_ms)
        resident = psutil.Process().memory_info().rss
        beside = _Answers(engine, files)
        learner = _Learner(engine, files, lambda: beside.is_awaited)
        learner.start()
        while learner.is_alive():
            beside.ask(1)
            learner.join(REST_S)
        late_ms = beside.late_ms(usual_ms)
        self._alone_ms += alone.token_ms
        self._beside_ms += beside.token_ms
        self._late_alone_ms += alone.late_ms(usual_ms)
        self._late_ms += late_ms
        self._late_passes += [ms / usual_ms for ms in late_ms]
        self._learn_s.append(learner.elapsed_s)
        self._growth_mb.append((psutil.Process().memory_info().rss - resident) / 1e6)
        self._told = engine.memory

    def figures(self) -> list[Figure]:
        """Return all of it, summed up."""
        told = self._told
        return [
            figure("engine", "token_alone", "ms", self._alone_ms),
            figure("engine", "token_while_learning", "ms", self._beside_ms),
            figure("engine", "answer_late", "ms", self._late_alone_ms, "alone"),
            figure("engine", "answer_late_while_learning", "ms", self._late_ms),
            figure("engine", "passes_late_while_learning", "passes", self._late_passes),
            figure("engine", "learn", "s", self._learn_s, f"{told.n_tokens:,} tokens"),
            figure("index", "bytes_per_token", "bytes", [told.n_bytes / told.n_tokens]),
            figure(
                "engine",
                "resident_growth",
                "MB",
                self._growth_mb[:1],  # Later rounds fill what the first one left.
                f"of the process; {told.n_bytes / 1e6:.1f} MB by the index's own count",
            ),
        ]


class _Learner(threading.Thread):
    """Lets an engine learn as the server does: on a thread that yields, and waits for answers."""

    def __init__(
        self, engine: LocalEngine, files: Sequence[WorkspaceFile], is_busy: Callable[[], bool]
    ) -> None:
        super().__init__()
        self.elapsed_s = 0.0
        self._files = files
        self._reading = WorkspaceReading(
            engine, is_busy=is_busy, is_open=lambda _: False, on_silenced=lambda: None
        )

    def run(self) -> None:
        """Learn everything."""
        lower_priority()
        begun = time.perf_counter()
        for file in self._files:
            self._reading.claim(file.path, None)
        for start in range(0, len(self._files), BATCH_FILES):
            self._reading.take_in(self._files[start : start + BATCH_FILES], CancelToken())
        give_memory_back()
        self.elapsed_s = time.perf_counter() - begun


class _Answers:
    """Answers, and the time that each of their tokens took."""

    def __init__(
        self,
        engine: LocalEngine,
        files: Sequence[WorkspaceFile],
        memory: MemoryScope = "document",
        *,
        drafts: bool = False,
    ) -> None:
        self.is_awaited = False
        self.each_ms: list[list[float]] = []
        """By answer: of its tokens, all but the first, which ends the prefill."""
        self.tokens_per_pass: list[float] = []
        """By answer, the pass that ends the prefill included."""
        self.drafts = drafts
        self._engine = engine
        self._files = files
        self._memory: MemoryScope = memory

    @property
    def token_ms(self) -> list[float]:
        """Of all answers."""
        return [token_ms for answer in self.each_ms for token_ms in answer]

    def late_ms(self, usual_ms: float) -> list[float]:
        """Return how much later each answer came than one whose tokens take `usual_ms`."""
        return [sum(answer) - len(answer) * usual_ms for answer in self.each_ms]

    def ask(self, n_answers: int) -> None:
        """Ask for some answers more, each in another place."""
        for _ in range(n_answers):
            file = self._files[len(self.each_ms) % len(self._files)]
            request = EngineRequest(
                document=f"file:///{file.path}",
                path=file.path,  # What was learned of it says nothing.
                prefix=file.text[: len(file.text) // 2],
                suffix="",
                max_new_tokens=ANSWER_TOKENS,
                memory=self._memory,
                drafts=self.drafts,
            )
            self.is_awaited = True
            self._engine.warm(request, CancelToken())
            usage = EngineUsage()
            stream = self._engine.stream(request, CancelToken(), usage)
            next(stream, None)
            times: list[float] = []
            last, n_known = time.perf_counter(), usage.new_tokens
            for _ in stream:
                elapsed_ms = 1000 * (time.perf_counter() - last)
                n_tokens = usage.new_tokens - n_known  # A text may end in the midst of a character.
                times += n_tokens * [elapsed_ms / n_tokens]
                last, n_known = time.perf_counter(), usage.new_tokens
            self.is_awaited = False
            self.each_ms.append(times)
            n_passes = usage.new_tokens - usage.accepted_tokens
            self.tokens_per_pass.append(usage.new_tokens / max(1, n_passes))


def _compare(
    recorder: Recorder,
    engine: LocalEngine,
    drafting: LocalEngine,
    files: Sequence[WorkspaceFile],
) -> None:
    """Answer in turn without the memory and with it, each without drafts and with them: what that
    adds to a token, and what it spares. Without the memory the document alone drafts, in an engine
    of its own.
    """
    answers = {
        "network": _Answers(engine, files, "off"),
        "network and drafts": _Answers(drafting, files, "off", drafts=True),
        "memory": _Answers(engine, files, "workspace"),
        "memory and drafts": _Answers(engine, files, "workspace", drafts=True),
    }
    for _ in range(N_ANSWERS):
        for one in answers.values():
            one.ask(1)
    for name, one in answers.items():
        if not one.drafts:
            recorder.figures.append(figure(name, "token", "ms", one.token_ms))
            continue
        recorder.figures += [
            # Drafted tokens come several at a time: only means say what one takes.
            figure(name, "token", "ms", _means(one), "means of answers"),
            figure(name, "tokens_per_pass", "", one.tokens_per_pass, "by answer"),
        ]
    for name, other in (
        ("memory", "network"),
        ("memory and drafts", "network"),
        ("network and drafts", "network"),
        ("memory and drafts", "memory"),
    ):
        pairs = [
            (statistics.mean(own), statistics.mean(theirs))
            for own, theirs in zip(answers[name].each_ms, answers[other].each_ms, strict=True)
            if own and theirs
        ]
        ones, others = zip(*pairs, strict=True)
        recorder.ratios.append(ratio("token", name, ones, other, others))


def _means(answers: _Answers) -> list[float]:
    return [statistics.mean(answer) for answer in answers.each_ms if answer]


def _mixing_ms(texts: Sequence[np.ndarray], n_vocab: int, seed: int) -> list[float]:
    """Return the time that mixing the memory into one token takes."""
    width = TokenWidth(n_vocab)
    index = WorkspaceIndex(width, INDEX_BYTES)
    index.learn(lambda: [LearnedText(f"{i}.py", width.pack(ids)) for i, ids in enumerate(texts)])
    near = np.concatenate(texts[:30])[:100_000]
    index.learn(lambda: [LearnedText("open.py", width.pack(near), is_near=True)])
    rng = np.random.default_rng(seed)
    document = DocumentText(np.concatenate(texts[30:33])[:DOCUMENT_TOKENS].tolist(), (), width)
    recall = Recall(lambda: index.snapshot, document, "folder/x.py", width)
    log_probs = log_softmax(rng.normal(0, 3, n_vocab).astype(np.float32))
    coefficients = Coefficients()
    pace = Pace(coefficients)
    times = []
    for _ in range(N_QUERIES):
        text = texts[rng.integers(len(texts))]
        end = int(rng.integers(MAX_MATCH_TOKENS, len(text)))
        context = text[end - MAX_MATCH_TOKENS : end].tolist()
        memory = AnswerMemory(recall, context, coefficients, pace)
        begun = time.perf_counter()
        memory.process([], log_probs)
        times.append(1000 * (time.perf_counter() - begun))
    return times
