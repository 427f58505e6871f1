"""Every error that Foretype raises on purpose, under one root.

    CompletionServerError
    ├── BundleError             a bundle is missing, malformed, altered or of another format
    ├── BackendError            a network cannot be run
    │   ├── UnknownBackendError     no backend, device or engine has this name
    │   ├── BackendUnavailableError a package, provider or file that it needs is not there
    │   └── BackendFailedError      it raised while it was loading or serving
    ├── EngineError             a completion engine cannot answer
    ├── PluginError             a plugin does not import or breaks its contract
    ├── OptionsError            a setting or flag has no meaning here
    ├── CheckpointError         a checkpoint is missing, malformed or in a form that is not read
    ├── UnsupportedModelError   an architecture that cannot be exported
    ├── GraphError              an exported graph lacks a tensor, axis or shape that backends need
    └── ParityError             an exported graph disagrees with PyTorch

Each message is one sentence that names what was found, what was expected and what to do.
Cancellation is no error: it is a `finish_reason`.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from difflib import get_close_matches


class CompletionServerError(Exception):
    """The root: catch this to catch everything that Foretype raises on purpose."""


class BundleError(CompletionServerError):
    """A bundle is missing, malformed, altered or of another format."""


class BackendError(CompletionServerError):
    """A network cannot be run."""


class UnknownBackendError(BackendError):
    """No backend, device or engine has this name; the message lists those that exist."""


class BackendUnavailableError(BackendError):
    """The backend needs something that is not there; the message says what to install."""


class BackendFailedError(BackendError):
    """The backend raised while it was loading or serving: the cache it worked on is lost."""


class EngineError(CompletionServerError):
    """A completion engine cannot answer."""


class PluginError(CompletionServerError):
    """A plugin does not import or breaks its contract."""


class OptionsError(CompletionServerError):
    """A setting or flag has no meaning here; the message names the nearest one that has."""


class CheckpointError(CompletionServerError):
    """A checkpoint is missing, malformed or in a form that is not read, such as a pickle."""


class UnsupportedModelError(CompletionServerError):
    """An architecture that cannot be exported; the message lists what can."""


class GraphError(CompletionServerError):
    """An exported graph lacks a tensor, axis or shape that the backends need."""


class ParityError(CompletionServerError):
    """An exported graph disagrees with PyTorch."""

    def __init__(self, where: str, max_abs_diff: float, atol: float) -> None:
        super().__init__(
            f"{where}: the exported graph differs from PyTorch by {max_abs_diff:.3g}, "
            f"more than the allowed {atol:.3g}; nothing was written"
        )
        self.where = where
        self.max_abs_diff = max_abs_diff
        self.atol = atol


def nearest_name(name: str, known: Iterable[str]) -> str:
    """Return a clause such as `; did you mean 'ort'? Known: ort, pytorch` for an unknown name."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"; {hint}known: {', '.join(names) or 'none'}"


def told(exc: BaseException) -> str:
    """Return what failed and where, without the message: it may hold text of a document."""
    frames = traceback.extract_tb(exc.__traceback__)
    where = f" at {frames[-1].name}:{frames[-1].lineno}" if frames else ""
    return type(exc).__name__ + where
