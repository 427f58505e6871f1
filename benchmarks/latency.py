"""What a typist felt, from keystrokes and the server's own records of them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.figures import Figure, figure
from benchmarks.typist import Keystroke, first_text_s, shown_texts

REMEMBERED = 50
"""Shown texts that a repeated request is looked for in; the server remembers fewer or more."""

CountTokens = Callable[[str], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Felt:
    """One request, as the typist felt it and as the server counted it; no text."""

    kind: str
    source: str
    reason: str
    is_cancelled: bool
    is_superseded: bool
    is_known: bool
    """A whole answer that was shown before already said what comes here."""
    first_ms: float | None
    """To the first ghost text; None: there was none."""
    answer_ms: float
    cancel_ms: float | None
    """From the cancellation to the end of the request."""
    server_ms: float
    prompt_tokens: int
    reused_tokens: int
    prefilled_tokens: int
    decoded_tokens: int
    drafted_tokens: int
    accepted_tokens: int
    shown_tokens: int
    flickers: int
    """Times that shown text was replaced by text that does not extend it."""
    vanished: bool
    """Shown text that the user was typing along was taken off the screen."""


def feel(keystrokes: Sequence[Keystroke], count_tokens: CountTokens) -> list[Felt]:
    """Follow the screen from request to request.

    Args:
        keystrokes: of one document, in order, each with its record.
        count_tokens: of a text, with the model's tokenizer.
    """
    felt: list[Felt] = []
    known: list[tuple[str, str]] = []
    visible_at, visible = "", ""
    for keystroke in keystrokes:
        left = rest_after(visible_at, visible, keystroke.prefix)
        visible, n_flickers, has_vanished = left, 0, False
        texts = [text for _, text in shown_texts(keystroke.pending)]
        for text in texts:
            if visible and text and not text.startswith(visible):
                n_flickers += 1
            has_vanished |= bool(visible and not text)
            visible = text
        is_known = any(rest_after(prefix, text, keystroke.prefix) for prefix, text in known)
        is_final = keystroke.pending.error is None and keystroke.pending.result is not None
        if is_final and texts and texts[-1]:
            known = [*known[1 - REMEMBERED :], (keystroke.prefix, texts[-1])]
        visible_at = keystroke.prefix
        felt.append(
            _row(
                keystroke,
                is_known=is_known,
                shown_tokens=count_tokens(texts[-1]) if texts and texts[-1] else 0,
                flickers=n_flickers,
                vanished=has_vanished,
            )
        )
    return felt


def rest_after(shown_at: str, text: str, prefix: str) -> str:
    """Return what is left of a text shown at one prefix, at another; empty if it does not go on."""
    if len(prefix) < len(shown_at) or not (shown_at + text).startswith(prefix):
        return ""
    return (shown_at + text)[len(prefix) :]


def _row(
    keystroke: Keystroke, *, is_known: bool, shown_tokens: int, flickers: int, vanished: bool
) -> Felt:
    pending, record = keystroke.pending, keystroke.record or {}
    first_s = first_text_s(pending)
    cancelled_s = pending.cancelled_s
    return Felt(
        kind=keystroke.kind,
        source=record.get("source", "none"),
        reason=record.get("reason", ""),
        is_cancelled=pending.error is not None,
        is_superseded=pending.error is None and pending.result is None,
        is_known=is_known,
        first_ms=None if first_s is None else 1e3 * (first_s - pending.sent_s),
        answer_ms=1e3 * (pending.answered_s - pending.sent_s),
        cancel_ms=None if cancelled_s is None else 1e3 * (pending.answered_s - cancelled_s),
        server_ms=record.get("totalMs", 0.0),
        prompt_tokens=record.get("promptTokens", 0),
        reused_tokens=record.get("reusedTokens", 0),
        prefilled_tokens=record.get("prefilledTokens", 0),
        decoded_tokens=record.get("newTokens", 0),
        drafted_tokens=record.get("draftedTokens", 0),
        accepted_tokens=record.get("acceptedTokens", 0),
        shown_tokens=shown_tokens,
        flickers=flickers,
        vanished=vanished,
    )


def typing_figures(subject: str, felt: Sequence[Felt]) -> list[Figure]:
    """Return times, shares and counts of requests; kinds without a request are left out."""
    figures = []
    whole = [one for one in felt if not one.is_cancelled and not one.is_superseded]
    model = [one for one in whole if one.source == "model"]
    warm = [one for one in model if one.kind == "warm" and one.first_ms is not None]
    typed = [one for one in whole if one.kind != "warm"]
    series: dict[str, list[float | None]] = {
        "typing_first_text": [one.first_ms for one in typed],
        "typing_answer": [one.answer_ms for one in typed],
        "known_answer_server": [one.server_ms for one in whole if one.is_known],
        "warm_first_text": [one.first_ms for one in warm],
        "warm_line": [one.answer_ms for one in warm],
        "cancelled_answer": [one.cancel_ms for one in felt if one.is_cancelled],
    }
    for name, values in series.items():
        present = [value for value in values if value is not None]
        if present:
            figures.append(figure(subject, name, "ms", present, DETAILS[name]))
    for name, value in counts(felt).items():
        figures.append(figure(subject, name, "", [value], DETAILS.get(name, "")))
    return figures


def counts(felt: Sequence[Felt]) -> dict[str, float]:
    """Return shares and sums over requests."""
    n = len(felt)
    if n == 0:
        return {}
    sources = Counter(one.source for one in felt)
    known = [one for one in felt if one.is_known and not one.is_cancelled]
    decoded = sum(one.decoded_tokens for one in felt)
    shown = sum(one.shown_tokens for one in felt if one.source == "model")
    answered = {
        f"share_{name}": sources[name] / n for name in ("cache", "in_flight", "model", "none")
    }
    return {
        "requests": n,
        **answered,
        "share_cancelled": sum(one.is_cancelled for one in felt) / n,
        "share_superseded": sum(one.is_superseded for one in felt) / n,
        "prompt_tokens": sum(one.prompt_tokens for one in felt),
        "prefilled_tokens": sum(one.prefilled_tokens for one in felt),
        "decoded_tokens": decoded,
        "shown_tokens": shown,
        "wasted_tokens": max(0, decoded - shown),
        "drafted_tokens": sum(one.drafted_tokens for one in felt),
        "accepted_tokens": sum(one.accepted_tokens for one in felt),
        "known": len(known),
        "known_with_a_pass": sum(one.decoded_tokens + one.prefilled_tokens > 0 for one in known),
        "flicker": sum(one.flickers for one in felt),
        "vanished": sum(one.vanished for one in felt),
    }


def rows(felt: Sequence[Felt]) -> list[dict[str, Any]]:
    """Return the requests as they are written to the results."""
    return [
        {k: round(v, 2) if isinstance(v, float) else v for k, v in asdict(one).items()}
        for one in felt
    ]


DETAILS = {
    "typing_first_text": "as typed, debounce included",
    "typing_answer": "as typed, debounce included",
    "known_answer_server": "typed along, asked again, deleted back: server side",
    "warm_first_text": "no debounce, by the model, one key after an answer",
    "warm_line": "the whole line, the same requests",
    "cancelled_answer": "from the cancellation to the request's end",
    "prefilled_tokens": "by the requests themselves; see the engine's for all",
    "wasted_tokens": "decoded and not shown, by requests that were answered",
    "known": "requests whose answer had been shown before",
    "known_with_a_pass": "of these, those that the model was asked for again",
    "flicker": "shown text replaced by text that does not extend it",
    "vanished": "shown text taken off while it was typed along",
}
