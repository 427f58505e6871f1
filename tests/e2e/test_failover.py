"""onnxruntime fails in mid-decode: PyTorch answers the same request, and the status says so."""

from __future__ import annotations

import pytest

from tests.e2e.client import Client

pytestmark = pytest.mark.e2e

URI = "file:///workspace/numbers.py"
TEXT = "import numpy as np\n\n\ndef mean(values):\n    return np."
CURSOR = (4, 14)
SETTINGS = ("--candidates", "1", "--max-new-tokens", "8", "--deadline-ms", "60000")
"""PyTorch is loaded when it is needed: the deadline leaves time for that."""


def complete(
    *arguments: str, plugins: tuple[str, ...] = (), **environment: str
) -> tuple[str, str, list[str]]:
    """Return a completion's text, the backend that gave it, and what was skipped and why."""
    with Client.start(*SETTINGS, *arguments, plugins=plugins, environment=environment) as client:
        client.initialize()
        client.open(URI, TEXT)
        assert client.wait_ready()["state"] in {"ready", "busy"}
        items = client.complete(URI, *CURSOR, trigger=1)
        status = client.request("foretype/status", None)
        assert client.shut_down() == 0
    return items[0]["insertText"] if items else "", status["backend"], status["skipped"]


@pytest.fixture(scope="module")
def whole() -> str:
    """What PyTorch says alone."""
    text, backend, _ = complete("--backend", "pytorch")
    assert backend == "pytorch"
    assert text
    return text


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("raises", "device lost"),
        ("hangs", "did not come back"),
        ("nan", "not finite"),
        ("shape", "shape"),
        ("memory", "onnxruntime failed"),
    ],
)
def test_pytorch_goes_on_where_onnxruntime_failed(whole: str, how: str, reason: str) -> None:
    """In mid-decode: the same request is answered with the same text, and the status says why.

    After a hang another engine goes on, which counts its tokens anew and may say a few more.
    """
    text, backend, skipped = complete(
        "--engine", "failing", plugins=("failing-engine",), FAILS_AT="3", FAILS_HOW=how
    )
    assert text.startswith(whole)
    assert how == "hangs" or text == whole
    assert backend == "pytorch"
    assert any(reason in told for told in skipped)
