"""A real VS Code for tests: code-server in a process of its own, driven through Chromium.

Does not know what is completed. The tests need no network: scripts/install-vscode and
scripts/vscode-package bring what they run, and without it they are skipped with the reason.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import pytest
from PIL import Image

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

ROOT = Path(__file__).resolve().parents[3]
CACHE = ROOT / ".cache" / "vscode"
CLIENT = ROOT / "editor-clients" / "vscode"
PACKAGE = CLIENT / "foretype.vsix"

FRAME_MS = 700
"""How long one picture of a moving one is shown; chosen so that it can be read."""

T = TypeVar("T")

USER_SETTINGS = {
    "workbench.startupEditor": "none",
    "workbench.tips.enabled": False,
    "workbench.reduceMotion": "on",
    "telemetry.telemetryLevel": "off",
    "update.mode": "none",
    "extensions.autoCheckUpdates": False,
    "extensions.ignoreRecommendations": True,
    "chat.disableAIFeatures": True,
    "editor.accessibilitySupport": "off",
    "editor.minimap.enabled": False,
    "editor.cursorBlinking": "solid",
    "editor.quickSuggestions": {"other": "off", "comments": "off", "strings": "off"},
    "editor.wordBasedSuggestions": "off",
    "editor.suggestOnTriggerCharacters": False,
    "files.autoSave": "afterDelay",
    "files.autoSaveDelay": 100,
    "git.enabled": False,
    "workbench.editor.useModal": "off",
    "workbench.secondarySideBar.defaultVisibility": "hidden",
    "workbench.colorTheme": "Default Light Modern",
    "security.workspace.trust.startupPrompt": "never",
}
"""Nothing of VS Code's own moves or asks while a test looks."""

KEYS = [
    {
        "key": "ctrl+alt+l",
        "command": "editor.action.inlineSuggest.acceptNextLine",
        "when": "inlineSuggestionVisible",
    }
]
"""What VS Code has no key for."""

SAMPLER = """() => {
  const parts = '.ghost-text-decoration, .ghost-text-decoration-preview, .ghost-text';
  const top = line => (line.closest('.suggest-preview-text') ? 1e6 : 0)  // Below the cursor's.
    + line.getBoundingClientRect().top;
  window.ghost = () => {
    const lines = new Map();  // In the document they stand in another order than on the screen.
    for (const part of document.querySelectorAll(parts)) {
      const line = part.closest('.view-line') ?? part;
      lines.set(line, (lines.get(line) ?? '') + part.textContent);
    }
    return [...lines.keys()].sort((a, b) => top(a) - top(b))
      .map(line => lines.get(line).replace(/\\u00a0/g, ' ')).join('\\n');
  };
  window.ghostStates = [];
  window.statusItem = () => {
    const item = document.querySelector('[id="foretype.foretype.foretype.status"]');
    const label = item?.querySelector('[aria-label]')?.getAttribute('aria-label');
    return item ? `${label} | ${item.textContent.trim()}` : '';
  };
  window.statusStates = [];
  const keep = (states, now) => { if (now !== states.at(-1)) states.push(now); };
  const frame = () => {
    keep(window.ghostStates, window.ghost());
    keep(window.statusStates, window.statusItem());
    requestAnimationFrame(frame);
  };
  frame();
}"""
"""Keeps every text that the ghost and the status had, animation frame by animation frame."""


def eventually(look: Callable[[], T], what: str, timeout_s: float = 20.0) -> T:
    """Return the first true thing that `look` sees; fail with `what` if there is none."""
    end = time.monotonic() + timeout_s
    while True:
        if seen := look():
            return seen
        if time.monotonic() > end:
            pytest.fail(f"not within {timeout_s:.0f} s: {what}; last seen: {seen!r}")
        time.sleep(0.03)


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """What scripts/install-vscode has put in place."""

    node: str
    entry: str
    chromium: str


@dataclass(slots=True, kw_only=True)
class CodeServer:
    """One code-server process with its own user data, extensions and environment."""

    installation: Installation
    extensions: Path
    """Folder with the installed package."""
    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)
    machine_settings: dict[str, Any] = field(default_factory=dict)
    """Settings of scope `machine`; VS Code takes them from where the server runs only."""
    environment: dict[str, str] = field(default_factory=dict)
    more_packages: tuple[Path, ...] = ()
    """Folders of further extensions."""
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Install the extension and start to listen on loopback."""
        self._write_settings()
        for package in self.more_packages:
            about = json.loads((package / "package.json").read_text())
            name = f"{about['publisher']}.{about['name']}-{about['version']}"
            shutil.copytree(package, self.folder / "extensions" / name)
        shutil.copytree(
            self.extensions,
            self.folder / "extensions",
            ignore=shutil.ignore_patterns("extensions.json"),  # Absent: all folders count.
            dirs_exist_ok=True,
        )
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        flags = ["--auth", "none", "--bind-addr", f"127.0.0.1:{self.port}", "--disable-telemetry"]
        flags += ["--disable-update-check", "--disable-getting-started-override"]
        with (self.folder / "code-server.log").open("wb") as log:
            self.process = subprocess.Popen(
                self._command(*flags),
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        eventually(self._is_up, "code-server answers", 60)

    def stop(self) -> None:
        """End the process and what it started."""
        if self.process:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(20)

    def _write_settings(self) -> None:
        self.settings = USER_SETTINGS | self.settings
        for name, settings in (("User", self.settings), ("Machine", self.machine_settings)):
            file = self.folder / "data" / name / "settings.json"
            file.parent.mkdir(parents=True)
            file.write_text(json.dumps(settings))
        (self.folder / "data" / "User" / "keybindings.json").write_text(json.dumps(KEYS))

    def address(self, workspace: Path) -> str:
        """Return the address of a window on a folder or a `.code-workspace` file."""
        kind = "folder" if workspace.is_dir() else "workspace"
        return f"http://127.0.0.1:{self.port}/?{kind}={quote(str(workspace))}"

    def _command(self, *arguments: str) -> list[str]:
        data = ["--user-data-dir", str(self.folder / "data")]
        data += ["--extensions-dir", str(self.folder / "extensions")]
        return [self.installation.node, self.installation.entry, *data, *arguments]

    def _environment(self) -> dict[str, str]:
        node_folder = str(Path(self.installation.node).parent)
        home = {f"XDG_{name}_HOME": str(self.folder / name) for name in ("DATA", "CONFIG")}
        path = {"PATH": f"{node_folder}:{os.environ['PATH']}"}
        return os.environ | home | path | self.environment

    def _is_up(self) -> bool:
        assert self.process
        assert self.process.poll() is None, "code-server ended at once"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=5) as page:
                return bool(page.status == 200)
        except (urllib.error.URLError, ConnectionError):
            return False


class Window:
    """One window of VS Code in the browser."""

    def __init__(self, page: Any, server: CodeServer, workspace: Path) -> None:
        self.page, self.server, self.workspace = page, server, workspace
        page.goto(server.address(workspace), timeout=60_000)
        page.wait_for_selector(".monaco-workbench", timeout=60_000)
        page.evaluate(SAMPLER)

    def reveal(self, name: str) -> None:
        """Open a file of the workspace through the explorer."""
        row = self.page.locator(".explorer-folders-view .monaco-list-row").get_by_text(
            name, exact=True
        )
        row.dblclick(timeout=20_000)
        self.page.locator(".tabs-container .tab.active").get_by_text(name, exact=True).wait_for()

    def open(self, name: str) -> None:
        """Open a file of text; the cursor goes to its end."""
        self.reveal(name)
        self.page.locator(".editor-group-container.active .view-lines").first.click()
        self.press("Control+End")

    def type(self, text: str, delay_ms: float = 30) -> None:
        """Type like a person, key by key."""
        self.page.keyboard.type(text, delay=delay_ms)

    def press(self, key: str) -> None:
        """Press one key or chord, such as `Control+End`."""
        self.page.keyboard.press(key)

    def clear(self) -> None:
        """Empty the document."""
        self.press("Control+a")
        self.press("Delete")

    def command(self, title: str) -> None:
        """Run a command of the palette by its title."""
        self.press("F1")
        box = self.page.locator(".quick-input-widget input").first
        box.wait_for()
        box.fill(f">{title}")
        self.choose(title)

    def write_user_settings(self, settings: dict[str, Any]) -> None:
        """Replace the user's settings while the window is open.

        The file is saved by the editor in the end: without native modules code-server sees no
        change that others make.
        """
        file = self.server.folder / "data" / "User" / "settings.json"
        file.write_text(json.dumps(settings))
        self.command("Preferences: Open User Settings (JSON)")
        tab = self.page.locator(".tabs-container .tab.active").get_by_text("settings.json")
        tab.wait_for()
        self.page.locator(".editor-group-container.active .view-lines").first.click()
        self.command("File: Revert File")
        self.press("Control+End")
        self.type(" ")
        self.wait_until(lambda: file.read_text().endswith("} "), f"{file} is saved")
        self.command("View: Close Editor")

    def menu(self, label: str) -> None:
        """Take an entry of Foretype's menu."""
        self.command("Foretype: Show the Menu")
        # The palette is still there for a moment, with commands of similar names.
        self.page.locator(".quick-input-title").get_by_text("Foretype", exact=True).wait_for()
        self.choose(label)

    def choose(self, label: str) -> None:
        """Take an entry of the list that is open."""
        self.page.locator(".quick-input-list .monaco-list-row", has_text=label).first.click()

    def fill(self, text: str) -> None:
        """Answer the box that asks for a text."""
        box = self.page.locator(".quick-input-widget input.input").first
        self.page.locator(".quick-input-widget").get_by_text("Press 'Enter'").wait_for()
        box.fill(text)
        box.press("Enter")

    @property
    def status(self) -> str:
        """The status bar's item as a screen reader says it: state, and text on the screen."""
        return str(self.page.evaluate("() => window.statusItem()"))

    @property
    def status_states(self) -> list[str]:
        """Every text that the status bar's item had, in order."""
        return list(self.page.evaluate("() => window.statusStates"))

    def wait_for_status(self, part: str, timeout_s: float = 30.0) -> str:
        """Wait until the status bar's item contains a text; return the item."""
        return eventually(lambda: self.status if part in self.status else "", part, timeout_s)

    def wait_until(self, look: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
        """Wait until something is so."""
        eventually(look, what, timeout_s)

    @property
    def ghost(self) -> str:
        """The ghost text on the screen."""
        return str(self.page.evaluate("() => window.ghost()"))

    def wait_for_ghost(self, part: str = "", timeout_s: float = 20.0) -> str:
        """Wait until the ghost text contains a part; return it all."""
        look = lambda: (text := self.ghost) and part in text and text  # noqa: E731
        return eventually(look, f"ghost text with {part!r}", timeout_s) or ""

    def watch(self) -> None:
        """Forget the ghost's states so far."""
        self.page.evaluate("() => { window.ghostStates = [window.ghost()]; }")

    @property
    def states(self) -> list[str]:
        """Every text that the ghost had since `watch`, in order; `` is a blank frame."""
        return list(self.page.evaluate("() => window.ghostStates"))

    def saved(self, name: str) -> str:
        """Return a file's text on disk, line ends as they are."""
        return (self.workspace / name).read_bytes().decode()

    def wait_for_saved(self, name: str, expected: str) -> None:
        """Wait until a file on disk has exactly this text."""
        end = time.monotonic() + 10
        while self.saved(name) != expected and time.monotonic() < end:
            time.sleep(0.03)
        assert self.saved(name) == expected

    def notification(self) -> str:
        """Wait for a message in the corner; return its text."""
        message = self.page.locator(".notification-toast .notification-list-item-message").first
        message.wait_for()
        return str(message.inner_text())

    def answer(self, button: str) -> None:
        """Press a button of the message in the corner."""
        self.page.locator(".notification-toast").get_by_role("button", name=button).click()

    def picture(self, *, left: int = 278, top: int = 62, bottom: int = 300) -> Image.Image:
        """Return a part of the screen, in few enough colours for a small file."""
        part = {"x": left, "y": top, "width": 900 - left, "height": bottom - top}
        shot = Image.open(io.BytesIO(self.page.screenshot(clip=part, animations="disabled")))
        return shot.convert("RGB").quantize(colors=128, dither=Image.Dither.NONE)

    def screenshot(self, name: str, **part: int) -> None:
        """Keep a part of the screen as vscode-NAME.png, where IMAGES says or beside the logs."""
        self.keep(name, [self.picture(**part)])

    def keep(self, name: str, pictures: Sequence[Image.Image]) -> None:
        """Keep pictures as one that moves, the last one for longer."""
        first, *more = (picture.convert("RGB") for picture in pictures)
        folder = Path(os.environ.get("IMAGES", self.server.folder))
        times = [*(FRAME_MS for _ in more), 4 * FRAME_MS] if more else None
        moving: dict[str, Any] = {"save_all": True, "append_images": more, "duration": times}
        path = folder / f"vscode-{name}.png"
        if more:
            first.save(path, optimize=True, **moving)
        else:
            pictures[0].save(path, optimize=True)


class Record:
    """What one editor and its servers have said to each other so far."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def messages(self, method: str = "", sender: str = "editor") -> list[dict[str, Any]]:
        """Return the messages of a sender, oldest first; of one method if it is given."""
        text = self.path.read_text() if self.path.exists() else ""
        said = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
        return [
            m for m in said if m["from"] == sender and (not method or m.get("method") == method)
        ]

    def count(self, method: str) -> int:
        """Return how many messages of this method the editor has sent."""
        return len(self.messages(method))

    def cancelled(self, request_id: int) -> int:
        """Return how often the editor has cancelled a request."""
        ids = [message["params"]["id"] for message in self.messages("$/cancelRequest")]
        return ids.count(request_id)

    @property
    def n_requests(self) -> int:
        """How many inline completions the editor has asked for."""
        return self.count("textDocument/inlineCompletion")

    @property
    def server_pids(self) -> list[int]:
        """The servers that were started, oldest first."""
        return [m["pid"] for m in self.messages(sender="process")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scripted:
    """What makes the server complete from a script."""

    settings: dict[str, Any]
    environment: dict[str, str]
    user_settings: dict[str, Any]
    hold: Path
    """While this file exists the engine says no more than its first pieces."""

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the engine."""
        self.hold.touch()
        try:
            yield
        finally:
            self.hold.unlink()


@pytest.fixture(scope="session")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Scripted:
    """Return settings and environment with which every answer is known."""
    folder = tmp_path_factory.mktemp("paced-engine")
    shutil.copy(Path(__file__).with_name("paced_engine.py"), folder)
    info = folder / "paced_engine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: paced-engine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[foretype.engines]\npaced = paced_engine:PacedEngine\n")
    settings = {"foretype.engine": "paced"}
    hold = folder / "hold"
    return Scripted(
        settings=settings,
        environment={"PYTHONPATH": str(folder), "HOLD": str(hold)},
        user_settings={"foretype.deadlineMs": 60_000},
        hold=hold,
    )


@pytest.fixture(scope="session")
def installation() -> Installation:
    """Return the installed code-server, or skip with the reason why there is none."""
    file, reason = CACHE / "installation.json", CACHE / "reason"
    if not file.exists():
        why = (
            reason.read_text().strip() if reason.exists() else "scripts/install-vscode was not run"
        )
        pytest.skip(f"no VS Code to test in: {why}")
    if not PACKAGE.exists():
        pytest.skip("the extension is not packaged: run scripts/vscode-package")
    sources = [*(CLIENT / "src").iterdir(), *(CLIENT / "media").iterdir(), CLIENT / "package.json"]
    youngest = max(sources, key=lambda source: source.stat().st_mtime)
    if youngest.stat().st_mtime > PACKAGE.stat().st_mtime:
        pytest.fail(f"{youngest} is younger than its package: run scripts/vscode-package")
    return Installation(**json.loads(file.read_text()))


@pytest.fixture(scope="session")
def extensions(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the package once, as a user does; every code-server gets a copy of the result."""
    folder = tmp_path_factory.mktemp("extensions")
    data = tmp_path_factory.mktemp("data")
    flags = ["--extensions-dir", str(folder), "--user-data-dir", str(data)]
    command = [installation.node, installation.entry, *flags, "--install-extension", str(PACKAGE)]
    home = {f"XDG_{name}_HOME": str(data) for name in ("DATA", "CONFIG")}
    subprocess.run(command, env=os.environ | home, check=True, capture_output=True, timeout=120)
    return folder


@pytest.fixture(scope="module")
def browser(installation: Installation) -> Iterator[Any]:
    """Start a browser for one module; its event loop must not outlive it, others have their own."""
    flags = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=installation.chromium, args=[*flags, "--disable-component-update"]
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def start_code_server(
    installation: Installation, extensions: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., CodeServer]]:
    """Return a function that starts code-servers; they end with the module."""
    started: list[CodeServer] = []

    def start(**options: Any) -> CodeServer:
        folder = tmp_path_factory.mktemp("code-server")
        server = CodeServer(
            installation=installation, extensions=extensions, folder=folder, **options
        )
        started.append(server)
        server.start()
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="module")
def open_window(browser: Any) -> Iterator[Callable[..., Window]]:
    """Return a function that opens windows; they close with the module."""
    contexts: list[Any] = []

    def open_on(server: CodeServer, workspace: Path) -> Window:
        contexts.append(browser.new_context(viewport={"width": 900, "height": 600}))
        return Window(contexts[-1].new_page(), server, workspace)

    yield open_on
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Record, dict[str, str]]:
    """Return an interpreter that records, its record, and the environment that it needs."""
    folder = tmp_path_factory.mktemp("recording")
    program = Path(__file__).with_name("recording_python.py")
    interpreter, record = folder / "python", Record(folder / "record.jsonl")
    interpreter.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{program}" "$@"\n')
    interpreter.chmod(0o755)
    return interpreter, record, {"RECORDED_PYTHON": sys.executable, "RECORD": str(record.path)}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Keep what the windows of a failed test show, and say where."""
    report = yield
    if report.when == "call" and report.failed:
        windows = [w for w in item.funcargs.values() if isinstance(w, Window)]
        for number, window in enumerate(windows):
            picture = window.server.folder / f"{item.name}-{number}.png"
            window.page.screenshot(path=picture)
            report.sections.append(("screenshot", str(picture)))
    return report
