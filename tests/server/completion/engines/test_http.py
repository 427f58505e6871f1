"""The http engine against a stand-in on loopback."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from server.completion.engine import CancelToken, EngineRequest, EngineUsage, TextDelta
from server.completion.engines.http import KEY_VARIABLE, HttpEngine
from server.errors import EngineError
from server.options import Options, SamplingOptions

REQUEST = EngineRequest(document="file:///a.py", prefix="x = ", suffix="\n", max_new_tokens=8)
Reply = Callable[[BaseHTTPRequestHandler], None]


class StandIn:
    """What the server was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.paths: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []


@contextmanager
def stand_in(reply: Reply) -> Iterator[StandIn]:
    """Run a completion server on loopback that answers every request the same way."""
    seen = StandIn()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            seen.paths.append(self.path)
            seen.keys.append(self.headers.get("Authorization"))
            seen.bodies.append(json.loads(self.rfile.read(length)))
            reply(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    seen.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def event(text: str, logprob: float | None = None, finish: str | None = None) -> bytes:
    choice: dict[str, Any] = {"text": text, "finish_reason": finish}
    if logprob is not None:
        choice["logprobs"] = {"token_logprobs": [logprob]}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def stream_of(*events: bytes) -> Reply:
    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream; charset=utf-8")
        handler.end_headers()
        for one in events:
            handler.wfile.write(one)

    return reply


def ask(
    url: str, request: EngineRequest = REQUEST, model: str = ""
) -> tuple[list[TextDelta], EngineUsage]:
    engine = HttpEngine.load(Options(http_url=url, http_model=model))
    usage = EngineUsage()
    return list(engine.stream(request, CancelToken(), usage)), usage


def test_events_become_text_with_probabilities() -> None:
    events = [event("ma", math.log(0.5)), b": ping\n\n", event("in()", None, "stop")]
    with stand_in(stream_of(*events, b"data: [DONE]\n\n", event("never"))) as server:
        deltas, usage = ask(server.url)
    assert deltas == [
        TextDelta(text="ma", logprob=math.log(0.5)),
        TextDelta(text="in()", logprob=0),
    ]
    assert (usage.new_tokens, usage.finish_reason) == (2, "stop")


def test_the_request_carries_text_and_sampling() -> None:
    asked = EngineRequest(
        document="file:///a.py",
        prefix="x = ",
        suffix="\n",
        context="# a.py\n",
        max_new_tokens=8,
        single_line=True,
        sampling=SamplingOptions(temperature=0.4, top_p=0.9, seed=7),
    )
    with stand_in(stream_of()) as server:
        ask(server.url, asked, model="coder")
    assert server.bodies == [
        {
            "prompt": "# a.py\nx = ",
            "max_tokens": 8,
            "temperature": 0.4,
            "top_p": 0.9,
            "seed": 7,
            "logprobs": 1,
            "stream": True,
            "model": "coder",
            "stop": ["\n"],
        }
    ]


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("", "/v1/completions"),
        ("/", "/v1/completions"),
        ("/v1", "/v1/completions"),
        ("/v1/completions", "/v1/completions"),
        ("/engine/v1/", "/engine/v1/completions"),
    ],
)
def test_the_address_may_be_short(given: str, asked: str) -> None:
    with stand_in(stream_of()) as server:
        ask(server.url + given)
    assert server.paths == [asked]


def test_an_answer_in_one_piece_is_taken_too() -> None:
    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.end_headers()
        handler.wfile.write(event("main()", None, "length").removeprefix(b"data: "))

    with stand_in(reply) as server:
        deltas, usage = ask(server.url)
    assert [delta.text for delta in deltas] == ["main()"]
    assert usage.finish_reason == "length"


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with stand_in(stream_of()) as server:
        ask(server.url)
        monkeypatch.setenv(KEY_VARIABLE, "sesame")
        ask(server.url)
    assert server.keys == [None, "Bearer sesame"]


def test_a_refusal_is_one_sentence() -> None:
    with (
        stand_in(lambda handler: handler.send_error(404)) as server,
        pytest.raises(EngineError, match="answered 404 Not Found; check httpUrl"),
    ):
        ask(server.url)


def test_an_answer_that_is_no_completion_is_named() -> None:
    with (
        stand_in(stream_of(b"data: {}\n\n")) as server,
        pytest.raises(EngineError, match="sent something that is no completion"),
    ):
        ask(server.url)


def test_a_server_that_is_not_there_is_named() -> None:
    with stand_in(stream_of()) as server:
        url = server.url
    with pytest.raises(EngineError, match=r"no answer from http://127\.0\.0\.1"):
        ask(url)


@pytest.mark.parametrize("url", ["", "127.0.0.1:8080", "ftp://host/", "http://"])
def test_an_address_without_meaning_is_refused(url: str) -> None:
    with pytest.raises(EngineError, match="httpUrl"):
        HttpEngine.load(Options(http_url=url))


def test_cancelling_closes_the_connection() -> None:
    first_sent, closed = threading.Event(), threading.Event()

    def reply(handler: BaseHTTPRequestHandler) -> None:
        stream_of(event("one"))(handler)
        handler.wfile.flush()
        first_sent.set()
        assert handler.connection.recv(1) == b""  # Waits until the client closes.
        closed.set()

    with stand_in(reply) as server:
        engine = HttpEngine.load(Options(http_url=server.url))
        cancel, usage = CancelToken(), EngineUsage()
        stream = engine.stream(REQUEST, cancel, usage)
        assert next(stream).text == "one"
        first_sent.wait()
        cancel.cancel()
        assert list(stream) == []
        assert closed.wait(10)
    assert usage.finish_reason == "cancelled"
