"""Muon's updates are orthogonal, three for query, key and value, and turn with the weights."""

from __future__ import annotations

import torch

from training.muon import Muon, orthogonalized


def test_singular_values_end_near_one() -> None:
    torch.manual_seed(0)
    for shape in ((3, 16, 16), (2, 8, 32), (2, 32, 8)):
        values = torch.linalg.svdvals(orthogonalized(torch.randn(shape)))
        assert values.min() > 0.3
        assert values.max() < 1.3


def test_query_key_and_value_are_updated_on_their_own() -> None:
    """One part's large gradient must not shrink the update of the others."""
    torch.manual_seed(0)
    param = torch.nn.Parameter(torch.zeros(16, 48))
    param.grad = torch.randn(16, 48)
    param.grad[:, :16] *= 1e4
    Muon([{"params": [param], "n_parts": 3}], lr=1.0).step()
    sizes = [param.detach()[:, i : i + 16].norm() for i in (0, 16, 32)]
    assert max(sizes) / min(sizes) < 1.5


def test_both_orientations_make_the_same_update() -> None:
    torch.manual_seed(0)
    grad = torch.randn(8, 32)
    conv = torch.nn.Parameter(torch.zeros(8, 32))
    linear = torch.nn.Parameter(torch.zeros(32, 8))
    conv.grad, linear.grad = grad.clone(), grad.mT.clone()
    Muon([conv], lr=0.1).step()
    Muon([linear], lr=0.1, is_conv1d=False).step()
    assert torch.allclose(conv.detach().mT, linear.detach(), atol=1e-5)
