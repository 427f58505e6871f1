"""The engine's contract: what an engine need not do."""

from __future__ import annotations

from server.completion.engine import CancelToken, MemoryInfo, WorkspaceFile
from tests.fakes import FakeEngine


def test_engine_without_memory_learns_nothing():
    engine = FakeEngine()
    engine.learn([WorkspaceFile(path="a.py", text="x = 1\n")], CancelToken())
    engine.unlearn(["a.py"])
    assert engine.memory == MemoryInfo()
