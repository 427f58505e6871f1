"""Doubles for tests: no weights, no clock, no thread of their own.

FakeBackend     a network that says what a script tells it to say, and remembers every pass
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from server.backends.contract import (
    Backend,
    BackendInfo,
    BackendOptions,
    Logits,
    TokenIds,
    check_forward_arguments,
    check_truncation,
)
from server.bundle import Bundle, ModelSpec
from server.errors import BackendFailedError

FAKE_SPEC = ModelSpec(n_layer=1, n_head=1, n_kv_head=1, n_embd=1, n_ctx=64, n_vocab=260)
"""Room for the 256 bytes and four special tokens."""


@dataclass(frozen=True, slots=True)
class ForwardPass:
    """One call of `FakeBackend.forward`."""

    n_past: int
    token_ids: tuple[int, ...]
    n_logits: int


class FakeCache:
    """A KV cache that holds the token ids themselves."""

    def __init__(self) -> None:
        self.token_ids: list[int] = []

    @property
    def n_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def n_bytes(self) -> int:
        return 8 * len(self.token_ids)

    def truncate(self, n_tokens: int) -> None:
        check_truncation(n_tokens, len(self.token_ids))
        del self.token_ids[n_tokens:]


class FakeBackend(Backend):
    """A network whose next token, or whole row of logits, follows from all tokens before it.

    Args:
        script: either a sequence, the text of which every prompt is a part: after n tokens comes
            its n-th, and `end` when it is over; or a function from all tokens so far to the next
            token or to its logits [V].
        spec: sizes; the scripted tokens must lie inside the vocabulary.
        end: the token after the script's end.
        margin: by how much the scripted token's logit lies above the others, which are 0.
        fail_at: the pass, counted from 0, that raises `BackendFailedError`.
        before_pass: called before each pass, so that a test may cancel or wait there.
    """

    def __init__(
        self,
        script: Sequence[int] | Callable[[tuple[int, ...]], int | Logits] = (),
        *,
        spec: ModelSpec = FAKE_SPEC,
        end: int = 256,
        margin: float = 20.0,
        fail_at: int | None = None,
        before_pass: Callable[[ForwardPass], None] | None = None,
    ) -> None:
        self.spec = spec
        self.info = BackendInfo(name="fake", device="cpu", provider="script", dtype="fp32")
        self.passes: list[ForwardPass] = []
        self.caches: list[FakeCache] = []
        self.is_closed = False
        self._script = script
        self._end = end
        self._margin = margin
        self._fail_at = fail_at
        self._before_pass = before_pass

    @classmethod
    def load(cls, bundle: Bundle, options: BackendOptions) -> FakeBackend:
        return cls(spec=bundle.manifest.spec, end=bundle.manifest.special_tokens.end)

    def new_cache(self) -> FakeCache:
        self.caches.append(FakeCache())
        return self.caches[-1]

    def forward(self, token_ids: TokenIds, cache: FakeCache, n_logits: int = 1) -> Logits:
        check_forward_arguments(self.spec, token_ids, cache.n_tokens, n_logits)
        assert any(cache is mine for mine in self.caches), "the cache of another backend"
        this = ForwardPass(cache.n_tokens, tuple(token_ids), n_logits)
        if self._before_pass is not None:
            self._before_pass(this)
        self.passes.append(this)
        if len(self.passes) - 1 == self._fail_at:
            raise BackendFailedError(f"the fake fails at pass {self._fail_at}")
        cache.token_ids.extend(token_ids)
        n = cache.n_tokens
        rows = [self._row(tuple(cache.token_ids[:end])) for end in range(n - n_logits + 1, n + 1)]
        return np.stack(rows) if rows else np.zeros((0, self.spec.n_vocab), np.float32)

    @property
    def n_prefilled(self) -> int:
        """Tokens that all passes together were given: what a real network would have computed."""
        return sum(len(one.token_ids) for one in self.passes)

    def close(self) -> None:
        self.is_closed = True

    def _row(self, tokens: tuple[int, ...]) -> Logits:
        if callable(self._script):
            said = self._script(tokens)
        else:
            said = self._script[len(tokens)] if len(tokens) < len(self._script) else self._end
        if isinstance(said, np.ndarray):
            return said.astype(np.float32)
        row = np.zeros(self.spec.n_vocab, np.float32)
        row[said] = self._margin
        return row
