"""A real Neovim with a user interface attached, its screen as cells, and a server that obeys the test.

The screen is what Neovim sends to a terminal: every frame is kept, so that a test can say what a
user saw between two states. Knows nothing of what the tests check.
"""

from __future__ import annotations

import json
import queue
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgpack
import pytest

REPOSITORY = Path(__file__).parents[3]
CLIENT = REPOSITORY / "editor-clients" / "neovim"
TIMEOUT_S = 20.0
GHOST_COLOR = 0x7788AA
"""Set for the highlight group, so that ghost text can be told from the buffer on the screen."""

T = TypeVar("T")
Message = dict[str, Any]


@pytest.fixture(scope="session")
def nvim_program() -> str:
    found = subprocess.run(
        [REPOSITORY / "scripts" / "install-neovim"], capture_output=True, text=True, check=False
    )
    if found.returncode != 0:
        pytest.skip(found.stderr.strip())
    return found.stdout.strip()


@dataclass
class Cell:
    """One character on the screen; the second half of a wide one is empty."""

    text: str = " "
    highlight: int = 0


@dataclass
class Frame:
    """What a user saw at one moment."""

    cells: list[list[Cell]]
    attributes: dict[int, dict[str, Any]]
    cursor: tuple[int, int]
    """Row and column of the cursor, from 0."""

    @property
    def lines(self) -> list[str]:
        """The rows of the screen without space at their ends."""
        return ["".join(cell.text for cell in row).rstrip() for row in self.cells]

    @property
    def ghost(self) -> str:
        """The cells in the colour of ghost text; its lines as rows, empty if there are none."""
        rows = []
        for row in self.cells:
            cells = [cell.text for cell in row if self._is_ghost(cell)]
            if cells:
                rows.append("".join(cells))
        return "\n".join(rows)

    def _is_ghost(self, cell: Cell) -> bool:
        return self.attributes.get(cell.highlight, {}).get("foreground") == GHOST_COLOR


@dataclass
class Screen:
    """Cells kept up to date from Neovim's `redraw` events (`:h ui-linegrid`)."""

    cells: list[list[Cell]] = field(default_factory=list)
    attributes: dict[int, dict[str, Any]] = field(default_factory=dict)
    cursor: tuple[int, int] = (0, 0)
    colors: tuple[int, int] = (0, 0)
    frames: list[Frame] = field(default_factory=list)
    """All that was drawn, one for each `flush`."""

    def apply(self, events: Sequence[Sequence[Any]]) -> None:
        """Take one batch of events; events that change no cell are left out."""
        for name, *calls in events:
            handle = getattr(self, f"_{name}", None)
            for arguments in calls if handle else ():
                handle(*arguments)

    def _grid_resize(self, _grid: int, width: int, height: int) -> None:
        self.cells = [[Cell() for _ in range(width)] for _ in range(height)]

    def _grid_clear(self, _grid: int) -> None:
        self.cells = [[Cell() for _ in row] for row in self.cells]

    def _grid_line(
        self, _grid: int, row: int, column: int, cells: Sequence[Sequence[Any]], _wrap: bool
    ) -> None:
        highlight = 0
        for text, *more in cells:
            highlight = more[0] if more else highlight
            for _ in range(more[1] if len(more) > 1 else 1):
                self.cells[row][column] = Cell(text, highlight)
                column += 1

    def _grid_scroll(
        self, _grid: int, top: int, bottom: int, left: int, right: int, rows: int, _columns: int
    ) -> None:
        before = [list(row) for row in self.cells]
        for row in range(top, bottom):
            if top <= row + rows < bottom:
                self.cells[row][left:right] = before[row + rows][left:right]

    def _grid_cursor_goto(self, _grid: int, row: int, column: int) -> None:
        self.cursor = (row, column)

    def _hl_attr_define(self, number: int, rgb: dict[str, Any], *_: Any) -> None:
        self.attributes[number] = rgb

    def _default_colors_set(self, foreground: int, background: int, *_: Any) -> None:
        self.colors = (foreground, background)

    def _flush(self) -> None:
        cells = [list(row) for row in self.cells]
        self.frames.append(Frame(cells, dict(self.attributes), self.cursor))


class Editor:
    """Neovim, driven by keys over its own protocol (`:h msgpack-rpc`); all it draws is taken in."""

    def __init__(self, program: str, *arguments: str, columns: int, rows: int) -> None:
        self._process = subprocess.Popen(
            [program, "--embed", "--clean", "-n", "-i", "NONE", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.screen = Screen()
        self._answers: queue.Queue[list[Any]] = queue.Queue()
        self._n_calls = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.call("nvim_ui_attach", columns, rows, {"rgb": True, "ext_linegrid": True})

    def call(self, function: str, *arguments: Any) -> Any:
        """Call a function of Neovim's API and return its result.

        Raises:
            RuntimeError: Neovim reported an error.
        """
        self._n_calls += 1
        assert self._process.stdin is not None
        self._process.stdin.write(msgpack.packb([0, self._n_calls, function, arguments]))
        self._process.stdin.flush()
        try:
            _, number, error, result = self._answers.get(timeout=TIMEOUT_S)
        except queue.Empty:  # Neovim waits for a key, to say so on the screen.
            shown = "\n".join(self.screen.frames[-1].lines)
            raise AssertionError(f"no answer to {function}:\n{shown}") from None
        assert number == self._n_calls
        if error:
            raise RuntimeError(error[1])
        return result

    def _read(self) -> None:
        assert self._process.stdout is not None
        unpacker = msgpack.Unpacker(strict_map_key=False)
        while chunk := self._process.stdout.read1():
            unpacker.feed(chunk)
            for message in unpacker:
                if message[0] == 1:
                    self._answers.put(message)
                elif message[1] == "redraw":
                    self.screen.apply(message[2])

    def lua(self, code: str, *arguments: Any) -> Any:
        """Run Lua in Neovim and return what it returns."""
        return self.call("nvim_exec_lua", code, arguments)

    def command(self, command: str) -> str:
        """Run an Ex command and return what it printed."""
        return self.call("nvim_exec2", command, {"output": True})["output"]

    def press(self, keys: str) -> None:
        """Press keys, written as in a mapping, and wait until Neovim has taken them."""
        taken = 0
        while taken < len(keys.encode()):
            taken += self.call("nvim_input", keys.encode()[taken:].decode())

    def type(self, text: str) -> None:
        """Press one key after another, as a person does: each is drawn before the next."""
        for character in text:
            keys = {"<": "<lt>", "\n": "<CR>"}.get(character, character)
            n_frames = len(self.screen.frames)
            self.press(keys)
            self.wait_until(lambda n=n_frames: len(self.screen.frames) > n, f"key {keys}")

    def look(self) -> Frame:
        """Return the last frame that Neovim drew."""
        self.call("nvim_get_mode")  # What was drawn before this answer has been read.
        return self.screen.frames[-1]

    def wait_until(self, condition: Callable[[], T], what: str) -> T:
        """Return the first truthy value of a condition.

        Raises:
            AssertionError: it stayed false for `TIMEOUT_S`; the message shows the screen.
        """
        end = time.monotonic() + TIMEOUT_S
        while not (value := condition()):
            if time.monotonic() > end:
                shown = "\n".join(self.look().lines)
                raise AssertionError(f"never came: {what}\n{shown}\n{self.messages}")
            time.sleep(0.002)
        return value

    def wait_for_ghost(self, text: str) -> Frame:
        """Wait until exactly this ghost text is on the screen; empty: until there is none."""
        self.wait_until(lambda: self.look().ghost == text, f"ghost text {text!r}")
        return self.screen.frames[-1]

    def ghosts_since(self, n_frames: int) -> list[str]:
        """The ghost texts of all frames after the first `n_frames`, without repetitions."""
        self.look()
        ghosts = [frame.ghost for frame in self.screen.frames[n_frames:]]
        return [ghost for i, ghost in enumerate(ghosts) if i == 0 or ghost != ghosts[i - 1]]

    @property
    def lines(self) -> list[str]:
        """The lines of the current buffer."""
        return self.call("nvim_buf_get_lines", 0, 0, -1, True)

    @property
    def messages(self) -> str:
        """What `:messages` shows."""
        return self.command("messages")

    def close(self) -> None:
        """End Neovim, saving nothing."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgpack.packb([2, "nvim_command", ["qall!"]]))
        self._process.stdin.close()
        try:
            self._process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(TIMEOUT_S)
        self._process.stdout.close()


@dataclass
class Asked:
    """A request that the editor sent."""

    id: int
    params: Message

    @property
    def trigger(self) -> int:
        """1: on a key; 2: while typing."""
        return self.params["context"]["triggerKind"]


class ScriptedServer:
    """A language server that says what the test tells it to, when the test tells it.

    It keeps everything that the editor sent. Documents are whole texts, so that a test can see
    that what the server knows is what the editor shows.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.received: list[Message] = []
        self.documents: dict[str, str] = {}
        self._asked: queue.Queue[Asked] = queue.Queue()
        self._changed = threading.Condition()
        self._connection: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def next_request(self) -> Asked:
        """Wait for the next request for completions."""
        return self._asked.get(timeout=TIMEOUT_S)

    @property
    def is_asked(self) -> bool:
        """Whether a request came that no test has taken yet."""
        return not self._asked.empty()

    def wait_for(self, method: str, n: int = 1) -> Message:
        """Return the parameters of the n-th message of this method, when it has come."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.all(method)) >= n, TIMEOUT_S), method
            return self.all(method)[n - 1]

    def all(self, method: str) -> list[Message]:
        """Return the parameters of all messages of this method so far."""
        return [message.get("params") for message in self.received if message["method"] == method]

    def item(self, asked: Asked, text: str, id: str = "1", n_replaced: int = 0) -> Message:
        """Make an item that starts at the cursor of a request, as the protocol wants it."""
        start = asked.params["position"]
        end = {"line": start["line"], "character": start["character"] + n_replaced}
        return {
            "insertText": text,
            "range": {"start": start, "end": end},
            "command": {"title": "accepted", "command": "foretype.accepted", "arguments": [id]},
            "data": {"id": id, "confidence": 0.5},
        }

    def grow(self, asked: Asked, text: str) -> None:
        """Send the answer so far."""
        value = [self.item(asked, text)]
        params = {"token": asked.params["partialResultToken"], "value": value}
        self._send({"method": "$/progress", "params": params})

    def answer(self, asked: Asked, *texts: str) -> None:
        """Send the final answer: candidates, or the empty list after growing text."""
        items = [self.item(asked, text, str(i + 1)) for i, text in enumerate(texts)]
        self.reply(asked.id, {"items": items})

    def reply(self, id: int, result: Any) -> None:
        """Send a result as it stands."""
        self._send({"id": id, "result": result})

    def fail(self, asked: Asked, message: str) -> None:
        """Answer with an error."""
        self._send({"id": asked.id, "error": {"code": -32603, "message": message}})

    def notify(self, method: str, params: Any) -> None:
        """Send a notification."""
        self._send({"method": method, "params": params})

    def hang_up(self) -> None:
        """Break the connection, as a server that was killed does."""
        with suppress(OSError):  # The editor was quicker.
            if self._connection is not None:
                self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop serving."""
        self._listener.shutdown(socket.SHUT_RDWR)  # Wakes the thread out of accept().
        self._listener.close()
        self.hang_up()
        self._thread.join(TIMEOUT_S)

    def _send(self, message: Message) -> None:
        assert self._connection is not None
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self._connection.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))

    def _serve(self) -> None:
        while True:
            try:
                self._connection, _ = self._listener.accept()
            except OSError:  # Closed by the test.
                return
            with closing(self._connection), self._connection.makefile("rb") as stream:
                try:
                    for message in _messages(stream):
                        self._take(message)
                except OSError:  # Hung up on.
                    continue

    def _take(self, message: Message) -> None:
        with self._changed:
            if "method" in message:
                self.received.append(message)
                self._answer_at_once(message)
                self._changed.notify_all()

    def _answer_at_once(self, message: Message) -> None:
        method, params = message["method"], message.get("params")
        if method == "initialize":
            capabilities = {
                "positionEncoding": "utf-16",
                "inlineCompletionProvider": {},
                "textDocumentSync": {"openClose": True, "change": 1},
                "executeCommandProvider": {"commands": ["foretype.accepted"]},
            }
            info = {"name": "scripted", "version": "1"}
            self.reply(message["id"], {"capabilities": capabilities, "serverInfo": info})
        elif method == "textDocument/inlineCompletion":
            self._asked.put(Asked(message["id"], params))
        elif method == "textDocument/didOpen":
            self.documents[params["textDocument"]["uri"]] = params["textDocument"]["text"]
        elif method == "textDocument/didChange":
            self.documents[params["textDocument"]["uri"]] = params["contentChanges"][-1]["text"]
        elif method == "foretype/status":
            self.reply(message["id"], {"state": "ready", "message": "", "model": "scripted"})
        elif "id" in message:
            self.reply(message["id"], None)


def _messages(stream: Any) -> Iterator[Message]:
    while header := stream.readline():
        length = int(header.removeprefix(b"Content-Length:"))
        while stream.readline() != b"\r\n":
            pass
        yield json.loads(stream.read(length))


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with closing(ScriptedServer()) as server:
        yield server


StartEditor = Callable[..., Editor]


@pytest.fixture
def start_editor(
    nvim_program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[StartEditor]:
    """Start Neovim with the plugin and a line of Lua that runs before it; ended after the test."""
    for name in ("CONFIG", "DATA", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("NVIM_LOG_FILE", str(tmp_path / "nvim.log"))
    editors: list[Editor] = []

    def start(
        path: str = "", *, before: str = "", plugin: bool = True, columns: int = 80, rows: int = 16
    ) -> Editor:
        # Looking for a Python with pynvim would take seconds at the first Python file.
        (tmp_path / "init.lua").write_text(f"vim.g.loaded_python3_provider = 0\n{before}")
        arguments = ["--cmd", f"luafile {tmp_path / 'init.lua'}"]
        if plugin:
            arguments += ["--cmd", f"set runtimepath^={CLIENT}"]
        editor = Editor(nvim_program, *arguments, *([path] if path else []), columns=columns, rows=rows)
        editors.append(editor)
        editor.command(f"highlight ForetypeGhost guifg=#{GHOST_COLOR:06x}")
        return editor

    yield start
    for editor in editors:
        editor.close()


@pytest.fixture
def editor(server: ScriptedServer, start_editor: StartEditor, tmp_path: Path) -> Editor:
    """Neovim on an empty Python file, attached to the scripted server."""
    path = tmp_path / "main.py"
    path.write_text("")
    connect = f"cmd = vim.lsp.rpc.connect('127.0.0.1', {server.port})"
    editor = start_editor(str(path), before=f"vim.lsp.config('foretype', {{ {connect} }})")
    server.wait_for("textDocument/didOpen")
    return editor
