"""Which optimizer moves which parameter, and their states as named tensors.

Knows parameter names of GPT-2 and torch's recurrent cells; nothing of files or schedules.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.config import OptimizerConfig
from training.errors import CheckpointError
from training.muon import Muon


def build_optimizers(
    model: nn.Module, config: OptimizerConfig, dtype: torch.dtype = torch.float32
) -> list[torch.optim.Optimizer]:
    """Return the optimizers of a network; each group carries its peak as `peak_lr`.

    Muon gets the matrices inside the blocks and multiplies them in `dtype`; embeddings, norms and
    biases are AdamW's in any case.
    """
    matrices: dict[str, Tensor] = {}
    others: dict[str, Tensor] = {}
    for name, param in model.named_parameters():
        if not param.requires_grad:  # frozen by a fine-tuning method
            continue
        is_block_matrix = param.ndim == 2 and (".h." in name or name.startswith("cells."))
        (matrices if is_block_matrix else others)[name] = param
    decay = config.weight_decay
    if config.kind == "adamw":
        groups = [
            {"params": list(matrices.values()), "weight_decay": decay},
            {"params": list(others.values()), "weight_decay": 0.0},
        ]
        optimizers: list[torch.optim.Optimizer] = [_adamw(groups, config)]
    else:
        muon = Muon(
            [_muon_group(name, param) for name, param in matrices.items()],
            lr=config.muon_lr,
            momentum=config.muon_momentum,
            weight_decay=config.muon_weight_decay,
            dtype=dtype,
        )
        rest = [{"params": list(others.values()), "weight_decay": 0.0}]
        optimizers = [muon, _adamw(rest, config)]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def _adamw(groups: list[dict[str, object]], config: OptimizerConfig) -> torch.optim.AdamW:
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas)


def _muon_group(name: str, param: Tensor) -> dict[str, object]:
    if name.startswith("cells."):  # [gates * hidden, in], torch's own orientation
        return {
            "params": [param],
            "n_parts": param.shape[0] // param.shape[1],
            "is_conv1d": False,
        }
    return {"params": [param], "n_parts": 3 if "c_attn" in name else 1, "is_conv1d": True}


def set_lr(optimizers: list[torch.optim.Optimizer], factor: float) -> None:
    """Set every group's learning rate to `factor` of its peak."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor


def state_tensors(model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Return the optimizers' states as tensors named `<parameter>/<what>`."""
    names = {id(param): name for name, param in model.named_parameters()}
    tensors = {}
    for optimizer in optimizers:
        for param, state in optimizer.state.items():
            for key, value in state.items():
                tensors[f"{names[id(param)]}/{key}"] = torch.as_tensor(value)
    return tensors


def load_state_tensors(
    model: nn.Module, optimizers: list[torch.optim.Optimizer], tensors: dict[str, Tensor]
) -> None:
    """Put states back that `state_tensors` returned.

    Raises:
        CheckpointError: a parameter is not ours, or a state has another shape.
    """
    owner = {id(p): o for o in optimizers for g in o.param_groups for p in g["params"]}
    params = dict(model.named_parameters())
    for key, value in tensors.items():
        name, _, what = key.rpartition("/")
        param = params.get(name)
        if param is None:
            raise CheckpointError(f"the optimizer's state is of another network: it has {name}")
        if value.ndim and value.shape != param.shape:
            raise CheckpointError(
                f"the optimizer's {what} of {name} is {list(value.shape)}, "
                f"the parameter {list(param.shape)}"
            )
        kept = value.to(param.dtype if value.ndim else torch.float32).clone()
        owner[id(param)].state[param][what] = kept.to(param.device) if value.ndim else kept
