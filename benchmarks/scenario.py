"""One latency run: a real server, a real file, typing at a pace, pauses, then key by key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.client import Client
from benchmarks.engine_work import cancel_cold_requests, counting_engine, replay
from benchmarks.errors import BenchmarkError
from benchmarks.figures import figure
from benchmarks.latency import feel, rows, typing_figures
from benchmarks.results import Recorder
from benchmarks.startup import COLD_TOKENS, measure_startup
from benchmarks.typist import Screen, Typist
from server.bundle import Bundle
from server.decoding.tokenizer import Tokenizer
from server.options import Options

Step = Callable[[str], None]
PAUSE_S = 0.5
"""Before a line, and before the typist looks back; shorter than a person's, to save time."""
# A random network is never sure, says nothing that a filter would let through, nor ends a line.
RANDOM_SETTINGS: Mapping[str, Any] = {
    "filters": [],
    "minConfidence": 0.0,
    "maxNewTokens": 12,
    "multiLine": "never",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What is typed, and how often what is done."""

    file: Path
    interval_ms: int
    n_lines: int
    """Lines typed at the pace, and then as many more slowly."""
    n_starts: int
    n_cancellations: int
    is_random: bool
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A file, cut where the typist goes on."""

    prefix: str
    quick: str
    """Typed at the pace."""
    slow: str
    """Typed key by key, each answered."""
    suffix: str


def find_passage(text: str, n_lines: int) -> Passage:
    """Cut a file in its middle; blank lines do not count.

    Raises:
        BenchmarkError: the file has too few lines.
    """
    lines = text.splitlines(keepends=True)
    start = len(lines) // 2
    parts: list[str] = []
    for _ in range(2):
        taken, n_full = 0, 0
        while n_full < n_lines:
            if start + taken >= len(lines):
                raise BenchmarkError(f"the file has too few lines after its middle for {n_lines}")
            n_full += bool(lines[start + taken].strip())
            taken += 1
        parts.append("".join(lines[start : start + taken]))
        start += taken
    quick, slow = parts
    before = text[: len(text) - len("".join(lines[start:])) - len(quick) - len(slow)]
    return Passage(prefix=before, quick=quick, slow=slow, suffix="".join(lines[start:]))


def n_steps(passage: Passage, scenario: Scenario) -> int:
    """Return about how often `step` will be called."""
    n_back = 7 * scenario.n_lines
    n_typed = len(passage.quick) + len(passage.slow) + n_back
    return n_typed + len(passage.quick) + 2 * scenario.n_starts + scenario.n_cancellations


def run(recorder: Recorder, bundle: Bundle, scenario: Scenario, step: Step) -> None:
    """Measure start-up, typing, reuse and cancellation, and record them.

    Raises:
        CompletionServerError: the server or the model can't be run, or the file is too short.
    """
    tokenizer = Tokenizer.from_file(bundle.tokenizer_path, bundle.manifest.spec.n_vocab)
    text = scenario.file.read_text(encoding="utf-8")
    passage = find_passage(text, scenario.n_lines)
    server = ["-m", "server", "--stdio", "--model", str(bundle.folder)]
    cold_text = cold_document(passage, COLD_TOKENS, tokenizer)
    measure_startup(recorder, server, cold_text, scenario.n_starts, step)
    _measure_typing(recorder, server, passage, scenario, tokenizer, step)
    _measure_engine(recorder, bundle, passage, scenario, cold_text, step)


def cold_document(passage: Passage, n_tokens: int, tokenizer: Tokenizer) -> str:
    """Return whole lines of about `n_tokens`, and half of the line that is typed after them.

    Raises:
        BenchmarkError: the file is shorter.
    """
    n_found = 0
    lines = passage.prefix.splitlines(keepends=True)
    for index in reversed(range(len(lines))):
        n_found += len(tokenizer.encode(lines[index]))
        if n_found >= n_tokens:
            begun = next(line for line in passage.quick.splitlines() if line.strip())
            n_indent = len(begun) - len(begun.lstrip())
            return "".join(lines[index:]) + begun[: (n_indent + len(begun)) // 2]
    raise BenchmarkError(f"the file has {n_found} tokens before its middle, {n_tokens} are needed")


def _measure_typing(
    recorder: Recorder,
    server: Sequence[str],
    passage: Passage,
    scenario: Scenario,
    tokenizer: Tokenizer,
    step: Step,
) -> None:
    settings = {**(RANDOM_SETTINGS if scenario.is_random else {}), **scenario.settings}
    with Client(server, settings) as client:
        client.initialize({"streaming": True, "status": True})
        client.wait_for_state("ready")
        screen = Screen(client, scenario.file.resolve().as_uri(), passage.prefix, passage.suffix)
        screen.open()
        typist = Typist(client, screen, step)
        for line in passage.quick.splitlines(keepends=True):
            typist.type(line.removesuffix("\n"), scenario.interval_ms / 1e3)
            typist.pause(PAUSE_S)
            typist.go_back_and_forth(scenario.interval_ms / 1e3)
            typist.pause(PAUSE_S)
            typist.type("\n", scenario.interval_ms / 1e3)
        n_quick = len(typist.keystrokes)
        client.settings |= {"debounceMs": 0, "maxDebounceMs": 0, "multiLine": "never"}
        client.tell("workspace/didChangeConfiguration", {"settings": {"foretype": client.settings}})
        typist.type_slowly(passage.slow)
        typist.finish()
        resident_mb = client.resident_bytes() / 1e6

    def count_tokens(text: str) -> int:
        return len(tokenizer.encode(text))

    # Other settings may well show another text: the screen starts empty with them.
    felt = feel(typist.keystrokes[:n_quick], count_tokens)
    felt += feel(typist.keystrokes[n_quick:], count_tokens)
    recorder.figures += typing_figures("server", felt)
    recorder.figures.append(figure("server", "resident_memory", "MB", [resident_mb], "after all"))
    recorder.raw["requests"] = rows(felt)


def _measure_engine(
    recorder: Recorder,
    bundle: Bundle,
    passage: Passage,
    scenario: Scenario,
    cold_text: str,
    step: Step,
) -> None:
    engine, counter = counting_engine(bundle, Options())
    try:
        reuse = replay(engine, counter, passage.prefix, passage.quick, step)
        cancelled = cancel_cold_requests(
            engine, counter, cold_text, scenario.n_cancellations, recorder.seed, step
        )
    finally:
        engine.close()
    detail = (
        f"{reuse.n_prefilled} of {reuse.n_prompt} prompt tokens, warming included, and "
        f"{reuse.n_ahead} ahead"
    )
    most = [float(max(reuse.prefilled))]
    recorder.figures += [
        figure("engine", "computed_again", "", [1 - reuse.share], detail),
        figure("engine", "prefilled_at_a_key", "tokens", most, "the most"),
    ]
    if cancelled:
        begun = [float(one.n_begun) for one in cancelled]
        recorder.figures += [
            figure("engine", "cancel_to_idle", "ms", [one.idle_ms for one in cancelled]),
            figure("engine", "passes_after_cancel", "", begun, "passes begun after it"),
        ]
