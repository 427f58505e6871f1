"""Lines from real servers: which cursors, who is asked when, what is compared; a real server."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.line_servers import Answer
from benchmarks.peers import llama_servers
from benchmarks.peers.llama_servers import NATIVE, PYTHON, LlamaServer, LlamaServerKind
from benchmarks.results import Recorder
from benchmarks.servers import (
    AS_INSTALLED,
    FIRST_ASKED,
    SAME_TOKENS,
    Place,
    ask_in_turn,
    compare,
    find_places,
    measure,
    rows,
)
from server.bundle import EMBEDDED_FOLDER, read_bundle

TEXT = "".join(f"    value_{i} = compute_something({i}, {i + 1})\n" for i in range(40))


def answer(text: str, ms: float = 1.0, source: str = "model") -> Answer:
    return Answer(ms=ms, text=text, n_prompt=9, n_new=3, n_prefilled=1, source=source)


def new_recorder() -> Recorder:
    return Recorder(kind="servers", command="test", seed=0, settings={})


@dataclass
class FakeServer:
    """Notes what it is asked."""

    name: str
    log: list[tuple[str, str]] = field(default_factory=list)
    process: psutil.Process = field(default_factory=psutil.Process)

    def see(self, text: str) -> None:
        self.log.append((self.name, text))

    def complete(self, character: str) -> Answer:
        self.log.append((self.name, character))
        return answer("rest")


def test_cursor_stands_inside_a_line_after_what_stands_above() -> None:
    places = find_places(TEXT, 6, 60, 0, len)
    assert len(places) == 6
    for place in places:
        whole = place.text + place.rest
        assert whole in TEXT
        line = whole.rpartition("\n")[2]
        assert line + "\n" in TEXT.splitlines(keepends=True)
        above, begun = place.text.rpartition("\n")[::2]
        assert len(above) < 60
        assert len(begun.strip()) >= 2
        assert len(place.rest) >= 8


def test_the_seed_chooses_the_cursors() -> None:
    assert find_places(TEXT, 6, 60, 3, len) == find_places(TEXT, 6, 60, 3, len)
    assert find_places(TEXT, 6, 60, 3, len) != find_places(TEXT, 6, 60, 4, len)


def test_file_without_code_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="no long line"):
        find_places("# a comment that is long enough\n" * 9, 2, 60, 0, len)


def test_each_server_sees_all_but_the_last_character_first_and_they_take_turns() -> None:
    log: list[tuple[str, str]] = []
    servers = [FakeServer("a", log), FakeServer("b", log)]
    places = [Place(text="x = f", rest="()"), Place(text="y = g", rest="()")]
    answers = ask_in_turn(servers, places, lambda _: None)
    assert [len(said) for said in answers.values()] == [2, 2]  # The first turn only warms up.
    assert log == [
        *[("a", "x = "), ("a", "f"), ("b", "x = "), ("b", "f")],
        *[("b", "x = "), ("b", "f"), ("a", "x = "), ("a", "f")],
        *[("a", "y = "), ("a", "g"), ("b", "y = "), ("b", "g")],
    ]


def test_same_text_is_compared_apart() -> None:
    recorder = new_recorder()
    answers = {
        "ours": [answer("one", 1), answer("two", 8), answer("", 1)],
        "theirs": [answer("one ", 4), answer("2", 4), answer("", 4)],
    }
    compare(recorder, answers, {"ours"})
    assert {(one.name, one.n, one.median) for one in recorder.ratios} == {
        ("line", 3, 0.25),
        ("line_same_text", 1, 0.25),
    }
    assert [one.median for one in recorder.figures] == [pytest.approx(1 / 3)]


def test_results_hold_no_text() -> None:
    (row,) = rows({"ours": [answer("secret")]})
    assert "secret" not in json.dumps(row)
    assert row["chars"] == 6


@pytest.mark.parametrize("kind", [NATIVE, PYTHON])
def test_llama_servers_listen_on_the_loopback_only(kind: LlamaServerKind) -> None:
    command = kind.command(Path("m.gguf"), 512, 2, 4711)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert "4711" in command


def test_absent_server_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_servers, "NEEDED", ("json", "no_such_package_"))
    monkeypatch.setattr(llama_servers, "BINARY", "no-such-binary")
    assert "no_such_package_ not installed (pip install" in PYTHON.why_not()
    assert "no no-such-binary on the PATH" in NATIVE.why_not()


SERVED = """
import json, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.say({})
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = json.dumps([asked["prompt"], asked["max_tokens"], asked["stop"], asked["top_k"]])
        usage = {"prompt_tokens": 5, "completion_tokens": 2}
        self.say({"choices": [{"text": text}], "usage": usage, "timings": {"prompt_n": 1}})
    def say(self, what):
        body = json.dumps(what).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass

HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def scripted(code: str) -> LlamaServerKind:
    def command(model: Path, n_ctx: int, n_threads: int, port: int) -> list[str]:
        return [sys.executable, "-c", code, str(port)]

    return LlamaServerKind(
        name="scripted", why_not=lambda: "", command=command, greedy={"top_k": 1}
    )


@pytest.mark.e2e
def test_http_server_is_started_asked_and_ended(tmp_path: Path) -> None:
    kind = scripted(SERVED)
    with LlamaServer(kind, tmp_path, n_ctx=64, n_threads=1, log=tmp_path / "log") as server:
        process = server.process
        for _ in range(2):
            said = server.complete("a = ", 7, ["\n"])
            assert json.loads(said.text) == ["a = ", 7, ["\n"], 1]
            assert (said.n_prompt, said.n_new, said.n_prefilled) == (5, 2, 1)
            server.reconnect()
    assert not process.is_running()


@pytest.mark.e2e
def test_http_server_that_ends_at_once_is_named_with_what_it_printed(tmp_path: Path) -> None:
    kind = scripted("import sys; sys.exit('no such model')")
    with pytest.raises(BenchmarkError, match=r"(?s)scripted does not start.*no such model"):
        LlamaServer(kind, tmp_path, n_ctx=64, n_threads=1, log=tmp_path / "log")


@pytest.mark.e2e
@pytest.mark.slow
def test_our_real_server_answers_by_the_model_and_is_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("gguf", reason="the extra `bench` is not installed")
    monkeypatch.setattr("benchmarks.servers.KINDS", (scripted(SERVED),))
    recorder = new_recorder()
    bundle = read_bundle(EMBEDDED_FOLDER)
    steps: list[str] = []
    measure(
        recorder,
        bundle,
        TEXT,
        n_places=2,
        n_threads=1,
        is_random=False,
        step=steps.append,
    )
    by_key = {(one.subject, one.name): one for one in recorder.figures}
    assert by_key[SAME_TOKENS, "share_model"].median == 1
    assert by_key[SAME_TOKENS, "decoded"].median > 1
    # Nearly all was read when the text was opened: all but what healing takes back.
    lines = recorder.raw["lines"]
    prefilled = [row["n_prefilled"] for row in lines if row["server"] == SAME_TOKENS]
    assert max(prefilled) <= 8
    assert {(one.subject, one.over) for one in recorder.ratios if one.name == "line"} == {
        (AS_INSTALLED, "scripted"),
        (FIRST_ASKED, "scripted"),
        (SAME_TOKENS, "scripted"),
    }
    assert len(steps) == 8
