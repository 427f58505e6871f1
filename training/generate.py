"""Token by token from a trained network: greedy or sampled, one sequence or several.

Works on GPT-2 and on the recurrent baselines alike, each with its own memory of what it has read.
Serving does not use this; it has a decoder of its own that reuses prompts across requests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.generation import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from training.errors import ConfigError
from training.model import Gpt2, Recurrent

# What a recurrent network is asked for at once; it has no window of its own.
RECURRENT_CTX = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the next token is chosen. A temperature of 0 takes the likeliest."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ConfigError(f"the temperature is {self.temperature}; it must be at least 0")
        if self.top_k < 0:
            raise ConfigError(f"top-k is {self.top_k}; it must be at least 0 (0: all tokens)")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top-p is {self.top_p}; it must be in (0, 1]")


class Reader:
    """A network that remembers what it read; `read` returns the next token's logits [B, V]."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._memory: Any = None
        self._seen: Tensor | None = None
        is_gpt2 = isinstance(model, Gpt2)
        self.n_ctx = model.network.config.n_positions if is_gpt2 else RECURRENT_CTX

    @torch.inference_mode()
    def read(self, ids: Tensor) -> Tensor:
        """Read [B, T] more ids; past the window, the older half is forgotten."""
        seen = ids if self._seen is None else torch.cat((self._seen, ids), dim=1)
        if seen.shape[1] > self.n_ctx:
            seen = seen[:, -self.n_ctx // 2 :]
            ids, self._memory = seen, None
        self._seen = seen
        if isinstance(self._model, Gpt2):
            self._memory = self._memory or DynamicCache()
            out = self._model.network(
                ids,
                attention_mask=torch.ones_like(seen),
                past_key_values=self._memory,
                use_cache=True,
                logits_to_keep=1,
            )
            return out.logits[:, -1]
        assert isinstance(self._model, Recurrent)
        hidden, self._memory = self._model.cells(self._model.embedding(ids), self._memory)
        last = self._model.norm(hidden[:, -1])
        return nn.functional.linear(last, self._model.embedding.weight)


def generate_ids(
    model: nn.Module,
    prompt: list[int],
    *,
    max_new_tokens: int,
    n_sequences: int = 1,
    sampling: Sampling | None = None,
    end_id: int | None = None,
    allowed: Callable[[list[int]], list[int] | None] | None = None,
    stops: Callable[[list[int]], bool] | None = None,
) -> list[list[int]]:
    """Return what follows the prompt, `n_sequences` times, without the end token.

    Args:
        model: GPT-2 or a recurrent network, in evaluation mode.
        prompt: at least one id; its last `n_ctx` count.
        max_new_tokens: longest answer.
        n_sequences: more than one make sense only with a temperature.
        sampling: greedy if None.
        end_id: the token that ends a sequence.
        allowed: given the new ids so far, the only ids that may follow, or None for all.
        stops: given the new ids so far, whether they are enough.
    """
    sampling = sampling or Sampling()
    generator = torch.Generator().manual_seed(sampling.seed)
    warpers = _warpers(sampling)
    reader = Reader(model)
    ids = torch.tensor([prompt[-reader.n_ctx :]] * n_sequences)
    outputs: list[list[int]] = [[] for _ in range(n_sequences)]
    is_done = [False] * n_sequences
    for _ in range(max_new_tokens):
        logits = reader.read(ids).float()
        if allowed is not None:
            logits = _restricted(logits, [allowed(output) for output in outputs])
        chosen = _choose(logits, sampling, warpers, generator)
        for row, token in enumerate(chosen.tolist()):
            if is_done[row]:
                continue
            if token == end_id:
                is_done[row] = True
                continue
            outputs[row].append(token)
            is_done[row] = stops is not None and stops(outputs[row])
        if all(is_done):
            break
        ids = chosen[:, None]
    return outputs


def _warpers(sampling: Sampling) -> LogitsProcessorList:
    warpers = LogitsProcessorList()
    if sampling.temperature not in (0.0, 1.0):
        warpers.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1.0:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    return warpers


def _choose(
    logits: Tensor, sampling: Sampling, warpers: LogitsProcessorList, generator: torch.Generator
) -> Tensor:
    if sampling.temperature == 0.0:
        return logits.argmax(-1)
    probabilities = warpers(torch.empty(0), logits).softmax(-1)
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0]


def _restricted(logits: Tensor, allowed: list[list[int] | None]) -> Tensor:
    masked = logits.clone()
    for row, ids in enumerate(allowed):
        if ids is not None:
            keep = torch.full_like(logits[row], float("-inf"))
            keep[ids] = logits[row, ids]
            masked[row] = keep
    return masked
