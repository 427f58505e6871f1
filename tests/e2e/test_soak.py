"""A few seconds of the soak: a real server under a flood, with and without a model."""

from __future__ import annotations

import pytest

from benchmarks.checked_server import CHECKSUM, HELD
from benchmarks.results import Recorder
from benchmarks.soak import Subject, fake_subject, model_subject, soak
from server.bundle import EMBEDDED_FOLDER
from tests.e2e.client import Client

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SECONDS = 6.0


@pytest.mark.parametrize(
    "subject", [fake_subject(), model_subject("embedded", EMBEDDED_FOLDER, 1)], ids=lambda s: s.name
)
def test_a_flood_loses_no_answer_no_edit_and_no_thread(subject: Subject) -> None:
    recorder = Recorder(kind="soak", command="", seed=1, settings={})
    wrongs = soak(recorder, subject, seconds=SECONDS, seed=1, step=lambda text: None)
    # A few seconds say nothing about memory: caches are still filled.
    assert [wrong for wrong in wrongs if not wrong.startswith("memory")] == []
    counts = recorder.raw[subject.name]["counts"]
    assert counts["requests"] > 100
    assert counts["texts_compared"] > 50
    assert counts["with_text"] > 0


def test_the_server_itself_tells_no_hash_of_a_document() -> None:
    """What the soak asks exists in its own program; nothing turns it on in the real one."""
    with Client.start("--engine", "echo", environment={"FORETYPE_TEST": "1"}) as client:
        client.initialize()
        client.open("file:///a.py", "secret")
        assert client.error(CHECKSUM, {"uri": "file:///a.py"}) == -32601
        assert client.error(HELD, None) == -32601
        assert client.shut_down() == 0
