"""What holds for every text, stream and filter."""

from __future__ import annotations

import asyncio
import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from server.completion.completer import Completer
from server.completion.engine import EngineRequest, TextDelta
from server.completion.filters import Draft, FilterChain
from server.completion.request import Answer, Candidate, CompletionRequest
from server.completion.stopping import find_end, stop_rules
from server.completion.trimming import present, replaced_chars
from server.options import Options
from server.plugins import Plugins
from tests.fakes import FakeEngine, FakePlugins, ManualClock

FILTERS = [(name, Plugins().load("filters", name)) for name in Options().filters]
LANGUAGES = ("python", "typescript", "go", "c", "html", "markdown", "yaml", "unknown")

PIECES = st.sampled_from(
    (
        *("x", "foo", " = ", "(", ")", "[", "]", "{", "}", '"', "'", ":", ";", ",", ". ", "\\"),
        *("\n", "\n\n", "\n    ", "\n\t", "    ", "\t", "return x", "# note", "</b>", "<b>"),
        *("😀", "e\u0301", "<|end|>", "\u202e", "aaaaaaaaaaaa", "don't", "1.5"),
        "step()\n    step()",
    )
)
TEXTS = st.lists(PIECES, max_size=12).map("".join)
STREAMS = st.lists(
    st.tuples(PIECES, st.floats(0.001, 1.0)).map(
        lambda pair: TextDelta(text=pair[0], logprob=math.log(pair[1]))
    ),
    max_size=16,
)


def request(prefix: str, suffix: str, language: str) -> CompletionRequest:
    return CompletionRequest(
        document="file:///a", version=1, prefix=prefix, suffix=suffix, language=language
    )


REQUESTS = st.builds(request, TEXTS, TEXTS, st.sampled_from(LANGUAGES))


@pytest.mark.parametrize(("name", "apply"), FILTERS, ids=[name for name, _ in FILTERS])
@given(text=TEXTS, asked=REQUESTS)
def test_no_filter_lengthens(name: str, apply: object, text: str, asked: CompletionRequest) -> None:
    assert callable(apply)
    draft = Draft(text=text, prefix=asked.prefix, suffix=asked.suffix, language=asked.language)
    shown = apply(draft)
    assert len(shown) <= len(text)
    again = apply(replace(draft, text=shown))
    assert len(again) <= len(shown)


@example(asked=request("'", "'don'tx", "python"), text="don'tx")
@given(asked=REQUESTS, text=TEXTS)
def test_the_replaced_part_lies_on_the_cursors_line_and_is_in_the_text(
    asked: CompletionRequest, text: str
) -> None:
    n_replaced = replaced_chars(text, asked)
    replaced = asked.suffix[:n_replaced]
    assert "\n" not in replaced
    characters = iter(text)
    assert all(char in characters for char in replaced.strip())


@given(asked=REQUESTS, stream=STREAMS, mode=st.sampled_from(["auto", "always", "never"]))
def test_the_end_once_known_stays(
    asked: CompletionRequest, stream: list[TextDelta], mode: str
) -> None:
    rules = stop_rules(asked, mode, 3)
    texts = ["".join(d.text for d in stream[:n]) for n in range(len(stream) + 1)]
    known = [end for end in (find_end(text, rules) for text in texts) if end is not None]
    assert len(set(known)) <= 1
    if known:
        assert find_end(texts[-1], rules, is_ended=True) == known[0]


@given(asked=REQUESTS, stream=STREAMS, least=st.sampled_from([0.0, 0.3]))
def test_a_complete_text_is_what_more_generated_text_would_not_change(
    asked: CompletionRequest, stream: list[TextDelta], least: float
) -> None:
    rules = stop_rules(asked, "auto", 4)
    chain = FilterChain(FILTERS, lambda name, how: pytest.fail(f"{name}: {how}"))
    shown = [
        present(asked, stream[:n], rules=rules, filters=chain, min_confidence=least)
        for n in range(len(stream) + 1)
    ]
    complete = [one.text for one in shown if one.is_complete]
    assert len(set(complete)) <= 1


async def completions(
    asked: list[tuple[str, str, bool]],
    stream: list[TextDelta],
    language: str,
    options: Options,
    said_after: str | None = None,
) -> tuple[list[Answer], list[list[tuple[Candidate, ...]]]]:
    """Ask one completer for several places, one after another; True asks for growing text.

    The model says the stream after the first place, or after `said_after`, and the rest of it after
    a prefix that has grown by a part.
    """
    start = asked[0][0] if said_after is None else said_after

    def said(one: EngineRequest) -> list[TextDelta]:
        """What is left of the stream after the prefix, as a deterministic model would say it."""
        typed = one.prefix.removeprefix(start)
        rest = list(stream)
        while rest and typed:
            size = min(len(rest[0].text), len(typed))
            typed = typed[size:]
            rest[0] = replace(rest[0], text=rest[0].text[size:])
            if not rest[0].text:
                rest.pop(0)
        return rest

    plugins = FakePlugins()
    plugins.provide("engines", "fake", FakeEngine(said).as_plugin())
    completer = Completer(options, plugins, clock=ManualClock(), on_status=lambda status: None)
    completer.start()
    await completer.wait_ready()
    answers, growths = [], []
    for prefix, suffix, grows in asked:
        grown: list[tuple[Candidate, ...]] = []
        place = request(prefix, suffix, language)
        answers.append(await completer.complete(place, grown.append if grows else None))
        growths.append(grown)
    await completer.close()
    return answers, growths


SLOWLY = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
QUICK = Options(engine="fake", debounce_ms=0, max_debounce_ms=0, deadline_ms=60_000)


@SLOWLY
@given(asked=REQUESTS, stream=STREAMS)
def test_growing_text_is_only_ever_extended(
    asked: CompletionRequest, stream: list[TextDelta]
) -> None:
    place = ("x" + asked.prefix, asked.suffix, True)
    answers, growths = asyncio.run(completions([place], stream, asked.language, QUICK))
    steps = [candidates[0] for candidates in [*growths[0], answers[0].candidates] if candidates]
    for shorter, longer in itertools.pairwise(steps):
        assert longer.text.startswith(shorter.text)
        assert longer.id == shorter.id
    if growths[0]:
        assert answers[0].candidates, "text that was shown is never taken back"


@SLOWLY
@given(asked=REQUESTS, stream=STREAMS, share=st.floats(0, 1))
def test_typing_along_shows_the_rest_of_what_was_shown(
    asked: CompletionRequest, stream: list[TextDelta], share: float
) -> None:
    place = ("x" + asked.prefix, asked.suffix, False)

    async def run() -> None:
        (first,), _ = await completions([place], stream, asked.language, QUICK)
        if not first.candidates:
            return
        text = first.candidates[0].text
        typed = text[: int(share * len(text))]
        along = (place[0] + typed, place[1], False)
        (_, second), _ = await completions([place, along], stream, asked.language, QUICK)
        if text[len(typed) :].strip() and second.reason != "the cursor is inside a word":
            assert [c.text for c in second.candidates] == [text[len(typed) :]]
            assert second.source == "cache"

    asyncio.run(run())


@SLOWLY
@given(asked=REQUESTS, stream=STREAMS, share=st.floats(0, 1))
def test_reuse_on_one_line_equals_what_a_fresh_request_would_show(
    asked: CompletionRequest, stream: list[TextDelta], share: float
) -> None:
    """With what looks at the whole text off, filters and threshold: they judge a rest by itself."""
    options = replace(
        QUICK, multi_line="never", filters=("special", "control", "blank"), min_confidence=0.0
    )
    place = ("x" + asked.prefix, asked.suffix, False)

    async def run() -> None:
        (first,), _ = await completions([place], stream, asked.language, options)
        text = first.candidates[0].text if first.candidates else ""
        along = (place[0] + text[: int(share * len(text))], place[1], False)
        (_, reused), _ = await completions([place, along], stream, asked.language, options)
        (again,), _ = await completions([place], stream, asked.language, options)
        assert [c.text for c in again.candidates] == [c.text for c in first.candidates]
        if asked.language == "markdown" or "#" in along[0] or not text:
            return  # A sentence's end depends on how much of it stands there.
        if len((place[0] + text).removeprefix(along[0]).strip()) == 1:
            return  # A single key is not offered anew, though what was shown stays.
        (fresh,), _ = await completions([along], stream, asked.language, options, place[0])
        assert [c.text for c in reused.candidates] == [c.text for c in fresh.candidates]

    asyncio.run(run())
