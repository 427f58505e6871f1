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
from server.completion.worker import Job, Worker
from server.completion.workspace_files import IGNORE_FILE, MAX_FILE_BYTES, WorkspaceFolder
from server.options import Options

logger = logging.getLogger(__name__)

BATCH_CHARS = 2_000_000
"""Text that is learned at once: about a second of one core. Guessed."""
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
    ) -> None:
        """Learn nothing yet.

        Args:
            learner: takes texts in.
            options: `memory` other than "workspace" means that no file is read.
            is_busy: whether somebody waits for a completion; asked from another thread.
            on_silenced: is told on the event loop that files must not be heard of any more, so that
                what was made with them is forgotten too.
        """
        self._learner = learner
        self._options = options
        self._is_busy = is_busy
        self._on_silenced = on_silenced
        self._loop = asyncio.get_running_loop()
        self._folders: list[WorkspaceFolder] = []
        self._opened: dict[str, _Opened] = {}
        self._known: set[str] = set()
        """Paths that were learned and not unlearned; touched by the thread and the loop."""
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

    def start(self, folders: Sequence[Path]) -> None:
        """Read these folders in the background, in place of any others."""
        self._stop()
        self._folders = [WorkspaceFolder(f, self._options.denied_paths) for f in folders]
        if self._is_on:
            self._submit(self._read_all)
            for path in self._opened:
                self._learn_document(path)

    def restart(self) -> None:
        """Learn everything anew: another engine was loaded, or the rules changed."""
        self.start([folder.root for folder in self._folders])

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

    # Files.

    def file_changed(self, location: Path) -> None:
        """Learn a file that was saved or made; an open document speaks for itself."""
        folder, path = self._place(location)
        if folder is None or not self._is_on:
            return
        if location.name == IGNORE_FILE:
            self.restart()
        elif path not in self._opened and folder.may_read(path):
            self._submit(lambda cancel: self._learn([(folder, path)], cancel))

    def file_deleted(self, location: Path) -> None:
        """Silence a file, or all files of a folder, at once."""
        folder, path = self._place(location)
        if folder is None:
            return
        if location.name == IGNORE_FILE:
            self.restart()
            return
        with self._lock:
            gone = [known for known in self._known if known == path or known.startswith(path + "/")]
            self._known.difference_update(gone)
        self._silence(gone)

    def _place(self, location: Path) -> tuple[WorkspaceFolder | None, str]:
        for folder in self._folders:
            if location.is_relative_to(folder.root):
                return folder, location.relative_to(folder.root).as_posix()
        return None, ""

    # Documents.

    def document_changed(self, path: str, text: Callable[[], str]) -> None:
        """Learn a document once its typist rests.

        Args:
            path: as in the requests for it.
            text: its text as it is when it is learned.
        """
        opened = self._opened.setdefault(path, _Opened(text))
        opened.text = text
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
            self._known.discard(path)
        self._learner.unlearn([path])
        for folder in self._folders:
            self.file_changed(folder.root / path)

    def _learn_document(self, path: str) -> None:
        opened = self._opened.get(path)
        if opened is None or not self._is_on or not self._may_learn_document(path):
            return
        text = opened.text()
        if len(text) > MAX_FILE_BYTES:
            return
        file = WorkspaceFile(path=path, text=text, is_open=True)
        self._submit(lambda cancel: self._take_in([file], cancel))

    def _may_learn_document(self, path: str) -> bool:
        """A document obeys the same rules as its file; one without a file only the names'."""
        rules = self._folders or [WorkspaceFolder(Path.cwd(), self._options.denied_paths)]
        return any(folder.may_read(path) for folder in rules)

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
        with self._lock:
            known = list(self._known)
            self._known.clear()
        self._silence(known)

    def _silence(self, paths: Sequence[str]) -> None:
        if paths:
            self._learner.unlearn(paths)
            self._on_silenced()

    def _read_all(self, cancel: CancelToken) -> None:
        """Read every folder, as much as the memory can hold of it."""
        room = self._options.memory_bytes
        batch: list[tuple[WorkspaceFolder, str]] = []
        for folder in self._folders:
            n_chars = 0
            for path in folder.walk():
                if cancel.is_cancelled or room <= 0:
                    break
                if path in self._opened:
                    continue
                size = _size(folder.root / path)
                batch.append((folder, path))
                n_chars += size
                room -= size
                if n_chars >= BATCH_CHARS:
                    self._learn(batch, cancel)
                    batch, n_chars = [], 0
        self._learn(batch, cancel)

    def _learn(self, batch: Sequence[tuple[WorkspaceFolder, str]], cancel: CancelToken) -> None:
        files, gone = [], []
        for folder, path in batch:
            self._give_way(cancel)
            if cancel.is_cancelled:
                return
            text = folder.read(path)
            if text is None:
                gone.append(path)
            else:
                files.append(WorkspaceFile(path=path, text=text))
        with self._lock:
            gone = [path for path in gone if path in self._known]
            self._known.difference_update(gone)
        if gone:
            self._learner.unlearn(gone)
            try:
                self._loop.call_soon_threadsafe(self._on_silenced)
            except RuntimeError:
                logger.debug("the event loop is closed")
        self._take_in(files, cancel)

    def _take_in(self, files: Sequence[WorkspaceFile], cancel: CancelToken) -> None:
        self._give_way(cancel)
        if cancel.is_cancelled or not files:
            return
        paths = [file.path for file in files]
        with self._lock:
            self._known.update(paths)
        self._learner.learn(files, cancel)
        was_stopped = cancel.wait(0.0)
        with self._lock:  # It may have been deleted, or switched off, while it was being learned.
            unwanted = [path for path in paths if was_stopped or path not in self._known]
        if unwanted:
            self._learner.unlearn(unwanted)

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
