"""The few facts about languages that stop rules, gates and context need.

Does not parse: everything here is decided from the characters of a line. An unknown language gets
the facts of C-like code, which hold for most.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_WORD_TAIL = re.compile(r"\w+$")
CLOSERS = ")]}>\"'`"
"""What editors insert by themselves after the cursor: closing brackets and quotes."""

PAIRS = {"(": ")", "[": "]", "{": "}", '"': '"', "'": "'", "`": "`"}
"""An opening character and what editors insert after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """How lines of one language begin, open blocks and end."""

    line_comment: tuple[str, str] = ("//", "")
    """What makes a line a comment: its start, and its end where one is needed."""
    openers: tuple[str, ...] = ("{", "[")
    """Line ends that open a block. A round bracket is a call, which stays on its line."""
    ends_by_dedent: bool = False
    """A block ends where the indentation falls, without a closing line."""
    is_prose: bool = False


_C_LIKE = Language()
_HASH = Language(line_comment=("#", ""))
_PROSE = Language(line_comment=("<!--", "-->"), openers=(), is_prose=True)

_LANGUAGES: dict[str, Language] = {
    "python": Language(
        line_comment=("#", ""), openers=(":", "{", "[", '"""', "'''"), ends_by_dedent=True
    ),
    "yaml": Language(line_comment=("#", ""), openers=(":", "|", ">"), ends_by_dedent=True),
    "dockerfile": _HASH,
    "elixir": Language(line_comment=("#", ""), openers=("do", "{", "[", "->")),
    "git-commit": Language(line_comment=("#", ""), openers=(), is_prose=True),
    "gitcommit": Language(line_comment=("#", ""), openers=(), is_prose=True),
    "haskell": Language(line_comment=("--", ""), openers=("where", "do", "of", "=")),
    "html": Language(line_comment=("<!--", "-->"), openers=(">", "{")),
    "julia": Language(line_comment=("#", ""), openers=("do", "[", "begin")),
    "latex": Language(line_comment=("%", ""), openers=(), is_prose=True),
    "lua": Language(line_comment=("--", ""), openers=("then", "do", "{", "else", "repeat")),
    "make": Language(line_comment=("#", ""), openers=(":",), ends_by_dedent=True),
    "makefile": Language(line_comment=("#", ""), openers=(":",), ends_by_dedent=True),
    "markdown": _PROSE,
    "perl": _HASH,
    "plaintext": Language(line_comment=("", ""), openers=(), is_prose=True),
    "r": _HASH,
    "restructuredtext": Language(line_comment=("..", ""), openers=(), is_prose=True),
    "ruby": Language(line_comment=("#", ""), openers=("do", "{", "[", "then", "|")),
    "shellscript": Language(line_comment=("#", ""), openers=("then", "do", "{", "in")),
    "sh": Language(line_comment=("#", ""), openers=("then", "do", "{", "in")),
    "sql": Language(line_comment=("--", ""), openers=("(", "BEGIN", "AS")),
    "svelte": Language(line_comment=("<!--", "-->"), openers=(">", "{")),
    "tex": Language(line_comment=("%", ""), openers=(), is_prose=True),
    "text": Language(line_comment=("", ""), openers=(), is_prose=True),
    "toml": _HASH,
    "vim": Language(line_comment=('"', ""), openers=()),
    "vue": Language(line_comment=("<!--", "-->"), openers=(">", "{")),
    "xml": Language(line_comment=("<!--", "-->"), openers=(">",)),
}


def language_facts(language: str) -> Language:
    """Return the facts of a language id, those of C-like code for an unknown one."""
    return _LANGUAGES.get(language.lower(), _C_LIKE)


def is_comment_line(line: str, language: str) -> bool:
    """Whether a line begins as a comment, block comments that are written with `*` included."""
    start = language_facts(language).line_comment[0]
    text = line.lstrip()
    if start and text.startswith(start):
        return True
    return start == "//" and (text.startswith(("/*", "* ")) or text == "*")


def opens_block(line: str, language: str) -> bool:
    """Whether a line ends with what opens a block in its language."""
    text = line.rstrip()
    facts = language_facts(language)
    if not text or is_comment_line(line, language):
        return False
    for opener in facts.openers:
        if not text.endswith(opener):
            continue
        before = text[-len(opener) - 1 : -len(opener)]
        if opener.isalpha() and (before.isalnum() or before == "_"):
            continue  # `undo` does not end with the word `do`.
        if opener == ">":
            return _opens_element(text)
        if opener in ('"""', "'''") and text.count(opener) % 2 == 0:
            continue
        return True
    return False


def _opens_element(text: str) -> bool:
    """Whether a line of markup ends with an opening tag that is still open."""
    start = text.rfind("<")
    tag = text[start:]
    if start < 0 or tag.startswith(("</", "<!", "<?")) or tag.endswith(("/>", "-->", "=>")):
        return False
    name = tag[1:-1].split()[0].lower() if tag[1:-1].split() else ""
    return name not in ("br", "hr", "img", "input", "link", "meta", "source", "wbr", "")


def indentation(line: str, tab_chars: int = 4) -> int:
    """Return the width of a line's leading white space; a tab counts up to the next stop.

    A tab is worth 4 columns where nothing better is known (guessed; only comparisons use it).
    """
    expanded = line.expandtabs(tab_chars)
    return len(expanded) - len(expanded.lstrip())


def first_line(text: str) -> str:
    """Return the text before the first line end."""
    end = text.find("\n")
    return text if end < 0 else text[:end]


def last_line(text: str) -> str:
    """Return the text after the last line end."""
    return text[text.rfind("\n") + 1 :]


def line_above(text: str) -> str:
    """Return the last line that is not blank in front of the last line."""
    end = text.rfind("\n")
    while end >= 0:
        start = text.rfind("\n", 0, end)
        line = text[start + 1 : end]
        if line.strip():
            return line
        end = start
    return ""


def line_below(text: str) -> str:
    """Return the first line that is not blank after the first line."""
    start = text.find("\n")
    while start >= 0:
        end = text.find("\n", start + 1)
        line = text[start + 1 :] if end < 0 else text[start + 1 : end]
        if line.strip():
            return line
        start = end
    return ""


def is_word_character(char: str) -> bool:
    """Whether a character, if there is one, belongs to a word."""
    return char.isalnum() or char == "_"


def without_half_word(text: str, n_chars: int) -> str:
    """Return the first `n_chars` of a text, less a word that would be cut in two."""
    kept = text[:n_chars]
    if kept and is_word_character(text[n_chars : n_chars + 1]):
        kept = _WORD_TAIL.sub("", kept)
    return kept.rstrip()
