"""`make demo`: a real server process, over stdio, completes a real file while somebody types it.

The typist is simulated, the file is one of this repository's own; the server, the model and the
timings are real.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "server" / "plugins.py"
START, END = "    def names(self", "    def states(self"  # what the typist types
KEY_S = 0.13  # between two keys: about 90 words a minute
THINK_S = 0.5  # before each line
REACT_S = 0.3  # a ghost text is read this long before it is accepted
WORTH_ACCEPTING = 4  # characters


@dataclass
class Screen:
    """What an editor would show, and what happened so far."""

    text: str
    ghost: str = ""
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


class Connection:
    """JSON-RPC with a server process of our own, over its stdin and stdout."""

    def __init__(self, on_notification: Callable[[str, Any], None]) -> None:
        self._on_notification = on_notification
        self._ids = itertools.count(1)
        self._open: dict[int, asyncio.Future[Any]] = {}

    async def start(self) -> None:
        """Start the server."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "server"),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        self._reading = asyncio.create_task(self._read())

    def notify(self, method: str, params: Any = None) -> None:
        """Send a notification."""
        self._send({"method": method, "params": params})

    def request(self, method: str, params: Any = None) -> tuple[int, asyncio.Future[Any]]:
        """Send a request; return its id and what will hold the result (None for an error)."""
        number = next(self._ids)
        self._open[number] = asyncio.get_running_loop().create_future()
        self._send({"id": number, "method": method, "params": params})
        return number, self._open[number]

    async def ended(self) -> None:
        """Wait until the server is gone."""
        await self._reading
        await self._process.wait()

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0"} | message).encode()
        assert self._process.stdin is not None
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))

    async def _read(self) -> None:
        out = self._process.stdout
        assert out is not None
        while header := await out.readline():
            if header.lower().startswith(b"content-length:"):
                await out.readuntil(b"\r\n")  # no other header follows
                self._receive(json.loads(await out.readexactly(int(header.split(b":")[1]))))
        for future in self._open.values():
            future.set_result(None)

    def _receive(self, message: dict[str, Any]) -> None:
        if "method" not in message:
            self._open.pop(message["id"]).set_result(message.get("result"))
        elif "id" in message:
            self._send({"id": message["id"], "result": None})
        else:
            self._on_notification(message["method"], message.get("params"))


class Editor:
    """A small editor with one document."""

    def __init__(self, live: Live) -> None:
        self.server = Connection(self._on_notification)
        self.live = live
        self.screen = Screen("")
        self.uri = SAMPLE.as_uri()
        self.version = 0
        self.token = ""
        self.asked_at = 0.0
        self.request: tuple[int, asyncio.Future[Any]] | None = None

    async def start(self, text: str) -> None:
        """Start the server, wait until its model is loaded, and open the document."""
        await self.server.start()
        _, initialized = self.server.request(
            "initialize",
            {
                "processId": os.getpid(),
                "rootUri": ROOT.as_uri(),
                "capabilities": {},
                "initializationOptions": {"streaming": True, "status": True},
            },
        )
        await initialized
        self.server.notify("initialized", {})
        self.screen.text = text
        self.server.notify(
            "textDocument/didOpen",
            {
                "textDocument": {
                    "uri": self.uri,
                    "languageId": "python",
                    "version": 0,
                    "text": text,
                }
            },
        )
        while (await self._status()).get("state") == "loading":
            await asyncio.sleep(0.05)

    async def insert(self, text: str) -> None:
        """Type or accept text at the end of the document, and ask for a completion."""
        screen = self.screen
        end = self._end()
        screen.text += text
        screen.ghost = screen.ghost[len(text) :] if screen.ghost.startswith(text) else ""
        self.version += 1
        self.server.notify(
            "textDocument/didChange",
            {
                "textDocument": {"uri": self.uri, "version": self.version},
                "contentChanges": [{"range": {"start": end, "end": end}, "text": text}],
            },
        )
        if not screen.ghost:
            self._ask()
        self._paint()

    async def answered(self) -> None:
        """Wait for the answer to the last request."""
        if self.request is not None:
            await self.request[1]

    async def stop(self) -> None:
        """Ask for the last figures, then shut the server down as the protocol wants it."""
        self._cancel()
        self.screen.status = await self._status()
        await self.server.request("shutdown")[1]
        self.server.notify("exit")
        await self.server.ended()

    def _end(self) -> dict[str, int]:
        lines = self.screen.text.split("\n")
        return {"line": len(lines) - 1, "character": len(lines[-1])}

    def _ask(self) -> None:
        self._cancel()
        self.token = f"ghost-{self.version}"
        self.asked_at = time.perf_counter()
        self.screen.growths.append(0)
        token = self.token
        self.request = self.server.request(
            "textDocument/inlineCompletion",
            {
                "textDocument": {"uri": self.uri},
                "position": self._end(),
                "context": {"triggerKind": 2},
                "partialResultToken": token,
            },
        )
        self.request[1].add_done_callback(lambda answer: self._show(token, answer.result()))

    def _cancel(self) -> None:
        if self.request is not None and not self.request[1].done():
            self.server.notify("$/cancelRequest", {"id": self.request[0]})

    def _on_notification(self, method: str, params: Any) -> None:
        if method == "$/progress" and isinstance(params["value"], list):
            self._show(params["token"], params["value"])
        elif method == "foretype/status":
            self.screen.status = params

    async def _status(self) -> dict[str, Any]:
        return await self.server.request("foretype/status")[1] or {}

    def _show(self, token: str, answer: Any) -> None:
        items = answer.get("items", []) if isinstance(answer, dict) else answer
        if token != self.token or not items:
            return
        if not self.screen.growths[-1]:
            self.screen.first_ghost_ms.append((time.perf_counter() - self.asked_at) * 1e3)
        self.screen.growths[-1] += 1
        self.screen.ghost = items[0]["insertText"]
        self._paint()

    def _paint(self) -> None:
        self.live.update(self.screen.render(), refresh=True)


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
        await editor.answered()  # people think before they begin a line
        await asyncio.sleep(THINK_S / speed)
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
