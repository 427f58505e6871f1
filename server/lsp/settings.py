"""How the editor sends settings: at the start, pulled, pushed. What they mean is elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from lsprotocol import types

from server.lsp.configuration import Configuration, section
from server.lsp.editor import Editor
from server.options import SECTION, Options


class Settings:
    """Keeps the configuration in step with the editor's."""

    def __init__(
        self,
        configuration: Configuration,
        editor: Editor,
        *,
        on_change: Callable[[Options], None],
        in_background: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._configuration = configuration
        self._editor = editor
        self._on_change = on_change
        self._in_background = in_background

    @property
    def options(self) -> Options:
        """What holds now."""
        return self._configuration.options

    def start(self, initialization_options: Any) -> None:
        """Take in what came with `initialize`."""
        self._editor.warn(self._configuration.start(initialization_options))

    async def pull(self) -> None:
        """Ask for our section, where the client has settings to be asked for."""
        if not self._editor.workspace.configuration:
            return
        items = {"items": [{"section": SECTION}]}
        answer = await self._editor.ask(types.WORKSPACE_CONFIGURATION, items)
        if isinstance(answer, list) and answer:
            self._reload(answer[0])

    async def follow(self) -> None:
        """Ask to be told of changes."""
        changes = self._editor.workspace.did_change_configuration
        if not (changes and changes.dynamic_registration):
            return
        registration = {
            "id": "foretype-configuration",
            "method": types.WORKSPACE_DID_CHANGE_CONFIGURATION,
            "registerOptions": {"section": SECTION},
        }
        await self._editor.ask(types.CLIENT_REGISTER_CAPABILITY, {"registrations": [registration]})

    def changed(self, params: types.DidChangeConfigurationParams) -> None:
        """Take in settings that were pushed, or pull them if the push holds none."""
        settings = section(params.settings)
        if settings is not None:
            self._reload(settings)
        else:
            self._in_background(self.pull())

    def _reload(self, settings: Any) -> None:
        self._editor.warn(self._configuration.reload(settings))
        self._on_change(self.options)
