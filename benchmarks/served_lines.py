"""The rest of a line, one key after the prompt was seen: our server beside llama.cpp's.

Both are processes of their own with the same weights, threads and text before the cursor, and read
it left to right to the end of the line, greedily. Each line is asked of both in turn: first with a
slip of the finger at its end, so that the prompt is known and the answer is not, then as it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.client import Client
from benchmarks.errors import BenchmarkError
from benchmarks.figures import Figure, figure, ratio
from benchmarks.peers.llama_server import LlamaServer, llama_server
from benchmarks.results import Recorder
from benchmarks.scenario import RANDOM_SETTINGS
from benchmarks.typist import Screen, shown_texts
from server.bundle import Bundle
from server.decoding.tokenizer import Tokenizer

OURS = "Foretype's server"
THEIRS = "llama.cpp's server Q8_0"
NAME = "served_line"
SHORTEST_LINE = 12
MAX_TOKENS = 24
# Of the window, so that both read all of the same text.
PROMPT_SHARE = 0.75
SLIP = "~"

Step = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Text before a cursor, without its last character and with it."""

    seen: str
    key: str


def choose_prompts(text: str, tokenizer: Tokenizer, n_tokens: int, n: int) -> list[Prompt]:
    """Cut lines of code of a file in their middle; the prompt reaches back by whole lines.

    Args:
        text: of a file.
        tokenizer: the model's.
        n_tokens: of a prompt, at most.
        n: how many, spread over the file's second half; fewer if it has not as many.
    """
    lines = text.splitlines(keepends=True)
    fit = [
        i
        for i in range(len(lines) // 2, len(lines))
        if len(lines[i].strip()) >= SHORTEST_LINE and not lines[i].strip().startswith("#")
    ]
    prompts = []
    for i in fit[:: max(1, len(fit) // n)][:n]:
        body = lines[i].rstrip()
        n_indent = len(body) - len(body.lstrip())
        typed = body[: n_indent + (len(body) - n_indent) // 2]
        room = n_tokens - len(tokenizer.encode(typed))
        first = i
        while first > 0 and (room := room - len(tokenizer.encode(lines[first - 1]))) >= 0:
            first -= 1
        prompts.append(Prompt(seen="".join(lines[first:i]) + typed[:-1], key=typed[-1]))
    return prompts


def measure(
    recorder: Recorder,
    bundle: Bundle,
    prompts: Sequence[Prompt],
    *,
    n_threads: int,
    is_random: bool,
    step: Step,
) -> None:
    """Ask both servers for every line and record times, ratio and how many texts agree.

    Args:
        recorder: where to.
        bundle: with its checkpoint.
        prompts: from `choose_prompts`.
        n_threads: of both.
        is_random: a random network ends no line: both then make as many tokens.
        step: called after each line.

    Raises:
        BenchmarkError: a server does not start, or refuses.
    """
    settings: dict[str, Any] = {
        "threads": n_threads,
        "debounceMs": 0,
        "maxDebounceMs": 0,
        "multiLine": "never",
        "minConfidence": 0.0,
        "maxNewTokens": MAX_TOKENS,
        **(RANDOM_SETTINGS if is_random else {}),
    }
    pairs: list[tuple[_Line, _Line]] = []
    server = ["-m", "server", "--stdio", "--model", str(bundle.folder), "--memory", "document"]
    with llama_server(bundle, "Q8_0", n_threads) as llama, Client(server, settings) as client:
        client.initialize({"status": True})
        client.wait_for_state("ready")
        for number, prompt in enumerate(prompts):
            ours, source = _ours(client, prompt, f"file:///served/{number}.py")
            theirs = _theirs(llama, prompt, settings["maxNewTokens"])
            step(NAME)
            if source == "model" and ours.text and theirs.text:
                pairs.append((ours, theirs))
    if not pairs:
        raise BenchmarkError("no line was completed by both servers")
    told = f"in {len(pairs)} of {len(prompts)} lines"
    recorder.figures += [_summary(OURS, [p[0] for p in pairs], told)]
    recorder.figures += [_summary(THEIRS, [p[1] for p in pairs], told)]
    ours_ms, theirs_ms = ([pair[i].ms for pair in pairs] for i in (0, 1))
    recorder.ratios.append(ratio(NAME, OURS, ours_ms, THEIRS, theirs_ms))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """What a server said, and what it took."""

    ms: float
    """From the key to the whole answer."""
    text: str
    n_tokens: int


def _ours(client: Client, prompt: Prompt, uri: str) -> tuple[_Line, str]:
    """Return our line and where it came from."""
    screen = Screen(client, uri, prompt.seen + SLIP)
    screen.open()
    client.wait(screen.request("slip", is_explicit=False))
    screen.delete_back()
    began_s = time.perf_counter()
    screen.type(prompt.key)
    pending = screen.request("key", is_explicit=False)
    client.wait(pending)
    texts = [text for _, text in shown_texts(pending)]
    record = client.ask("foretype/requests", {})["requests"][-1]
    line = _Line(
        ms=1e3 * (pending.answered_s - began_s),
        text=texts[-1] if texts else "",
        n_tokens=record["newTokens"],
    )
    return line, record["source"]


def _theirs(llama: LlamaServer, prompt: Prompt, max_tokens: int) -> _Line:
    llama.complete(prompt.seen + SLIP, 1)
    began_s = time.perf_counter()
    text, n_tokens = llama.complete(prompt.seen + prompt.key, max_tokens)
    return _Line(ms=1e3 * (time.perf_counter() - began_s), text=text, n_tokens=n_tokens)


def _summary(subject: str, lines: Sequence[_Line], told: str) -> Figure:
    n_tokens, n_chars = sum(line.n_tokens for line in lines), sum(len(line.text) for line in lines)
    detail = f"{n_tokens} tokens, {n_chars} characters {told}"
    return figure(subject, NAME, "ms", [line.ms for line in lines], detail)


def read_prompts(file: Path, bundle: Bundle, n: int) -> list[Prompt]:
    """Return prompts of a file that leave room in the window for the rest of the line."""
    spec = bundle.manifest.spec
    tokenizer = Tokenizer.from_file(bundle.tokenizer_path, spec.n_vocab)
    n_tokens = int(PROMPT_SHARE * min(spec.n_ctx, 512))
    return choose_prompts(file.read_text(encoding="utf-8"), tokenizer, n_tokens, n)
