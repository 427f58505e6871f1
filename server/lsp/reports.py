"""What the editor may ask about the server, and what it tells of the completions it showed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pygls.exceptions import JsonRpcInvalidParams

from server.lsp import convert, wording
from server.lsp.editor import Editor

if TYPE_CHECKING:
    from server.completion.completer import Completer
    from server.completion.status import Status

STATUS = "foretype/status"
REQUESTS = "foretype/requests"
DID_SHOW = "textDocument/didShowCompletion"
DID_PARTIALLY_ACCEPT = "textDocument/didPartiallyAcceptCompletion"


class Reports:
    """Status, the last requests, and the editor's own reports."""

    def __init__(
        self,
        *,
        editor: Editor,
        completer: Callable[[], Completer | None],
        is_enabled: Callable[[], bool],
        is_congested: Callable[[], bool],
        on_loading: Callable[[int], None],
    ) -> None:
        """Report nothing by itself yet.

        Args:
            editor: is told of a status that changed.
            completer: returns it, or None until there is one.
            is_enabled: whether completions are wanted.
            is_congested: whether the client reads more slowly than we write.
            on_loading: is told how many percent of the model are loaded.
        """
        self.wants_status = False
        """The client opted in to being told."""
        self._editor = editor
        self._completer = completer
        self._is_enabled = is_enabled
        self._is_congested = is_congested
        self._on_loading = on_loading
        self._status_is_due = False

    def status(self, _: Any = None) -> dict[str, Any]:
        """Return the status object."""
        from server.completion.engine import MemoryInfo
        from server.completion.records import Counters
        from server.completion.status import Status

        completer = self._completer()
        requests = completer.requests if completer else ()
        return convert.status_object(
            completer.status if completer else Status(state="loading"),
            is_enabled=self._is_enabled(),
            counters=completer.counters if completer else Counters(),
            memory=completer.memory if completer else MemoryInfo(),
            last=requests[-1] if requests else None,
        )

    def on_status(self, status: Status) -> None:
        """Tell a client that wants to know, once per turn of the loop."""
        if status.percent is not None:
            self._on_loading(status.percent)
        if self.wants_status and not self._status_is_due:
            self._status_is_due = True
            asyncio.get_running_loop().call_soon(self._send_status)

    def _send_status(self) -> None:
        self._status_is_due = False
        if not self._is_congested():
            self._editor.tell(STATUS, self.status())

    def requests(self, _: Any) -> dict[str, Any]:
        """Return the last requests: numbers and reasons, never text."""
        completer = self._completer()
        requests = completer.requests if completer else ()
        return {
            "requests": [convert.request_object(record) for record in requests],
            "table": wording.request_table(requests),
        }

    def shown(self, message: Any) -> None:
        """Note what the editor showed."""
        name = convert.item_id(_field(message, "item"))
        if (completer := self._completer()) is not None and name:
            completer.shown(name)

    def partially_accepted(self, message: Any) -> None:
        """Note what the editor took in part."""
        item = _field(message, "item")
        if (completer := self._completer()) is not None and (name := convert.item_id(item)):
            n_chars = convert.accepted_chars(item, _field(message, "acceptedLength"))
            completer.partially_accepted(name, n_chars)

    def accepted(self, completion_id: str = "") -> None:
        """Note what the user took."""
        if (completer := self._completer()) is not None:
            completer.accepted(completion_id)


def _field(message: Any, name: str) -> Any:
    """Return a field of untyped parameters.

    Raises:
        JsonRpcInvalidParams: there is none.
    """
    if not isinstance(message, dict) or name not in message:
        raise JsonRpcInvalidParams(f"{name} is missing")
    return message[name]
