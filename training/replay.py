"""A simulated typist: how many keystrokes completions save, by fixed rules of who accepts what.

The typist types a region of a file line by line. Indentation is the editor's and costs nothing;
every other character, Enter and every accept is one keystroke. A request goes out at each
keystroke, and its answer is seen after its latency. Ghost text that is typed along stays, and so
does an answer on its way that agrees with what was typed and with the newer answer; any other is
given up for the newer request. Whoever has seen ghost text for `react_ms` before the next key is
due decides whether to take it. Pure: text in, counts out; what completes is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

Rule = Literal["full", "prefix", "word"]
RULES: tuple[Rule, ...] = ("full", "prefix", "word")
SHORTEST_PREFIX = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """Ghost text at a cursor, how long it took, and whether it took the model."""

    text: str
    latency_ms: float = 0.0
    is_known: bool = False
    n_tokens: int = 0
    """Tokens that were decoded for it."""


Suggest = Callable[[str, str], Suggestion]
"""Prefix and suffix in, what is offered between them out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Typist:
    """How somebody types, in milliseconds; the defaults are those of our benchmarks."""

    rule: Rule = "full"
    key_ms: float = 200.0
    line_pause_ms: float = 800.0
    react_ms: float = 250.0


@dataclass(slots=True, kw_only=True)
class Tally:
    """What one region cost and what was seen on the way."""

    keys: int = 0
    """Keystrokes pressed, accepts included."""
    keys_without: int = 0
    """Keystrokes that the same text takes without any help."""
    chars: int = 0
    accepted_chars: int = 0
    accepts: int = 0
    shown: int = 0
    """Distinct ghost texts that were visible."""
    flickers: int = 0
    """Visible text replaced by other text that does not go on from it."""
    lines: int = 0
    ends: int = 0
    """Line ends that the typist came by, rather than accepting past them."""
    quiet_ends: int = 0
    """Those at which nothing was offered."""
    requests: int = 0
    known: int = 0
    """Requests that were answered without the model."""
    decoded: int = 0
    """Tokens decoded for all answers."""
    wasted: int = 0
    """Those of answers that were never seen."""
    accept_latencies_ms: list[float] = field(default_factory=list)

    @property
    def row(self) -> list[float]:
        """Return the counts that figures are made from, in a fixed order; see `COLUMNS`."""
        return [float(getattr(self, name)) for name in COLUMNS]


COLUMNS = (
    "keys",
    "keys_without",
    "chars",
    "accepted_chars",
    "accepts",
    "shown",
    "flickers",
    "lines",
    "ends",
    "quiet_ends",
    "requests",
    "known",
    "decoded",
    "wasted",
)


@dataclass(slots=True)
class _Ghost:
    """What the typist sees, or will see once it has arrived."""

    text: str = ""
    seen_at: float = 0.0
    latency_ms: float = 0.0
    n_tokens: int = 0


def replay(
    before: str, lines: Sequence[str], after: str, suggest: Suggest, typist: Typist
) -> Tally:
    """Type `lines` between two texts.

    Args:
        before: text above the region, ending with a newline, or empty.
        lines: what is typed, without newlines.
        after: text below the region.
        suggest: asked at every keystroke, in order.
        typist: pace and rule.
    """
    return _Replay(before, lines, after, suggest, typist).run()


def remembering(complete: Callable[[str, str], str]) -> Suggest:
    """Return a completer that is asked anew only where what it offered was not typed along."""
    last_prefix, last_text = "", ""

    def suggest(prefix: str, suffix: str) -> Suggestion:
        nonlocal last_prefix, last_text
        is_known = bool(last_text) and (last_prefix + last_text).startswith(prefix)
        is_known = is_known and prefix.startswith(last_prefix) and prefix != last_prefix
        if is_known:
            last_text = last_text[len(prefix) - len(last_prefix) :]
        else:
            last_text = complete(prefix, suffix)
        last_prefix = prefix
        return Suggestion(text=last_text, is_known=is_known)

    return suggest


class _Replay:
    """One region being typed: the clock, the text so far and the ghost text."""

    def __init__(
        self, before: str, lines: Sequence[str], after: str, suggest: Suggest, typist: Typist
    ) -> None:
        self._truth = "".join(line + "\n" for line in lines)
        self._before = before
        self._after = after
        self._suggest = suggest
        self._typist = typist
        self._at = 0
        self._now = 0.0
        self._ghost = _Ghost()
        self._coming: _Ghost | None = None
        self._tally = Tally(lines=len(lines), keys_without=sum(map(_n_keys, lines)))

    def run(self) -> Tally:
        """Type everything."""
        self._skip_indentation()
        self._ask()
        while self._at < len(self._truth):
            is_line_start = self._at == 0 or not self._line_so_far().strip()
            pause = self._typist.line_pause_ms if is_line_start else self._typist.key_ms
            self._wait(pause)
            if self._truth[self._at] == "\n":
                self._tally.ends += 1
                self._tally.quiet_ends += not self._ghost.text
            n_taken = self._decide()
            if n_taken:
                self._accept(n_taken)
            else:
                self._press()
            self._ask()
        self._tally.chars = len(self._truth)
        return self._tally

    def _line_so_far(self) -> str:
        return self._truth[: self._at].rpartition("\n")[2]

    def _wait(self, ms: float) -> None:
        """Let time go by until the next key is due; an answer may arrive."""
        self._now += ms
        if self._coming is not None and self._coming.seen_at <= self._now:
            self._tally.wasted += self._coming.n_tokens * (not self._coming.text)
            self._show(self._coming)
            self._coming = None

    def _show(self, ghost: _Ghost) -> None:
        old = self._ghost
        if old.text and ghost.text.startswith(old.text):
            self._ghost = _Ghost(ghost.text, old.seen_at, old.latency_ms)
            return
        self._tally.flickers += bool(old.text)
        self._tally.shown += bool(ghost.text)
        self._ghost = ghost

    def _decide(self) -> int:
        """Return how many characters of the ghost text are taken now; 0 types on."""
        ghost = self._ghost
        if not ghost.text or self._now - ghost.seen_at < self._typist.react_ms:
            return 0
        rest = self._truth[self._at :]
        if self._typist.rule == "word":
            word = _first_word(ghost.text)
            return len(word) if rest.startswith(word) and len(word) > 1 else 0
        is_right = rest.startswith(ghost.text)
        if self._typist.rule == "full":
            ends_line = rest[len(ghost.text) : len(ghost.text) + 1] == "\n"
            return len(ghost.text) if is_right and ends_line else 0
        return len(ghost.text) if is_right and len(ghost.text) >= SHORTEST_PREFIX else 0

    def _accept(self, n_chars: int) -> None:
        self._tally.keys += 1
        self._tally.accepts += 1
        self._tally.accepted_chars += n_chars
        self._tally.accept_latencies_ms.append(self._ghost.latency_ms)
        self._at += n_chars
        self._ghost.text = self._ghost.text[n_chars:]
        self._give_up()

    def _press(self) -> None:
        char = self._truth[self._at]
        self._tally.keys += 1
        self._at += 1
        self._type_along(char)
        if char == "\n":
            self._skip_indentation()

    def _skip_indentation(self) -> None:
        """Let the editor indent; ghost text that agrees stays."""
        line = self._truth[self._at :].partition("\n")[0]
        indent = line[: len(line) - len(line.lstrip())]
        self._at += len(indent)
        self._type_along(indent)

    def _type_along(self, typed: str) -> None:
        """Keep what agrees with typed text, seen or on its way; give up the rest."""
        ghost = self._ghost
        ghost.text = ghost.text[len(typed) :] if ghost.text.startswith(typed) else ""
        coming = self._coming
        if coming is not None and coming.text.startswith(typed):
            coming.text = coming.text[len(typed) :]
        else:
            self._give_up()

    def _give_up(self) -> None:
        """Let nobody wait for the answer on its way."""
        if self._coming is not None:
            self._tally.wasted += self._coming.n_tokens
        self._coming = None

    def _ask(self) -> None:
        if self._at >= len(self._truth):
            self._give_up()
            return
        self._tally.requests += 1
        prefix = self._before + self._truth[: self._at]
        suggestion = self._suggest(prefix, "\n" + self._after)
        self._tally.known += suggestion.is_known
        self._tally.decoded += suggestion.n_tokens
        text, latency_ms = suggestion.text, suggestion.latency_ms
        arrival, n_tokens = self._now + latency_ms, suggestion.n_tokens
        earlier = self._coming
        if earlier is not None and earlier.text and text.startswith(earlier.text):
            # The answer to an earlier request goes on; it is not made anew.
            arrival, latency_ms = min((earlier.seen_at, earlier.latency_ms), (arrival, latency_ms))
            n_tokens += earlier.n_tokens
        else:
            self._give_up()
        self._coming = _Ghost(text, arrival, latency_ms, n_tokens)


def _n_keys(line: str) -> int:
    return len(line.lstrip()) + 1


def _first_word(text: str) -> str:
    """Return what one word-wise accept inserts: blanks, then a word or one other character."""
    n = len(text) - len(text.lstrip(" \t"))
    end = n
    while end < len(text) and (text[end].isalnum() or text[end] == "_"):
        end += 1
    return text[: max(end, n + 1)]
