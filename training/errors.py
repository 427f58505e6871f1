"""What can go wrong in the making of a model, under the root that the whole project shares.

CompletionServerError
└── TrainingError
    ├── ConfigError         a config or manifest has no meaning; the message names the key
    ├── CorpusError         a source is missing, of another version, or nothing is left of it
    ├── CheckpointError     a checkpoint is missing, damaged, of other sizes, or cannot be written
    ├── DivergedError       the loss is no number any more; the last good checkpoint stays
    ├── FinetuneError       too little to learn from, or the result is no better than the base
    └── ServingError        what a figure is to be made of cannot be served
"""

from __future__ import annotations

from server.errors import CompletionServerError


class TrainingError(CompletionServerError):
    """Anything that ends a training command on purpose."""


class ConfigError(TrainingError):
    """A config or manifest has no meaning; the message names the key and what it may be."""


class CorpusError(TrainingError):
    """A source is missing, of another version, or nothing is left of it."""


class CheckpointError(TrainingError):
    """A checkpoint is missing, damaged, of other sizes, or cannot be written."""


class DivergedError(TrainingError):
    """The loss is no number any more; the message names the checkpoint that still is good."""


class FinetuneError(TrainingError):
    """Too little to learn from, or the result is no better than the base."""


class ServingError(TrainingError):
    """A bundle that a figure is to be made of cannot be served; the message says why."""
