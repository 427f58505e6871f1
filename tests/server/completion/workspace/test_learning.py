"""When the engine learns the workspace, and when a file stops speaking, told to a note-taker."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from server.completion.engine import CancelToken, WorkspaceFile
from server.completion.workspace import learning as learning_module
from server.completion.workspace import reading as reading_module
from server.completion.workspace.files import Workspace, WorkspaceFolder
from server.completion.workspace.learning import WorkspaceLearning
from server.completion.workspace.reading import WorkspaceReading
from server.options import Options

TIMEOUT_S = 30


class Notes:
    """A learner that keeps what it was told."""

    def __init__(self) -> None:
        self.known: dict[str, WorkspaceFile] = {}
        self.n_learned = 0

    def learn(self, files: Iterable[WorkspaceFile], cancel: CancelToken) -> None:
        for file in files:
            self.known[file.path] = file
            self.n_learned += 1

    def unlearn(self, paths: Sequence[str]) -> None:
        for path in paths:
            self.known.pop(path, None)


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/a.py").write_text("a = 1\n", encoding="utf-8")
    (tmp_path / "src/b.py").write_text("b = 2\n", encoding="utf-8")
    return tmp_path


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning_module, "DOCUMENT_WAIT_S", 0.0)


def make(notes: Notes, **options: object) -> WorkspaceLearning:
    return WorkspaceLearning(notes, replace(Options(), **options), is_busy=lambda: False)  # type: ignore[arg-type]


async def until(holds: Callable[[], bool]) -> None:
    async def look() -> None:
        while not holds():
            await asyncio.sleep(0.001)

    await asyncio.wait_for(look(), TIMEOUT_S)


async def test_all_files_are_learned_in_the_background(notes: Notes, folder: Path) -> None:
    learning = make(notes)
    learning.start([folder])
    await until(lambda: set(notes.known) == {"src/a.py", "src/b.py"})
    assert notes.known["src/a.py"].text == "a = 1\n"
    assert not notes.known["src/a.py"].is_open
    learning.close()


@pytest.mark.parametrize("setting", [{"memory": "document"}, {"memory": "off"}, {"enabled": False}])
async def test_nothing_is_read_where_it_is_switched_off(
    notes: Notes, folder: Path, setting: dict[str, object]
) -> None:
    learning = make(notes, **setting)
    learning.start([folder])
    learning.document_changed("src/a.py", lambda: "typed")
    learning.file_changed(folder / "src/b.py")
    await asyncio.sleep(0)
    await until(lambda: learning.is_idle)
    assert notes.n_learned == 0


async def test_switching_off_silences_everything_at_once(notes: Notes, folder: Path) -> None:
    learning = make(notes)
    learning.start([folder])
    await until(lambda: len(notes.known) == 2)
    learning.set_options(replace(Options(), memory="off"))
    assert notes.known == {}
    learning.set_options(Options())
    await until(lambda: len(notes.known) == 2)
    learning.close()


async def test_a_changed_file_is_learned_anew_and_a_deleted_one_falls_silent(
    notes: Notes, folder: Path
) -> None:
    silenced: list[bool] = []
    learning = WorkspaceLearning(
        notes, Options(), is_busy=lambda: False, on_silenced=lambda: silenced.append(True)
    )
    learning.start([folder])
    await until(lambda: len(notes.known) == 2)
    (folder / "src/a.py").write_text("a = 3\n", encoding="utf-8")
    learning.file_changed(folder / "src/a.py")
    await until(lambda: notes.known["src/a.py"].text == "a = 3\n")
    assert not silenced
    learning.file_deleted(folder / "src/b.py")
    assert set(notes.known) == {"src/a.py"}
    assert silenced
    learning.file_deleted(folder / "src")  # A folder takes its files along.
    assert notes.known == {}
    learning.close()


async def test_a_folder_that_was_made_or_moved_here_brings_its_files(
    notes: Notes, folder: Path
) -> None:
    """Of a folder that is moved, an editor may tell nothing but the folder's name."""
    learning = make(notes)
    learning.start([folder])
    await until(lambda: len(notes.known) == 2)
    (folder / "src").rename(folder / "lib")
    learning.file_deleted(folder / "src")
    learning.file_changed(folder / "lib")
    await until(lambda: set(notes.known) == {"lib/a.py", "lib/b.py"})
    learning.close()


async def test_it_is_told_how_many_files_were_read(notes: Notes, folder: Path) -> None:
    told: list[int | None] = []
    learning = WorkspaceLearning(notes, Options(), is_busy=lambda: False, on_reading=told.append)
    learning.start([folder])
    await until(lambda: None in told)
    assert told == [0, 2, None]
    learning.file_changed(folder / "src")  # Not worth telling.
    await until(lambda: learning.is_idle)
    assert told == [0, 2, None]
    learning.close()


async def test_a_file_that_became_ignored_falls_silent(notes: Notes, folder: Path) -> None:
    learning = make(notes)
    learning.start([folder])
    await until(lambda: len(notes.known) == 2)
    (folder / ".gitignore").write_text("b.py\n", encoding="utf-8")
    learning.file_changed(folder / ".gitignore")
    assert "src/b.py" not in notes.known
    await until(lambda: learning.is_idle)
    assert set(notes.known) == {"src/a.py"}
    learning.close()


async def test_denied_files_never_reach_the_engine(notes: Notes, folder: Path) -> None:
    (folder / "src/passwords.py").write_text("key = 1\n", encoding="utf-8")
    learning = make(notes, denied_paths=("passwords*",))
    learning.start([folder])
    learning.file_changed(folder / "src/passwords.py")
    learning.document_changed("src/passwords.py", lambda: "key = 2", folder / "src/passwords.py")
    await until(lambda: len(notes.known) == 2 and learning.is_idle)
    assert "src/passwords.py" not in notes.known
    learning.close()


async def test_an_open_document_speaks_for_its_file(notes: Notes, folder: Path) -> None:
    learning = make(notes)
    learning.document_changed("src/a.py", lambda: "typed = 1\n", folder / "src/a.py")
    learning.start([folder])
    await until(lambda: len(notes.known) == 2 and learning.is_idle)
    assert notes.known["src/a.py"].text == "typed = 1\n"
    assert notes.known["src/a.py"].is_open
    learning.file_changed(folder / "src/a.py")  # A save changes nothing that is typed.
    await until(lambda: learning.is_idle)
    assert notes.known["src/a.py"].is_open
    learning.document_closed("src/a.py")
    await until(lambda: "src/a.py" in notes.known and not notes.known["src/a.py"].is_open)
    assert notes.known["src/a.py"].text == "a = 1\n"
    learning.close()


async def test_a_document_that_git_ignores_in_its_folder_is_not_learned(
    notes: Notes, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Another folder of the workspace, whose rules know nothing of it, spoke for it."""
    (folder / ".gitignore").write_text("private.py\n", encoding="utf-8")
    learning = make(notes)
    learning.start([folder, tmp_path_factory.mktemp("other")])
    learning.document_changed("private.py", lambda: "p = 1\n", folder / "private.py")
    learning.document_changed("typed.py", lambda: "t = 1\n", folder / "typed.py")
    await until(lambda: "typed.py" in notes.known and learning.is_idle)
    assert "private.py" not in notes.known
    learning.close()


async def test_a_generated_document_is_not_learned_and_falls_silent(
    notes: Notes, folder: Path
) -> None:
    learning = make(notes)
    learning.start([folder])
    text = "x = 1\n"
    learning.document_changed("new.py", lambda: text, folder / "new.py")
    await until(lambda: "new.py" in notes.known)
    text = "# @generated\nx = 1\n"
    learning.document_changed("new.py", lambda: text, folder / "new.py")
    await until(lambda: "new.py" not in notes.known)
    learning.close()


async def test_a_file_that_is_deleted_by_another_name_of_its_folder_falls_silent(
    notes: Notes, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """An editor tells of a folder by the name that it was opened with, which may be a link."""
    link = tmp_path_factory.mktemp("links") / "link"
    link.symlink_to(folder)
    learning = make(notes)
    learning.start([link])
    await until(lambda: len(notes.known) == 2)
    learning.file_deleted(link / "src/b.py")
    assert set(notes.known) == {"src/a.py"}
    learning.close()


async def test_of_two_folders_with_a_file_of_one_path_the_first_speaks(
    notes: Notes, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "src").mkdir()
    (other / "src/a.py").write_text("other = 1\n", encoding="utf-8")
    learning = make(notes)
    learning.start([folder, other])
    await until(lambda: learning.is_idle and len(notes.known) == 2)
    learning.file_changed(other / "src/a.py")
    learning.file_deleted(other / "src/b.py")  # Not the one that speaks.
    await until(lambda: learning.is_idle)
    assert notes.known["src/a.py"].text == "a = 1\n"
    assert "src/b.py" in notes.known
    learning.close()


async def test_a_file_that_is_deleted_between_reading_and_learning_stays_silent(
    notes: Notes, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was read, waited for its turn, and was learned after its deletion."""
    was_read, may_go_on = threading.Event(), threading.Event()
    read = WorkspaceFolder.read

    def read_and_wait(self: WorkspaceFolder, path: str) -> str | None:
        text = read(self, path)
        if path == "src/b.py":
            was_read.set()
            may_go_on.wait(TIMEOUT_S)
        return text

    monkeypatch.setattr(WorkspaceFolder, "read", read_and_wait)
    learning = make(notes)
    learning.start([folder])
    await until(was_read.is_set)
    learning.file_deleted(folder / "src/a.py")
    may_go_on.set()
    await until(lambda: learning.is_idle)
    assert set(notes.known) == {"src/b.py"}
    learning.close()


async def test_a_document_outside_of_the_workspace_is_learned_while_it_is_open(
    notes: Notes,
) -> None:
    learning = make(notes)
    learning.start([])
    learning.document_changed("untitled.py", lambda: "x = 1\n")
    await until(lambda: "untitled.py" in notes.known)
    learning.document_closed("untitled.py")
    assert notes.known == {}
    learning.close()


async def test_learning_waits_while_somebody_waits_for_a_completion(
    notes: Notes, folder: Path
) -> None:
    busy = True
    learning = WorkspaceLearning(notes, Options(), is_busy=lambda: busy)
    learning.start([folder])
    for _ in range(20):
        await asyncio.sleep(0)
    assert notes.n_learned == 0
    busy = False
    await until(lambda: len(notes.known) == 2)
    learning.close()


async def test_learning_waits_between_two_texts_too(notes: Notes, folder: Path) -> None:
    """A batch takes long: whoever asks in its midst waits for no more than one text of it."""
    learning = WorkspaceLearning(
        notes, Options(), is_busy=lambda: notes.n_learned == 1 and not is_answered
    )
    is_answered = False
    learning.start([folder])
    await until(lambda: notes.n_learned == 1)
    learning.file_deleted(folder / next(iter({"src/a.py", "src/b.py"} - set(notes.known))))
    is_answered = True
    await until(lambda: learning.is_idle)
    assert notes.n_learned == len(notes.known) == 1
    learning.close()


async def test_freed_memory_is_given_back_when_all_is_read(
    notes: Notes, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: list[int] = []
    monkeypatch.setattr(reading_module, "give_memory_back", lambda: known.append(notes.n_learned))
    learning = make(notes)
    learning.start([folder])
    await until(lambda: learning.is_idle)
    assert known == [2]
    learning.close()


async def test_no_more_is_read_than_the_memory_holds(notes: Notes, folder: Path) -> None:
    learning = make(notes, memory_bytes=6)  # As long as the first file.
    learning.start([folder])
    await until(lambda: learning.is_idle)
    assert set(notes.known) == {"src/a.py"}
    learning.close()


async def test_no_more_files_are_read_than_the_bound(
    notes: Notes, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_module, "MAX_FILES", 1)
    learning = make(notes)
    learning.start([folder])
    await until(lambda: learning.is_idle)
    assert set(notes.known) == {"src/a.py"}
    learning.close()


async def test_where_the_editor_tells_nothing_changes_are_looked_for(
    notes: Notes, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning_module, "LOOK_S", 0.0)
    monkeypatch.setattr(learning_module, "LOOK_SHARE", 1000.0)
    silenced: list[bool] = []
    learning = WorkspaceLearning(
        notes, Options(), is_busy=lambda: False, on_silenced=lambda: silenced.append(True)
    )
    learning.start([folder])
    await until(lambda: len(notes.known) == 2)
    learning.document_changed("src/open.py", lambda: "typed = 1\n", folder / "src/open.py")
    await until(lambda: "src/open.py" in notes.known)
    learning.look_regularly()
    (folder / "src/a.py").write_text("a = 100\n", encoding="utf-8")
    (folder / "src/b.py").unlink()
    (folder / "src/c.py").write_text("c = 3\n", encoding="utf-8")
    await until(lambda: set(notes.known) == {"src/a.py", "src/c.py", "src/open.py"})
    await until(lambda: notes.known["src/a.py"].text == "a = 100\n")
    await until(lambda: bool(silenced))
    (folder / ".gitignore").write_text("c.py\n", encoding="utf-8")
    await until(lambda: set(notes.known) == {"src/a.py", "src/open.py"})
    (folder / ".gitignore").unlink()
    await until(lambda: "src/c.py" in notes.known)
    learning.set_options(replace(Options(), memory="off"))
    assert notes.known == {}
    learning.close()


async def test_what_has_not_changed_is_not_read_again(
    notes: Notes, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "src/made.py").write_text("# @generated\n", encoding="utf-8")
    n_read = 0
    read = WorkspaceFolder.read

    def count(self: WorkspaceFolder, path: str) -> str | None:
        nonlocal n_read
        n_read += 1
        return read(self, path)

    monkeypatch.setattr(WorkspaceFolder, "read", count)
    reading = WorkspaceReading(
        notes, is_busy=lambda: False, is_open=lambda _: False, on_silenced=lambda: None
    )
    workspace = Workspace([folder])
    for _ in range(3):
        reading.look(workspace, 1000, CancelToken())
    assert n_read == 3
    assert set(notes.known) == {"src/a.py", "src/b.py"}


def test_looking_reads_no_more_in_all_than_the_memory_holds(notes: Notes, folder: Path) -> None:
    reading = WorkspaceReading(
        notes, is_busy=lambda: False, is_open=lambda _: False, on_silenced=lambda: None
    )
    for _ in range(3):
        reading.look(Workspace([folder]), 6, CancelToken())  # As long as the first file.
    assert set(notes.known) == {"src/a.py"}


def test_it_is_asked_once_more_whether_somebody_waits_when_all_texts_are_taken(
    notes: Notes,
) -> None:
    """What the learner then does with all of them it does in one go."""
    asked: list[int] = []

    def is_busy() -> bool:
        asked.append(notes.n_learned)
        return False

    reading = WorkspaceReading(
        notes, is_busy=is_busy, is_open=lambda _: False, on_silenced=lambda: None
    )
    files = [WorkspaceFile(path=path, text="") for path in ("a.py", "b.py")]
    for file in files:
        reading.claim(file.path, None)
    reading.take_in(files, CancelToken())
    assert asked == [0, 0, 1, 2]
