"""What the engine learns of the workspace, and when: files in the background, documents as typed.

One thread of low priority reads and lets the engine learn, and waits while somebody waits for a
completion. Which files may be read is decided in `workspace_files`. Every method is called on the
event loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from server.completion.engine import CancelToken, WorkspaceFile
from server.completion.ignore_rules import IGNORE_FILE
from server.completion.worker import Job, Worker
from server.completion.workspace_files import Workspace, WorkspaceFolder, is_worth_learning
from server.options import Options

logger = logging.getLogger(__name__)

BATCH_CHARS = 2_000_000
"""Text that is learned at once: about a second of one core. Guessed."""
MAX_FILES = 50_000
"""That are looked at for one workspace, however small they are. Guessed."""
DOCUMENT_WAIT_S = 0.7
"""Rest after an edit before a document is learned anew. Guessed; within the second that a user may
expect."""
PATIENCE_S = 0.05
NICENESS = 10


class Learner(Protocol):
    """What takes texts in; an engine, from any thread."""

    def learn(self, files: Sequence[WorkspaceFile], cancel: CancelToken) -> None:
        """Take texts in, in place of what was known of their paths."""

    def unlearn(self, paths: Sequence[str]) -> None:
        """Silence texts at once."""


@dataclass(slots=True)
class _Opened:
    """A document that is open in the editor."""

    text: Callable[[], str]
    location: Path | None
    """Its file, if it has one on this machine."""
    due: asyncio.TimerHandle | None = None


class WorkspaceLearning:
    """Keeps what the engine knows in step with the workspace."""

    def __init__(
        self,
        learner: Learner,
        options: Options,
        *,
        is_busy: Callable[[], bool],
        on_silenced: Callable[[], None] = lambda: None,
        on_reading: Callable[[int | None], None] = lambda _: None,
    ) -> None:
        """Learn nothing yet.

        Args:
            learner: takes texts in.
            options: `memory` other than "workspace" means that no file is read.
            is_busy: whether somebody waits for a completion; asked from another thread.
            on_silenced: is told on the event loop that files must not be heard of any more, so that
                what was made with them is forgotten too.
            on_reading: is told on the event loop how many files were read of all folders so far,
                and None at the end.
        """
        self._learner = learner
        self._options = options
        self._is_busy = is_busy
        self._on_silenced = on_silenced
        self._on_reading = on_reading
        self._loop = asyncio.get_running_loop()
        self._workspace = Workspace()
        self._opened: dict[str, _Opened] = {}
        self._known: dict[str, WorkspaceFolder | None] = {}
        """Paths that are learned, or about to be, and not silenced, each with its file's folder:
        the first that has a path keeps it. Touched by the thread and the loop."""
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        self._reading = CancelToken()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is read and nothing waits to be."""
        return self._worker is None or self._worker.is_idle

    @property
    def _is_on(self) -> bool:
        return self._options.enabled and self._options.memory == "workspace"

    def place(self, folders: Sequence[Path]) -> None:
        """Know these folders' rules, in place of any others'; read none of their files yet."""
        self._stop()
        self._workspace = Workspace(folders, self._options.denied_paths)

    def start(self, folders: Sequence[Path]) -> None:
        """Read these folders in the background, in place of any others."""
        self.place(folders)
        if self._is_on:
            if self._workspace.folders:
                self._submit(self._read_all)
            for path in self._opened:
                self._learn_document(path)

    def restart(self) -> None:
        """Learn everything anew: another engine was loaded, or the rules changed."""
        self.start(self._workspace.names)

    def set_options(self, options: Options) -> None:
        """Obey other settings at once."""
        before, self._options = self._options, options
        watched = ("enabled", "memory", "denied_paths")
        if any(getattr(before, name) != getattr(options, name) for name in watched):
            self.restart()

    def close(self) -> None:
        """Stop reading."""
        self._reading.cancel()
        for opened in self._opened.values():
            if opened.due is not None:
                opened.due.cancel()
        if self._worker is not None:
            self._worker.close()

    def ignores(self, location: Path | None) -> bool:
        """Return whether git ignores a file of the workspace; false where there is no file."""
        return self._workspace.ignores(location)

    # Files.

    def file_changed(self, location: Path) -> None:
        """Learn a file that was saved or made, or the files of a folder that was made; an open
        document speaks for itself.
        """
        folder, path = self._workspace.place(location)
        if folder is None:
            return
        if location.name == IGNORE_FILE:
            self.restart()
        elif not self._is_on:
            return
        elif folder.may_read(path):
            if path not in self._opened:
                self._submit(lambda cancel: self._learn([(folder, path)], cancel))
        elif folder.may_enter(path):
            self._submit(lambda cancel: self._read([(folder, path)], cancel, lambda _: None))

    def file_deleted(self, location: Path) -> None:
        """Silence a file, or all files of a folder, at once."""
        folder, path = self._workspace.place(location)
        if folder is None:
            return
        if location.name == IGNORE_FILE:
            self.restart()
            return
        with self._lock:
            gone = [
                known
                for known, owner in self._known.items()
                if owner is folder and (known == path or known.startswith(path + "/"))
            ]
        self._silence(gone)

    # Documents.

    def document_changed(
        self, path: str, text: Callable[[], str], location: Path | None = None
    ) -> None:
        """Learn a document once its typist rests.

        Args:
            path: as in the requests for it.
            text: its text as it is when it is learned.
            location: its file, if it has one on this machine.
        """
        opened = self._opened.setdefault(path, _Opened(text, location))
        opened.text, opened.location = text, location
        if opened.due is not None:
            opened.due.cancel()
        loop = asyncio.get_running_loop()
        opened.due = loop.call_later(DOCUMENT_WAIT_S, self._learn_document, path)

    def document_closed(self, path: str) -> None:
        """Go back to the file that the document stood for."""
        opened = self._opened.pop(path, None)
        if opened is None:
            return
        if opened.due is not None:
            opened.due.cancel()
        with self._lock:
            self._known.pop(path, None)
        self._learner.unlearn([path])
        for folder in self._workspace.folders:
            self.file_changed(folder.root / path)

    def _learn_document(self, path: str) -> None:
        opened = self._opened.get(path)
        if opened is None or not self._is_on:
            return
        if not self._workspace.may_learn(path, opened.location):
            return
        file = WorkspaceFile(path=path, text=opened.text(), is_open=True)
        if is_worth_learning(file.text):
            folder, _ = self._workspace.place(opened.location)
            with self._lock:
                self._known[path] = folder
            self._submit(lambda cancel: self._take_in([file], cancel))
        elif path in self._known:
            self._silence([path])

    # The thread.

    def _submit(self, work: Callable[[CancelToken], None]) -> None:
        if self._worker is None:
            self._worker = Worker(name="foretype-learning")
            self._worker.submit(Job(run=lambda _: _lower_priority()))
        self._worker.submit(Job(run=work, cancel=self._reading))

    def _stop(self) -> None:
        """Stop reading, and silence all that was learned."""
        self._reading.cancel()
        self._reading = CancelToken()
        self._silence(list(self._known))

    def _silence(self, paths: Sequence[str]) -> None:
        with self._lock:
            for path in paths:
                self._known.pop(path, None)
        if paths:
            self._learner.unlearn(paths)
            self._on_silenced()

    def _read_all(self, cancel: CancelToken) -> None:
        if not cancel.is_cancelled:
            folders = [(folder, "") for folder in self._workspace.folders]
            self._tell(self._on_reading, 0)
            self._read(folders, cancel, lambda n_files: self._tell(self._on_reading, n_files))
            self._tell(self._on_reading, None)

    def _read(
        self,
        places: Sequence[tuple[WorkspaceFolder, str]],
        cancel: CancelToken,
        on_reading: Callable[[int], None],
    ) -> None:
        """Read all below some folders, as much as the memory can hold of it."""
        n_files, room = 0, self._options.memory_bytes
        batch: list[tuple[WorkspaceFolder, str]] = []
        n_chars = 0
        for folder, top in places:
            for path in folder.walk(top):
                if cancel.is_cancelled or room <= 0 or n_files >= MAX_FILES:
                    break
                if path in self._opened:
                    continue
                size = _size(folder.root / path)
                batch.append((folder, path))
                n_chars += size
                room -= size
                n_files += 1
                if n_chars >= BATCH_CHARS:
                    self._learn(batch, cancel)
                    on_reading(n_files)
                    batch, n_chars = [], 0
        self._learn(batch, cancel)
        on_reading(n_files)

    def _learn(self, batch: Sequence[tuple[WorkspaceFolder, str]], cancel: CancelToken) -> None:
        files: list[WorkspaceFile] = []
        for folder, path in batch:
            self._give_way(cancel)
            if cancel.is_cancelled:
                return
            with self._lock:
                was_known = path in self._known
                if self._known.setdefault(path, folder) is not folder:
                    continue  # Another folder has a file of the same path.
            text = folder.read(path)
            if text is not None:
                files.append(WorkspaceFile(path=path, text=text))
                continue
            with self._lock:
                self._known.pop(path, None)
            if was_known:
                self._learner.unlearn([path])
                self._tell(self._on_silenced)
        self._take_in(files, cancel)

    def _take_in(self, files: Sequence[WorkspaceFile], cancel: CancelToken) -> None:
        """Let the learner have texts, as far as nobody silenced them since they were read."""
        self._give_way(cancel)
        with self._lock:
            wanted = [file for file in files if file.path in self._known]
        if cancel.is_cancelled or not wanted:
            return
        self._learner.learn(wanted, cancel)
        was_stopped = cancel.wait(0.0)
        with self._lock:  # It may have been deleted, or switched off, while it was being learned.
            paths = [file.path for file in wanted]
            unwanted = [path for path in paths if was_stopped or path not in self._known]
        if unwanted:
            self._learner.unlearn(unwanted)

    def _tell(self, listener: Callable[..., None], *args: object) -> None:
        """Tell a listener, from the thread."""
        try:
            self._loop.call_soon_threadsafe(listener, *args)
        except RuntimeError:
            logger.debug("the event loop is closed")

    def _give_way(self, cancel: CancelToken) -> None:
        """Wait while somebody waits for a completion."""
        while self._is_busy():
            if cancel.wait(PATIENCE_S):
                return


def _size(location: Path) -> int:
    try:
        return location.stat().st_size
    except OSError:
        return 0


def _lower_priority() -> None:
    """Let this thread yield to all others, where the system can tell threads apart."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
