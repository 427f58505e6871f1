"""Holds a stranger's backend to the contract: whatever it raises becomes `BackendFailedError`.

Does not know what the backend is. The built-ins do this themselves, each at its own border.
"""

from __future__ import annotations

import logging
from typing import Any

from server.backends.contract import (
    Backend,
    BackendOptions,
    KVCache,
    Logits,
    TokenIds,
    check_forward_arguments,
    check_logits,
)
from server.bundle import Bundle
from server.errors import BackendFailedError

logger = logging.getLogger(__name__)


class GuardedBackend(Backend):
    """A backend that raises only what `Backend` allows."""

    def __init__(self, inner: Backend) -> None:
        self.spec = inner.spec
        self.info = inner.info
        self._inner = inner

    @classmethod
    def load(cls, bundle: Bundle, options: BackendOptions) -> GuardedBackend:
        """Refuse: what is guarded was loaded before."""
        raise NotImplementedError("load the backend itself, then guard it")

    def new_cache(self) -> KVCache:
        """Return an empty cache of the guarded backend."""
        try:
            return self._inner.new_cache()
        except Exception as exc:  # a stranger's backend may raise anything
            raise self._failed(exc) from exc

    def forward(self, token_ids: TokenIds, cache: Any, n_logits: int = 1) -> Logits:
        """Check the arguments, run the guarded backend, check what it answers."""
        check_forward_arguments(self.spec, token_ids, cache.n_tokens, n_logits)
        try:
            logits = self._inner.forward(token_ids, cache, n_logits)
            check_logits(logits, n_logits, self.spec.n_vocab)
        except BackendFailedError:
            raise
        except Exception as exc:  # a stranger's backend may raise anything
            raise self._failed(exc) from exc
        return logits

    def close(self) -> None:
        """Close the guarded backend; what it raises is only logged."""
        try:
            self._inner.close()
        except Exception:  # a stranger's backend may raise anything
            logger.warning("%s raised while it was closed", self.info.name, exc_info=True)

    def _failed(self, exc: Exception) -> BackendFailedError:
        return BackendFailedError(f"{self.info.name} raised {type(exc).__name__}: {exc}")
