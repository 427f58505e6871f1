"""`complete F:L:C`: one completion on the terminal, as it grows.

Does not know the protocol. The ghost text goes to stdout, all else to stderr, so that the answer
can be piped.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TextIO

from server.completion.completer import Completer
from server.completion.request import Answer, Candidate, CompletionRequest
from server.completion.status import Status
from server.errors import CompletionServerError, OptionsError
from server.exit_codes import ExitCode
from server.options import Options
from server.plugins import Plugins

LANGUAGES = {
    ".c": "c", ".cpp": "cpp", ".css": "css", ".go": "go", ".h": "c", ".html": "html",
    ".java": "java", ".js": "javascript", ".json": "json", ".lua": "lua", ".md": "markdown",
    ".py": "python", ".rs": "rust", ".rst": "restructuredtext", ".sh": "shellscript",
    ".toml": "toml", ".ts": "typescript", ".txt": "plaintext", ".yaml": "yaml", ".yml": "yaml",
}  # fmt: skip
"""Language ids of the Language Server Protocol by file ending, for those that the rules tell
apart."""


def run(options: Options, location: str) -> int:
    """Complete at a place in a file; return 0 with text, 1 without, 2 on an error."""
    try:
        request = request_at(location)
        answer = asyncio.run(_complete(options, request, sys.stdout))
    except CompletionServerError as exc:
        print(f"foretype: {exc}", file=sys.stderr)
        return ExitCode.MISUSED
    print(_summary(answer), file=sys.stderr)
    return ExitCode.DONE if answer.candidates else ExitCode.FAILED


def request_at(location: str) -> CompletionRequest:
    """Read a file and return the request at `FILE:LINE[:COLUMN]`.

    Args:
        location: line and column count from 1; the column, in characters, is the end of the line
        if absent.

    Raises:
        OptionsError: the location is malformed, or the file can't be read or has no such line.
    """
    path, line, column = _parse(location)
    try:
        text = path.read_text(encoding="utf-8")  # universal newlines: LF inside
    except (OSError, UnicodeDecodeError) as exc:
        raise OptionsError(f"{path} can't be read: {exc}") from exc
    lines = text.split("\n")
    if not 1 <= line <= len(lines):
        raise OptionsError(f"{path} has {len(lines)} lines, there is no line {line}")
    start = sum(len(row) + 1 for row in lines[: line - 1])
    length = len(lines[line - 1])
    offset = start + (length if column is None else min(max(column - 1, 0), length))
    return CompletionRequest(
        document=path.resolve().as_uri(),
        version=0,
        prefix=text[:offset],
        suffix=text[offset:],
        language=LANGUAGES.get(path.suffix, "plaintext"),
        path=path.name,
        n_chars=len(text),
        trigger="invoked",
    )


def _parse(location: str) -> tuple[Path, int, int | None]:
    file, *numbers = location.rsplit(":", 2)
    if len(numbers) == 2 and not numbers[0].isdigit():  # FILE:LINE with a colon in FILE
        file, numbers = f"{file}:{numbers[0]}", numbers[1:]
    if not numbers or not all(n.isdigit() for n in numbers):
        raise OptionsError(
            f"{location!r} is no place in a file, expected FILE:LINE or FILE:LINE:COLUMN"
        )
    return Path(file), int(numbers[0]), int(numbers[1]) if len(numbers) == 2 else None


async def _complete(options: Options, request: CompletionRequest, out: TextIO) -> Answer:
    statuses: list[Status] = []
    completer = Completer(options, Plugins(options.blocked_plugins), on_status=statuses.append)
    completer.start()
    shown = ""

    def grow(candidates: tuple[Candidate, ...]) -> None:
        nonlocal shown
        text = candidates[0].text
        out.write(text[len(shown) :])
        out.flush()
        shown = text

    try:
        if not await completer.wait_ready():
            raise CompletionServerError(completer.status.message)
        answer = await completer.complete(request, grow)
    finally:
        await completer.close()
    if answer.candidates:
        grow(answer.candidates)
        for other in answer.candidates[1:]:
            out.write(f"\n--- or ---\n{other.text}")
        out.write("\n")
    return answer


def _summary(answer: Answer) -> str:
    if not answer.candidates:
        return f"nothing to offer: {answer.reason}"
    usage = answer.usage
    return (
        f"{usage.prompt_tokens} prompt tokens in {usage.prefill_ms:.0f} ms, "
        f"{usage.new_tokens} new in {usage.decode_ms:.0f} ms, "
        f"confidence {answer.candidates[0].confidence:.2f}"
    )
