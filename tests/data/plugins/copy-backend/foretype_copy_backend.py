"""A backend without a network: the next token is the one that followed the last time."""

import numpy as np

from server.backends.contract import (
    Backend,
    BackendInfo,
    BackendOptions,
    Logits,
    TokenIds,
    check_forward_arguments,
)
from server.bundle import Bundle


class TokenList:
    """The cache: all tokens seen so far."""

    def __init__(self) -> None:
        self.token_ids: list[int] = []

    @property
    def n_tokens(self) -> int:
        """How many tokens the cache holds."""
        return len(self.token_ids)

    @property
    def n_bytes(self) -> int:
        """Eight bytes for each reference."""
        return 8 * len(self.token_ids)

    def truncate(self, n_tokens: int) -> None:
        """Forget everything after the first `n_tokens`."""
        if not 0 <= n_tokens <= len(self.token_ids):
            raise ValueError(f"can't truncate {len(self.token_ids)} tokens to {n_tokens}")
        del self.token_ids[n_tokens:]


class CopyBackend(Backend):
    """Copies: the likeliest next token is what followed the latest earlier occurrence."""

    def __init__(self, bundle: Bundle) -> None:
        self.spec = bundle.manifest.spec
        self.info = BackendInfo(name="copy", device="cpu", provider="none", dtype="none")

    @classmethod
    def load(cls, bundle: Bundle, options: BackendOptions) -> "CopyBackend":
        """Take the vocabulary's size from the bundle; there is nothing else to load."""
        return cls(bundle)

    def new_cache(self) -> TokenList:
        """Return an empty list of tokens."""
        return TokenList()

    def forward(self, token_ids: TokenIds, cache: TokenList, n_logits: int = 1) -> Logits:
        """Append the tokens; for each of the last `n_logits`, prefer what followed it before."""
        check_forward_arguments(self.spec, token_ids, cache.n_tokens, n_logits)
        cache.token_ids.extend(token_ids)
        seen = cache.token_ids
        logits = np.zeros((n_logits, self.spec.n_vocab), np.float32)
        for row in range(n_logits):
            last = len(seen) - n_logits + row
            followers = (seen[i + 1] for i in range(last - 1, -1, -1) if seen[i] == seen[last])
            logits[row, next(followers, seen[last])] = 20.0
        return logits
