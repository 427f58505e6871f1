"""The local engine's memory: what it learned shows in its answers, and what it unlearned does not.

The network is a scripted one that knows nothing: every byte is as likely to it as any other.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from server.bundle import EMBEDDED_FOLDER, MEMORY_FILE, Bundle, read_bundle, record_file
from server.completion.engine import (
    CancelToken,
    CopySource,
    EngineRequest,
    EngineUsage,
    WorkspaceFile,
)
from server.completion.engines.local import LocalEngine
from server.decoding.memory.coefficients import (
    Coefficients,
    coefficients_text,
    read_coefficients,
)
from server.decoding.memory.copies import LONG_COPY_TOKENS
from server.errors import BundleError
from tests.fakes import FakeBackend, FakeBackends
from tests.server.completion.engines.test_local import SPEC, make_bundle

ELSEWHERE = "def connect(host, port):\n    return Connection(host, port=port)\n"
PREFIX = "    return Conn"


def knows_nothing(tokens: tuple[int, ...]) -> np.ndarray:
    """A little more likely than the rest: the letter x."""
    row = np.zeros(260, np.float32)
    row[ord("x")] = 0.1
    return row


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend(knows_nothing, spec=SPEC)


@pytest.fixture
def engine(tmp_path: Path, backend: FakeBackend) -> Iterator[LocalEngine]:
    engine = LocalEngine(make_bundle(tmp_path), FakeBackends(backend))
    yield engine
    engine.close()


def learn(engine: LocalEngine, path: str, text: str, *, is_open: bool = False) -> None:
    engine.learn([WorkspaceFile(path=path, text=text, is_open=is_open)], CancelToken())


def ask(prefix: str = PREFIX, **fields) -> EngineRequest:
    asked = {"document": "file:///src/a.py", "path": "src/a.py", "suffix": "", "max_new_tokens": 24}
    return EngineRequest(prefix=prefix, **asked | fields)


def complete(engine: LocalEngine, asked: EngineRequest) -> tuple[str, EngineUsage]:
    usage = EngineUsage()
    deltas = list(engine.stream(asked, CancelToken(), usage))
    return "".join(delta.text for delta in deltas), usage


def test_what_a_file_says_is_said_again(engine: LocalEngine) -> None:
    assert complete(engine, ask())[0] == "x" * 24
    learn(engine, "src/b.py", ELSEWHERE)
    assert complete(engine, ask())[0].startswith("ection(host, port=port)\n")


def test_the_document_itself_is_a_memory(engine: LocalEngine) -> None:
    assert complete(engine, ask(prefix=ELSEWHERE + PREFIX))[0].startswith("ection(host")
    assert complete(engine, ask(suffix="\n" * 40 + ELSEWHERE))[0].startswith("ection(host")


def test_the_documents_own_file_says_nothing(engine: LocalEngine) -> None:
    """It may hold the very line that is being written, as it was a moment ago."""
    learn(engine, "src/a.py", ELSEWHERE)
    assert complete(engine, ask())[0] == "x" * 24


def test_a_file_that_is_unlearned_is_silent_at_once(engine: LocalEngine) -> None:
    learn(engine, "src/b.py", ELSEWHERE)
    engine.unlearn(["src/b.py"])
    assert complete(engine, ask())[0] == "x" * 24


def test_a_file_that_is_unlearned_in_mid_answer_says_no_more(engine: LocalEngine) -> None:
    learn(engine, "src/b.py", ELSEWHERE)
    said = ""
    for delta in engine.stream(ask(drafts=False), CancelToken(), EngineUsage()):
        said += delta.text
        if said == "ection":
            engine.unlearn(["src/b.py"])
    assert said == "ection" + "x" * 18


@pytest.mark.parametrize("scope", ["document", "off"])
def test_a_narrower_memory_leaves_the_workspace_out(engine: LocalEngine, scope) -> None:
    learn(engine, "src/b.py", ELSEWHERE)
    assert complete(engine, ask(memory=scope))[0] == "x" * 24


def test_off_asks_the_network_as_if_nothing_had_been_learned(
    tmp_path: Path, backend: FakeBackend, engine: LocalEngine
) -> None:
    off = {"memory": "off", "drafts": False, "prefix": ELSEWHERE + PREFIX}
    expected = list(engine.stream(ask(**off), CancelToken(), EngineUsage()))
    passes = list(backend.passes)
    again = FakeBackend(knows_nothing, spec=backend.spec)
    learned = LocalEngine(make_bundle(tmp_path), FakeBackends(again))
    learn(learned, "src/b.py", ELSEWHERE)
    assert list(learned.stream(ask(**off), CancelToken(), EngineUsage())) == expected
    assert again.passes == passes


@pytest.mark.parametrize("scope", ["workspace", "document", "off"])
@pytest.mark.parametrize("cut", range(20, 60, 3))
def test_drafts_spare_passes_and_change_nothing(engine: LocalEngine, scope, cut: int) -> None:
    learn(engine, "src/b.py", ELSEWHERE)
    asked = ask(prefix=ELSEWHERE + ELSEWHERE[:cut], memory=scope)
    plain, _ = complete(engine, replace(asked, drafts=False))
    drafted, usage = complete(engine, asked)
    assert drafted == plain
    assert scope == "off" or usage.accepted_tokens > 8


def test_confidence_is_that_of_the_mixture(engine: LocalEngine) -> None:
    alone = next(engine.stream(ask(memory="off"), CancelToken(), EngineUsage()))
    learn(engine, "src/b.py", ELSEWHERE)
    mixed = next(engine.stream(ask(), CancelToken(), EngineUsage()))
    assert mixed.logprob > alone.logprob + 2


def test_memory_tells_what_it_holds_and_whether_it_helped(engine: LocalEngine) -> None:
    assert engine.memory.n_files == 0
    learn(engine, "src/b.py", ELSEWHERE)
    complete(engine, ask())
    complete(engine, ask(memory="off"))
    told = engine.memory
    assert (told.n_files, told.n_tokens) == (1, len(ELSEWHERE) + 1)
    assert told.n_bytes >= 6 * told.n_tokens
    assert (told.n_answers, told.n_helped) == (2, 1)


def test_a_cancelled_learning_stops_before_the_next_file(engine: LocalEngine) -> None:
    cancel = CancelToken()
    cancel.cancel()
    engine.learn([WorkspaceFile(path="src/b.py", text=ELSEWHERE)], cancel)
    assert engine.memory.n_files == 0


def test_an_answer_goes_on_while_another_thread_learns(engine: LocalEngine) -> None:
    learn(engine, "src/b.py", ELSEWHERE)
    files = [WorkspaceFile(path=f"src/{i}.py", text=f"x = {i}\n" * 50) for i in range(40)]
    learner = threading.Thread(
        target=lambda: [engine.learn([file], CancelToken()) for file in files]
    )
    learner.start()
    while learner.is_alive():
        assert complete(engine, ask())[0].startswith("ection(host, port=port)\n")
    learner.join()
    assert engine.memory.n_files == 41


def with_memory_file(bundle: Bundle, text: str) -> Bundle:
    path = bundle.folder / MEMORY_FILE
    path.write_text(text, encoding="utf-8")
    files = {MEMORY_FILE: record_file(path)}
    return replace(bundle, manifest=replace(bundle.manifest, files=files))


def test_a_bundle_without_numbers_gets_those_of_the_embedded_one() -> None:
    path = read_bundle(EMBEDDED_FOLDER).memory_path
    assert path is not None
    assert read_coefficients(path.read_text(encoding="utf-8")) == Coefficients()


def test_a_bundle_says_how_much_the_memory_counts(tmp_path: Path, backend: FakeBackend) -> None:
    never = Coefficients(weight=(-999.0, *[0.0] * 12))
    bundle = with_memory_file(make_bundle(tmp_path), coefficients_text(never))
    engine = LocalEngine(bundle, FakeBackends(backend))
    learn(engine, "src/b.py", ELSEWHERE)
    assert complete(engine, ask())[0] == "x" * 24


def test_a_bundle_whose_coefficients_make_no_sense_is_refused(
    tmp_path: Path, backend: FakeBackend
) -> None:
    bundle = with_memory_file(make_bundle(tmp_path), "{}")
    with pytest.raises(BundleError, match=MEMORY_FILE):
        LocalEngine(bundle, FakeBackends(backend))


def test_a_long_copy_says_where_it_stands(engine: LocalEngine) -> None:
    learn(engine, "lib/b.py", "import os\n\n" + ELSEWHERE)
    deltas = list(engine.stream(ask(max_new_tokens=30), CancelToken(), EngineUsage()))
    assert "".join(delta.text for delta in deltas).startswith("ection(host, port=port)\n")
    sources = [delta.copied_from for delta in deltas]
    assert sources[: LONG_COPY_TOKENS - 1] == [None] * (LONG_COPY_TOKENS - 1)
    assert sources[LONG_COPY_TOKENS - 1 : LONG_COPY_TOKENS + 1] == [
        CopySource(path="lib/b.py", line=4, n_tokens=LONG_COPY_TOKENS + i) for i in range(2)
    ]


def test_a_text_that_fell_silent_is_not_named(engine: LocalEngine) -> None:
    learn(engine, "lib/b.py", ELSEWHERE)
    sources = []
    for delta in engine.stream(ask(), CancelToken(), EngineUsage()):
        sources.append(delta.copied_from)
        if len(sources) == LONG_COPY_TOKENS + 2:
            engine.unlearn(["lib/b.py"])
    assert sources[LONG_COPY_TOKENS] is not None
    assert sources[LONG_COPY_TOKENS + 2 :] == [None] * (24 - LONG_COPY_TOKENS - 2)


GPL = "# SPDX-License-Identifier: GPL-3.0-only\n"
MIT = "# SPDX-License-Identifier: MIT\n"


@pytest.mark.parametrize(
    ("own", "other", "may_speak"),
    [("", "", True), (GPL, "", True), (GPL, GPL, True), (MIT, GPL, False), ("", GPL, False)],
)
def test_code_under_another_licence_can_be_left_out(
    engine: LocalEngine, own: str, other: str, may_speak: bool
) -> None:
    learn(engine, "src/b.py", other + ELSEWHERE)
    asked = ask(prefix=own + PREFIX, other_licences=False)
    assert complete(engine, replace(asked, other_licences=True))[0].startswith("ection")
    assert complete(engine, asked)[0].startswith("ection") == may_speak


def test_the_documents_licence_is_known_where_its_header_is_out_of_sight(
    engine: LocalEngine,
) -> None:
    learn(engine, "src/a.py", GPL)
    learn(engine, "src/b.py", GPL + ELSEWHERE)
    assert complete(engine, ask(other_licences=False))[0].startswith("ection")
    learn(engine, "src/a.py", "")
    assert complete(engine, ask(other_licences=False))[0] == "x" * 24
