"""As much of what fine-tuning learned as general code can bear: weights between base and tuned.

Source: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models" (WiSE-FT), arXiv:2109.01903:
on the straight line between the two networks, most of the gain is kept and most of the loss is not.
Knows networks and a figure that must not rise; nothing of texts.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn

N_HALVINGS = 4


def between(base: nn.Module, tuned: nn.Module, share: float) -> nn.Module:
    """Return a network whose weights lie `share` of the way from the base to the tuned one.

    Args:
        base: 0 of the way.
        tuned: 1 of the way; of the same architecture.
        share: in [0, 1].
    """
    goals = tuned.state_dict()
    weights = {}
    for name, weight in base.state_dict().items():
        goal = goals[name]
        if weight.shape != goal.shape:
            raise ValueError(f"{name} is {list(weight.shape)} and {list(goal.shape)}")
        weights[name] = torch.lerp(weight, goal, share) if weight.is_floating_point() else weight
    network = copy.deepcopy(base)
    network.load_state_dict(weights)  # Tied weights have two names and are moved once.
    return network


def largest_share(is_bearable: Callable[[float], bool]) -> float:
    """Return how far one may go: 1 if that can be borne, otherwise the largest tried that can.

    The loss is taken to grow along the way, so the interval is halved; 0 is never asked about.

    Args:
        is_bearable: whether so large a share can be borne.
    """
    if is_bearable(1.0):
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(N_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_bearable(middle) else (low, middle)
    return low
