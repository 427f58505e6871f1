"""Write docs/reliability.md from a results file of the soak: no figure in it is typed by hand.

Made by `python scripts/reliability_table.py` from `benchmarks/results/soak.json`; a test holds both
together.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reliability.md"
RESULTS = ROOT / "benchmarks" / "results" / "soak.json"
ROWS = {
    "requests": "requests sent",
    "unanswered": "unanswered",
    "answered_twice": "answered twice",
    "texts_compared": "times both sides' texts were compared",
    "lost_edits": "lost edits",
    "old_answers": "answers for an old version",
    "flicker": "shown text replaced by other text",
    "tracebacks": "errors in the log",
    "orphans": "processes left behind",
    "typing_compressed": "typing compressed, hours",
    "requests_per_second": "requests per second",
    "resident": "resident memory, MB (median)",
    "resident_growth": "its growth after the first minute, %",
    "resident_growth_per_1000_requests": "the same per 1000 requests, kB",
    "threads_growth": "growth in threads",
    "files_growth": "growth in open files",
    "tasks_growth": "growth in tasks",
    "shutdown": "time to end, ms",
}
TEXT = """# Reliability

What happens on long days and bad ones. This page is written by `python scripts/reliability_table.py` from the results file
`benchmarks/results/soak.json`; the faults below it are tests.

## A long day

One editor that never rests edits up to 20 documents, asks, cancels, accepts, switches files and changes settings, all from a seed.
After every edit the server's text is compared with the editor's, by hash. The request for that hash exists in the program of
the measurement alone, never in the server. The command was

```text
{command}
```

{table}
{misses}

## Bad days

| fault | what follows | test |
|---|---|---|
| a backend raises, answers NaN, another shape or has no memory, in mid-decode | the next backend goes on with the same request | `test_pytorch_goes_on_where_onnxruntime_failed` |
| a backend does not come back | given up after ten seconds with its thread; another goes on | `test_a_hanging_engine_is_replaced_and_the_same_request_goes_on` |
| a load that hangs | given up after two minutes; the CPU is tried | `test_a_load_may_be_silent_for_longer` |
| a bundle is truncated or altered | an error that names the file | `test_altered_file_is_named_with_both_hashes` |
| a bundle is replaced while it is served | what is loaded goes on; nothing new is loaded from it | `test_a_bundle_that_was_replaced_while_it_was_served_is_not_loaded` |
| a graph that wants foreign code | refused before onnxruntime reads it | `test_operators_of_a_library_are_refused` |
| the disk is full | lines of the log are lost | `test_a_full_disk_costs_lines_of_the_log_and_nothing_else` |
| the client does not read | nothing blocks, nothing is lost | `test_a_client_that_does_not_read_blocks_nobody` |
| a message of 100 MB, and one beyond 128 MB | read; skipped | `test_a_message_of_100_megabytes_is_read_and_one_beyond_the_bound_is_skipped` |
| half a message, a wrong length | costs that message | `test_a_wrong_content_length_costs_one_message` |
| the editor is killed | the server ends within two seconds | `test_the_server_ends_within_two_seconds_of_the_editors_process` |
| SIGTERM, SIGKILL at any moment | the process ends and leaves none behind | `test_a_signal_ends_the_server_at_any_moment` |

A call that holds Python's own lock while it hangs stops the whole process: no watchdog inside it can help, and it must be killed.
"""  # noqa: E501 - a page of Markdown, whose table rows are lines


def page() -> str:
    """Return the page as it must be."""
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    subjects = list(dict.fromkeys(one["subject"] for one in results["figures"]))
    figures = {(one["subject"], one["name"]): one["median"] for one in results["figures"]}
    lines = ["| | " + " | ".join(subjects) + " |", "|---" * (len(subjects) + 1) + "|"]
    for name, told in ROWS.items():
        values = [plain(figures[subject, name]) for subject in subjects]
        lines.append(f"| {told} | " + " | ".join(values) + " |")
    return TEXT.format(
        command=results["command"], table="\n".join(lines), misses=misses(results["notes"])
    )


def misses(notes: list[str]) -> str:
    """Return what the run itself had to remark."""
    return "\n".join(["", "What the run remarks:", "", *(f"- {note}" for note in notes)])


def plain(value: Any) -> str:
    """Return a number without an exponent."""
    return f"{value:.0f}" if float(value).is_integer() or value >= 100 else f"{value:.2f}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
