"""A line of code from servers as users have them: Foretype's over stdio, llama.cpp's over HTTP.

Each is a real process with the same weights. For each of some lines of a real file, each in turn
is given the text up to one character before the cursor and completes it; then comes the character,
and the time to the whole rest of the line is taken. A prompt is the same text for all, left to
right: the lines above that fill half the context, and the line's beginning.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil

from benchmarks.client import Client
from benchmarks.errors import BenchmarkError
from benchmarks.figures import Figure, figure, ratio, rounded
from benchmarks.line_servers import Answer, Foretype, LineServer, Llama
from benchmarks.peers.llama_servers import KINDS, LlamaServer
from benchmarks.results import Recorder
from benchmarks.scenario import RANDOM_SETTINGS
from server.bundle import Bundle
from server.decoding.tokenizer import Tokenizer

AS_INSTALLED = "Foretype as installed"
FIRST_ASKED = "Foretype as installed, first asked here"
SAME_TOKENS = "Foretype, every token decoded"
MAX_NEW_TOKENS = 48
"""More than any line of the file has left. Guessed."""
MIN_LEFT_CHARS = 8
"""Of a line after the cursor, so that there is something to complete. Guessed."""
SETTLED_S = 0.05
SETTLE_AT_MOST_S = 3.0

# No wait before a request, and the rest of the line only, as the others are asked.
_LINE_SETTINGS: Mapping[str, Any] = {
    "debounceMs": 0,
    "maxDebounceMs": 0,
    "multiLine": "never",
    "maxNewTokens": MAX_NEW_TOKENS,
}
# Nothing but the network decides, and nothing is drafted, cut or taken off.
_PLAIN_SETTINGS: Mapping[str, Any] = {
    "memory": "off",
    "drafts": False,
    "minConfidence": 0.0,
    "filters": [],
}

Step = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A cursor in a real file."""

    text: str
    """Whole lines above, and the line's beginning up to the cursor."""
    rest: str
    """Of the line."""


def find_places(
    text: str, n_places: int, n_tokens: int, seed: int, count: Callable[[str], int]
) -> list[Place]:
    """Choose lines of code and a cursor in each.

    Args:
        text: of the file.
        n_places: as many, or fewer if the file has fewer.
        n_tokens: of the lines above, at the most.
        seed: which lines, and where in them.
        count: tokens of a text.

    Raises:
        BenchmarkError: the file has no such line.
    """
    random = np.random.default_rng(seed)
    lines = text.splitlines(keepends=True)
    fitting = []
    for index, line in enumerate(lines):
        code = line.strip()
        # In the second half there is enough above.
        if index >= len(lines) // 2 and len(code) > 2 * MIN_LEFT_CHARS and code[0] not in "#\"'":
            fitting.append(index)
    if not fitting:
        raise BenchmarkError("the file has no long line of code in its second half")
    chosen = random.permutation(fitting)[:n_places]
    places = []
    for index in chosen:
        line = lines[index].rstrip("\r\n")
        n_indent = len(line) - len(line.lstrip())
        # Two characters at least: one that was seen before, and one that is typed.
        cursor = int(random.integers(n_indent + 2, len(line) - MIN_LEFT_CHARS + 1))
        above = _last_lines(lines[:index], n_tokens, count)
        places.append(Place(text=above + line[:cursor], rest=line[cursor:]))
    return places


def n_steps(n_places: int) -> int:
    """Return how often `step` will be called, at the most."""
    return n_places * (3 + len(KINDS))


def measure(
    recorder: Recorder,
    bundle: Bundle,
    text: str,
    *,
    n_places: int,
    n_threads: int,
    is_random: bool,
    step: Step,
) -> None:
    """Measure all servers that can run here, in turn, and record figures and ratios.

    Raises:
        CompletionServerError: our server does not run, or the bundle has no weights for the others.
    """
    spec = bundle.manifest.spec
    tokenizer = Tokenizer.from_file(bundle.tokenizer_path, spec.n_vocab)
    places = find_places(
        text, n_places, spec.n_ctx // 2, recorder.seed, lambda part: len(tokenizer.encode(part))
    )
    max_tokens = RANDOM_SETTINGS["maxNewTokens"] if is_random else MAX_NEW_TOKENS
    stop = () if is_random else ("\n",)
    with ExitStack() as stack:
        servers: list[LineServer] = [
            *_start_ours(stack, bundle, n_threads, is_random=is_random),
            *_start_llamas(stack, recorder, bundle, n_threads, max_tokens, stop),
        ]
        answers = ask_in_turn(servers, places, step)
        memory = [
            figure(one.name, "resident_memory", "MB", [one.process.memory_info().rss / 1e6])
            for one in servers
        ]
    recorder.figures += [*_figures(answers, places), *memory]
    compare(recorder, answers, {one.name for one in servers if isinstance(one, Foretype)})
    recorder.raw["lines"] = rows(answers)


def ask_in_turn(
    servers: Sequence[LineServer], places: Sequence[Place], step: Step
) -> dict[str, list[Answer]]:
    """Ask each server for each line; who begins changes from line to line. The first line is
    asked twice, as the first time only warms up.
    """
    answers: dict[str, list[Answer]] = {one.name: [] for one in servers}
    for index, place in enumerate([places[0], *places]):
        first = index % len(servers)
        for one in [*servers[first:], *servers[:first]]:
            one.see(place.text[:-1])
            settle(one.process)
            answer = one.complete(place.text[-1])
            # What a server does on its own afterwards must not slow the next one.
            settle(one.process)
            if index:
                step(one.name)
                answers[one.name].append(answer)
    return answers


def settle(process: psutil.Process) -> None:
    """Wait until a process rests, for a few seconds at the most."""
    deadline_s = time.perf_counter() + SETTLE_AT_MOST_S
    used_s = -1.0
    while time.perf_counter() < deadline_s:
        times = process.cpu_times()
        if times.user + times.system == used_s:
            return
        used_s = times.user + times.system
        time.sleep(SETTLED_S)


def compare(
    recorder: Recorder, answers: Mapping[str, Sequence[Answer]], ours: Sequence[str] | set[str]
) -> None:
    """Record the ratios of ours to the others: over all lines, and over those on which both
    decoded the very same text.
    """
    for name in [name for name in answers if name in ours]:
        for other in [other for other in answers if other not in ours]:
            pairs = list(zip(answers[name], answers[other], strict=True))
            same = [(a, b) for a, b in pairs if a.text and a.text.rstrip() == b.text.rstrip()]
            detail = f"of {len(pairs)} lines, as {other} says"
            recorder.figures.append(figure(name, "same_text", "", [len(same) / len(pairs)], detail))
            for what, chosen in (("line", pairs), ("line_same_text", same)):
                if chosen:
                    recorder.ratios.append(
                        ratio(
                            what, name, [a.ms for a, _ in chosen], other, [b.ms for _, b in chosen]
                        )
                    )


def rows(answers: Mapping[str, Sequence[Answer]]) -> list[dict[str, Any]]:
    """Return the answers as they are written to the results: no text, but its length."""
    return [
        {"server": name, "line": index, "chars": len(one.text)}
        | {key: rounded(value) for key, value in asdict(one).items() if key != "text"}
        for name, said in answers.items()
        for index, one in enumerate(said)
    ]


def _start_ours(
    stack: ExitStack, bundle: Bundle, n_threads: int, *, is_random: bool
) -> list[Foretype]:
    plain = dict(_PLAIN_SETTINGS)
    kinds = {AS_INSTALLED: {}, FIRST_ASKED: {}, SAME_TOKENS: plain}
    if is_random:  # Its answers are never sure, nor code.
        kinds = {SAME_TOKENS: {**plain, **RANDOM_SETTINGS}}
    started = []
    arguments = ["-m", "server", "--stdio", "--model", str(bundle.folder)]
    for name, settings in kinds.items():
        settings = {**_LINE_SETTINGS, **settings}
        client = stack.enter_context(Client([*arguments, "--threads", str(n_threads)], settings))
        client.initialize({"status": True})  # Not streaming: one whole answer, as of the others.
        client.wait_for_state("ready")
        started.append(Foretype(name, client, asks_before=name == AS_INSTALLED))
    return started


def _start_llamas(
    stack: ExitStack,
    recorder: Recorder,
    bundle: Bundle,
    n_threads: int,
    max_tokens: int,
    stop: Sequence[str],
) -> list[Llama]:
    """Start those that can run; the others are named in the notes."""
    if bundle.checkpoint_path is None:
        raise BenchmarkError(f"{bundle.folder} has no weights that llama.cpp could be given")
    reasons = {kind.name: kind.why_not() for kind in KINDS}
    recorder.notes += [f"skipped: {name}: {why}" for name, why in reasons.items() if why]
    kinds = [kind for kind in KINDS if not reasons[kind.name]]
    if not kinds:
        return []
    try:
        from benchmarks.peers.gguf_file import write_gguf
    except ImportError as exc:
        recorder.notes.append(f"skipped: llama.cpp: {exc} (pip install foretype[bench])")
        return []
    folder = Path(stack.enter_context(TemporaryDirectory()))
    model = folder / "model.gguf"
    write_gguf(bundle.checkpoint_path, bundle.tokenizer_path, model, "Q8_0")
    started = []
    for index, kind in enumerate(kinds):
        log = folder / f"server-{index}.log"
        n_ctx = bundle.manifest.spec.n_ctx
        try:
            server = LlamaServer(kind, model, n_ctx=n_ctx, n_threads=n_threads, log=log)
        except (BenchmarkError, OSError) as exc:
            recorder.notes.append(f"skipped: {exc}")
            continue
        started.append(Llama(stack.enter_context(server), max_tokens, stop))
    return started


def _figures(answers: Mapping[str, Sequence[Answer]], places: Sequence[Place]) -> list[Figure]:
    figures = []
    for name, said in answers.items():
        n = len(said)
        n_right = sum(
            bool(one.text) and one.text.rstrip() == place.rest.rstrip()
            for one, place in zip(said, places, strict=True)
        )
        figures += [
            figure(name, "line", "ms", [one.ms for one in said], "from the key to the answer"),
            figure(name, "prompt", "tokens", [float(one.n_prompt) for one in said]),
            figure(name, "decoded", "tokens", [float(one.n_new) for one in said]),
            figure(name, "chars", "", [float(len(one.text)) for one in said], "of an answer"),
            figure(name, "share_said", "", [sum(bool(one.text) for one in said) / n]),
            figure(name, "share_model", "", [sum(one.source == "model" for one in said) / n]),
            figure(name, "share_right", "", [n_right / n], "exactly the rest of the line"),
        ]
    return figures


def _last_lines(lines: Sequence[str], n_tokens: int, count: Callable[[str], int]) -> str:
    """Return as many of the last lines as have so many tokens."""
    n_left = n_tokens
    for index in reversed(range(len(lines))):
        n_left -= count(lines[index])
        if n_left < 0:
            return "".join(lines[index + 1 :])
    return "".join(lines)
