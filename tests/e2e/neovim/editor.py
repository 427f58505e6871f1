"""A real Neovim with a user interface attached, driven by keys.

Does not know any server. It speaks Neovim's own protocol (`:h msgpack-rpc`), since
pynvim leaves pipes open at the end, which is an error where warnings are.
"""

from __future__ import annotations

import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import msgpack

from tests.e2e.neovim.screen import GHOST_COLOR, Frame, Screen

CLIENT = Path(__file__).parents[3] / "editor-clients" / "neovim"
TIMEOUT_S = 60.0

T = TypeVar("T")


class Editor:
    """Neovim, driven by keys over its own protocol (`:h msgpack-rpc`); all it draws is taken in."""

    def __init__(
        self, program: str, folder: Path, *arguments: str, columns: int, rows: int
    ) -> None:
        """Start Neovim; all that it writes of itself goes into `folder`."""
        own = {f"XDG_{name}_HOME": str(folder) for name in ("CONFIG", "DATA", "STATE", "CACHE")}
        self._process = subprocess.Popen(
            [program, "--embed", "--clean", "-n", "-i", "NONE", *arguments],
            env={**os.environ, **own, "NVIM_LOG_FILE": str(folder / "nvim.log")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.screen = Screen()
        self._answers: queue.Queue[list[Any]] = queue.Queue()
        self._n_calls = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.call("nvim_ui_attach", columns, rows, {"rgb": True, "ext_linegrid": True})

    @property
    def pid(self) -> int:
        """The process id of Neovim."""
        return self._process.pid

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
        with suppress(BrokenPipeError):  # A test may have ended it.
            self._process.stdin.write(msgpack.packb([2, "nvim_command", ["qall!"]]))
            self._process.stdin.close()
        try:
            self._process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(TIMEOUT_S)
        self._process.stdout.close()


def start_neovim(
    program: str,
    folder: Path,
    path: str = "",
    *,
    before: str = "",
    plugin: bool = True,
    columns: int = 80,
    rows: int = 16,
) -> Editor:
    """Start Neovim on a file; `before` is Lua that runs first, `plugin`: whether ours is there."""
    # Looking for a Python with pynvim would take seconds at the first Python file.
    (folder / "init.lua").write_text(f"vim.g.loaded_python3_provider = 0\n{before}")
    arguments = ["--cmd", f"luafile {folder / 'init.lua'}"]
    arguments += ["--cmd", f"set runtimepath^={CLIENT}"] if plugin else []
    arguments += [path] if path else []
    editor = Editor(program, folder, *arguments, columns=columns, rows=rows)
    editor.command(f"highlight ForetypeGhost guifg=#{GHOST_COLOR:06x}")
    return editor


StartEditor = Callable[..., Editor]
"""`start_neovim` in a folder of its own, ended after the test."""
