"""Print the table of docs/performance.md that says what fewer bits cost, from its results file."""

from __future__ import annotations

import json
from pathlib import Path

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results" / "accuracy.json"
COLUMNS = {
    "bits_per_byte": ("bits per byte", ".3f"),
    "token_accuracy": ("token accuracy", ".3f"),
    "relative_error": ("relative error", ".1e"),
    "same_choice": ("same next token", ".3f"),
    "same_text_tokens": ("greedy tokens alike", ".0f"),
}


def table(results: dict) -> str:
    """Return a row for each number format: medians over the texts, with the range."""
    by_subject: dict[str, dict[str, dict]] = {}
    for one in results["figures"]:
        by_subject.setdefault(one["subject"], {})[one["name"]] = one
    lines = [
        "| | " + " | ".join(title for title, _ in COLUMNS.values()) + " |",
        "|---" * (1 + len(COLUMNS)) + "|",
    ]
    for subject, figures in by_subject.items():
        cells = [
            _cell(figures[name], form) if name in figures else ""
            for name, (_, form) in COLUMNS.items()
        ]
        lines.append(f"| {subject} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(one: dict, form: str) -> str:
    return f"{one['median']:{form}} ({one['low']:{form}}-{one['high']:{form}})"


if __name__ == "__main__":
    print(table(json.loads(RESULTS.read_text(encoding="utf-8"))))
