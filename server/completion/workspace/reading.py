"""What happens on the thread that learns: files are read, and texts handed to the engine.

Knows what is known, so that what is silenced while it is read, or learned, stays silent. When
something is read is decided in `learning`, which files may be in `files`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from server.completion.engine import CancelToken, WorkspaceFile
from server.completion.workspace.files import Workspace, WorkspaceFolder
from server.completion.workspace.regular_file import Stamp, stamp
from server.process import give_memory_back, handing_over_soon

BATCH_CHARS = 2_000_000
"""Text that is learned at once: about a second of one core. Guessed."""
MAX_FILES = 50_000
"""That are looked at for one workspace, however small they are. Guessed."""
PATIENCE_S = 0.05
"""Between two looks whether somebody waits for a completion. Guessed."""


class Learner(Protocol):
    """What takes texts in; an engine, from any thread."""

    def learn(self, files: Iterable[WorkspaceFile], cancel: CancelToken) -> None:
        """Take texts in, in place of what was known of their paths; each may keep it waiting."""

    def unlearn(self, paths: Sequence[str]) -> None:
        """Silence texts at once."""


class WorkspaceReading:
    """Reads files for a learner. `read`, `learn` and `take_in` run on one thread of their own."""

    def __init__(
        self,
        learner: Learner,
        *,
        is_busy: Callable[[], bool],
        is_open: Callable[[str], bool],
        on_silenced: Callable[[], None],
    ) -> None:
        """Know nothing yet.

        Args:
            learner: takes texts in.
            is_busy: whether somebody waits for a completion.
            is_open: whether a document stands for a path's file.
            on_silenced: is told, on the thread, that a file fell silent when it was read again.
        """
        self._learner = learner
        self._is_busy = is_busy
        self._is_open = is_open
        self._on_silenced = on_silenced
        self._lock = threading.Lock()
        self._known: dict[str, WorkspaceFolder | None] = {}
        """Paths that are learned, or about to be, and not silenced, each with its file's folder:
        the first that has a path keeps it."""
        self._stamps: dict[str, Stamp | None] = {}
        """Of the files that were looked at, known or not; of the thread alone."""

    # From any thread.

    def known(self, below: tuple[WorkspaceFolder, str] | None = None) -> list[str]:
        """Return the paths that are known; only a file's, or those of a folder, if it is given."""
        with self._lock:
            known = dict(self._known)
        if below is None:
            return list(known)
        folder, top = below
        inside = (path for path, owner in known.items() if owner is folder)
        return [path for path in inside if path == top or path.startswith(f"{top}/")]

    def claim(self, path: str, folder: WorkspaceFolder | None) -> None:
        """Let a document have a path, whose text comes to `take_in`."""
        with self._lock:
            self._known[path] = folder

    def silence(self, paths: Sequence[str]) -> None:
        """Let texts say nothing more, those included that are just being read."""
        with self._lock:
            for path in paths:
                self._known.pop(path, None)
        self._learner.unlearn(paths)

    # On the thread.

    def read(
        self,
        files: Iterable[tuple[WorkspaceFolder, str]],
        n_bytes: int,
        cancel: CancelToken,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Read files and let the learner have them, many at a time.

        Args:
            files: folders, each with the path of a file in it.
            n_bytes: after which no more is read.
            cancel: ends it, with what was learned by then.
            on_progress: is told how many files were read so far.
        """
        n_files, n_chars = 0, 0
        batch: list[tuple[WorkspaceFolder, str]] = []
        for folder, path in files:
            self._give_way(cancel)
            if cancel.is_cancelled or n_bytes <= 0 or n_files >= MAX_FILES:
                break
            if self._is_open(path):
                continue
            _, size = stamp(folder.root / path) or (0, 0)
            batch.append((folder, path))
            n_bytes, n_chars, n_files = n_bytes - size, n_chars + size, n_files + 1
            if n_chars >= BATCH_CHARS:
                self.learn(batch, cancel)
                on_progress(n_files)
                batch, n_chars = [], 0
        self.learn(batch, cancel)
        if n_files:
            give_memory_back()
        on_progress(n_files)

    def look(self, workspace: Workspace, n_bytes: int, cancel: CancelToken) -> None:
        """Read what came or changed since it was read, and silence what is gone.

        Args:
            workspace: the folders.
            n_bytes: that all files together may have.
            cancel: ends it.
        """
        found: dict[str, WorkspaceFolder] = {}
        for folder in workspace.folders:
            for path in folder.walk():
                self._give_way(cancel)
                if cancel.is_cancelled:
                    return
                found.setdefault(path, folder)
        with self._lock:
            gone = [
                path
                for path, owner in self._known.items()
                if owner is not None and path not in found and not self._is_open(path)
            ]
        if gone:
            self.silence(gone)
            self._on_silenced()
        self._stamps = {path: known for path, known in self._stamps.items() if path in found}
        n_bytes -= sum(known[1] for known in self._stamps.values() if known is not None)
        changed = (
            (folder, path)
            for path, folder in found.items()
            if stamp(folder.root / path) != self._stamps.get(path)
        )
        self.read(changed, n_bytes, cancel)

    def learn(self, batch: Sequence[tuple[WorkspaceFolder, str]], cancel: CancelToken) -> None:
        """Read files and let the learner have them; one that can't be read falls silent."""
        files: list[WorkspaceFile] = []
        for folder, path in batch:
            self._give_way(cancel)
            with self._lock:
                if cancel.is_cancelled:  # Looked at in here: what is claimed later would stay.
                    return
                was_known = path in self._known
                if self._known.setdefault(path, folder) is not folder:
                    continue  # Another folder has a file of the same path.
            self._stamps[path] = stamp(folder.root / path)
            text = folder.read(path)
            if text is not None:
                files.append(WorkspaceFile(path=path, text=text))
            elif not self._is_open(path):
                self.silence([path])
                if was_known:
                    self._on_silenced()
        self.take_in(files, cancel)

    def take_in(self, files: Sequence[WorkspaceFile], cancel: CancelToken) -> None:
        """Let the learner have texts, as far as nobody silenced them since they were read."""
        self._give_way(cancel)
        taken: list[str] = []
        with handing_over_soon():
            self._learner.learn(self._wanted(files, taken, cancel), cancel)
        was_stopped = cancel.wait(0.0)
        with self._lock:  # It may have been deleted, or switched off, while it was being learned.
            unwanted = [path for path in taken if was_stopped or path not in self._known]
        if unwanted:
            self._learner.unlearn(unwanted)

    def _wanted(
        self, files: Sequence[WorkspaceFile], taken: list[str], cancel: CancelToken
    ) -> Iterator[WorkspaceFile]:
        """Yield texts that are not silenced, and note their paths; give way before each."""
        for file in files:
            self._give_way(cancel)
            if cancel.is_cancelled:
                return
            with self._lock:
                is_wanted = file.path in self._known
            if is_wanted:
                taken.append(file.path)
                yield file
        self._give_way(cancel)  # What follows, the learner does in one go.

    def _give_way(self, cancel: CancelToken) -> None:
        """Wait while somebody waits for a completion."""
        while self._is_busy():
            if cancel.wait(PATIENCE_S):
                return
