"""Their types and ours: positions, requests, items, the status object. Pure functions.

The JSON objects that go out are written here and described in docs/protocol.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote, urlsplit

from lsprotocol import types

from server.completion.engine import MemoryInfo
from server.completion.records import Counters, RequestRecord
from server.completion.request import Candidate, CompletionRequest, Trigger
from server.completion.status import Status
from server.documents import Document, Point
from server.lsp import wording
from server.lsp.positions import PositionEncoding, column_from_units, units_from_column
from server.lsp.structures import InlineParams
from server.lsp.watching import file_path
from server.notebooks import ALONE, Neighbours, text_around
from server.options import camel_case

ACCEPTED_COMMAND = "foretype.accepted"
PREFIX_CHARS = 32_000
"""What a completion sees before the cursor: more than any window of a GPT-2 holds."""
SUFFIX_CHARS = 8_000
_TRIGGERS: dict[types.InlineCompletionTriggerKind, Trigger] = {
    types.InlineCompletionTriggerKind.Invoked: "invoked",
    types.InlineCompletionTriggerKind.Automatic: "automatic",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request's items go: what is needed to write their ranges."""

    line: str
    point: Point
    encoding: PositionEncoding
    line_end: str

    def position(self, column: int) -> dict[str, int]:
        """Return a position on the cursor's line."""
        return {
            "line": self.point.line,
            "character": units_from_column(self.line, column, self.encoding),
        }


def point_at(document: Document, position: types.Position, encoding: PositionEncoding) -> Point:
    """Return the place that a position means; one that doesn't exist is clamped."""
    if position.line >= document.n_lines:
        return document.clamp(Point(position.line, 0))
    line = document.line(position.line)
    return Point(position.line, column_from_units(line, position.character, encoding))


def place_at(document: Document, point: Point, encoding: PositionEncoding) -> Place:
    """Return what an item's range at the cursor needs."""
    return Place(document.line(point.line), point, encoding, document.line_end)


def with_line_end(place: Place, line_end: str) -> Place:
    """Return the place with another line end for what is inserted."""
    return replace(place, line_end=line_end)


def completion_request(
    document: Document,
    point: Point,
    folders: Sequence[str],
    neighbours: Neighbours = ALONE,
) -> CompletionRequest:
    """Return the request at a place of a document, as typing makes it."""
    prefix, suffix = text_around(
        document, point, neighbours, n_before=PREFIX_CHARS, n_after=SUFFIX_CHARS
    )
    file = neighbours.notebook or document.uri
    return CompletionRequest(
        document=document.uri,
        version=document.version,
        prefix=prefix,
        suffix=suffix,
        language=document.language,
        path=relative_path(file, folders),
        location=file_path(file),
        n_chars=document.n_chars,
    )


def inline_request(
    document: Document,
    params: InlineParams,
    place: Place,
    folders: Sequence[str],
    neighbours: Neighbours = ALONE,
) -> CompletionRequest:
    """Return the request that `textDocument/inlineCompletion` makes."""
    request = completion_request(document, place.point, folders, neighbours)
    trigger = _TRIGGERS[params.context.trigger_kind]
    return replace(request, trigger=trigger, selected_text=_selected_text(params, place))


def _selected_text(params: InlineParams, place: Place) -> str:
    """Return what the open menu's entry would add at the cursor; empty if it replaces text."""
    info = params.context.selected_completion_info
    if info is None or info.range.start.line != place.point.line:
        return ""
    start = column_from_units(place.line, info.range.start.character, place.encoding)
    typed = place.line[start : place.point.column]
    return info.text.removeprefix(typed) if info.text.startswith(typed) else ""


def relative_path(uri: str, folders: Sequence[str]) -> str:
    """Return a document's path below its workspace folder, or its name if it is in none."""
    path = unquote(urlsplit(uri).path)
    for folder in folders:
        root = unquote(urlsplit(folder).path).rstrip("/") + "/"
        if path.startswith(root):
            return path.removeprefix(root)
    return path.rsplit("/", 1)[-1]


def items(candidates: Sequence[Candidate], place: Place) -> list[dict[str, Any]]:
    """Return `InlineCompletionItem[]`."""
    start = place.position(place.point.column)
    return [
        {
            "insertText": candidate.text.replace("\n", place.line_end),
            "range": {
                "start": start,
                "end": place.position(place.point.column + candidate.n_replaced),
            },
            "command": {
                "title": "Accepted",
                "command": ACCEPTED_COMMAND,
                "arguments": [candidate.id],
            },
            "data": _data(candidate),
        }
        for candidate in candidates
    ]


def _data(candidate: Candidate) -> dict[str, Any]:
    data: dict[str, Any] = {"id": candidate.id, "confidence": round(candidate.confidence, 4)}
    if candidate.copied_from is not None:
        source = candidate.copied_from
        data["copiedFrom"] = {"path": source.path, "line": source.line}
    return data


def item_id(item: Any) -> str:
    """Return the id of an item that an editor sends back; some keep `data`, some the command."""
    given = item if isinstance(item, Mapping) else {}
    data, command = given.get("data"), given.get("command")
    if isinstance(data, Mapping) and isinstance(data.get("id"), str):
        return str(data["id"])
    arguments = command.get("arguments") if isinstance(command, Mapping) else None
    if isinstance(arguments, list) and arguments and isinstance(arguments[0], str):
        return arguments[0]
    return ""


def accepted_chars(item: Any, accepted_length: Any) -> int:
    """Return how many code points of our text the editor accepted, of `accepted_length` units."""
    text = item.get("insertText") if isinstance(item, Mapping) else None
    if not isinstance(text, str) or not isinstance(accepted_length, int):
        return 0
    accepted = text[: column_from_units(text, accepted_length, "utf-16")]
    return len(re.sub("\r\n?", "\n", accepted))


def status_object(
    status: Status,
    *,
    is_enabled: bool,
    counters: Counters,
    memory: MemoryInfo,
    last: RequestRecord | None,
) -> dict[str, Any]:
    """Return what `foretype/status` carries."""
    engine = status.engine
    details = dict(engine.details) if engine else {}
    skipped = details.pop("skipped", "")
    return {
        "state": status.state,
        "message": status.message,
        "title": wording.title(status),
        "facts": wording.facts(status, counters=counters, memory=memory, last=last),
        "enabled": is_enabled,
        "engine": engine.engine if engine else "",
        "model": engine.model if engine else "",
        "backend": engine.backend if engine else "",
        "provider": engine.provider if engine else "",
        "device": engine.device if engine else "",
        "dtype": engine.dtype if engine else "",
        "skipped": skipped.split("; ") if skipped else [],
        "details": details,
        "counters": {
            camel_case(name): getattr(counters, name)
            for name in ("requests", "shown", "accepted", "partially_accepted", "ahead_tokens")
        },
        "memory": {
            camel_case(name): getattr(memory, name)
            for name in ("n_files", "n_tokens", "n_bytes", "n_left_out", "n_answers", "n_helped")
        },
        "lastRequest": request_object(last) if last else None,
    }


def request_object(record: RequestRecord) -> dict[str, Any]:
    """Return one entry of `foretype/requests`: counts, times and reasons."""
    usage = record.usage
    return {
        "uri": record.document,
        "trigger": record.trigger,
        "source": record.source,
        "reason": record.reason,
        "superseded": record.is_superseded,
        "promptTokens": usage.prompt_tokens,
        "reusedTokens": usage.reused_tokens,
        "prefilledTokens": usage.prefilled_tokens,
        "newTokens": usage.new_tokens,
        "draftedTokens": usage.drafted_tokens,
        "acceptedTokens": usage.accepted_tokens,
        "prefillMs": round(usage.prefill_ms, 2),
        "decodeMs": round(usage.decode_ms, 2),
        "totalMs": round(record.total_ms, 2),
        "finishReason": usage.finish_reason,
        "candidates": record.n_candidates,
        "shownChars": record.shown_chars,
    }
