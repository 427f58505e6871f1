"""The memory as an answer asks it: drafts that change nothing, a pace that is learned."""

from __future__ import annotations

import numpy as np
import pytest

from server.backends.predictions import LogitsPrediction
from server.completion.engine import EngineUsage
from server.decoding.decoder import Decoder, Job
from server.decoding.generate import no_draft
from server.decoding.memory.answer import AnswerMemory
from server.decoding.memory.coefficients import Coefficients
from server.decoding.memory.drafts import MAX_DRAFT_TOKENS, REST_TOKENS, Pace
from server.decoding.memory.index import LearnedText, Snapshot, WorkspaceIndex
from server.decoding.memory.recall import DocumentText, Recall
from server.decoding.memory.stream import TokenWidth
from server.decoding.prompt import Prompt
from server.decoding.sampling import make_choose
from server.options import SamplingOptions
from tests.fakes import FAKE_SPEC, FakeBackend, FakeBackends

pytestmark = pytest.mark.usefixtures("each_way")

N_VOCAB = FAKE_SPEC.n_vocab
WIDTH = TokenWidth(N_VOCAB)
MOTIF = np.random.default_rng(5).integers(0, 6, 50).tolist()
TEXT = MOTIF * 8


def uncertain(tokens: tuple[int, ...]) -> np.ndarray:
    """A network that leans towards one of few tokens, as its last three tell."""
    row = np.zeros(N_VOCAB, np.float32)
    row[:6] = np.random.default_rng(list(tokens[-3:])).normal(0, 2, 6)
    return row


def make_memory(pace: Pace | None = None, *, is_mixed: bool = True) -> AnswerMemory:
    index = WorkspaceIndex(WIDTH, 1_000_000)
    index.learn(lambda: [LearnedText("b.py", WIDTH.pack(TEXT[200:]))])
    recall = Recall(lambda: index.snapshot, DocumentText(TEXT[:200], (), WIDTH), "a.py", WIDTH)
    pace = pace or Pace(Coefficients())
    return AnswerMemory(recall, TEXT[:200], Coefficients(), pace, is_mixed=is_mixed)


def generate(*, drafts: bool, temperature: float, seed: int) -> tuple[list, EngineUsage, int]:
    memory = make_memory()
    backend = FakeBackend(uncertain)
    usage = EngineUsage()
    prompt = TEXT[170:200]
    job = Job(
        prompt=Prompt(token_ids=tuple(prompt[:-2]), healed_ids=tuple(prompt[-2:])),
        choose=make_choose(
            SamplingOptions(temperature=temperature, seed=seed),
            np.random.default_rng(seed),
            processors=[memory.process],
        ),
        end_ids=frozenset(),
        max_new_tokens=24,
        is_cancelled=lambda: False,
        propose=memory.propose if drafts else no_draft,
    )
    tokens = list(Decoder(FakeBackends(backend), lambda: 0.0).run(job, usage))
    return tokens, usage, len(backend.passes)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(8))
def test_drafts_change_nothing_but_the_number_of_passes(temperature: float, seed: int):
    plain, _, n_plain = generate(drafts=False, temperature=temperature, seed=seed)
    drafted, usage, n_drafted = generate(drafts=True, temperature=temperature, seed=seed)
    assert drafted == plain
    assert usage.accepted_tokens > 0
    assert n_drafted < n_plain


def test_confidence_is_that_of_the_mixture():
    memory = make_memory()
    context = TEXT[150:180]
    seen = AnswerMemory(memory._recall, context, Coefficients(), Pace(Coefficients()))
    prediction = LogitsPrediction(np.zeros(N_VOCAB, np.float32))
    choose = make_choose(SamplingOptions(), np.random.default_rng(0), processors=[seen.process])
    chosen = choose([], prediction)
    assert chosen.token_id == TEXT[180]
    assert chosen.logprob > -np.log(N_VOCAB) + 1
    assert seen.n_helped == 1


def test_what_was_generated_is_no_memory():
    """The trivial loop: the memory would copy what it has just said."""
    recall = Recall(Snapshot, DocumentText([1, 2], (), WIDTH), "a.py", WIDTH)
    memory = AnswerMemory(recall, [1, 2], Coefficients(), Pace(Coefficients()))
    log_probs = uncertain((1, 2, 3))
    assert memory.process([3, 4, 1, 2], log_probs) is log_probs
    assert not memory.propose([3, 4, 1, 2])


def test_a_longer_match_gets_a_longer_draft():
    pace = Pace(Coefficients())
    lengths = [pace.draft_length(n) for n in (2, 4, 8, 16, 32)]
    assert lengths == sorted(lengths)
    assert lengths[-1] > lengths[0]
    assert max(lengths) <= MAX_DRAFT_TOKENS


def test_drafts_stop_where_they_are_never_right_and_come_back():
    pace = Pace(Coefficients())
    assert pace.draft_length(16)
    for right in (False, True):
        for _ in range(500):
            for length in range(33):
                pace.saw(length, was_right=right)
        pace.review()
        assert bool(pace.draft_length(16)) is right


def test_drafts_stop_where_a_token_more_costs_as_much_as_a_pass():
    pace = Pace(Coefficients())
    for _ in range(100):
        for n_tokens in (1, 2, 5, 17):
            pace.took(n_tokens, 0.010 * n_tokens)
    pace.review()
    assert pace.costs() == pytest.approx(range(1, MAX_DRAFT_TOKENS + 2))
    assert pace.draft_length(32) == 0


def test_drafts_grow_where_tokens_cost_nothing_more():
    pace = Pace(Coefficients())
    cautious = pace.draft_length(8)
    for n_tokens in (1, 2, 9):
        pace.took(n_tokens, 0.010)
    pace.review()
    assert pace.draft_length(8) == MAX_DRAFT_TOKENS > cautious


@pytest.mark.parametrize(
    ("n_accepted", "pass_s", "pays"), [(0, 1.0, 0), (1, 1e-5, 0), (1, 0.01, 1)]
)
def test_looking_for_drafts_alone_rests_where_it_does_not_pay(
    n_accepted: int, pass_s: float, pays: bool
):
    pace = Pace(Coefficients())
    assert all(pace.is_worth_looking(n) for n in range(20))  # Before anything is known.
    pace.took(1, pass_s)
    for _ in range(500):
        pace.gained(n_accepted)
    looks = [pace.is_worth_looking(n) for n in range(2 * REST_TOKENS)]
    assert sum(looks) == (2 * REST_TOKENS if pays else 2)


def test_a_look_up_that_rests_proposes_nothing_unless_the_mixture_asks_anyway():
    pace = Pace(Coefficients())
    pace.took(1, 0.001)
    for _ in range(200):  # Each look-up is followed by one token, the pass's own.
        memory = make_memory(pace, is_mixed=False)
        memory.propose(())
        memory.propose(TEXT[200:201])
    generated = TEXT[200:203]
    assert not make_memory(pace, is_mixed=False).propose(generated)
    assert make_memory(pace).propose(generated)


def test_a_prefill_says_nothing_of_drafts():
    pace = Pace(Coefficients())
    before = pace.costs()
    pace.took(1, 0.010)
    pace.took(64, 0.640)
    assert pace.costs() == before


def test_the_pace_is_learned_from_tokens_that_were_not_drafted():
    pace = Pace(Coefficients())
    for length in range(33):
        for _ in range(200):
            pace.saw(length, was_right=False)
    before = pace._n_right.sum()
    memory = make_memory(pace)
    assert not memory.propose([])
    _, _, token = memory._expected
    memory.propose([token])
    assert pace._n_right.sum() == before + 1
