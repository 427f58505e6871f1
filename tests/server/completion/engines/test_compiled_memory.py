"""The embedded model's answers: the same whether the memory is looked up compiled or plainly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from server.completion.engine import (
    CancelToken,
    EngineRequest,
    EngineUsage,
    TextDelta,
    WorkspaceFile,
)
from server.completion.engines.local import LocalEngine
from server.decoding.memory import speedups
from server.options import Options
from tests.server.completion.engines.test_drafts import FILES, SERVER

SHARES = (0.3, 0.6, 0.9)  # Of a file that stands before the cursor.

pytestmark = pytest.mark.skipif(
    not speedups.IS_COMPILED, reason="no compiler was found at the installation"
)


@pytest.fixture(scope="module")
def engine() -> Iterator[LocalEngine]:
    """Return an engine that knows this project's own server, and one file of it twice."""
    engine = LocalEngine.load(Options(device="cpu", threads=1))
    files = [
        WorkspaceFile(path=str(path.relative_to(SERVER)), text=path.read_text(encoding="utf-8"))
        for path in sorted(SERVER.rglob("*.py"))
    ]
    twin = replace(files[0], path="twin.py", text=(SERVER / FILES[0]).read_text(encoding="utf-8"))
    engine.learn([*files, twin], CancelToken())
    yield engine
    engine.close()


def answers(engine: LocalEngine) -> list[list[TextDelta]]:
    said = []
    for name in FILES:
        text = (SERVER / name).read_text(encoding="utf-8")
        for cursor in (int(len(text) * share) for share in SHARES):
            asked = EngineRequest(
                document=f"file:///{name}",
                path=name,
                prefix=text[:cursor],
                suffix=text[cursor + 40 :],
                max_new_tokens=32,
                drafts=False,  # Whether they pay depends on the machine's load.
            )
            said.append(list(engine.stream(asked, CancelToken(), EngineUsage())))
    return said


def test_an_answer_is_the_same_compiled_and_plain(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = answers(engine)
    monkeypatch.setattr(speedups, "IS_COMPILED", False)
    plain = answers(engine)
    for one, other in zip(compiled, plain, strict=True):
        assert [delta.text for delta in one] == [delta.text for delta in other]
        assert [delta.copied_from for delta in one] == [delta.copied_from for delta in other]
        assert [delta.logprob for delta in one] == pytest.approx(
            [delta.logprob for delta in other], rel=1e-4, abs=1e-4
        )
    assert any(delta.copied_from for one in compiled for delta in one)
