"""Write docs/reliability.md from results files: no figure in it is typed by hand.

Made by `python scripts/reliability_table.py` from those of `benchmarks soak`, `faults` and `fuzz`;
a test holds them together.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reliability.md"
RESULTS = ROOT / "benchmarks" / "results"
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
    "closed_kept": "closed documents that were remembered",
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
FAULT_COLUMNS = {
    ("injected", "median"): "times injected",
    ("survived", "median"): "survived",
    ("recovery", "median"): "recovered after, ms (median)",
    ("recovery", "high"): "at the longest, ms",
}
FUZZ_COLUMNS = {
    ("inputs", "median"): "inputs tried",
    ("findings", "median"): "findings",
    ("inputs_kept", "median"): "inputs that reached new code",
    ("peak_memory", "median"): "most memory, MB",
}
TEXT = """# Reliability

What happens on long days and bad ones. This page is written by `python scripts/reliability_table.py` from the results files
`soak.json`, `faults.json` and `fuzz.json` in `benchmarks/results`; the faults at its end are tests.

## A long day

One editor that never rests edits up to 20 documents, asks, cancels, accepts, switches files and changes settings, all from a seed.
After every edit the server's text is compared with the editor's, by hash. The request for that hash exists in the program of
the measurement alone, never in the server. The command was

```text
{command}
```

{table}
{misses}

## Faults and recovery

Each fault is met by a real server in a process of its own, {n_faults} in all, of which {n_survived} were survived. Recovered is
the server when the next completion comes; one that is to end, when it is gone with all its processes. The engine that hangs is given
up after ten seconds without a sign of life. The command was

```text
{faults_command}
```

{faults}
{fault_misses}

## Any bytes

What reads a stranger's bytes is fuzzed, guided by coverage: {n_inputs} inputs in this run. What was found before is kept in
`tests/data/fuzz` and tried by every run of the tests. The command was

```text
{fuzz_command}
```

{fuzz}
{fuzz_misses}

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
| invalid UTF-8, deep JSON, what is no message | is refused | `test_a_body_that_is_no_json_is_refused`, `test_json_that_is_no_message_is_refused` |
| requests before `initialize` and after `shutdown`, an id twice | have their error codes | `test_requests_out_of_order_have_their_codes`, `test_an_id_in_use_is_refused` |
| a notification with an id, `initialized` twice | refused; loads nothing twice | `test_a_notification_with_an_id_is_refused`, `test_an_editor_that_is_initialized_twice_has_one_engine_loaded` |
| a document closed before its request is begun | an empty answer, nothing is remembered | `test_a_document_closed_before_its_request_is_begun_is_not_remembered` |
| an answer that is complete as a newer request comes | superseded, so that it is never told after the newer one's | `test_a_request_whose_text_is_complete_as_a_newer_one_comes_is_superseded` |
| the clock jumps | nothing is timed by the wall clock | `test_no_module_of_the_server_waits_by_the_wall_clock` |
| a bundle without permission | an error that names the permission | `test_a_bundle_that_may_not_be_read_says_so` |
| a bundle of a newer or an older format | upgrade Foretype, or export again | `test_newer_format_asks_for_an_upgrade`, `test_other_formats_ask_for_a_new_export` |
| the editor is killed | the server ends within two seconds | `test_the_server_ends_within_two_seconds_of_the_editors_process` |
| SIGTERM, SIGKILL at any moment | the process ends and leaves none behind | `test_a_signal_ends_the_server_at_any_moment` |

A call that holds Python's own lock while it hangs stops the whole process: no watchdog inside it can help, and it must be killed.
"""  # noqa: E501 - a page of Markdown, whose table rows are lines


def page() -> str:
    """Return the page as it must be."""
    soak, faults, fuzz = (read(name) for name in ("soak", "faults", "fuzz"))
    injected, survived = (total(faults, name) for name in ("injected", "survived"))
    return TEXT.format(
        command=soak["command"],
        table=table(soak, ROWS),
        misses=misses(soak["notes"]),
        n_faults=f"{injected:.0f}",
        n_survived=f"{survived:.0f}",
        faults_command=faults["command"],
        faults=by_subject(faults, FAULT_COLUMNS),
        fault_misses=misses(faults["notes"]),
        n_inputs=f"{total(fuzz, 'inputs'):,.0f}",
        fuzz_command=fuzz["command"],
        fuzz=by_subject(fuzz, FUZZ_COLUMNS),
        fuzz_misses=misses(fuzz["notes"]),
    )


def read(name: str) -> dict[str, Any]:
    """Return a results file."""
    results: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return results


def subjects(results: dict[str, Any]) -> list[str]:
    """Return what was measured, in its order."""
    return list(dict.fromkeys(one["subject"] for one in results["figures"]))


def total(results: dict[str, Any], name: str) -> float:
    """Return the sum of a figure over all subjects."""
    return sum(one["median"] for one in results["figures"] if one["name"] == name)


def table(results: dict[str, Any], rows: dict[str, str]) -> str:
    """Return a figure a row, a subject a column."""
    figures = {(one["subject"], one["name"]): one["median"] for one in results["figures"]}
    names = subjects(results)
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for name, told in rows.items():
        values = [plain(figures[subject, name]) for subject in names]
        lines.append(f"| {told} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def by_subject(results: dict[str, Any], columns: dict[tuple[str, str], str]) -> str:
    """Return a subject a row, a figure a column."""
    figures = {(one["subject"], one["name"]): one for one in results["figures"]}
    lines = ["| | " + " | ".join(columns.values()) + " |", "|---" * (len(columns) + 1) + "|"]
    for subject in subjects(results):
        values = [
            plain(figures[subject, name][which]) if (subject, name) in figures else "-"
            for name, which in columns
        ]
        lines.append(f"| {subject} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def misses(notes: list[str]) -> str:
    """Return what the run itself had to remark."""
    return "\n".join(["", "What the run remarks:", "", *(f"- {note}" for note in notes)])


def plain(value: Any) -> str:
    """Return a number without an exponent."""
    return f"{value:.0f}" if float(value).is_integer() or value >= 100 else f"{value:.2f}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
