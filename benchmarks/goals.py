"""What Foretype wants to reach on 2 CPU cores, beside what a run reached. Pure.

A goal that this run did not measure is listed as such, never as met.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.figures import Figure, Ratio
from benchmarks.report import plain

Model = Literal["embedded", "124m", "any"]
Measured = Sequence[Figure | Ratio]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One line of the table."""

    text: str
    model: Model
    reach: Callable[[Measured], list[tuple[float, float]] | None]
    """Pairs of what was reached and what it must not exceed; None: not measured."""
    unit: str = ""


def of(
    subject: str, name: str, **limits: float
) -> Callable[[Measured], list[tuple[float, float]] | None]:
    """Return a reader of statistics (`median`, `p95`, `high`, ...) of one figure, with limits."""

    def reach(measured: Measured) -> list[tuple[float, float]] | None:
        for one in measured:
            if (one.subject, one.name) == (subject, name):
                return [(getattr(one, which), limit) for which, limit in limits.items()]
        return None

    return reach


def over(
    name: str, subject: str, other: str, limit: float
) -> Callable[[Measured], list[tuple[float, float]] | None]:
    """Return a reader of one ratio's median."""

    def reach(measured: Measured) -> list[tuple[float, float]] | None:
        for one in measured:
            if isinstance(one, Ratio) and (one.name, one.subject, one.over) == (
                name,
                subject,
                other,
            ):
                return [(one.median, limit)]
        return None

    return reach


LATENCY_GOALS = (
    Goal(
        text="typed along, asked again, deleted back, server side: p95 < 5 ms",
        model="any",
        reach=of("server", "known_answer_server", p95=5),
        unit="ms",
    ),
    Goal(
        text="the same: no forward pass",
        model="any",
        reach=of("server", "known_with_a_pass", median=0),
        unit="requests with one",
    ),
    Goal(
        text="prompt tokens computed again while typing: <= 3 %",
        model="any",
        reach=of("engine", "computed_again", median=0.03),
    ),
    Goal(
        text="warm first ghost text, 124M int8: p50 <= 60, p95 <= 150 ms",
        model="124m",
        reach=of("server", "warm_first_text", median=60, p95=150),
        unit="ms",
    ),
    Goal(
        text="warm whole line, 124M int8: p50 <= 150, p95 <= 350 ms",
        model="124m",
        reach=of("server", "warm_line", median=150, p95=350),
        unit="ms",
    ),
    Goal(
        text="warm first ghost text, embedded model: p50 <= 25 ms",
        model="embedded",
        reach=of("server", "warm_first_text", median=25),
        unit="ms",
    ),
    Goal(
        text="warm whole line, embedded model: p50 <= 60 ms",
        model="embedded",
        reach=of("server", "warm_line", median=60),
        unit="ms",
    ),
    Goal(
        text="cancellation to idle: <= 1 forward pass",
        model="any",
        reach=of("engine", "passes_after_cancel", high=1),
        unit="passes",
    ),
    Goal(
        text="first ghost text, cold file of 1000 tokens, embedded model: < 1500 ms from start",
        model="embedded",
        reach=of("server", "start_to_first_text", median=1500),
        unit="ms",
    ),
    Goal(
        text="`initialize` answered: <= 1.25 x a bare pygls server",
        model="any",
        reach=over("start_to_initialized", "server", "a bare pygls server", 1.25),
    ),
    Goal(
        text="flicker: 0",
        model="any",
        reach=of("server", "flicker", median=0),
    ),
    Goal(
        text="resident memory of a served 124M int8 model: < 450 MB",
        model="124m",
        reach=of("server", "resident_memory", high=450),
        unit="MB",
    ),
)

PEER_GOALS = (
    Goal(
        text="whole line, prompt seen before, over transformers generate: <= 0.1",
        model="any",
        reach=over("line", "ort", "transformers generate fp32", 0.1),
    ),
    Goal(
        text="the same over llama.cpp, 8 bits, without its server's HTTP: <= 0.5",
        model="any",
        reach=over("line", "ort", "llama.cpp Q8_0", 0.5),
    ),
    Goal(
        text="decode over llama.cpp, 8 bits: <= 1.0",
        model="any",
        reach=over("decode", "ort", "llama.cpp Q8_0", 1.0),
    ),
    Goal(
        text="decode over CTranslate2, 8 bits: <= 1.0",
        model="any",
        reach=over("decode", "ort", "CTranslate2 int8", 1.0),
    ),
    Goal(
        text="decode over optimum's fp32 (of the same bits only with an fp32 bundle): <= 1.0",
        model="any",
        reach=over("decode", "ort", "optimum ORTModelForCausalLM fp32", 1.0),
    ),
)

GPU_GOALS = (
    Goal(
        text="decode on an H100-class GPU, 124M fp16, batch 1: <= 0.35 ms/token",
        model="124m",
        reach=of("ort", "decode", median=0.35),
        unit="ms/token",
    ),
    Goal(
        text="the same with CUDA graphs",
        model="124m",
        reach=of("ort, CUDA graphs", "decode", median=0.35),
        unit="ms/token",
    ),
    Goal(
        text="decode over transformers with a static cache and torch.compile: <= 1.0",
        model="any",
        reach=over("decode", "ort", "transformers static cache, torch.compile fp16", 1.0),
    ),
)

_NATIVE, _PYTHON = "llama-server Q8_0", "llama-cpp-python's server Q8_0"
_INSTALLED, _PLAIN = "Foretype as installed", "Foretype, every token decoded"
_FIRST_ASKED = "Foretype as installed, first asked here"
INSTALLED_GOALS = (
    Goal(
        text="warm whole line, as installed, over llama-server: <= 0.5",
        model="any",
        reach=over("line", _INSTALLED, _NATIVE, 0.5),
    ),
    Goal(
        text="the same where both say the same text: <= 0.5",
        model="any",
        reach=over("line_same_text", _INSTALLED, _NATIVE, 0.5),
    ),
    Goal(
        text="warm whole line, as installed, first asked here, over llama-server: <= 0.5",
        model="any",
        reach=over("line", _FIRST_ASKED, _NATIVE, 0.5),
    ),
)
SERVER_GOALS = (
    Goal(
        text="warm whole line, every token decoded, over llama-server: <= 0.5",
        model="any",
        reach=over("line", _PLAIN, _NATIVE, 0.5),
    ),
    Goal(
        text="the same over llama-cpp-python's server: <= 0.5",
        model="any",
        reach=over("line", _PLAIN, _PYTHON, 0.5),
    ),
)

NOT_MEASURED_HERE = (
    {
        "goal": "GPU (H100-class), 124M fp16, batch 1: <= 0.35 ms/token",
        "reached": "no GPU here",
        "is_met": None,
    },
)
"""Goals that no command of this set measures, as results files have them."""


def check_goals(goals: Sequence[Goal], measured: Measured, model: Model) -> list[dict[str, Any]]:
    """Return each goal that concerns a model, with what was reached and whether that is enough."""
    checked = []
    for goal in goals:
        if goal.model not in ("any", model):
            continue
        reached = goal.reach(measured)
        told = "" if reached is None else " / ".join(plain(value) for value, _ in reached)
        checked.append(
            {
                "goal": goal.text,
                "reached": f"{told} {goal.unit}".strip() if told else "",
                "is_met": None
                if reached is None
                else all(value <= limit for value, limit in reached),
            }
        )
    return checked
