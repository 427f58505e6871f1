"""The local engine: text in, text out, on a scripted network and a tokenizer of bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest

from server.backends.contract import Backend
from server.bundle import EMBEDDED_FOLDER, Bundle, read_bundle
from server.completion.engine import CancelToken, EngineRequest, EngineUsage
from server.completion.engines.local import LocalEngine
from server.completion.engines.local_prompts import MAX_DOCUMENTS
from server.decoding.generate import AHEAD_CHUNK_TOKENS, PREFILL_CHUNK_TOKENS
from server.errors import BackendFailedError
from server.manifest import FimOrder, FimTokens, Manifest, SpecialTokens, TensorNames
from server.options import Options, SamplingOptions
from tests.fakes import FAKE_SPEC, ByteTokenizer, FakeBackend, FakeBackends, byte_tokenizer_json

FUNCTION = """def function_{0}(value_{0}):
    # nähert 漢字 😀 {0}
    return value_{0} * {1}


"""
DOCUMENT = "".join(FUNCTION.format(i, i * 7919) for i in range(60))
SPEC = replace(FAKE_SPEC, n_ctx=512)


def knows(text: str) -> Callable[[tuple[int, ...]], int]:
    """A network that has learned one text by heart: it knows what follows 60 bytes."""
    data = text.encode()

    def following(tokens: tuple[int, ...]) -> int:
        tail = bytes(token for token in tokens if token < 256)[-60:]
        end = data.find(tail) + len(tail)
        return data[end] if tail in data and end < len(data) else ByteTokenizer.END

    return following


def make_bundle(folder: Path, *, order: FimOrder | None = None, spec=SPEC) -> Bundle:
    fim = None
    if order is not None:
        fim = FimTokens(
            prefix=ByteTokenizer.PREFIX,
            suffix=ByteTokenizer.SUFFIX,
            middle=ByteTokenizer.MIDDLE,
            order=order,
        )
    (folder / "tokenizer.json").write_text(byte_tokenizer_json(), encoding="utf-8")
    manifest = Manifest(
        name="fake",
        spec=spec,
        layout="fused",
        dtype="fp32",
        tensors=TensorNames(),
        special_tokens=SpecialTokens(end=ByteTokenizer.END, fim=fim),
    )
    return Bundle(folder=folder, manifest=manifest)


@pytest.fixture
def make_engine(tmp_path: Path):
    def make(*backends: Backend, order: FimOrder | None = None, spec=SPEC) -> LocalEngine:
        return LocalEngine(make_bundle(tmp_path, order=order, spec=spec), FakeBackends(*backends))

    return make


def request(prefix: str, suffix: str = "", **fields) -> EngineRequest:
    """What the network alone is asked; `test_local_memory.py` asks the memory too."""
    alone = {"memory": "off", "drafts": False}
    return EngineRequest(document="file:///a.py", prefix=prefix, suffix=suffix, **alone | fields)


def complete(engine: LocalEngine, asked: EngineRequest) -> tuple[str, EngineUsage]:
    usage = EngineUsage()
    deltas = list(engine.stream(asked, CancelToken(), usage))
    assert all(delta.text for delta in deltas)
    return "".join(delta.text for delta in deltas), usage


def at(n_chars: int) -> EngineRequest:
    return request(DOCUMENT[:n_chars], max_new_tokens=40)


def test_the_text_goes_on_where_the_cursor_stands(make_engine) -> None:
    engine = make_engine(FakeBackend(knows(DOCUMENT), spec=SPEC))
    text, usage = complete(engine, at(1000))
    assert DOCUMENT[1000:].startswith(text)
    assert len(text.encode()) >= 40
    assert usage.finish_reason == "length"


@pytest.mark.parametrize("cut", range(60, 180))
def test_ghost_text_starts_exactly_at_the_cursor_for_every_cut(make_engine, cut: int) -> None:
    engine = make_engine(FakeBackend(knows(DOCUMENT), spec=SPEC))
    text, _ = complete(engine, at(cut))
    assert DOCUMENT[cut:].startswith(text)
    assert len(text) > 20


def test_a_text_that_the_network_expects_is_rated_higher(make_engine) -> None:
    engine = make_engine(FakeBackend(knows(DOCUMENT), spec=SPEC))
    asked, following = request(DOCUMENT[:1000]), DOCUMENT[1000:1020]
    expected = engine.rate(asked, following, CancelToken())
    other = engine.rate(asked, following[::-1], CancelToken())
    assert expected == pytest.approx(0, abs=1e-3)
    assert other < -1
    assert engine.rate(asked, "", CancelToken()) is None


def test_the_end_token_ends_the_text(make_engine) -> None:
    engine = make_engine(FakeBackend(knows(DOCUMENT), spec=SPEC))
    text, usage = complete(engine, request(DOCUMENT[:-10]))
    assert text == DOCUMENT[-10:]
    assert usage.finish_reason == "stop"


def test_no_special_token_becomes_text_left_to_right(make_engine) -> None:
    """The likeliest token is a fill-in-the-middle token, then `a`."""
    row = np.zeros(260, np.float32)
    row[ByteTokenizer.SUFFIX], row[ord("a")] = 30, 20
    engine = make_engine(FakeBackend(lambda tokens: row, spec=SPEC), order="psm")
    assert complete(engine, request("x = 1\n", max_new_tokens=3))[0] == "aaa"


def test_a_mark_of_fill_in_the_middle_ends_the_middle(make_engine) -> None:
    row = np.zeros(260, np.float32)
    row[ByteTokenizer.SUFFIX] = 30
    engine = make_engine(FakeBackend(lambda tokens: row, spec=SPEC), order="psm")
    text, usage = complete(engine, request("f(", ")\n"))
    assert (text, usage.finish_reason) == ("", "stop")


@pytest.mark.parametrize(
    ("prefix", "suffix", "is_explicit", "expected"),
    [
        ("x = f(", ")\n", True, "aaa"),  # It stands there: something else is said.
        ("x = f(", ")\n", False, ")))"),  # Nobody asked: the filters leave nothing.
        ("x = f(", "\n", True, ")))"),
        ("x = f(g(", ")\n", True, ")))"),  # One of two is missing still.
        ("x = f(g(", "))\n", True, "aaa"),
        ("x = ')", ")\n", True, ")))"),  # A closer in an open string closes nothing.
    ],
)
def test_who_asks_before_a_closer_is_not_told_the_closer(
    make_engine, prefix: str, suffix: str, *, is_explicit: bool, expected: str
) -> None:
    """The network wants to close at once, and once it has begun otherwise it goes on so."""

    def script(tokens: tuple[int, ...]) -> np.ndarray:
        row = np.zeros(260, np.float32)
        row[ord(")")], row[ord("a")] = (20, 10) if tokens[-1] != ord("a") else (10, 20)
        return row

    engine = make_engine(FakeBackend(script, spec=SPEC))
    asked = request(prefix, suffix, is_explicit=is_explicit, max_new_tokens=3)
    assert complete(engine, asked)[0] == expected


@pytest.mark.parametrize("asked", [request(""), request("", context=""), request("\n")])
def test_an_empty_document_is_answered(make_engine, asked: EngineRequest) -> None:
    engine = make_engine(FakeBackend(lambda tokens: ord("a"), spec=SPEC))
    text, _ = complete(engine, replace(asked, max_new_tokens=2))
    assert set(text) == {"a"}


def test_a_single_line_ends_at_its_line_end(make_engine) -> None:
    engine = make_engine(FakeBackend(knows(DOCUMENT), spec=SPEC))
    cut = DOCUMENT.index("value_3")
    text, usage = complete(engine, replace(at(cut), single_line=True))
    assert text == "value_3):\n"
    assert usage.finish_reason == "stop"


def test_the_probability_of_a_piece_is_that_of_its_tokens(make_engine) -> None:
    """`é` takes two tokens; each has a half of the probability."""
    row = np.full(260, -np.inf, np.float32)
    row[[0xC3, 0xA9]] = 0
    script = {True: 0xC3, False: 0xA9}

    def half(tokens: tuple[int, ...]) -> np.ndarray:
        preferred = row.copy()
        preferred[script[tokens[-1] != 0xC3]] += 1e-3
        return preferred

    engine = make_engine(FakeBackend(half, spec=SPEC))
    usage = EngineUsage()
    deltas = list(engine.stream(request("", max_new_tokens=2), CancelToken(), usage))
    assert [delta.text for delta in deltas] == ["é"]
    assert deltas[0].logprob == pytest.approx(2 * math.log(0.5), abs=1e-2)


@pytest.mark.parametrize("order", [None, "psm", "spm"])
def test_typing_into_a_long_file_reuses_the_prompt(make_engine, order: FimOrder | None) -> None:
    backend = FakeBackend(lambda tokens: ByteTokenizer.END, spec=SPEC)
    engine = make_engine(backend, order=order)
    n_prompt, n_reused = type_along(engine, 2500, "\n" + DOCUMENT[:300])
    assert n_reused >= 0.95 * n_prompt
    assert backend.n_prefilled < 0.1 * n_prompt


def test_typing_before_a_closing_bracket_reuses_most_of_the_prompt(make_engine) -> None:
    """Where the suffix comes after the prefix, it is read again at each keystroke."""
    backend = FakeBackend(lambda tokens: ByteTokenizer.END, spec=SPEC)
    n_prompt, n_reused = type_along(make_engine(backend, order="psm"), 2500, ")\n" + DOCUMENT)
    assert n_reused >= 0.9 * n_prompt


def test_an_opening_bracket_costs_no_more_than_the_suffix(make_engine) -> None:
    engine = make_engine(FakeBackend(knows(DOCUMENT), spec=SPEC), order="psm")
    complete(engine, at(1000))
    _, usage = complete(engine, replace(at(1000), suffix=")\n"))
    assert usage.prefilled_tokens < 10


def test_typing_into_a_long_file_reuses_the_prompt_with_the_embedded_vocabulary() -> None:
    bundle = read_bundle(EMBEDDED_FOLDER)
    end = bundle.manifest.special_tokens.end
    backend = FakeBackend(lambda tokens: end, spec=bundle.manifest.spec)
    engine = LocalEngine(bundle, FakeBackends(backend))
    n_prompt, n_reused = type_along(engine, len(DOCUMENT) - 400, "\n")
    assert n_reused >= 0.95 * n_prompt


@pytest.mark.slow
def test_typing_into_a_long_file_reuses_the_prompt_of_the_embedded_network() -> None:
    from server.options import Options

    engine = LocalEngine.load(Options(device="cpu"))
    try:
        n_prompt, n_reused = type_along(engine, len(DOCUMENT) - 400, "\n")
    finally:
        engine.close()
    assert n_reused >= 0.95 * n_prompt


def type_along(engine: LocalEngine, start: int, suffix: str) -> tuple[int, int]:
    """Type 300 characters, with a request after each; return prompt tokens and reused ones."""
    complete(engine, request(DOCUMENT[:start], suffix, max_new_tokens=16))
    usages = [
        complete(engine, request(DOCUMENT[:end], suffix, max_new_tokens=16))[1]
        for end in range(start + 1, start + 301)
    ]
    for usage in usages:
        assert usage.prompt_tokens == usage.reused_tokens + usage.prefilled_tokens
    return sum(u.prompt_tokens for u in usages), sum(u.reused_tokens for u in usages)


def test_a_window_is_remembered_however_many_came_before_it(make_engine) -> None:
    """The fifth window of a document was dropped at once, and so was each one after it."""
    engine = make_engine(FakeBackend(lambda tokens: ByteTokenizer.END, spec=SPEC))
    for n_chars in range(600, 3601, 600):
        complete(engine, at(n_chars))
    for n_chars in range(3601, 3640):
        assert complete(engine, at(n_chars))[1].prefilled_tokens < 10


@pytest.mark.parametrize("order", [None, "psm", "spm"])
def test_a_request_on_warm_caches_equals_one_on_a_fresh_engine(make_engine, order) -> None:
    """Edits, jumps and cursor moves; what is remembered changes speed, never text."""

    def noisy(tokens: tuple[int, ...]) -> np.ndarray:
        seed = sum(i * token for i, token in enumerate(tokens, 1))
        return 4 * np.random.default_rng(seed).normal(size=260).astype(np.float32)

    spec = replace(SPEC, n_ctx=200)
    warm = make_engine(FakeBackend(noisy, spec=spec), order=order, spec=spec)
    for cut in (100, 101, 130, 90, 90, 40, 120, 125):
        asked = request(DOCUMENT[:cut], DOCUMENT[cut : cut + 30], max_new_tokens=20)
        fresh = make_engine(FakeBackend(noisy, spec=spec), order=order, spec=spec)
        assert complete(warm, asked)[0] == complete(fresh, asked)[0]


def test_going_back_and_forth_in_a_document_finds_what_was_prefilled(make_engine) -> None:
    engine = make_engine(FakeBackend(lambda tokens: ByteTokenizer.END, spec=SPEC))
    for n_chars in (1500, 1550, 3000, 3050):
        complete(engine, at(n_chars))
    for n_chars in (1551, 3051, 1552, 3052):
        assert complete(engine, at(n_chars))[1].prefilled_tokens < 10


def test_what_was_warmed_is_reused(make_engine) -> None:
    engine = make_engine(FakeBackend(knows(DOCUMENT), spec=SPEC))
    engine.warm(at(2000), CancelToken())
    _, usage = complete(engine, at(2000))
    assert usage.reused_tokens == usage.prompt_tokens - 1


def test_a_cancelled_warming_keeps_what_was_run(make_engine) -> None:
    cancel = CancelToken()
    backend = FakeBackend(knows(DOCUMENT), spec=SPEC, before_pass=lambda _: cancel.cancel())
    engine = make_engine(backend)
    engine.warm(at(2000), cancel)
    assert len(backend.passes) == 1
    _, usage = complete(engine, at(2000))
    assert usage.reused_tokens == len(backend.passes[0].token_ids)


@pytest.mark.parametrize("order", [None, "psm", "spm"])
@pytest.mark.parametrize("suffix", ["\n", "\n" + DOCUMENT[:90]])
def test_the_window_after_a_jump_was_read_in_idle_time(make_engine, order, suffix: str) -> None:
    """Two thousand characters are four jumps; at none of them is more than a chunk read."""
    backend = FakeBackend(lambda tokens: ByteTokenizer.END, spec=SPEC)
    engine = make_engine(backend, order=order)
    asked = [request(DOCUMENT[:n], suffix, max_new_tokens=16) for n in range(1500, 3500, 5)]
    complete(engine, asked[0])
    n_jumps, last = 0, asked[0]
    for now in asked[1:]:
        n_ahead = engine.warm_ahead(last, CancelToken())
        _, usage = complete(engine, now)
        assert usage.prefilled_tokens <= PREFILL_CHUNK_TOKENS
        assert usage.prompt_tokens == usage.reused_tokens + usage.prefilled_tokens
        n_jumps += n_ahead > 2 * PREFILL_CHUNK_TOKENS
        last = now
    assert n_jumps >= 4


def test_nothing_is_read_ahead_while_the_window_has_room(make_engine) -> None:
    backend = FakeBackend(lambda tokens: ByteTokenizer.END, spec=SPEC)
    engine = make_engine(backend)
    complete(engine, at(2000))
    n_passes = len(backend.passes)
    assert engine.warm_ahead(at(2000), CancelToken()) == 0
    assert len(backend.passes) == n_passes


def near_a_jump(engine: LocalEngine) -> EngineRequest:
    """Type until a window that follows is near, but has not been read yet."""
    for n_chars in range(1500, 2500, 5):
        complete(engine, at(n_chars))
        if engine._prompts.plan_ahead(at(n_chars)) is not None:
            return at(n_chars)
    raise AssertionError("the window never jumps")


def test_reading_ahead_stops_after_a_short_chunk_and_goes_on_from_there(make_engine) -> None:
    cancel = CancelToken()
    backend = FakeBackend(lambda tokens: ByteTokenizer.END, spec=SPEC)
    engine = make_engine(backend)
    asked = near_a_jump(engine)
    backend._before_pass = lambda _: cancel.cancel()
    assert engine.warm_ahead(asked, cancel) == AHEAD_CHUNK_TOKENS
    backend._before_pass = None
    n_rest = engine.warm_ahead(asked, CancelToken())
    ahead = engine._prompts.plan_ahead(asked)
    n_lacking = len(ahead.token_ids) - AHEAD_CHUNK_TOKENS - n_rest
    assert 0 <= n_lacking <= AHEAD_CHUNK_TOKENS
    assert engine.warm_ahead(asked, CancelToken()) == 0


def test_reading_ahead_leaves_the_present_cache_as_it_is(make_engine) -> None:
    engine = make_engine(FakeBackend(knows(DOCUMENT), spec=SPEC), order="spm")
    asked = near_a_jump(engine)
    assert engine.warm_ahead(asked, CancelToken()) > 0
    assert complete(engine, asked)[1].prefilled_tokens == 1


def test_a_cancelled_stream_ends_after_the_pass_that_runs(make_engine) -> None:
    cancel = CancelToken()
    backend = FakeBackend(knows(DOCUMENT), spec=SPEC)
    usage = EngineUsage()
    stream = make_engine(backend).stream(at(1000), cancel, usage)
    next(stream)
    n_passes = len(backend.passes)
    cancel.cancel()
    rest = list(stream)
    assert len(backend.passes) == n_passes
    assert len(rest) <= 3  # Healed tokens that were confirmed by the same pass.
    assert usage.finish_reason == "cancelled"


def test_a_consumer_that_closes_the_stream_loses_nothing(make_engine) -> None:
    backend = FakeBackend(knows(DOCUMENT), spec=SPEC)
    engine = make_engine(backend)
    stream: Iterator = engine.stream(at(1000), CancelToken(), EngineUsage())
    next(stream)
    stream.close()
    _, usage = complete(engine, at(1000))
    assert usage.reused_tokens == usage.prompt_tokens - 1


@pytest.mark.parametrize("fail_at", range(0, 30, 4))
def test_a_backend_that_fails_in_mid_decode_is_replaced_unseen(make_engine, fail_at: int) -> None:
    first = FakeBackend(knows(DOCUMENT), spec=SPEC, fail_at=fail_at)
    second = FakeBackend(knows(DOCUMENT), spec=SPEC)
    second.info = replace(second.info, name="second")
    engine = make_engine(first, second)
    assert engine.info.backend == "fake"
    text, _ = complete(engine, at(1000))
    assert text == complete(make_engine(FakeBackend(knows(DOCUMENT), spec=SPEC)), at(1000))[0]
    assert engine.info.backend == "second"


def test_the_error_is_raised_when_the_last_backend_fails(make_engine) -> None:
    engine = make_engine(FakeBackend(knows(DOCUMENT), spec=SPEC, fail_at=9))
    with pytest.raises(BackendFailedError):
        complete(engine, at(1000))


def test_candidates_differ_and_are_the_same_each_time(make_engine) -> None:
    row = np.random.default_rng(0).normal(size=260).astype(np.float32)
    backend = FakeBackend(lambda tokens: row, spec=SPEC)
    engine = make_engine(backend)
    texts = [complete(engine, replace(at(1000), candidate=i))[0] for i in range(4)]
    assert len(set(texts)) == 4
    assert [complete(engine, replace(at(1000), candidate=i))[0] for i in range(4)] == texts
    other_seed = replace(at(1000), candidate=1, sampling=SamplingOptions(seed=1))
    assert complete(engine, other_seed)[0] != texts[1]


def test_further_candidates_share_the_prefill(make_engine) -> None:
    engine = make_engine(FakeBackend(knows(DOCUMENT), spec=SPEC))
    complete(engine, at(1000))
    _, usage = complete(engine, replace(at(1000), candidate=1))
    assert usage.prefilled_tokens == 1


@pytest.mark.parametrize("order", [None, "psm", "spm"])
@pytest.mark.parametrize("n_ctx", [8, 16, 64, 100])
def test_a_small_context_is_enough(make_engine, n_ctx: int, order: FimOrder | None) -> None:
    spec = replace(SPEC, n_ctx=n_ctx)
    engine = make_engine(FakeBackend(lambda tokens: ord("a"), spec=spec), order=order, spec=spec)
    for end in accumulate([1, 3, 500, 7, 900]):
        asked = request(DOCUMENT[:end], DOCUMENT[end:], context="# context\n", max_new_tokens=96)
        text, usage = complete(engine, asked)
        assert usage.finish_reason == "length"
        assert usage.prompt_tokens <= n_ctx
        assert n_ctx < 16 or len(text) >= n_ctx // 4


@pytest.mark.parametrize("n_vocab", [258, 300])
def test_tokenizer_and_network_may_differ_in_size(make_engine, n_vocab: int) -> None:
    spec = replace(SPEC, n_vocab=n_vocab)
    row = np.zeros(n_vocab, np.float32)
    row[-1], row[ord("a")] = 30, 20
    engine = make_engine(FakeBackend(lambda tokens: row, spec=spec), spec=spec)
    assert complete(engine, request("x<|fim_middle|>\n", max_new_tokens=2))[0] == "aa"


def test_the_context_stands_in_front_of_the_prefix(make_engine) -> None:
    backend = FakeBackend(lambda tokens: ByteTokenizer.END, spec=SPEC)
    complete(make_engine(backend), request("x = 1\n", context="# a.py\n"))
    assert bytes(backend.passes[0].token_ids).startswith(b"# a.py\nx = 1")


def test_a_documents_caches_are_forgotten_when_it_is_closed(make_engine) -> None:
    engine = make_engine(FakeBackend(knows(DOCUMENT), spec=SPEC))
    complete(engine, at(1000))
    engine.forget("file:///a.py")
    engine.forget("file:///never-opened.py")
    assert complete(engine, at(1000))[1].reused_tokens == 0


def test_two_documents_do_not_disturb_each_other(make_engine) -> None:
    engine = make_engine(FakeBackend(knows(DOCUMENT), spec=SPEC))
    first, second = at(1000), replace(at(3000), document="file:///b.py")
    texts = [complete(engine, first)[0], complete(engine, second)[0]]
    for asked, text in zip((first, second) * 3, texts * 3, strict=True):
        again, usage = complete(engine, asked)
        assert again == text
        assert usage.prefilled_tokens == 1


def test_only_so_many_documents_are_remembered(make_engine) -> None:
    engine = make_engine(FakeBackend(lambda tokens: ByteTokenizer.END, spec=SPEC))
    for i in range(MAX_DOCUMENTS + 5):
        complete(engine, replace(request("x = 1\n"), document=f"file:///{i}.py"))
    assert len(engine._prompts._documents) == MAX_DOCUMENTS


def test_closing_the_engine_closes_the_backends(tmp_path: Path) -> None:
    backends = FakeBackends(FakeBackend(spec=SPEC))
    LocalEngine(make_bundle(tmp_path), backends).close()
    assert backends.is_closed


def test_a_backend_that_nobody_knows_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING"):
        engine = LocalEngine.load(Options(backend="otr", device="cpu", threads=1))
    assert engine.info.backend == "ort"
    assert "did you mean 'ort'?" in caplog.text
    assert "did you mean 'ort'?" in engine.info.details["skipped"]
    engine.close()
