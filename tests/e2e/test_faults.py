"""What the server makes of clients that misbehave, disappear or send garbage."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.client import PATIENCE_S, ROOT, Client, position, server_environment

URI = "file:///workspace/a.py"
FAST = ("--engine", "echo", "--debounce-ms", "0", "--max-debounce-ms", "0")
INLINE = "textDocument/inlineCompletion"
GONE_S = 2.0

pytestmark = pytest.mark.e2e


def refused(client: Client, msg_id: object = None) -> int:
    return client.response(msg_id)["error"]["code"]


def check_alive(client: Client) -> None:
    client.open("file:///workspace/alive.py", "x = ")
    client.wait_ready()
    assert client.complete("file:///workspace/alive.py", 0, 4)[0]["insertText"].startswith("echo")


@pytest.fixture(scope="module")
def robust() -> Iterator[Client]:
    """A server that is sent garbage by one test after another."""
    with Client.start(*FAST) as client:
        client.initialize()
        yield client
        assert client.shut_down() == 0


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[1, 2",
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"jsonrpc":"2.0","id":' + b"9" * 5000 + b',"method":"shutdown"}',
    ],
    ids=["object", "list", "empty", "no UTF-8", "deep", "long number"],
)
def test_a_body_that_is_no_json_is_refused(robust: Client, body: bytes) -> None:
    robust.responses.pop(None, None)
    robust.send_bytes(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    assert refused(robust) == -32700
    check_alive(robust)


@pytest.mark.parametrize(
    "message",
    [
        {},
        [],
        [{"jsonrpc": "2.0", "id": 1, "method": "shutdown"}],
        5,
        {"jsonrpc": "1.0", "id": None, "method": "shutdown"},
        {"jsonrpc": "2.0", "id": {}, "method": "shutdown"},
        {"jsonrpc": "2.0", "id": True, "method": "shutdown"},
        {"jsonrpc": "2.0", "method": 5},
    ],
)
def test_json_that_is_no_message_is_refused(robust: Client, message: object) -> None:
    robust.responses.pop(None, None)
    robust.send(message)
    assert refused(robust) == -32600
    check_alive(robust)


def test_malformed_parameters_are_refused_without_a_pop_up() -> None:
    good = {
        "textDocument": {"uri": URI},
        "position": position(0, 0),
        "context": {"triggerKind": 2},
    }
    bad = [
        None,
        [],
        "text",
        {},
        good | {"position": None},
        good | {"position": {"line": -1, "character": 0}},
        good | {"position": {"line": "a", "character": 0}},
        good | {"textDocument": {}},
        good | {"context": {}},
        good | {"context": {"triggerKind": 7}},
        good | {"context": 5},
        good | {"partialResultToken": {}},
    ]
    with Client.start(*FAST) as client:
        client.initialize()
        client.wait_ready()
        assert [client.error(INLINE, params) for params in bad] == [-32602] * len(bad)
        assert client.request(INLINE, good | {"context": {"triggerKind": 0}}) == {"items": []}
        assert client.error("workspace/executeCommand", {"command": "format"}) == -32602
        assert client.error("textDocument/hover", good) == -32601
        assert client.notified("window/showMessage") == []
        check_alive(client)


def test_a_document_whose_edit_cannot_be_read_is_ignored_until_it_is_reopened() -> None:
    with Client.start(*FAST) as client:
        client.initialize()
        client.wait_ready()
        client.open(URI, "x = ")
        document = {"uri": URI, "version": 2}
        edits = {"textDocument": document, "contentChanges": [{"range": 5, "text": 7}]}
        client.notify("textDocument/didChange", edits)
        assert client.complete(URI, 0, 4) == []
        assert client.reason() == "the document is not open"
        client.open(URI, "x = ")
        assert len(client.complete(URI, 0, 4)) == 1


def test_a_wrong_content_length_costs_one_message() -> None:
    ping = json.dumps({"jsonrpc": "2.0", "id": "lost", "method": "foretype/tasks"}).encode()
    with Client.start(*FAST) as client:
        client.initialize()
        client.send_bytes(b"Content-Length: %d\r\n\r\n%b" % (len(ping) - 9, ping))
        assert refused(client) == -32700
        check_alive(client)
        client.send_bytes(b"Content-Length: many\r\n\r\nContent-Length: -5\r\n\r\n")
        client.send_bytes(b"GET / HTTP/1.1\r\n\r\n")
        check_alive(client)


def test_an_unknown_document_has_no_completions_and_a_reason() -> None:
    with Client.start(*FAST) as client:
        client.initialize()
        client.wait_ready()
        assert client.complete("file:///etc/passwd", 0, 0) == []
        assert client.reason() == "the document is not open"
        client.notify("textDocument/didChange", {"textDocument": {"uri": URI, "version": 1}})
        client.notify("textDocument/didClose", {"textDocument": {"uri": URI}})
        check_alive(client)


def test_requests_out_of_order_have_their_codes() -> None:
    with Client.start(*FAST) as client:
        assert client.error("foretype/status", None) == -32002
        assert client.error("initialize", {"capabilities": 5}) == -32602
        client.notify("textDocument/didOpen", {"early": True})
        client.initialize()
        assert client.error("initialize", {"processId": None, "capabilities": {}}) == -32600
        client.request("shutdown", None)
        assert client.error("foretype/status", None) == -32600
        client.notify("exit", None)
        assert client.process is not None
        assert client.process.wait(PATIENCE_S) == 0


def test_an_id_in_use_is_refused() -> None:
    with Client.start(*FAST, environment={"FORETYPE_TEST_STEP_S": "30"}) as client:
        client.initialize()
        client.wait_ready()
        client.open(URI, "x = ")
        first = client.ask_completion(URI, 0, 4)
        client.send({"jsonrpc": "2.0", "id": first, "method": "foretype/status"})
        assert refused(client, first) == -32600
        client.notify("$/cancelRequest", {"id": first})
        client.wait_for(lambda: len(client.responses[first]) == 2)
        assert client.responses[first][1]["error"]["code"] == -32800


def test_answers_to_what_was_never_asked_are_ignored() -> None:
    with Client.start(*FAST, environment={"FORETYPE_TEST_STEP_S": "30"}) as client:
        client.initialize()
        client.wait_ready()
        client.open(URI, "x = ")
        asked = client.ask_completion(URI, 0, 4)
        client.send({"jsonrpc": "2.0", "id": asked, "result": {"items": []}})
        client.send({"jsonrpc": "2.0", "id": "foretype-99", "error": 5})
        client.notify("$/cancelRequest", {"id": asked})
        assert refused(client, asked) == -32800


def test_exit_without_shutdown_is_an_error() -> None:
    with Client.start(*FAST) as client:
        client.initialize()
        client.notify("exit", None)
        assert client.process is not None
        assert client.process.wait(PATIENCE_S) == 1


def test_shutdown_answers_what_still_runs() -> None:
    with Client.start(*FAST, environment={"FORETYPE_TEST_STEP_S": "30"}) as client:
        client.initialize()
        client.wait_ready()
        client.open(URI, "x = ")
        asked = client.ask_completion(URI, 0, 4)
        assert client.shut_down() == 0
        assert refused(client, asked) == -32800


def test_the_server_ends_with_its_input() -> None:
    with Client.start(*FAST, environment={"FORETYPE_TEST_STEP_S": "30"}) as client:
        client.initialize()
        client.wait_ready()
        client.open(URI, "x = ")
        client.ask_completion(URI, 0, 4)
        assert client.process is not None
        assert client.process.stdin is not None
        client.process.stdin.close()
        assert client.process.wait(GONE_S) == 1


def test_the_server_ends_within_two_seconds_of_the_editors_process() -> None:
    """The pipes stay open, as they do when the editor's child processes hold them."""
    command = [sys.executable, "-c", "input()"]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE) as editor,
        Client.start(*FAST) as client,
    ):
        client.initialize(processId=editor.pid)
        client.wait_ready()
        editor.kill()
        editor.wait()
        assert client.process is not None
        assert client.process.wait(GONE_S) == 1


@pytest.mark.skipif(os.name != "posix", reason="signals are a matter of POSIX")
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("moment", ["starting", "loading", "idle", "decoding"])
def test_a_signal_ends_the_server_at_any_moment(moment: str, sent: signal.Signals) -> None:
    with Client.start(*FAST, environment={"FORETYPE_TEST_STEP_S": "30"}) as client:
        assert client.process is not None
        if moment != "starting":
            client.initialize()
        if moment in ("idle", "decoding"):
            client.wait_ready()
        if moment == "decoding":
            client.open(URI, "x = ")
            client.ask_completion(URI, 0, 4)
            client.wait_for(lambda: client.request("foretype/tasks", None)["running"] == 1)
        children = psutil.Process(client.process.pid).children(recursive=True)
        client.process.send_signal(sent)
        assert client.process.wait(GONE_S) == -sent
        assert not [child for child in children if child.is_running()]


def test_a_message_of_100_megabytes_is_read_and_one_beyond_the_bound_is_skipped() -> None:
    def noise(n_bytes: int) -> None:
        start, end = b'{"jsonrpc":"2.0","method":"$/noise","params":"', b'"}'
        body = start + b"x" * (n_bytes - len(start) - len(end)) + end
        client.send_bytes(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))

    with Client.start(*FAST) as client:
        client.initialize()
        client.wait_ready()
        noise(100 << 20)
        check_alive(client)
        noise((128 << 20) + 1)
        assert refused(client) == -32600
        check_alive(client)


def test_half_a_message_at_the_end_is_no_message() -> None:
    with Client.start(*FAST) as client:
        client.initialize()
        client.wait_ready()
        client.send_bytes(b'Content-Length: 100\r\n\r\n{"jsonrpc":')
        assert client.process is not None
        assert client.process.stdin is not None
        client.process.stdin.close()
        assert client.process.wait(GONE_S) == 1
        assert client.responses.get(None) is None


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_bundle_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "manifest.json").chmod(0)
    with Client.start("--model", str(tmp_path)) as client:
        client.initialize()
        assert "permissions" in client.wait_ready()["message"]


def test_a_killed_editor_takes_the_server_with_it(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-m', 'server', '--engine', 'echo'],"
        " stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)\n"
        "print(p.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env=server_environment(("echo-engine",)),
        cwd=ROOT,
        stdout=subprocess.PIPE,
    ) as editor:
        assert editor.stdout is not None
        server = psutil.Process(int(editor.stdout.readline()))
        os.kill(editor.pid, signal.SIGKILL)
        editor.wait()
        psutil.wait_procs([server], timeout=PATIENCE_S)
        assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE


def test_a_client_that_does_not_read_blocks_nobody() -> None:
    """The pipe is full, and yet every message is taken in; reading again brings every answer."""
    with Client.start(*FAST) as client:
        client.initialize({"streaming": True, "status": True})
        client.wait_ready()
        client.open(URI, "x = ")
        client.pause_reading()
        ids = []
        for i in range(3000):
            ids.append(client.ask("foretype/status", None))
            if i % 100 == 0:
                ids.append(client.ask_completion(URI, 0, 4, partialResultToken=i))
        client.resume_reading()
        client.wait_for(lambda: all(msg_id in client.responses for msg_id in ids))
        assert {len(client.responses[msg_id]) for msg_id in ids} == {1}


def test_a_broken_bundle_is_an_error_status_and_empty_answers(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{")
    with Client.start("--model", str(tmp_path)) as client:
        client.initialize()
        status = client.wait_ready()
        assert status["state"] == "error"
        assert "manifest.json" in status["message"]
        client.open(URI, "x = ")
        for character in (4, 3, 4):
            assert client.complete(URI, 0, character) == []
        assert "manifest.json" in client.reason()
        (message,) = client.notified("window/showMessage")
        assert "manifest.json" in message["message"]
        assert client.shut_down() == 0


def test_settings_change_while_the_server_runs() -> None:
    def push(**settings: object) -> None:
        client.notify("workspace/didChangeConfiguration", {"settings": {"foretype": settings}})

    with Client.start("--engine", "echo", "--max-debounce-ms", "0") as client:
        client.initialize({"enabled": False})
        client.wait_ready()
        client.open(URI, "x = ")
        assert client.complete(URI, 0, 4) == []
        push(enabled=True)
        assert len(client.complete(URI, 0, 4)) == 1
        push(enabled=True, languages={"python": False})
        assert client.complete(URI, 0, 4) == []
        push(enabled=True, debounceMs=-5, maxLine=3, model="/tmp/other", client={"a": 1})
        assert len(client.complete(URI, 0, 4)) == 1
        push(enabled=True, debounceMs=-5, maxLine=3, model="/tmp/other", client={"a": 1})
        client.request("foretype/status", None)
        (warning,) = client.notified("window/logMessage")
        assert "maxLines" in warning["message"]
        assert "debounceMs" in warning["message"]
        assert "model is read at start" in warning["message"]
        assert client.notified("window/showMessage") == []


def test_settings_are_pulled_from_a_client_that_has_them() -> None:
    with Client.start(*FAST) as client:
        client.answers["workspace/configuration"] = [{"enabled": False}]
        workspace = {
            "configuration": True,
            "didChangeConfiguration": {"dynamicRegistration": True},
        }
        client.initialize(
            capabilities={"workspace": workspace, "window": {"workDoneProgress": True}}
        )
        client.wait_for(
            lambda: (
                {r["method"] for r in client.requests}
                == {
                    "workspace/configuration",
                    "client/registerCapability",
                    "window/workDoneProgress/create",
                }
            )
        )
        client.wait_ready()
        progress = client.wait_for(
            lambda: (told := client.notified("$/progress")) and len(told) > 1 and told
        )
        assert [p["value"]["kind"] for p in progress] == ["begin", "end"]
        client.open(URI, "x = ")
        assert client.complete(URI, 0, 4) == []
        client.answers["workspace/configuration"] = [{"enabled": True}]
        client.notify("workspace/didChangeConfiguration", {"settings": None})
        client.wait_for(lambda: client.request("foretype/status", None)["enabled"])
        assert len(client.complete(URI, 0, 4)) == 1


@pytest.mark.parametrize("level", ["info", "debug"])
def test_the_log_holds_figures_and_no_text(tmp_path: Path, level: str) -> None:
    log = tmp_path / "server.log"
    arguments = (*FAST, "--log-file", str(log), "--log-level", level)
    with Client.start(*arguments, stderr=subprocess.PIPE) as client:
        client.initialize()
        client.wait_ready()
        client.open(URI, "marzipan = 5\npistachio = ")
        assert len(client.complete(URI, 1, 12)) == 1
        client.error(INLINE, {"marzipan": "marzipan"})
        client.send_bytes(b"Content-Length: 8\r\n\r\nmarzipan")
        refused(client)
        client.notify("textDocument/didChange", {"textDocument": {"uri": URI}, "marzipan": 1})
        assert client.shut_down() == 0
    text = log.read_text()
    for key in ("prompt_tokens=", "reused_tokens=", "new_tokens=", "total_ms=", "finish_reason="):
        assert key in text
    for word in ("marzipan", "pistachio", "echo_", "a.py"):
        assert word not in text
    assert log.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("place", ["file", "stderr"])
def test_errors_of_plugins_that_hold_the_users_text_are_told_without_it(
    tmp_path: Path, place: str
) -> None:
    """Neither the log, stderr (which editors keep), status nor the table of requests has it."""
    log = tmp_path / "server.log"
    arguments = (
        *("--engine", "telling", "--debounce-ms", "0", "--max-debounce-ms", "0"),
        *("--context-sources", "telling-context", "--filters", "telling-filter"),
        *(("--log-file", str(log)) if place == "file" else ("--log-level", "debug")),
    )
    plugins = ("telling-engine",)
    with Client.start(*arguments, plugins=plugins, stderr=subprocess.PIPE) as client:
        assert client.process is not None
        assert client.process.stderr is not None
        client.initialize()
        client.wait_ready()
        client.open(URI, "marzipan = ")
        client.complete(URI, 0, 11)
        client.edit(URI, (0, 11), (0, 11), "pistachio + ")
        assert client.complete(URI, 0, 23) == []
        told = json.dumps([client.request("foretype/status", None), client.notifications])
        told += json.dumps(client.request("foretype/requests", None))
        assert "the engine failed: RuntimeError at fail:" in told
        assert client.shut_down() == 0
        written = client.process.stderr.read().decode()
    written += log.read_text() if place == "file" else ""
    for name in ("ValueError", "KeyError", "RuntimeError", "LookupError", "OSError"):
        assert name in written, f"{name} must be told"
    for word in ("marzipan", "pistachio"):
        assert word not in written + told
