"""What is said of the memory is so with what is compiled and without it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from server.decoding.memory import speedups


@pytest.fixture(scope="module", params=["compiled", "plain"])
def each_way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let a module's tests run both ways."""
    is_compiled = request.param == "compiled"
    if is_compiled and not speedups.IS_COMPILED:
        pytest.skip("no compiler was found at the installation")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speedups, "IS_COMPILED", is_compiled)
        yield
