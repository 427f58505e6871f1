"""What the engine learns of the workspace, and when: files in the background, documents as typed.

The work is done in `reading`, on one thread of low priority; which files may be read is
decided in `files`. Every method is called on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from server.completion.engine import CancelToken, WorkspaceFile
from server.completion.worker import Job, Worker
from server.completion.workspace.files import Workspace, is_worth_learning
from server.completion.workspace.ignore_rules import IGNORE_FILE
from server.completion.workspace.reading import Learner, WorkspaceReading
from server.options import Options
from server.process import lower_priority

logger = logging.getLogger(__name__)

DOCUMENT_WAIT_S = 0.7
"""Rest after an edit before a document is learned anew. Guessed; within the second that a user may
expect."""

LOOK_S = 2.0
"""Between two looks for changes, where the editor tells none. Guessed."""
LOOK_SHARE = 0.02
"""Of one core, that looking takes at the most. Guessed."""


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
        self._options = options
        self._on_silenced = on_silenced
        self._on_reading = on_reading
        self._loop = asyncio.get_running_loop()
        self._workspace = Workspace()
        self._opened: dict[str, _Opened] = {}
        self._reading = WorkspaceReading(
            learner,
            is_busy=is_busy,
            is_open=lambda path: path in self._opened,
            on_silenced=lambda: self._tell(self._on_silenced),
        )
        self._worker: Worker | None = None
        self._look_is_due: asyncio.TimerHandle | None = None
        self._cancel = CancelToken()

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

    def look_regularly(self) -> None:
        """Look for files that come, change and go: the editor does not tell."""
        if self._look_is_due is None:
            self._look_later(LOOK_S)

    def close(self) -> None:
        """Stop reading."""
        self._cancel.cancel()
        if self._look_is_due is not None:
            self._look_is_due.cancel()
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
                self._submit(lambda cancel: self._reading.learn([(folder, path)], cancel))
        elif folder.may_enter(path):
            n_bytes = self._options.memory_bytes
            files = ((folder, below) for below in folder.walk(path))
            self._submit(lambda cancel: self._reading.read(files, n_bytes, cancel))

    def file_deleted(self, location: Path) -> None:
        """Silence a file, or all files of a folder, at once."""
        folder, path = self._workspace.place(location)
        if folder is None:
            return
        if location.name == IGNORE_FILE:
            self.restart()
            return
        self._silence(self._reading.known((folder, path)))

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
        self._reading.silence([path])
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
            self._reading.claim(path, folder)
            self._submit(lambda cancel: self._reading.take_in([file], cancel))
        elif path in self._reading.known():
            self._silence([path])

    # The thread.

    def _submit(self, work: Callable[[CancelToken], None]) -> None:
        if self._worker is None:
            self._worker = Worker(name="foretype-learning")
            self._worker.submit(Job(run=lambda _: lower_priority()))
        self._worker.submit(Job(run=work, cancel=self._cancel))

    def _stop(self) -> None:
        """Stop reading, and silence all that was learned."""
        self._cancel.cancel()
        self._cancel = CancelToken()
        self._silence(self._reading.known())

    def _silence(self, paths: Sequence[str]) -> None:
        if paths:
            self._reading.silence(paths)
            self._on_silenced()

    def _read_all(self, cancel: CancelToken) -> None:
        if cancel.is_cancelled:
            return
        folders = self._workspace.folders
        self._tell(self._on_reading, 0)
        self._reading.read(
            ((folder, path) for folder in folders for path in folder.walk()),
            self._options.memory_bytes,
            cancel,
            lambda n_files: self._tell(self._on_reading, n_files),
        )
        self._tell(self._on_reading, None)

    def _look_later(self, wait_s: float) -> None:
        if not self._cancel.is_cancelled:  # Else it was closed meanwhile.
            self._look_is_due = self._loop.call_later(wait_s, self._look)

    def _look(self) -> None:
        if self._is_on and self._workspace.folders:
            workspace, n_bytes = self._workspace, self._options.memory_bytes
            self._submit(lambda cancel: self._look_now(workspace, n_bytes, cancel))
        else:
            self._look_later(LOOK_S)

    def _look_now(self, workspace: Workspace, n_bytes: int, cancel: CancelToken) -> None:
        started = time.thread_time()
        if any(folder.has_new_rules for folder in workspace.folders):
            if not cancel.is_cancelled:
                self._tell(self.restart)
        else:
            self._reading.look(workspace, n_bytes, cancel)
        spent_s = time.thread_time() - started
        self._tell(self._look_later, max(LOOK_S, spent_s / LOOK_SHARE))

    def _tell(self, listener: Callable[..., None], *args: object) -> None:
        """Tell a listener, from the thread."""
        try:
            self._loop.call_soon_threadsafe(listener, *args)
        except RuntimeError:
            logger.debug("the event loop is closed")
