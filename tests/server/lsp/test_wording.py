"""What editors show of the server, in its own words."""

from __future__ import annotations

from typing import Any

import pytest

from server.completion.engine import EngineInfo, EngineUsage, MemoryInfo
from server.completion.records import Counters, RequestRecord
from server.completion.status import Status
from server.lsp import wording

ENGINE = EngineInfo(
    engine="local",
    model="foretype-5m",
    backend="ort",
    provider="CPUExecutionProvider",
    device="cpu",
    dtype="int8",
    details={"skipped": "ort on cuda: no CUDA provider; pytorch on cuda: no torch"},
)


def record(document: str, **fields: Any) -> RequestRecord:
    return RequestRecord(**{"trigger": "automatic", "source": "model", **fields}, document=document)


def facts(status: Status, last: RequestRecord | None = None) -> list[str]:
    counters = Counters(requests=12, accepted=4)
    return wording.facts(status, counters=counters, memory=MemoryInfo(), last=last)


@pytest.mark.parametrize("state", ["ready", "busy"])
def test_the_title_is_model_and_device_while_completions_come(state: Any) -> None:
    assert wording.title(Status(state=state, engine=ENGINE)) == "foretype-5m · cpu"


@pytest.mark.parametrize("state", ["loading", "off", "inactive", "error"])
def test_the_title_is_a_name_while_none_come(state: Any) -> None:
    assert wording.title(Status(state=state, engine=ENGINE)) == "Foretype"
    assert wording.title(Status(state=state)) == "Foretype"


def test_the_title_says_how_much_of_the_model_is_loaded() -> None:
    assert wording.title(Status(state="loading", percent=50)) == "Foretype 50%"


def test_an_engine_without_a_model_is_called_by_its_name() -> None:
    status = Status(state="ready", engine=EngineInfo(engine="scripted", model=""))
    assert wording.title(status) == "scripted"
    assert facts(status)[:2] == ["ready", "scripted"]


def test_the_facts_say_what_runs_what_was_skipped_and_what_was_done() -> None:
    last = record("file:///a.py", shown_chars=31, total_ms=14.24)
    assert facts(Status(state="ready", engine=ENGINE), last) == [
        "ready",
        "foretype-5m (ort, CPUExecutionProvider, int8)",
        "skipped: ort on cuda: no CUDA provider",
        "skipped: pytorch on cuda: no torch",
        "last request: 14.2 ms, 31 characters from model",
        "12 requests, 0 shown, 4 accepted, 0 partially accepted",
    ]


def test_the_facts_say_what_is_known_of_the_workspace_and_whether_it_helped() -> None:
    memory = MemoryInfo(
        n_files=1212, n_tokens=540_112, n_bytes=3_240_672, n_left_out=3, n_answers=8, n_helped=3
    )
    said = wording.facts(Status(state="ready"), counters=Counters(), memory=memory, last=None)
    assert said[1:3] == [
        "memory of the workspace: 1,212 files, 540,112 tokens, 3.2 MB, no room for 3 more",
        "memory helped in 38% of 8 completions",
    ]


def test_the_state_has_its_reason_beside_it_and_so_has_an_empty_answer() -> None:
    last = record("file:///a.env", reason="denied path", total_ms=0.1)
    said = facts(Status(state="inactive", message="denied path"), last)
    assert said[0] == "inactive: denied path"
    assert said[1] == "last request: 0.1 ms, denied path"


def test_the_table_is_newest_first_and_aligned() -> None:
    usage = EngineUsage(prompt_tokens=412, finish_reason="stop")
    table = wording.request_table(
        [
            record("file:///x/a.py", total_ms=5.0, usage=usage),
            record("file:///x/b.py", reason="denied path"),
        ]
    ).split("\n")
    assert table[0].startswith("total ms  source")
    assert "denied path" in table[1]
    assert table[2].split() == ["5.0", "model", "0", "stop", "a.py", "412", "0", "0", "0.0", "0.0"]
    assert table[1].index("b.py") == table[2].index("a.py")


def test_without_requests_there_are_only_titles() -> None:
    assert wording.request_table([]).count("\n") == 1
