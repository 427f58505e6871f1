"""From a request's text to the local engine's prompt, and what of it is known from earlier ones.

A door between the rooms, as the engine itself. Does not know networks, nor what is drawn on besides
the prompt.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache

from server.completion.engine import EngineRequest
from server.completion.window import (
    HEAD_CHARS,
    Window,
    choose_order,
    next_window,
    place_window,
    suffix_limit,
)
from server.decoding.encoders import IncrementalEncoders, ParagraphEncoder
from server.decoding.healing import count_healed, spelled
from server.decoding.prompt import Prompt, build_prompt
from server.decoding.sampling import IdArray
from server.decoding.tokenizer import Tokenizer
from server.manifest import Manifest

N_FIM_TOKENS = 3
MAX_DOCUMENTS = 32  # Whose windows are remembered: a few kilobytes each. Guessed.
MAX_WINDOWS = 4  # Of one document, so that going back and forth finds what was prefilled. Guessed.
MAX_ENCODERS = MAX_WINDOWS + 2  # What comes ahead, and what is tried and is no window yet.
MAX_PARTS = 512  # Lines whose tokens are remembered: those of a suffix and a context. Guessed.


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A request as the network is asked it."""

    prompt: Prompt
    healed: bytes
    """What the generated tokens must spell before anything new."""
    end_ids: frozenset[int]
    context_ids: list[int]
    """Tokens of the window's prefix that are left when the healed ones are taken back."""


class _DocumentTokens:
    """What is remembered of a document from request to request."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.windows: list[Window] = []
        """The last used first."""
        self.ahead: Window | None = None
        """What follows the first of them when it is full."""
        self.encoders = IncrementalEncoders(tokenizer, MAX_ENCODERS)
        """Of the prefixes of windows: several are tried at each key."""
        self.encode_part = lru_cache(MAX_PARTS)(lambda text: tuple(tokenizer.encode(text)))
        """Token ids of lines, suffix and context, which are asked for again and again."""
        paragraphs = ParagraphEncoder(tokenizer)
        self.encode_before = paragraphs.encode
        """Token ids of all that stands before the cursor, beyond the window too."""
        self.encode_after = lru_cache(2)(paragraphs.encode)

    def count_prefix(self, prefix: str) -> int:
        """Return how many tokens a window's prefix has."""
        return len(self.encoders.of(prefix).encode(prefix))

    def remember(self, window: Window) -> None:
        """Put a window first, in the place of the one that it grew from."""
        others = [w for w in self.windows if not window.prefix.startswith(w.prefix[:HEAD_CHARS])]
        self.windows = [window, *others][:MAX_WINDOWS]

    def count_part(self, text: str) -> int:
        """Return how many tokens a line, a suffix or a context has."""
        return len(self.encode_part(text))


class LocalPrompts:
    """Makes prompts that have most in common with the earlier ones of the same document."""

    def __init__(self, tokenizer: Tokenizer, manifest: Manifest, *, heals: bool = True) -> None:
        """Begin without any document.

        Args:
            tokenizer: the network's own.
            manifest: of the bundle.
            heals: whether the last tokens before the cursor are taken back and written again.
        """
        self._heals = heals
        self._tokenizer = tokenizer
        self._special_tokens = manifest.special_tokens
        self._n_ctx = manifest.spec.n_ctx
        self._documents: OrderedDict[str, _DocumentTokens] = OrderedDict()

    def plan(self, request: EngineRequest) -> Plan:
        """Turn a request's text into a prompt."""
        known = self._known(request.document)
        window = self._place_window(request, known)
        known.remember(window)
        context_ids = known.encode_part(window.context)
        encoder = known.encoders.of(window.prefix)
        prefix_ids = self._fitting(window, known, encoder.encode(window.prefix))
        token_bytes = self._tokenizer.token_bytes
        n_healed = count_healed(token_bytes, prefix_ids, encoder.n_last_word_tokens)
        healed = spelled(token_bytes, prefix_ids[len(prefix_ids) - n_healed :])
        # A tokenizer that drops characters must not make us take back what is not there.
        if not self._heals or not window.prefix[-len(healed) :].encode().endswith(healed):
            n_healed, healed = 0, b""
        prompt = build_prompt(
            self._special_tokens,
            window.order,
            prefix_ids=[*context_ids, *prefix_ids],
            suffix_ids=known.encode_part(window.suffix),
            n_healed=n_healed,
        )
        special = self._special_tokens
        end_ids = {special.end, *(special.fim_ids if window.order else ())}
        return Plan(
            prompt=prompt,
            healed=healed,
            end_ids=frozenset(end_ids),
            context_ids=prefix_ids[: len(prefix_ids) - n_healed],
        )

    def plan_ahead(self, request: EngineRequest) -> Prompt | None:
        """Return the prompt after the window's next jump, or its beginning; None: that is far.

        Typing appends to it, and `plan` goes on with it as soon as the present window is full.
        """
        known = self._known(request.document)
        window = self._place_window(request, known)
        following = next_window(
            window,
            known.count_prefix(window.prefix),
            request.context,
            max_tokens=self._n_room(request),
            previous=known.ahead,
            count=known.count_part,
            count_prefix=known.count_prefix,
        )
        known.ahead = following
        if following is None:
            return None
        encoder = known.encoders.of(following.prefix)
        prefix_ids = self._fitting(following, known, encoder.encode(following.prefix))
        return build_prompt(
            self._special_tokens,
            # A suffix that comes last is read at each key anyway.
            following.order if following.order == "spm" else None,
            prefix_ids=[*known.encode_part(following.context), *prefix_ids],
            suffix_ids=known.encode_part(following.suffix),
            n_healed=0,
        )

    def around(self, request: EngineRequest) -> tuple[IdArray, IdArray]:
        """Return the token ids of all that stands before the cursor, and after it: [T] each."""
        known = self._known(request.document)
        return known.encode_before(request.prefix), known.encode_after(request.suffix)

    def forget(self, document: str) -> None:
        """Drop what is remembered of a document."""
        self._documents.pop(document, None)

    def _fitting(self, window: Window, known: _DocumentTokens, prefix_ids: list[int]) -> list[int]:
        """Return as many tokens of the prefix as the network sees beside the other parts: the
        window was measured line by line, which may be a few tokens off in a tiny context.
        """
        n_others = known.count_part(window.context) + known.count_part(window.suffix)
        return prefix_ids[-max(1, self._n_ctx - 1 - N_FIM_TOKENS - n_others) :]

    def _place_window(self, request: EngineRequest, known: _DocumentTokens) -> Window:
        fim = self._special_tokens.fim
        order = choose_order(
            fim.order if fim else None, request.suffix, is_explicit=request.is_explicit
        )
        n_room = self._n_room(request)
        return place_window(
            request.prefix,
            request.suffix,
            request.context,
            order=order,
            max_tokens=n_room,
            max_suffix_tokens=suffix_limit(order, n_room, is_explicit=request.is_explicit),
            previous=[*known.windows, *([known.ahead] if known.ahead is not None else [])],
            count=known.count_part,
            count_prefix=known.count_prefix,
        )

    def _n_room(self, request: EngineRequest) -> int:
        """Return how many tokens of text a prompt may have, with room for an answer."""
        return max(1, self._n_ctx - min(request.max_new_tokens, self._n_ctx // 2) - N_FIM_TOKENS)

    def _known(self, document: str) -> _DocumentTokens:
        if document not in self._documents:
            self._documents[document] = _DocumentTokens(self._tokenizer)
            if len(self._documents) > MAX_DOCUMENTS:
                self._documents.popitem(last=False)
        self._documents.move_to_end(document)
        return self._documents[document]
