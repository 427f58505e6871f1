"""Reads `tests/data/completions/*.toml`: what a completion must look like, case by case.

A case: `name`, `language`, `text` with the cursor drawn as `$0`, `stream` (what the model says:
texts, or pairs of text and probability), and either `expected` with `replaced` (the characters
after the cursor that the text replaces, 0 if left out) or `nothing` with the reason. Optional:
`settings` (camelCase), `trigger`, `selected`, `path`, `ignored` (by git), and `streamed`: the text
that a client gets that watches it grow, where it was shown before the engine came to its limit.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from server.completion.engine import TextDelta
from server.completion.request import CompletionRequest, Trigger
from server.options import Options, apply_settings

FOLDER = Path(__file__).parent / "data" / "completions"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of a table."""

    name: str
    text: str
    stream: Sequence[Any]
    language: str = "python"
    expected: str = ""
    streamed: str = ""
    nothing: str = ""
    replaced: int = 0
    trigger: Trigger = "automatic"
    selected: str = ""
    path: str = ""
    ignored: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert bool(self.expected) != bool(self.nothing), f"{self.name}: expected or nothing"
        assert self.text.count("$0") == 1, f"{self.name}: one cursor"

    @property
    def request(self) -> CompletionRequest:
        """The request, with LF line ends as the completer wants them."""
        prefix, _, suffix = self.text.replace("\r\n", "\n").partition("$0")
        return CompletionRequest(
            document="file:///case",
            version=1,
            prefix=prefix,
            suffix=suffix,
            language=self.language,
            path=self.path,
            is_ignored=self.ignored,
            trigger=self.trigger,
            selected_text=self.selected,
        )

    @property
    def deltas(self) -> list[TextDelta]:
        """What the model says; a text without a probability has 0.9."""
        pairs = [(piece, 0.9) if isinstance(piece, str) else piece for piece in self.stream]
        return [TextDelta(text=text, logprob=math.log(p)) for text, p in pairs]

    @property
    def options(self) -> Options:
        """The default options with the case's settings, without a wait."""
        settings = {"debounceMs": 0, "maxDebounceMs": 0, **self.settings}
        options, warnings = apply_settings(Options(engine="fake"), settings)
        assert not warnings, warnings
        return options


def read_cases() -> list[Case]:
    """Read all tables, in the order of their names."""
    cases = []
    for path in sorted(FOLDER.glob("*.toml")):
        for row in tomllib.loads(path.read_text(encoding="utf-8"))["case"]:
            cases.append(Case(**{**row, "name": f"{path.stem}: {row['name']}"}))
    names = [case.name for case in cases]
    assert len(set(names)) == len(names), "each case has its own name"
    return cases
