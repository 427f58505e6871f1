"""`make demo`: a real server process, over stdio, completes a real file while somebody types it.

The typist is simulated, the file is one of this repository's own; the server, the model and the
timings are real.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcException
from pygls.lsp.client import LanguageClient
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "server" / "plugins.py"
START, END = "    def names(self", "    def states(self"  # what the typist types
KEY_S = 0.13  # between two keys: about 90 words a minute
REACT_S = 0.3  # a ghost text is read this long before it is accepted
WORTH_ACCEPTING = 4  # characters


@dataclass
class Screen:
    """What an editor would show, and what happened so far."""

    text: str
    ghost: str = ""
    states: int = 0
    keys: int = 0
    accepted_chars: int = 0
    first_ghost_ms: list[float] = field(default_factory=list)
    growths: list[int] = field(default_factory=list)
    status: dict[str, Any] = field(default_factory=dict)

    def render(self) -> Group:
        """Return the last lines of the file with the ghost text, and the figures under them."""
        code = Text("\n".join(self.text.split("\n")[-16:]))
        code.append("\u258f", style="bold")
        code.append(self.ghost, style="bright_black italic")
        title = f"{SAMPLE.relative_to(ROOT)}, typed by hand"
        return Group(Panel(code, title=title, height=20), self.figures())

    def figures(self) -> Table:
        """Return keys, accepted characters and the server's own counters."""
        status = self.status
        last = status.get("lastRequest") or {}
        median, n_shown = _median(self.first_ghost_ms), len(self.first_ghost_ms)
        grown = sum(n > 1 for n in self.growths)
        table = Table.grid(padding=(0, 3))
        table.add_row(
            "served by",
            f"{status.get('model')} on {status.get('backend')}, {status.get('device')}",
        )
        table.add_row("typed", f"{self.keys} keys; {self.accepted_chars} characters came from Tab")
        table.add_row(
            "first ghost text",
            f"{median:.0f} ms after the key (median of {n_shown}, debounce included)",
        )
        table.add_row(
            "grew", f"{grown} times, in up to {max(self.growths, default=0)} steps without a blank"
        )
        table.add_row(
            "last request",
            f"{last.get('source', '-')}: {last.get('promptTokens', 0)} prompt tokens, "
            f"{last.get('reusedTokens', 0)} reused, {last.get('newTokens', 0)} new, "
            f"{last.get('totalMs', 0):.0f} ms",
        )
        return table


class Editor:
    """A small LSP client with one document, as an editor would be one."""

    def __init__(self, live: Live | None) -> None:
        self.client = LanguageClient("foretype-demo", "1")
        self.client.feature("$/progress")(self._on_progress)
        self.client.feature("foretype/status")(self._on_status)
        self.live = live
        self.screen = Screen("")
        self.uri = SAMPLE.as_uri()
        self.version = 0
        self.token = ""
        self.asked_at = 0.0
        self.request: asyncio.Task[Any] | None = None

    async def start(self, text: str) -> None:
        """Start the server, wait until its model is loaded, and open the document."""
        await self.client.start_io(sys.executable, "-m", "server")
        await self.client.initialize_async(
            lsp.InitializeParams(
                capabilities=lsp.ClientCapabilities(),
                initialization_options={"streaming": True, "status": True},
            )
        )
        self.client.initialized(lsp.InitializedParams())
        self.screen.text = text
        self.client.text_document_did_open(
            lsp.DidOpenTextDocumentParams(lsp.TextDocumentItem(self.uri, "python", 0, text))
        )
        while (await self._ask_status()).get("state") == "loading":
            await asyncio.sleep(0.05)

    async def insert(self, text: str) -> None:
        """Type or accept text at the end of the document, and ask for a completion."""
        screen = self.screen
        position = self._end()
        screen.text += text
        typed_along = screen.ghost.startswith(text)
        screen.ghost = screen.ghost[len(text) :] if typed_along else ""
        self.version += 1
        self.client.text_document_did_change(
            lsp.DidChangeTextDocumentParams(
                lsp.VersionedTextDocumentIdentifier(self.version, self.uri),
                [lsp.TextDocumentContentChangePartial(lsp.Range(position, position), text)],
            )
        )
        if not screen.ghost:
            await self._ask()
        self._paint()

    async def stop(self) -> None:
        """Let the last status in, then shut the server down as the protocol wants it."""
        await self._cancel()
        self.screen.status |= await self._ask_status()
        await self.client.shutdown_async(None)
        self.client.exit(None)
        await self.client.stop()

    def _end(self) -> lsp.Position:
        lines = self.screen.text.split("\n")
        return lsp.Position(len(lines) - 1, len(lines[-1]))

    async def _ask(self) -> None:
        await self._cancel()
        self.token = f"ghost-{self.version}"
        self.asked_at = time.perf_counter()
        if self.screen.states:
            self.screen.growths.append(self.screen.states)
        self.screen.states = 0
        end = self._end()
        params = {
            "textDocument": {"uri": self.uri},
            "position": {"line": end.line, "character": end.character},
            "context": {"triggerKind": 2},
            "partialResultToken": self.token,
        }
        self.request = asyncio.create_task(
            self.client.protocol.send_request_async("textDocument/inlineCompletion", params)
        )
        self.request.add_done_callback(self._on_answer)

    async def _cancel(self) -> None:
        if self.request is not None and not self.request.done():
            self.request.cancel()
            await asyncio.wait([self.request])

    def _on_answer(self, request: asyncio.Task[Any]) -> None:
        if request.cancelled() or isinstance(request.exception(), JsonRpcException):
            return
        items = getattr(request.result(), "items", None) or []
        if items:
            self._show(items[0].insert_text)

    def _on_progress(self, params: Any) -> None:
        if params.token == self.token and isinstance(params.value, list | tuple) and params.value:
            item = params.value[0]
            self._show(item["insertText"] if isinstance(item, dict) else item.insertText)

    def _on_status(self, params: Any) -> None:
        self.screen.status |= _plain(params)

    async def _ask_status(self) -> dict[str, Any]:
        return _plain(await self.client.protocol.send_request_async("foretype/status", {}))

    def _show(self, ghost: str) -> None:
        if not self.screen.states:
            self.screen.first_ghost_ms.append((time.perf_counter() - self.asked_at) * 1e3)
        self.screen.states += 1
        self.screen.ghost = ghost
        self._paint()

    def _paint(self) -> None:
        if self.live is not None:
            self.live.update(self.screen.render(), refresh=True)


def _plain(value: Any) -> Any:
    """Return what pygls made of untyped JSON as plain dictionaries."""
    if hasattr(value, "_asdict"):
        return {k: _plain(v) for k, v in value._asdict().items()}
    return value


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2] if values else 0.0


async def type_file(editor: Editor, target: str, speed: float) -> None:
    """Type the target; press Tab where the ghost text is what comes next anyway."""
    rng = random.Random(7)
    screen = editor.screen
    for line in target.splitlines(keepends=True):
        indent = line[: len(line) - len(line.lstrip(" "))]
        rest = line.removeprefix(indent)
        if indent:  # an editor indents by itself
            await editor.insert(indent)
        while rest:
            await asyncio.sleep(KEY_S * rng.uniform(0.6, 1.5) / speed)
            ghost = screen.ghost.split("\n")[0]
            if len(ghost) >= WORTH_ACCEPTING and rest.startswith(ghost):
                await asyncio.sleep(REACT_S / speed)
                key = ghost
                screen.accepted_chars += len(key)
            else:
                key = rest[0]
            await editor.insert(key)
            screen.keys += 1
            rest = rest.removeprefix(key)


async def main() -> int:
    """Run the demonstration and print the figures and how to go on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speed", type=float, default=1.0, help="times faster than a person")
    parser.add_argument("--characters", type=int, default=600, help="stop after so many")
    arguments = parser.parse_args()
    console = Console()
    source = SAMPLE.read_text(encoding="utf-8")
    begin, end = source.index(START), source.index(END)
    target = source[begin:end][: arguments.characters]
    with Live(console=console, auto_refresh=False, transient=not console.is_terminal) as live:
        editor = Editor(live)
        await editor.start(source[:begin])
        await type_file(editor, target, arguments.speed)
        await editor.stop()
    if not console.is_terminal:
        console.print(editor.screen.render())
    console.print(
        "\nNeovim   :  add editor-clients/neovim to 'runtimepath'        (docs/editors/neovim.md)"
        "\nVS Code  :  make vscode, then install the .vsix             (docs/editors/vscode.md)"
        "\nAny other:  start `foretype-server` as a language server        (docs/editors/)"
    )
    return 0 if editor.screen.first_ghost_ms else 1


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
