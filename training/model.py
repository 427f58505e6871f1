"""The networks that the loop trains: GPT-2 from transformers, and recurrent baselines.

All take ids [B, T] and return logits [B, T, V]. Knows nothing of data or optimizers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from training.config import ModelConfig

INIT_STD = 0.02


class Gpt2(nn.Module):
    """GPT-2 as transformers has it, behind the interface that all networks here share."""

    def __init__(self, network: GPT2LMHeadModel) -> None:
        super().__init__()
        self.network = network

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits [B, T, V] for ids [B, T]."""
        hidden = self.network.transformer(input_ids=ids, use_cache=False).last_hidden_state
        return self.network.lm_head(hidden)


class Recurrent(nn.Module):
    """An RNN or LSTM language model with tied embeddings, the baseline of earlier years."""

    def __init__(self, config: ModelConfig, n_vocab: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_vocab, config.n_embd)
        kind = nn.LSTM if config.kind == "lstm" else nn.RNN
        self.cells = kind(
            config.n_embd,
            config.n_embd,
            config.n_layer,
            batch_first=True,
            dropout=config.dropout if config.n_layer > 1 else 0.0,
        )
        self.norm = nn.LayerNorm(config.n_embd)
        nn.init.normal_(self.embedding.weight, std=INIT_STD)

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits [B, T, V] for ids [B, T]; the state begins at zero."""
        hidden, _ = self.cells(self.embedding(ids))  # [B, T, n_embd]
        return nn.functional.linear(self.norm(hidden), self.embedding.weight)


def gpt2_config(config: ModelConfig, n_vocab: int, end_id: int) -> GPT2Config:
    """Return the transformers config of our GPT-2."""
    return GPT2Config(
        n_layer=config.n_layer,
        n_head=config.n_head,
        n_embd=config.n_embd,
        n_positions=config.n_ctx,
        vocab_size=n_vocab,
        attn_pdrop=config.dropout,
        embd_pdrop=config.dropout,
        resid_pdrop=config.dropout,
        initializer_range=INIT_STD,
        bos_token_id=end_id,
        eos_token_id=end_id,
        pad_token_id=end_id,
    )


def build_model(config: ModelConfig, n_vocab: int, end_id: int, seed: int) -> nn.Module:
    """Return a network with random weights that depend on the seed alone.

    What GPT-2's blocks add to the residual stream begins at zero, so that the untrained network is
    an embedding and a head, and each block earns its place.
    """
    torch.manual_seed(seed)
    if config.kind != "gpt2":
        return Recurrent(config, n_vocab)
    network = GPT2LMHeadModel(gpt2_config(config, n_vocab, end_id))
    for block in network.transformer.h:
        nn.init.zeros_(block.attn.c_proj.weight)
        nn.init.zeros_(block.mlp.c_proj.weight)
    return Gpt2(network)


def n_parameters(model: nn.Module) -> int:
    """Return how many weights there are; tied ones count once."""
    return sum(p.numel() for p in model.parameters())


def untrained_bits(n_vocab: int) -> float:
    """Return the loss of a network that knows nothing, in bits per token."""
    return math.log2(n_vocab)
