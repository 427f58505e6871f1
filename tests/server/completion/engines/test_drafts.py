"""Drafts on real backends: the embedded model says the same with and without them, in fewer passes.

Unit tests show it for scripted networks; here eight-bit kernels and blocked matrices might make a
pass with several tokens choose otherwise than passes with one.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import pytest

from server.completion.engine import (
    CancelToken,
    EngineRequest,
    EngineUsage,
    TextDelta,
    WorkspaceFile,
)
from server.completion.engines.local import LocalEngine
from server.decoding.memory.drafts import Pace
from server.options import Options

SERVER = Path(__file__).parents[4] / "server"
TIE = 0.02  # In log-probability, of the two that win.
FILES = ("bundle.py", "cli.py", "documents.py", "options.py", "plugins.py")


@pytest.fixture(scope="module", params=["ort", "pytorch"])
def engine(request: pytest.FixtureRequest) -> Iterator[LocalEngine]:
    """Return an engine that knows the other files of its own folder."""
    engine = LocalEngine.load(Options(backend=request.param, device="cpu", threads=1))
    files = [
        WorkspaceFile(path=path.name, text=path.read_text(encoding="utf-8"))
        for path in sorted(SERVER.glob("*.py"))
    ]
    engine.learn(files, CancelToken())
    yield engine
    engine.close()


def assert_same(plain: list[TextDelta], drafted: list[TextDelta]) -> None:
    """See that two answers are equal, up to the first tie: eight-bit kernels round a pass of
    several tokens otherwise than passes of one, and of two tokens as likely either may win.
    """
    for one, other in zip_longest(plain, drafted):
        assert one is not None
        assert other is not None
        if one.text != other.text:
            assert one.logprob == pytest.approx(other.logprob, abs=TIE)
            return


@pytest.mark.slow
@pytest.mark.parametrize("scope", ["workspace", "document", "off"])
def test_drafts_change_nothing_on_a_real_backend(
    engine: LocalEngine, scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whether they pay depends on the machine's load.
    monkeypatch.setattr(Pace, "draft_length", lambda _, length: 8 if length > 2 else 0)
    accepted = 0
    for name in FILES:
        text = (SERVER / name).read_text(encoding="utf-8")
        for share in (0.6, 0.9):
            cursor = int(len(text) * share)
            said = []
            for drafts in (False, True):
                usage = EngineUsage()
                asked = EngineRequest(
                    document=f"file:///{name}",
                    path=name,
                    prefix=text[:cursor],
                    suffix=text[cursor + 40 :],
                    max_new_tokens=32,
                    memory=scope,
                    drafts=drafts,
                )
                said.append(list(engine.stream(asked, CancelToken(), usage)))
                accepted += usage.accepted_tokens
            assert_same(*said)
    assert accepted > 20
