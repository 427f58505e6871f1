"""The PyTorch backend: the bundle's checkpoint through transformers, for when nothing else runs.

Here torch's errors become ours. Imports torch only when a network is loaded.
"""

from __future__ import annotations

from typing import Any

from server.backends.contract import (
    Backend,
    BackendInfo,
    BackendOptions,
    Logits,
    TokenIds,
    check_forward_arguments,
    check_logits,
    check_truncation,
)
from server.backends.pytorch_network import import_torch, load_network
from server.bundle import Bundle
from server.errors import BackendFailedError, BackendUnavailableError

# What torch and transformers raise out of a pass; torch's own, out of memory included, are
# RuntimeErrors.
TORCH_ERRORS = (RuntimeError, ValueError, TypeError, IndexError, AttributeError, MemoryError)


class PyTorchCache:
    """transformers' growing cache; a truncation is a view of it."""

    def __init__(self, past: Any) -> None:
        self.n_tokens = 0
        self.past = past

    @property
    def n_bytes(self) -> int:
        """Memory of all keys and values; after a prefill they may be views of one larger tensor."""
        tensors = [t for layer in self.past.layers for t in (layer.keys, layer.values)]
        storages = [t.untyped_storage() for t in tensors if t is not None]
        return sum({s.data_ptr(): int(s.nbytes()) for s in storages}.values())

    def truncate(self, n_tokens: int) -> None:
        """Forget everything after the first `n_tokens`; the memory goes with the next pass."""
        check_truncation(n_tokens, self.n_tokens)
        self.past.crop(n_tokens)
        self.n_tokens = n_tokens


class PyTorchBackend(Backend):
    """Runs a checkpoint in eager mode."""

    def __init__(self, torch: Any, network: Any, bundle: Bundle, device: str) -> None:
        from transformers import DynamicCache

        self.spec = bundle.manifest.spec
        self._torch = torch
        self._body: Any = network.base_model
        self._head: Any = network.get_output_embeddings()
        self._device = device
        self._make_cache = DynamicCache
        self.info = BackendInfo(
            name="pytorch",
            device=device,
            provider="PyTorch",
            dtype=str(network.dtype).removeprefix("torch."),
            details={"threads": str(torch.get_num_threads()), "torch": torch.__version__},
        )

    @classmethod
    def load(cls, bundle: Bundle, options: BackendOptions) -> PyTorchBackend:
        """Read the bundle's checkpoint; device `auto` is CUDA where torch has it, else the CPU."""
        if bundle.checkpoint_path is None:
            raise BackendUnavailableError(
                f"bundle {bundle.manifest.name!r} has no checkpoint for PyTorch; export it with one"
            )
        torch = import_torch()
        has_cuda = torch.cuda.is_available()
        if options.device == "cuda" and not has_cuda:
            raise BackendUnavailableError("this torch finds no CUDA device")
        device = "cuda" if has_cuda and options.device != "cpu" else "cpu"
        try:
            if options.n_threads:
                torch.set_num_threads(options.n_threads)
            network = load_network(bundle.checkpoint_path, bundle.manifest.spec)
            network = network.to(device, torch.float16 if device == "cuda" else torch.float32)
        except TORCH_ERRORS as exc:
            raise BackendFailedError(f"PyTorch can't load {bundle.checkpoint_path}: {exc}") from exc
        return cls(torch, network, bundle, device)

    def new_cache(self) -> PyTorchCache:
        """Return an empty cache."""
        return PyTorchCache(self._make_cache())

    def forward(self, token_ids: TokenIds, cache: PyTorchCache, n_logits: int = 1) -> Logits:
        """Run the network; see `Backend.forward`."""
        check_forward_arguments(self.spec, token_ids, cache.n_tokens, n_logits)
        n_new = len(token_ids)
        try:
            with self._torch.inference_mode():
                ids = self._torch.tensor([token_ids], device=self._device)  # [1, T]
                hidden = self._body(ids, past_key_values=cache.past, use_cache=True)[0]  # [1, T, E]
                rows = self._head(hidden[0, n_new - n_logits :])  # [n_logits, V]
                logits: Logits = rows.float().cpu().numpy()
        except TORCH_ERRORS as exc:
            raise BackendFailedError(f"PyTorch failed on {self._device}: {exc}") from exc
        check_logits(logits, n_logits, self.spec.n_vocab)
        cache.n_tokens += n_new
        return logits

    def close(self) -> None:
        """Drop the network, and with it its memory."""
        self._body = self._head = None
