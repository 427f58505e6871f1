"""Chooses what runs the network: the first attempt that proves itself, the next when it fails.

Every backend, a stranger's or ours, is loaded as a plugin. Does not know onnxruntime or torch, and
importing it loads neither.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from server.backends.contract import Backend, BackendOptions
from server.backends.guard import GuardedBackend
from server.bundle import Bundle, read_bundle
from server.errors import (
    BackendFailedError,
    BackendUnavailableError,
    BundleError,
    CompletionServerError,
    PluginError,
    UnknownBackendError,
    nearest_name,
)
from server.options import Options
from server.plugins import Plugins

logger = logging.getLogger(__name__)

AUTO = "auto"
DEVICES = ("cuda", "cpu")  # in the order of preference
BUILT_IN = ("ort", "pytorch")  # in the order of preference
WARM_UP_TOKENS = 3
# Relative. Measured: int8 differs by 0.01 between one token and several, a lost past by 1.
WARM_UP_TOLERANCE = 0.1


@dataclass(frozen=True, slots=True)
class Attempt:
    """A backend to try, and where."""

    backend: str
    device: str

    def __str__(self) -> str:
        return f"{self.backend} on {self.device}" if self.device != AUTO else self.backend


@dataclass(frozen=True, slots=True)
class Skipped:
    """An attempt that does not run, and why."""

    attempt: Attempt
    reason: str

    def __str__(self) -> str:
        return f"{self.attempt}: {self.reason}"


def list_attempts(backend: str, device: str, registered: Sequence[str]) -> list[Attempt]:
    """Return what to try, in order: first what was asked for, then what can stand in for it.

    onnxruntime comes before PyTorch and, for each, CUDA before the CPU; a plugin's backend is tried
    only if asked for, and chooses its device. Who asks for the CPU never gets CUDA.

    Args:
        backend: `auto` or a registered name.
        device: `auto`, `cpu` or `cuda`.
        registered: names of all registered backends, blocked ones included.

    Raises:
        UnknownBackendError: no backend or device has this name.
    """
    if backend not in (AUTO, *registered):
        raise UnknownBackendError(f"no backend {backend!r}{nearest_name(backend, registered)}")
    if device not in (AUTO, *DEVICES):
        raise UnknownBackendError(f"no device {device!r}{nearest_name(device, (AUTO, *DEVICES))}")
    devices = ("cpu",) if device == "cpu" else DEVICES
    names = [name for name in BUILT_IN if name in registered]
    if device == "cuda":  # asked for by name: every backend on CUDA before any on the CPU
        built_in = [Attempt(name, where) for where in devices for name in names]
    else:
        built_in = [Attempt(name, where) for name in names for where in devices]
    asked = [attempt for attempt in built_in if attempt.backend == backend]
    if backend not in (AUTO, *BUILT_IN):
        asked = [Attempt(backend, device)]
    return asked + [attempt for attempt in built_in if attempt not in asked]


def load_backend(
    attempt: Attempt, bundle: Bundle, options: BackendOptions, plugins: Plugins
) -> Backend:
    """Load a backend and see it run.

    A plugin that is no `Backend`, or whose loading raises anything but our errors, is blocked.

    Raises:
        CompletionServerError: it does not load or does not run; the message says why.
    """
    loaded: Any = plugins.load("backends", attempt.backend)
    if not (isinstance(loaded, type) and issubclass(loaded, Backend)):
        plugins.block("backends", attempt.backend, "it is no subclass of Backend")
        raise PluginError(f"plugin {attempt.backend!r} of foretype.backends is no Backend")
    try:
        backend = loaded.load(bundle, replace(options, device=attempt.device))
    except CompletionServerError:
        raise
    except Exception as exc:  # a stranger's backend may raise anything
        reason = f"it does not load: {type(exc).__name__}: {exc}"
        plugins.block("backends", attempt.backend, reason)
        raise PluginError(
            f"plugin {attempt.backend!r} of foretype.backends is blocked, {reason}"
        ) from exc
    if attempt.backend not in BUILT_IN:
        backend = GuardedBackend(backend)
    try:
        warm_up(backend)
    except CompletionServerError:
        backend.close()
        raise
    return backend


def warm_up(backend: Backend) -> None:
    """Run a few tokens, then the last of them again after a truncation: both must agree.

    That loads what is loaded late, and shows a cache that does not hold what it was given, which
    is how a graph that was split between devices would fail.

    Raises:
        BackendFailedError: it raised, or does not keep the contract.
    """
    spec = backend.spec
    token_ids = [i % spec.n_vocab for i in range(min(WARM_UP_TOKENS, spec.n_ctx))]
    cache = backend.new_cache()
    logits = backend.forward(token_ids, cache, len(token_ids))
    if logits.shape != (len(token_ids), spec.n_vocab):
        raise BackendFailedError(
            f"{backend.info.name} answers with logits of shape {list(logits.shape)}, "
            f"expected {[len(token_ids), spec.n_vocab]}"
        )
    whole = logits[-1].copy()
    cache.truncate(len(token_ids) - 1)
    again = backend.forward(token_ids[-1:], cache)[-1]
    error = float(np.linalg.norm(again - whole) / max(float(np.linalg.norm(whole)), 1e-6))
    if not error <= WARM_UP_TOLERANCE:
        raise BackendFailedError(
            f"{backend.info.name} on {backend.info.device} does not keep its KV cache: "
            f"the same token after a truncation differs by {error:.2g}"
        )


class BackendChoice:
    """The backend that runs now, those that come after it, and why the others were skipped."""

    def __init__(
        self,
        bundle: Bundle,
        attempts: Sequence[Attempt],
        options: BackendOptions,
        plugins: Plugins,
    ) -> None:
        self.skipped: list[Skipped] = []
        self.is_loading = False
        """Whether a backend is being loaded, which may take long; any thread may look."""
        self._bundle = bundle
        self._attempts = list(attempts)
        self._options = options
        self._plugins = plugins
        self._backend: Backend | None = None
        self._is_late = False
        """Whether a backend failed while serving, long after the bundle was checked."""

    @classmethod
    def from_options(
        cls, bundle: Bundle, options: Options, plugins: Plugins | None = None
    ) -> BackendChoice:
        """List the attempts that the user's options ask for; nothing is loaded yet.

        Raises:
            UnknownBackendError: no backend has the name.
        """
        plugins = plugins or Plugins(options.blocked_plugins)
        registered = [s.name for s in plugins.states() if s.group == "backends"]
        attempts = list_attempts(options.backend, options.device, registered)
        wanted = BackendOptions(n_threads=options.threads, spinning=options.spinning)
        return cls(bundle, attempts, wanted, plugins)

    def current(self) -> Backend:
        """Return the backend that runs now; the first that loads and runs becomes it.

        Raises:
            BackendUnavailableError: none is left; the message says why for each.
        """
        while self._backend is None:
            if not self._attempts:
                reasons = "; ".join(map(str, self.skipped)) or "none is registered"
                raise BackendUnavailableError(f"no backend can run this model: {reasons}")
            self._backend = self._try(self._attempts[0])
        return self._backend

    def fail(self, exc: BackendFailedError) -> None:
        """Give up the present backend because of what it raised; `current` loads the next one.

        Raises:
            BackendUnavailableError: there is no other.
        """
        if self._backend is not None:
            self._backend.close()
            self._backend = None
        if self._attempts and self._attempts[0].backend not in BUILT_IN:
            self._plugins.block("backends", self._attempts[0].backend, f"it failed: {exc}")
        self._skip(f"it failed while serving: {exc}", logging.WARNING)
        self._is_late = True
        if not self._attempts:
            raise BackendUnavailableError(
                f"the last backend failed: {exc}; restart the server to try all again"
            ) from exc

    def without_present(self, reason: str) -> BackendChoice:
        """Return the choice of what comes after the present backend, which does not come back.

        Called on another thread than the one that hangs: what it holds is left alone.
        """
        if self._attempts and self._attempts[0].backend not in BUILT_IN:
            self._plugins.block("backends", self._attempts[0].backend, reason)
        rest = BackendChoice(self._bundle, self._attempts, self._options, self._plugins)
        rest.skipped = list(self.skipped)
        rest._skip(reason, logging.WARNING)
        rest._is_late = True
        return rest

    def close(self) -> None:
        """Give back the present backend; nothing is chosen after that."""
        self._attempts.clear()
        if self._backend is not None:
            self._backend.close()
            self._backend = None

    def _try(self, attempt: Attempt) -> Backend | None:
        self.is_loading = True
        try:
            if self._is_late:
                self._check_bundle()
            backend = load_backend(attempt, self._bundle, self._options, self._plugins)
        except CompletionServerError as exc:
            self._skip(str(exc))
            return None
        finally:
            self.is_loading = False
        if self.skipped:
            details = {**backend.info.details, "skipped": "; ".join(map(str, self.skipped))}
            backend.info = replace(backend.info, details=details)
        logger.info("%s runs the network on %s", attempt.backend, backend.info.provider)
        return backend

    def _check_bundle(self) -> None:
        """Read the bundle again: what is loaded now must be what the tokenizer was made for.

        Raises:
            BundleError: it was altered or replaced since the start.
        """
        if read_bundle(self._bundle.folder).manifest != self._bundle.manifest:
            raise BundleError(
                f"{self._bundle.folder} was replaced while it was served; restart the server"
            )

    def _skip(self, reason: str, level: int = logging.INFO) -> None:
        if self._attempts:
            self.skipped.append(Skipped(self._attempts.pop(0), reason))
            logger.log(level, "backend skipped: %s", self.skipped[-1])
