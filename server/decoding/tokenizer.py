"""Text to token ids and back, over the `tokenizers` library, without losing a byte.

With `encoders` the only module of this room that sees text. Does not know prompts, networks or
fill-in-the-middle: special tokens are ids that no text is ever encoded to.
"""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from server.errors import BundleError

_SPACE_MARK = "▁"
"""What stands for a space in the pieces of SentencePiece vocabularies."""
_BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")
_LOOKS_BEHIND = re.compile(r"\(\?<|\\[bBAGKzZ]|(?<!\[)\^|\$")
"""Constructs by which a split could depend on text before its own start."""


@dataclass(slots=True, kw_only=True)
class EncodedText:
    """Token ids and where words start; a word is a piece that tokens never straddle."""

    token_ids: list[int] = field(default_factory=list)
    word_offsets: list[int] = field(default_factory=list)
    """Code-point offset of each word in the text, ascending."""
    word_tokens: list[int] = field(default_factory=list)
    """Index of each word's first token."""


class Tokenizer:
    """A vocabulary as bytes, and the way from text to token ids."""

    def __init__(self, tokenizer_json: str, n_vocab: int, special_ids: Iterable[int] = ()) -> None:
        """Read a tokenizer.

        Args:
            tokenizer_json: what tokenizer.json holds.
            n_vocab: of the network; may differ from the tokenizer's own size.
            special_ids: further tokens that no text may be encoded to.

        Raises:
            ValueError: it can't be read; the message says why.
        """
        from tokenizers import Tokenizer as Encoder  # Loaded late: the command line starts light.

        raw = json.loads(tokenizer_json)
        special_ids = set(special_ids)
        special_ids |= {token["id"] for token in raw.get("added_tokens", ()) if token["special"]}
        self.n_vocab = n_vocab
        self.special_ids = frozenset(special_ids)
        _make_lossless(raw, special_ids)
        self.can_resume = _can_resume(raw)
        """Whether encoding may go on from a word that lies far enough before a change."""
        try:
            encoder: Any = Encoder
            self._encoder = encoder.from_str(json.dumps(raw))
        except Exception as exc:  # The library raises bare exceptions.
            raise ValueError(f"the tokenizers library can't read it: {exc}") from exc
        self._encoder.encode_special_tokens = True  # A special token's text is text like any other.
        self._piece_bytes = _piece_reader(raw, self._encoder)
        self.token_bytes: tuple[bytes, ...] = tuple(
            b"" if token_id in special_ids else self._piece_bytes(token_id)
            for token_id in range(n_vocab)
        )
        """[V]; empty for special tokens and for ids that the tokenizer doesn't know."""
        self._byte_ids = {text: i for i, text in enumerate(self.token_bytes) if len(text) == 1}

    @classmethod
    def from_file(cls, path: Path, n_vocab: int, special_ids: Iterable[int] = ()) -> Tokenizer:
        """Read a bundle's tokenizer.

        Raises:
            BundleError: the file can't be read or is no tokenizer.
        """
        try:
            return cls(path.read_text(encoding="utf-8"), n_vocab, special_ids)
        except Exception as exc:  # A stranger's file: it may be wrong in any way.
            raise BundleError(
                f"{path} is no tokenizer that can be read ({exc}); export the model again"
            ) from exc

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text; never a special token, never an id from V on."""
        return self.encode_words(text).token_ids

    def encode_aside(self, text: str) -> list[int]:
        """Return what `encode` returns, letting other threads run meanwhile."""
        # The library gives way to other threads in batches alone.
        ids: list[int] = self._encoder.encode_batch_fast([text], add_special_tokens=False)[0].ids
        if ids and (max(ids) >= self.n_vocab or not self.special_ids.isdisjoint(ids)):
            return self.encode(text)
        return ids

    def encode_words(self, text: str) -> EncodedText:
        """Return the token ids of a text and where its words start."""
        encoding = self._encoder.encode(text, add_special_tokens=False)
        encoded = EncodedText()
        last_word: int | None = None
        for token_id, word, (start, _) in zip(
            encoding.ids, encoding.word_ids, encoding.offsets, strict=True
        ):
            if word is None or word != last_word:
                encoded.word_offsets.append(start)
                encoded.word_tokens.append(len(encoded.token_ids))
                last_word = word
            if token_id < self.n_vocab and token_id not in self.special_ids:
                encoded.token_ids.append(token_id)
            else:
                encoded.token_ids.extend(self._spell(token_id))
        return encoded

    def _spell(self, token_id: int) -> Iterator[int]:
        """Yield single-byte tokens for a token that may not be used; bytes without one get lost."""
        for byte in self._piece_bytes(token_id):
            if (byte_id := self._byte_ids.get(bytes([byte]))) is not None:
                yield byte_id


class Detokenizer:
    """Token by token back to text: never half a character, line ends as LF."""

    def __init__(self, token_bytes: Sequence[bytes], n_skipped: int = 0) -> None:
        """Start a text whose first `n_skipped` bytes are not wanted."""
        self._token_bytes = token_bytes
        self._n_skipped = n_skipped
        # Bytes that are no UTF-8 become U+FFFD, as everywhere.
        utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._decoder = io.IncrementalNewlineDecoder(utf8, translate=True)

    @property
    def is_skipping(self) -> bool:
        """Whether the next token begins with bytes that are not wanted."""
        return self._n_skipped > 0

    def add(self, token_id: int) -> str:
        """Return the text that this token completes; empty while a character is not whole."""
        data = self._token_bytes[token_id]
        wanted = data[self._n_skipped :]
        self._n_skipped -= len(data) - len(wanted)
        return self._decoder.decode(wanted)


def _stages(part: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the members of a (nested) sequence of pre-tokenizers, decoders or normalizers."""
    if part is None:
        return []
    if part["type"] != "Sequence":
        return [part]
    members = next((value for value in part.values() if isinstance(value, list)), ())
    return [stage for member in members for stage in _stages(member)]


def _can_resume(raw: dict[str, Any]) -> bool:
    """Whether text is split from left to right by one pattern that never looks behind."""
    for token in raw.get("added_tokens", ()):
        if token["lstrip"] or token["rstrip"] or token["single_word"] or "\n" in token["content"]:
            return False
    stages = [s for s in _stages(raw.get("pre_tokenizer")) if s.get("use_regex", True)]
    *before, scan = stages or [{"type": ""}]
    if any(stage["type"] != "Digits" for stage in before):
        return False
    if scan["type"] == "Split":
        pattern = scan["pattern"].get("Regex", "^")
        keeps_pieces = scan["behavior"] == ("Removed" if scan["invert"] else "Isolated")
        return keeps_pieces and not _LOOKS_BEHIND.search(pattern)
    return bool(scan["type"] == "ByteLevel")


def _make_lossless(raw: dict[str, Any], special_ids: set[int]) -> None:
    """Take out of a tokenizer what adds, drops or changes text.

    A space put before the text, Unicode normalization and truncation would break the equality of a
    text's bytes with its tokens' bytes, which token healing and the ghost text rest on.
    """
    for stage in _stages(raw.get("pre_tokenizer")):
        if "add_prefix_space" in stage:
            stage["add_prefix_space"] = False
        if "prepend_scheme" in stage:
            stage["prepend_scheme"] = "never"
    marks_spaces = [s for s in _stages(raw.get("normalizer")) if s.get("content") == _SPACE_MARK]
    for token in raw.get("added_tokens", ()):
        token["special"] = token["id"] in special_ids
    if "dropout" in raw["model"]:
        raw["model"]["dropout"] = None
    raw["normalizer"] = {"type": "Sequence", "normalizers": marks_spaces} if marks_spaces else None
    raw |= {"truncation": None, "padding": None, "post_processor": None}


def _piece_reader(raw: dict[str, Any], encoder: Any) -> Callable[[int], bytes]:
    """Return the function that tells which bytes a token stands for."""
    added: dict[int, bytes] = {
        token["id"]: token["content"].encode() for token in raw.get("added_tokens", ())
    }
    parts = ("pre_tokenizer", "decoder", "normalizer")
    stages = [stage for part in parts for stage in _stages(raw.get(part))]
    kinds = {stage["type"] for stage in stages}
    byte_of = byte_alphabet() if "ByteLevel" in kinds else {}
    marks_spaces = bool(kinds & {"Metaspace", "ByteFallback"}) or any(
        stage.get("content") == _SPACE_MARK for stage in stages
    )

    def piece_bytes(token_id: int) -> bytes:
        piece = encoder.id_to_token(token_id)
        if token_id in added or piece is None:
            return added.get(token_id, b"")
        if byte_of:
            return bytes(byte_of[c] for c in piece if c in byte_of)
        if match := _BYTE_PIECE.fullmatch(piece):
            return bytes([int(match[1], 16)])
        if marks_spaces:
            return bytes(piece.replace(_SPACE_MARK, " "), "utf-8")
        return bytes(encoder.decode([token_id], skip_special_tokens=False), "utf-8")

    return piece_bytes


def byte_alphabet() -> dict[str, int]:
    """Return which byte each character of a byte-level vocabulary stands for.

    Printable bytes stand for themselves, the others for characters from U+0100 on. Source: Radford
    et al. 2019, the published code of GPT-2, `bytes_to_unicode` of encoder.py.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(0x100 + i): b for i, b in enumerate(others)}
