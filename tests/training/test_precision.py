"""The number format of matrix products follows the config, or the processor."""

from __future__ import annotations

import pytest
import torch

from training.precision import matmul_dtype

CPU = torch.device("cpu")


def test_the_config_decides_where_it_names_a_format() -> None:
    assert matmul_dtype("fp32", CPU)[0] == torch.float32
    assert matmul_dtype("bf16", CPU)[0] == torch.bfloat16


@pytest.mark.parametrize("has_units", [False, True])
def test_auto_takes_bf16_where_the_processor_has_units_for_it(
    monkeypatch: pytest.MonkeyPatch, has_units: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_units)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    dtype, why = matmul_dtype("auto", CPU)
    assert dtype == (torch.bfloat16 if has_units else torch.float32)
    assert "CPU" in why
