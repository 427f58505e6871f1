"""What the memory of the workspace costs: to build, at each token, and to whoever waits meanwhile.

Texts are made here, with the repetition of code; they say nothing of how useful the memory is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import psutil

from benchmarks.figures import figure
from benchmarks.results import Recorder
from server.bundle import Bundle
from server.completion.engine import CancelToken, EngineRequest, EngineUsage, WorkspaceFile
from server.completion.engines.local import LocalEngine
from server.decoding.memory.answer import AnswerMemory
from server.decoding.memory.coefficients import Coefficients
from server.decoding.memory.drafts import Pace
from server.decoding.memory.index import LearnedText, WorkspaceIndex
from server.decoding.memory.recall import DocumentText, Recall
from server.decoding.memory.stream import MAX_MATCH_TOKENS, TokenWidth
from server.decoding.sampling import log_softmax
from server.decoding.tokenizer import Tokenizer
from server.options import Options

TEXT_TOKENS = 2_000  # Of one file. Guessed.
DOCUMENT_TOKENS = 4_000
PHRASE_TOKENS = 12  # A line of code, on average.
N_PHRASES = 20_000
N_QUERIES = 2_000
N_ANSWERS = 6
ANSWER_TOKENS = 32
N_PARTS = 4
INDEX_BYTES = 2_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """How much is learned and asked."""

    n_tokens: int
    """Of the workspace."""
    n_saves: int
    n_threads: int
    seed: int


def make_texts(n_tokens: int, n_vocab: int, seed: int) -> list[np.ndarray]:
    """Return token ids that repeat phrases as code does: about TEXT_TOKENS a text.

    Args:
        n_tokens: of all texts together, about.
        n_vocab: V.
        seed: of the random numbers.
    """
    rng = np.random.default_rng(seed)
    # Zipf's law, for tokens and phrases alike.
    phrases = np.minimum(rng.zipf(1.2, (N_PHRASES, PHRASE_TOKENS)), n_vocab) - 1
    n_texts = max(2, n_tokens // TEXT_TOKENS)
    chosen = np.minimum(rng.zipf(1.3, (n_texts, TEXT_TOKENS // PHRASE_TOKENS)), N_PHRASES) - 1
    return [phrases[row].reshape(-1) for row in chosen]


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
    ids = make_texts(plan.n_tokens, spec.n_vocab, plan.seed)
    files = [
        WorkspaceFile(path=f"folder_{i % 40}/file_{i}.py", text=_spelled(tokenizer, text))
        for i, text in enumerate(ids)
    ]
    options = Options(model=str(bundle.folder), threads=plan.n_threads, memory_bytes=INDEX_BYTES)
    engine = LocalEngine.load(options)
    recorder.figures.append(figure("engine", "token_alone", "ms", _answer_ms(engine, files)))
    step("answered alone")
    resident = psutil.Process().memory_info().rss
    learner = _Learner(engine, files)
    beside = _answer_ms(engine, files, until=learner)
    told = engine.memory
    recorder.figures += [
        figure("engine", "token_while_learning", "ms", beside),
        figure("engine", "learn", "s", [learner.elapsed_s], f"{told.n_tokens:,} tokens"),
        figure("index", "bytes_per_token", "bytes", [told.n_bytes / told.n_tokens]),
        figure(
            "engine",
            "resident_growth",
            "MB",
            [(psutil.Process().memory_info().rss - resident) / 1e6],
            f"of the process; {told.n_bytes / 1e6:.1f} MB by the index's own count",
        ),
    ]
    step("answered while learning")
    saves = []
    for i in range(plan.n_saves):
        changed = WorkspaceFile(path=files[i].path, text=f"{i}\n{files[i].text}")
        begun = time.perf_counter()
        engine.learn([changed], CancelToken())
        saves.append(time.perf_counter() - begun)
    recorder.figures.append(figure("engine", "saved_file_is_current", "s", saves))
    engine.close()
    step("saved files")
    recorder.figures.append(
        figure("memory", "mixed_token", "ms", _mixing_ms(ids, spec.n_vocab, plan.seed))
    )
    step("mixed tokens")


class _Learner(threading.Thread):
    """Lets an engine learn, file by file in batches, on a thread of its own."""

    def __init__(self, engine: LocalEngine, files: Sequence[WorkspaceFile]) -> None:
        super().__init__()
        self.elapsed_s = 0.0
        self._engine = engine
        self._files = files

    def run(self) -> None:
        """Learn everything."""
        begun = time.perf_counter()
        for start in range(0, len(self._files), 100):
            self._engine.learn(self._files[start : start + 100], CancelToken())
        self.elapsed_s = time.perf_counter() - begun


def _answer_ms(
    engine: LocalEngine, files: Sequence[WorkspaceFile], until: _Learner | None = None
) -> list[float]:
    """Return what each token of some answers took; with a learner, of all while it learns."""
    times: list[float] = []
    if until is not None:
        until.start()
    n_answers = 0
    while until.is_alive() if until is not None else n_answers < N_ANSWERS:
        text = files[n_answers % len(files)].text
        request = EngineRequest(
            document="file:///x.py",
            prefix=text[: len(text) // 2],
            suffix="",
            max_new_tokens=ANSWER_TOKENS,
            memory="document",
            drafts=False,
        )
        engine.warm(request, CancelToken())
        stream = engine.stream(request, CancelToken(), EngineUsage())
        next(stream, None)  # The first one ends the prefill.
        last = time.perf_counter()
        for _ in stream:
            now = time.perf_counter()
            times.append(1000 * (now - last))
            last = now
        n_answers += 1
    if until is not None:
        until.join()
    return times


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


def _spelled(tokenizer: Tokenizer, ids: np.ndarray) -> str:
    return b"".join(tokenizer.token_bytes[i] for i in ids).decode("utf-8", errors="replace")
