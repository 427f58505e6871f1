"""Which files of the workspace a text imports, as far as their names tell. Pure.

Read from the text's first lines by patterns, not parsed: a name that is no file is looked for and
not found. Python's dotted modules, the relative paths of JavaScript and TypeScript, and C's quoted
includes; other languages import nothing here.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from functools import lru_cache

HEAD_CHARS = 8_000
"""Imports further down are not seen. Guessed: two hundred lines."""

_PYTHON_FROM = re.compile(
    r"^[ \t]*from[ \t]+(?P<module>\.*[\w.]*)[ \t]+import[ \t]*(?P<names>\([^)]*\)?|[^\n#]*)",
    re.MULTILINE,
)
_PYTHON_IMPORT = re.compile(r"^[ \t]*import[ \t]+(?P<modules>[^\n#]+)", re.MULTILINE)
_SCRIPT = re.compile(r"""(?:\bfrom|\bimport|\brequire\s*\()\s*["'](?P<path>\.{1,2}/[^"'\n]+)["']""")
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"(?P<path>[^"\n]+)"', re.MULTILINE)


@lru_cache(maxsize=64)
def imported_modules(head: str, path: str, language: str) -> tuple[str, ...]:
    """Return what a text imports: each a path without its suffix, or the end of one.

    Args:
        head: the text's first `HEAD_CHARS`.
        path: of its file, relative to the workspace; what relative imports start from.
        language: its id.
    """
    read = _READERS.get(language)
    return tuple(dict.fromkeys(read(head, posixpath.dirname(path)))) if read is not None else ()


def _python(text: str, folder: str) -> Iterator[str]:
    for match in _PYTHON_FROM.finditer(text):
        dotted = match["module"]
        module = dotted.lstrip(".")
        base = module.replace(".", "/")
        if n_dots := len(dotted) - len(module):
            base = posixpath.normpath(posixpath.join(folder, "../" * (n_dots - 1), base))
        if base not in ("", "."):
            yield base
        for name in match["names"].strip("()").split(","):
            if words := name.split():
                yield posixpath.normpath(posixpath.join(base, words[0]))
    for match in _PYTHON_IMPORT.finditer(text):
        for name in match["modules"].split(","):
            if words := name.split():
                yield words[0].replace(".", "/")


def _script(text: str, folder: str) -> Iterator[str]:
    for match in _SCRIPT.finditer(text):
        yield _relative(match["path"], folder)


def _c(text: str, folder: str) -> Iterator[str]:
    for match in _INCLUDE.finditer(text):
        yield _relative(match["path"], folder) if "../" in match["path"] else _bare(match["path"])


def _relative(path: str, folder: str) -> str:
    return _bare(posixpath.normpath(posixpath.join(folder, path)))


def _bare(path: str) -> str:
    return posixpath.splitext(path)[0]


_READERS: dict[str, Callable[[str, str], Iterator[str]]] = {
    "python": _python,
    **dict.fromkeys(
        ("javascript", "javascriptreact", "typescript", "typescriptreact", "svelte", "vue"), _script
    ),
    **dict.fromkeys(("c", "cpp", "cuda-cpp", "objective-c", "objective-cpp"), _c),
}
