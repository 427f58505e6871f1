"""Serves a recurrent baseline as a plug-in: the server's own engine over another network.

What users of the model get (healing, filters, cache, memory of the workspace) the baselines get,
too, so that a table compares networks and nothing else:

    python -m server --engine recurrent --model RUN/step-00001234

Knows checkpoints of `training`; asks nothing of the server that a stranger's plug-in could not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from server.backends.choice import Attempt, BackendChoice
from server.backends.contract import (
    Backend,
    BackendInfo,
    BackendOptions,
    Logits,
    TokenIds,
    check_forward_arguments,
    check_truncation,
)
from server.bundle import Bundle
from server.completion.engine import OnProgress, untold
from server.completion.engines.local import LocalEngine
from server.errors import BackendUnavailableError
from server.manifest import Manifest, ModelSpec, SpecialTokens, TensorNames
from server.options import Options
from server.plugins import Group, Plugins
from training.checkpoint import latest_step, load_model
from training.generate import RECURRENT_CTX
from training.model import Recurrent
from training.tokenizer import end_id

NAME = "recurrent"


class RecurrentCache:
    """The tokens that were read, and the network's state after some of them."""

    def __init__(self) -> None:
        self.token_ids: list[int] = []
        self.states: dict[int, Any] = {0: None}
        """State after so many tokens: one at the end of each pass."""

    @property
    def n_tokens(self) -> int:
        """How many tokens were read."""
        return len(self.token_ids)

    @property
    def n_bytes(self) -> int:
        """Memory of the states."""
        parts = [state for state in self.states.values() if state is not None]
        tensors = [t for part in parts for t in (part if isinstance(part, tuple) else (part,))]
        return sum(int(t.nbytes) for t in tensors)

    def truncate(self, n_tokens: int) -> None:
        """Forget the end; a state in the middle of a pass is computed again when it is needed."""
        check_truncation(n_tokens, self.n_tokens)
        del self.token_ids[n_tokens:]
        self.states = {n: state for n, state in self.states.items() if n <= n_tokens}


class RecurrentBackend(Backend):
    """Runs an RNN or LSTM in eager mode."""

    def __init__(self, model: Recurrent, spec: ModelSpec) -> None:
        self.spec = spec
        self._model = model
        kind = "LSTM" if isinstance(model.cells, nn.LSTM) else "RNN"
        self.info = BackendInfo(name=NAME, device="cpu", provider=f"PyTorch {kind}", dtype="fp32")

    @classmethod
    def load(cls, bundle: Bundle, options: BackendOptions) -> RecurrentBackend:
        """Read the checkpoint in the bundle's folder.

        Raises:
            BackendUnavailableError: it is no recurrent network.
            CheckpointError: it is not whole.
        """
        model, _ = load_model(bundle.folder)
        if not isinstance(model, Recurrent):
            raise BackendUnavailableError(f"{bundle.folder} holds no recurrent network")
        if options.n_threads:
            torch.set_num_threads(options.n_threads)
        return cls(model, bundle.manifest.spec)

    def new_cache(self) -> RecurrentCache:
        """Return an empty cache."""
        return RecurrentCache()

    @torch.inference_mode()
    def forward(self, token_ids: TokenIds, cache: RecurrentCache, n_logits: int = 1) -> Logits:
        """Run the network; see `Backend.forward`."""
        check_forward_arguments(self.spec, token_ids, cache.n_tokens, n_logits)
        known = max(cache.states)
        ids = torch.tensor([[*cache.token_ids[known:], *token_ids]])  # [1, T + what was cut off]
        hidden, state = self._model.cells(self._model.embedding(ids), cache.states[known])
        cache.token_ids += token_ids
        cache.states[cache.n_tokens] = state
        rows = self._model.norm(hidden[0, hidden.shape[1] - n_logits :])  # [n_logits, E]
        logits: Logits = nn.functional.linear(rows, self._model.embedding.weight).numpy()
        return logits


class RecurrentEngine(LocalEngine):
    """The local engine over a recurrent checkpoint; `model` names its folder, or a run."""

    @classmethod
    def load(cls, options: Options, on_progress: OnProgress = untold) -> RecurrentEngine:
        """Read the checkpoint, which is small: there is no progress to tell.

        Raises:
            CheckpointError: there is none, or it is not whole.
            BackendUnavailableError: it is no recurrent network.
        """
        named = Path(options.model).expanduser()
        bundle = bundle_of(latest_step(named) or named)
        wanted = BackendOptions(n_threads=options.threads)
        backends = BackendChoice(bundle, [Attempt(NAME, "cpu")], wanted, _Alone())
        return cls(bundle, backends, memory_bytes=options.memory_bytes)


def bundle_of(checkpoint: Path) -> Bundle:
    """Describe a checkpoint as a bundle, so that the server's engine can drive it.

    Raises:
        CheckpointError: it is missing or not whole.
        BackendUnavailableError: it is no recurrent network.
    """
    model, tokenizer = load_model(checkpoint)
    if not isinstance(model, Recurrent):
        raise BackendUnavailableError(f"{checkpoint} holds no recurrent network")
    spec = ModelSpec(
        n_layer=model.cells.num_layers,
        n_head=1,
        n_kv_head=1,
        n_embd=model.cells.hidden_size,
        n_ctx=RECURRENT_CTX,
        n_vocab=model.embedding.num_embeddings,
    )
    manifest = Manifest(
        name=checkpoint.name,
        spec=spec,
        layout="portable",
        dtype="fp32",
        tensors=TensorNames(),
        special_tokens=SpecialTokens(end=end_id(tokenizer)),
    )
    return Bundle(folder=checkpoint, manifest=manifest)


class _Alone(Plugins):
    """Knows this backend and no other: nothing can stand in for a baseline."""

    def load(self, group: Group, name: str) -> type[RecurrentBackend]:
        return RecurrentBackend
