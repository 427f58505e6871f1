"""JSON-RPC between pygls and the handlers: every request gets one answer, whatever it looks like.

pygls leaves requests with malformed parameters unanswered, starts a handler one turn of the event
loop after its message, keeps a future per notification, and logs what it sends; this subclass does
not. It does not know what a message is for.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any

import cattrs
from lsprotocol import types
from pygls.exceptions import (
    JsonRpcException,
    JsonRpcInvalidParams,
    JsonRpcInvalidRequest,
    JsonRpcParseError,
    JsonRpcServerNotInitialized,
)
from pygls.lsp.server import LanguageServer
from pygls.protocol import (
    JsonRPCNotification,
    JsonRPCRequestMessage,
    LanguageServerProtocol,
    lsp_method,
)

from server.exit_codes import ExitCode
from server.lsp.document_sync import DocumentSync
from server.lsp.framing import frame
from server.lsp.structures import Json, MessageId, is_message_id

logger = logging.getLogger(__name__)

DOCUMENT_METHODS = frozenset(
    {
        types.TEXT_DOCUMENT_DID_OPEN,
        types.TEXT_DOCUMENT_DID_CHANGE,
    }
)
NOTEBOOK_METHODS = frozenset(
    {
        types.NOTEBOOK_DOCUMENT_DID_OPEN,
        types.NOTEBOOK_DOCUMENT_DID_CHANGE,
    }
)


class Host(LanguageServer, ABC):
    """What the protocol hands on to."""

    documents: DocumentSync

    @abstractmethod
    def stop(self, code: int) -> None:
        """Begin the end of the process, with an exit code."""


class Protocol(LanguageServerProtocol):
    """One conversation with one client."""

    _server: Host

    def __init__(self, server: Host, converter: cattrs.Converter) -> None:
        self._is_initialized = False
        self._running: dict[MessageId, asyncio.Task[Any]] = {}
        """The client's requests that are being answered."""
        self._asked: dict[str, asyncio.Future[Json]] = {}
        """Our requests that the client has not answered."""
        self._n_asked = 0
        super().__init__(server, converter)  # looks at all attributes, so they come first

    # What comes in.

    def receive(self, body: bytes) -> None:
        """Handle one message; never raises."""
        try:
            # A byte that is no UTF-8 becomes U+DC80 to U+DCFF, which counts as one byte again.
            message = json.loads(body.decode("utf-8", "surrogateescape"))
        except (ValueError, RecursionError):
            logger.error("a message of %d bytes is no JSON", len(body))
            self.refuse(None, JsonRpcParseError())
            return
        if not isinstance(message, dict):
            self.refuse(None, JsonRpcInvalidRequest("a message is an object"))
            return
        msg_id, method = message.get("id"), message.get("method")
        has_good_id = is_message_id(msg_id)
        is_well_formed = (
            message.get("jsonrpc") == self.VERSION
            and (has_good_id or "id" not in message)
            and (isinstance(method, str) or ("method" not in message and has_good_id))
        )
        if not is_well_formed:
            is_answer = "result" in message or "error" in message
            if not is_answer:
                self.refuse(msg_id if has_good_id else None, JsonRpcInvalidRequest())
        elif method is None:
            self._receive_answer(message)
        elif "id" in message:
            self._receive_request(message)
        else:
            self._receive_notification(message)

    def refuse(self, msg_id: MessageId | None, error: JsonRpcException) -> None:
        """Answer a request with an error."""
        self._send_json({"id": msg_id, "error": {"code": error.code, "message": error.message}})

    def _receive_request(self, message: dict[str, Json]) -> None:
        msg_id, method = message["id"], message["method"]
        refusal: JsonRpcException | None = None
        if self._shutdown:
            refusal = JsonRpcInvalidRequest("the server is shutting down")
        elif method == types.INITIALIZE and self._is_initialized:
            refusal = JsonRpcInvalidRequest("the server is initialized")
        elif method != types.INITIALIZE and not self._is_initialized:
            refusal = JsonRpcServerNotInitialized("the first request is `initialize`")
        elif _is_notification(method):
            refusal = JsonRpcInvalidRequest(f"{method} is a notification, which has no id")
        elif msg_id in self._running:
            refusal = JsonRpcInvalidRequest("another request has this id")
        structured = None
        if refusal is None:
            structured = self._structured(message, JsonRPCRequestMessage)
        if refusal is not None or structured is None:
            self.refuse(msg_id, refusal or JsonRpcInvalidParams(f"Invalid params of {method}"))
            return
        self.handle_message(structured)
        if method == types.INITIALIZE:
            self._is_initialized = hasattr(self, "server_capabilities")

    def _receive_notification(self, message: dict[str, Json]) -> None:
        method = message["method"]
        if method != types.EXIT and (self._shutdown or not self._is_initialized):
            return
        structured = self._structured(message, JsonRPCNotification)
        if structured is not None:
            self.handle_message(structured)
        elif method in DOCUMENT_METHODS:
            self._server.documents.lose(_uri(message, "textDocument"))
        elif method in NOTEBOOK_METHODS:
            self._server.documents.lose_notebook(_uri(message, "notebookDocument"))

    def _structured(self, message: dict[str, Json], untyped: type) -> Any:
        """Return the message as a typed object, or None if its parameters are malformed."""
        method = message["method"]
        message_type = self.get_message_type(method)
        if message_type is None:
            return untyped(**{"params": message.get("params")} | _envelope(message))
        try:
            return self._converter.structure(message, message_type)
        except Exception as exc:  # cattrs raises what the hooks raise
            logger.warning("malformed parameters of %s: %s", method, type(exc).__name__)
            return None

    def _receive_answer(self, message: dict[str, Json]) -> None:
        asked = self._asked.pop(str(message["id"]), None)
        if asked is None or asked.done():
            return
        if "error" in message:
            asked.set_exception(JsonRpcException("the client refused"))
        else:
            asked.set_result(message.get("result"))

    def _handle_cancel_notification(self, msg_id: MessageId) -> None:
        if (task := self._running.get(msg_id)) is not None:
            task.cancel()

    # What goes out.

    def ask(self, method: str, params: Mapping[str, Json]) -> asyncio.Future[Json]:
        """Send a request; the future holds the result as JSON, or a `JsonRpcException`."""
        self._n_asked += 1
        msg_id = f"foretype-{self._n_asked}"
        future = self._asked[msg_id] = asyncio.get_running_loop().create_future()
        self._send_json({"id": msg_id, "method": method, "params": params})
        return future

    def tell(self, method: str, params: Mapping[str, Json]) -> None:
        """Send a notification."""
        self._send_json({"method": method, "params": params})

    def _send_json(self, message: Mapping[str, Json]) -> None:
        self._send_data({"jsonrpc": self.VERSION, **message})

    def _send_data(self, data: Any) -> None:
        if self.writer is None:
            return
        body = json.dumps(data, default=self._serialize_message, separators=(",", ":"))
        self.writer.write(frame(body.encode("ascii")))

    # How handlers run.

    @property
    def n_running(self) -> int:
        """Requests that are being answered."""
        return len(self._running)

    def _execute_handler(
        self,
        msg_id: MessageId,
        handler: Callable[..., Any],
        callback: Callable[[Any], None],
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
    ) -> None:
        """Run a handler; one that returns a coroutine goes on as a task.

        What it does before it returns is done now, before the next message: a request sees the
        document as it was when it was sent.
        """
        if inspect.isgeneratorfunction(handler):
            super()._execute_handler(msg_id, handler, callback, args, kwargs)
            self._request_futures.pop(msg_id, None)  # pygls keeps those of notifications.
            return
        try:
            result = handler(*(args or ()), **(kwargs or {}))
        except Exception as exc:  # answered and logged as pygls does
            result = None
            failed: Future[Any] = Future()
            failed.set_exception(exc)
            callback(failed)
            return
        if inspect.iscoroutine(result):
            task = self._running[msg_id] = asyncio.get_running_loop().create_task(result)
            task.add_done_callback(partial(self._end_task, msg_id, callback))
            return
        done: Future[Any] = Future()
        done.set_result(result)
        callback(done)

    def _end_task(
        self, msg_id: MessageId, callback: Callable[[Any], None], task: asyncio.Task[Any]
    ) -> None:
        del self._running[msg_id]
        callback(task)

    # The messages that pygls handles itself, where we do otherwise.

    @lsp_method(types.SHUTDOWN)
    def lsp_shutdown(self, *_: Any) -> None:  # type: ignore[override]
        """Take no more requests; those that run are answered as cancelled."""
        for task in self._running.values():
            task.cancel()
        self._shutdown = True

    @lsp_method(types.EXIT)
    def lsp_exit(self, *_: Any) -> None:  # type: ignore[override]
        """End the process: 0 after a shutdown, 1 without."""
        self._server.stop(ExitCode.DONE if self._shutdown else ExitCode.FAILED)

    @property
    def is_shut_down(self) -> bool:
        """Whether the client asked for the end in the proper way."""
        return bool(self._shutdown)

    @lsp_method(types.TEXT_DOCUMENT_DID_OPEN)
    def lsp_text_document__did_open(self, params: types.DidOpenTextDocumentParams) -> None:
        """Keep the document in our store: pygls splits lines where the protocol doesn't."""
        self._server.documents.open(params)

    @lsp_method(types.TEXT_DOCUMENT_DID_CHANGE)
    def lsp_text_document__did_change(self, params: types.DidChangeTextDocumentParams) -> None:
        """Edit the document in our store."""
        self._server.documents.change(params)

    @lsp_method(types.TEXT_DOCUMENT_DID_CLOSE)
    def lsp_text_document__did_close(self, params: types.DidCloseTextDocumentParams) -> None:
        """Drop the document from our store."""
        self._server.documents.close(params.text_document.uri)

    @lsp_method(types.NOTEBOOK_DOCUMENT_DID_OPEN)
    def lsp_notebook_document__did_open(self, params: types.DidOpenNotebookDocumentParams) -> None:
        """Keep the notebook in our store."""
        self._server.documents.notebooks.open(params)

    @lsp_method(types.NOTEBOOK_DOCUMENT_DID_CHANGE)
    def lsp_notebook_document__did_change(
        self, params: types.DidChangeNotebookDocumentParams
    ) -> None:
        """Change the notebook in our store."""
        self._server.documents.notebooks.change(params)

    @lsp_method(types.NOTEBOOK_DOCUMENT_DID_CLOSE)
    def lsp_notebook_document__did_close(
        self, params: types.DidCloseNotebookDocumentParams
    ) -> None:
        """Drop the notebook from our store."""
        self._server.documents.notebooks.close(params.notebook_document.uri)


def _is_notification(method: str) -> bool:
    """Whether the protocol knows the method as one that has no answer."""
    return method in types.METHOD_TO_TYPES and types.METHOD_TO_TYPES[method][1] is None


def _envelope(message: dict[str, Json]) -> dict[str, Json]:
    return {k: message[k] for k in ("id", "method", "jsonrpc") if k in message}


def _uri(message: dict[str, Json], name: str) -> str:
    """Return the URI that a malformed message is about, or an empty text.

    Args:
        message: the whole of it.
        name: of the parameter that holds the URI.
    """
    params = message.get("params")
    document = params.get(name) if isinstance(params, dict) else None
    uri = document.get("uri") if isinstance(document, dict) else None
    return uri if isinstance(uri, str) else ""
