"""Completions over stdio as clients of each kind get them."""

from __future__ import annotations

import itertools
import threading
import time

import psutil
import pytest

from tests.e2e.client import Client, position

URI = "file:///workspace/a.py"
FAST = ("--engine", "echo", "--debounce-ms", "0", "--max-debounce-ms", "0")
SLOW = {"FORETYPE_TEST_STEP_S": "0.05"}
STUCK = {"FORETYPE_TEST_STEP_S": "30"}

pytestmark = pytest.mark.e2e


def text_of(items: list[dict[str, str]]) -> str:
    assert len(items) == 1, items
    return items[0]["insertText"]


def test_a_standard_client_gets_one_whole_answer() -> None:
    with Client.start(*FAST) as client:
        capabilities = client.initialize()
        assert capabilities["inlineCompletionProvider"] is not None
        assert capabilities["textDocumentSync"]["change"] == 2
        client.wait_ready()
        client.open(URI, "x = \ny = 2\n")
        (item,) = client.complete(URI, 0, 4)
        assert item["insertText"] == "echo_4(one, two)"
        assert item["range"] == {"start": position(0, 4), "end": position(0, 4)}
        assert item["command"]["command"] == "foretype.accepted"
        assert item["data"]["id"] == item["command"]["arguments"][0]
        assert client.notified("$/progress") == []
        assert client.shut_down() == 0


def test_text_grows_for_a_client_that_opted_in() -> None:
    with Client.start(*FAST, environment=SLOW) as client:
        client.initialize({"streaming": True})
        client.wait_ready()
        client.open(URI, "x = ")
        assert client.complete(URI, 0, 4, partialResultToken="grow") == []
        states = [text_of(p["value"]) for p in client.notified("$/progress")]
        assert len(states) > 1
        assert states[-1] == "echo_4(one, two)"
        for earlier, later in itertools.pairwise(states):
            assert later.startswith(earlier)
            assert later != earlier


def test_a_token_without_opting_in_gets_complete_items_and_an_empty_end() -> None:
    with Client.start(*FAST, environment=SLOW) as client:
        client.initialize()
        client.wait_ready()
        client.open(URI, "x = ")
        assert client.complete(URI, 0, 4, partialResultToken=7) == []
        (progress,) = client.notified("$/progress")
        assert (progress["token"], text_of(progress["value"])) == (7, "echo_4(one, two)")


def test_a_cancelled_request_is_answered_at_once_and_says_no_more() -> None:
    with Client.start(*FAST, environment=STUCK) as client:
        client.initialize({"streaming": True})
        client.wait_ready()
        client.open(URI, "x = ")
        asked = client.ask_completion(URI, 0, 4, partialResultToken="t")
        client.notify("$/cancelRequest", {"id": asked})
        assert client.response(asked)["error"]["code"] == -32800
        assert client.notified("$/progress") == []
        assert client.request("foretype/tasks", None)["running"] == 0


def test_a_newer_request_supersedes_the_older_with_null() -> None:
    with Client.start(*FAST, environment=SLOW) as client:
        client.initialize()
        client.wait_ready()
        client.open(URI, "x = ")
        older = client.ask_completion(URI, 0, 4)
        client.edit(URI, (0, 4), (0, 4), "q.")
        newer = client.ask_completion(URI, 0, 6)
        assert client.response(older)["result"] is None
        assert text_of(client.response(newer)["result"]["items"]) == "echo_6(one, two)"


def test_a_request_sees_the_document_as_it_was_when_it_was_sent() -> None:
    """The handler began a turn of the loop later, when the next edit had been applied."""
    with Client.start(*FAST) as client:
        client.initialize()
        client.wait_ready()
        other = "file:///workspace/b.py"
        client.open(URI, "x = ")
        client.open(other, "y = ")
        first = client.ask_completion(URI, 0, 4)
        client.edit(URI, (0, 0), (0, 4), "")
        client.complete(other, 0, 4)
        assert text_of(client.response(first)["result"]["items"]) == "echo_4(one, two)"


def test_a_flood_is_answered_once_each_and_leaves_nothing_behind() -> None:
    n = 500
    with Client.start(*FAST, environment={"FORETYPE_TEST_STEP_S": "0.02"}) as client:
        client.initialize({"streaming": True})
        client.wait_ready()
        client.open(URI, "# filler\n" * 1000 + "x = ")
        baseline = client.request("foretype/tasks", None)
        process = psutil.Process(client.process.pid)
        pause = threading.Event()
        ids = []
        for i in range(n):
            client.edit(URI, (1000, 4 + i), (1000, 4 + i), "q."[i % 2])
            ids.append(client.ask_completion(URI, 1000, 5 + i, partialResultToken=f"t{i}"))
            if i % 3 == 0:
                client.notify("$/cancelRequest", {"id": ids[-1]})
            if i == n // 5:
                early_bytes = process.memory_info().rss
            pause.wait(0.005)
        last = client.response(ids[-1])
        client.wait_for(lambda: all(msg_id in client.responses for msg_id in ids))
        growth = [p for p in client.notified("$/progress") if p["token"] == f"t{n - 1}"]
        items = last["result"]["items"] or growth[-1]["value"]
        assert text_of(items) == f"echo_{9 * 1000 + 4 + n}(one, two)"
        assert client.request("foretype/tasks", None) == baseline
        assert [len(client.responses[msg_id]) for msg_id in ids] == [1] * n
        for msg_id in ids[:-1]:
            response = client.responses[msg_id][0]
            assert response.get("error", {}).get("code") == -32800 or "result" in response
        requests = client.request("foretype/requests", None)["requests"]
        assert len(requests) == 100
        assert process.memory_info().rss < 1.1 * early_bytes


@pytest.mark.parametrize(("encoding", "character"), [("utf-8", 11), ("utf-16", 9), ("utf-32", 8)])
def test_positions_count_the_negotiated_units(encoding: str, character: int) -> None:
    """Behind a form feed, a separator that is no line end, CRLF and an astral character."""
    text = "a\fb\u2028\r\ns = '😀' + "
    with Client.start(*FAST) as client:
        assert client.initialize(encodings=("klingon", encoding))["positionEncoding"] == encoding
        client.wait_ready()
        client.open(URI, text)
        end = character + 3
        client.edit(URI, (1, character), (1, end), "")
        (item,) = client.complete(URI, 1, character)
        assert item["insertText"] == f"echo_{len('a_b_') + 1 + 8}(one, two)"
        assert item["range"]["start"] == position(1, character)


def test_a_position_past_the_end_is_clamped() -> None:
    with Client.start(*FAST) as client:
        client.initialize()
        client.wait_ready()
        client.open(URI, "x\ny = ")
        (item,) = client.complete(URI, 999, 999)
        assert item["range"]["start"] == position(1, 4)


def test_lone_surrogates_and_bytes_that_are_no_utf8_do_no_harm() -> None:
    with Client.start(*FAST) as client:
        client.initialize(encodings=("utf-8",))
        client.wait_ready()
        client.open(URI, "a = '\ud800' + ")
        assert text_of(client.complete(URI, 0, 12)).startswith("echo_")
        body = (
            b'{"jsonrpc":"2.0","method":"textDocument/didOpen","params":{"textDocument":'
            b'{"uri":"file:///workspace/c.py","languageId":"python","version":1,"text":"\xe9 = "}}}'
        )
        client.send_bytes(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        (item,) = client.complete("file:///workspace/c.py", 0, 4)
        assert item["range"]["start"] == position(0, 4)


def test_a_line_of_a_megabyte_is_completed() -> None:
    with Client.start(*FAST) as client:
        client.initialize()
        client.wait_ready()
        client.open(URI, "x" * 1_000_000 + " = ")
        assert text_of(client.complete(URI, 0, 1_000_003)).startswith("echo_")


def test_ten_megabytes_are_inactive_with_a_reason() -> None:
    with Client.start(*FAST) as client:
        client.initialize({"status": True})
        client.wait_ready()
        client.open(URI, "# line\n" * 1_500_000)
        assert client.complete(URI, 0, 0) == []
        assert client.request("foretype/status", None)["state"] == "inactive"
        assert client.reason()
        client.wait_for(
            lambda: any(s["state"] == "inactive" for s in client.notified("foretype/status"))
        )


def test_what_the_editor_tells_is_counted() -> None:
    with Client.start(*FAST) as client:
        client.initialize()
        client.wait_ready()
        client.open(URI, "x = ")
        (item,) = client.complete(URI, 0, 4)
        client.notify("textDocument/didShowCompletion", {"item": item})
        partial = {"item": item, "acceptedLength": 5}
        client.notify("textDocument/didPartiallyAcceptCompletion", partial)
        command = {"command": "foretype.accepted", "arguments": item["command"]["arguments"]}
        assert client.request("workspace/executeCommand", command) is None
        assert client.request("foretype/status", None)["counters"] == {
            "requests": 1,
            "shown": 1,
            "accepted": 1,
            "partiallyAccepted": 1,
            "aheadTokens": 0,
        }


def test_the_menu_switches_a_document_off_and_on() -> None:
    with Client.start(*FAST) as client:
        client.initialize({"languages": {"go": False}})
        client.wait_ready()
        client.open(URI, "x = ")
        for label, n_items in (("Turn Off for This File", 0), ("Turn On for This File", 1)):
            entry = client.request("foretype/menu", {"uri": URI})["entries"][0]
            assert entry["label"] == label
            action = {"command": entry["command"], "arguments": entry["arguments"]}
            client.request("workspace/executeCommand", action)
            assert len(client.complete(URI, 0, 4)) == n_items
        entries = client.request("foretype/menu", {})["entries"]
        assert [entry["id"] for entry in entries] == ["toggle", "chooseModel"]


def test_the_status_is_that_of_the_document_that_is_asked_about() -> None:
    with Client.start(*FAST) as client:
        client.initialize({"languages": {"go": False}})
        client.wait_ready()
        client.open(URI, "x = ")
        client.open("file:///workspace/a.go", "x := ", "go")
        assert (
            client.request("foretype/status", {"uri": "file:///workspace/a.go"})["state"] == "off"
        )
        assert client.request("foretype/status", {})["state"] == "off"
        assert client.request("foretype/status", {"uri": URI})["state"] == "ready"


def test_the_embedded_model_completes() -> None:
    with Client.start() as client:
        client.initialize()
        assert client.wait_ready()["state"] == "ready"
        text = "import os\n\n\ndef main():\n    for i in "
        client.open(URI, text)
        client.complete(URI, 4, 13, trigger=1)
        status = client.request("foretype/status", None)
        assert status["backend"]
        assert status["lastRequest"]["promptTokens"] > 0
        assert client.shut_down() == 0


def test_the_window_after_a_jump_is_read_while_nobody_waits() -> None:
    """A document of the embedded model's window grows line by line until its prompt gets short."""
    with Client.start("--debounce-ms", "0", "--max-debounce-ms", "0") as client:
        client.initialize()
        client.wait_ready()
        client.open(URI, "")
        n_prompt, started = 0, time.monotonic()
        for line in range(100):
            text = f"value_{line} = compute(width, {line}) +"
            client.edit(URI, (line, 0), (line, 0), text)
            client.complete(URI, line, len(text))
            client.edit(URI, (line, len(text)), (line, len(text)), " 1\n")
            last = client.request("foretype/status", None)["lastRequest"]
            if 0 < last["promptTokens"] < n_prompt:
                break
            n_prompt = last["promptTokens"]
            while n_prompt > 380 and counter(client, "aheadTokens") < 200:
                assert time.monotonic() - started < 60
        assert n_prompt > 380
        assert 200 < last["promptTokens"] < 350
        assert last["prefilledTokens"] <= 64
        assert last["reusedTokens"] == last["promptTokens"] - last["prefilledTokens"]


def counter(client: Client, name: str) -> int:
    count: int = client.request("foretype/status", None)["counters"][name]
    return count


def test_initialize_is_answered_while_the_model_loads() -> None:
    """The status right after it says `loading`: no model was needed for the answer."""
    with Client.start() as client:
        client.initialize()
        client.open(URI, "x = ")
        states = set()
        started = time.monotonic()
        while "ready" not in states:
            states.add(client.request("foretype/status", None)["state"])
            assert time.monotonic() - started < 60
        assert states == {"loading", "ready"}
