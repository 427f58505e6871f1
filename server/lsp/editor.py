"""The editor on the other side: what it can do, what it is asked and told.

Knows neither documents nor completions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from lsprotocol import types
from pygls.exceptions import JsonRpcException

from server.lsp.protocol import Protocol

logger = logging.getLogger(__name__)

REFUSED = object()
ASK_S = 10.0
"""For the client to answer a request of ours. Guessed."""


class Editor:
    """One client, once it said what it is."""

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol

    @property
    def workspace(self) -> types.WorkspaceClientCapabilities:
        """What it can do with the workspace."""
        given = self._protocol.client_capabilities.workspace
        return given or types.WorkspaceClientCapabilities()

    async def ask(self, method: str, params: Mapping[str, Any]) -> Any:
        """Return what the client answers; `REFUSED` if it refuses or says nothing."""
        try:
            return await asyncio.wait_for(self._protocol.ask(method, params), ASK_S)
        except (JsonRpcException, TimeoutError):
            logger.info("the client refused %s", method)
            return REFUSED

    async def may_show_progress(self, method: str, params: Mapping[str, Any]) -> bool:
        """Ask for a place to show progress in, if the client has any."""
        window = self._protocol.client_capabilities.window
        has_progress = bool(window and window.work_done_progress)
        return has_progress and await self.ask(method, params) is not REFUSED

    def tell(self, method: str, params: Mapping[str, Any]) -> None:
        """Send a notification."""
        self._protocol.tell(method, params)

    def show(self, text: str) -> None:
        """Show an error as a pop-up."""
        self._message(types.WINDOW_SHOW_MESSAGE, types.MessageType.Error, text)

    def warn(self, warnings: list[str]) -> None:
        """Write warnings to our log and to the editor's."""
        for warning in warnings:
            logger.warning("%s", warning)
        if warnings:
            self._message(types.WINDOW_LOG_MESSAGE, types.MessageType.Warning, "; ".join(warnings))

    def _message(self, method: str, kind: types.MessageType, text: str) -> None:
        self.tell(method, {"type": kind.value, "message": f"Foretype: {text}"})
