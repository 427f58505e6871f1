"""Drafts on real backends: the same text with and without them, in fewer passes.

Unit tests show it for scripted networks. Real kernels sum in another order when a pass has several
tokens: the last bits of attention differ, and eight-bit activations round them to another step. So
fp32 must say the same, and int8 may part only where two tokens are about as likely.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from export.pipeline import ExportOptions, export_bundle
from server.bundle import EMBEDDED_FOLDER, TOKENIZER_FILE
from server.completion.engine import (
    CancelToken,
    EngineRequest,
    EngineUsage,
    TextDelta,
    WorkspaceFile,
)
from server.completion.engines.local import LocalEngine
from server.decoding.memory.drafts import Pace
from server.manifest import Dtype
from server.options import Options

SERVER = Path(__file__).parents[4] / "server"
FILES = ("bundle.py", "cli.py", "documents.py", "options.py", "plugins.py")
NEAR_TIE = 0.2
"""Nats between two tokens that rounding may put in another order: eight times the most that was
seen, in 3 of 252 answers on four packages."""

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::FutureWarning")]


@pytest.fixture(scope="module")
def fp32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the embedded weights as an fp32 graph."""
    folder = tmp_path_factory.mktemp("fp32")
    shutil.copytree(EMBEDDED_FOLDER / "checkpoint", folder / "checkpoint")
    shutil.copy(EMBEDDED_FOLDER / TOKENIZER_FILE, folder / "checkpoint")
    dtype: Dtype = "fp32"
    options = ExportOptions(model=str(folder / "checkpoint"), output=folder / "out", dtype=dtype)
    return export_bundle(options, lambda _: None).folder


@pytest.fixture(scope="module", params=["ort int8", "ort fp32", "pytorch"])
def engine(request: pytest.FixtureRequest, fp32: Path) -> Iterator[LocalEngine]:
    """Return an engine that knows the other files of its own folder."""
    backend = request.param.split()[0]
    model = str(fp32) if request.param == "ort fp32" else ""
    options = Options(model=model, backend=backend, device="cpu", threads=1)
    engine = LocalEngine.load(options)
    files = [
        WorkspaceFile(path=path.name, text=path.read_text(encoding="utf-8"))
        for path in sorted(SERVER.glob("*.py"))
    ]
    engine.learn(files, CancelToken())
    yield engine
    engine.close()


@pytest.mark.parametrize("scope", ["workspace", "document", "off"])
def test_drafts_change_nothing_on_a_real_backend(
    engine: LocalEngine, scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whether they pay depends on the machine's load.
    monkeypatch.setattr(Pace, "draft_length", lambda _, length: 8 if length > 2 else 0)
    accepted = 0
    for name in FILES:
        text = (SERVER / name).read_text(encoding="utf-8")
        for share in (0.6, 0.9):
            cursor = int(len(text) * share)
            said: list[list[TextDelta]] = []
            for drafts in (False, True):
                usage = EngineUsage()
                asked = EngineRequest(
                    document=f"file:///{name}",
                    path=name,
                    prefix=text[:cursor],
                    suffix=text[cursor + 40 :],
                    max_new_tokens=32,
                    memory=scope,
                    drafts=drafts,
                )
                said.append(list(engine.stream(asked, CancelToken(), usage)))
                accepted += usage.accepted_tokens
            parted = first_difference(*said)
            if parted is not None:
                plain, drafted = parted
                assert engine.info.dtype == "int8"
                assert abs(plain.logprob - drafted.logprob) < NEAR_TIE
    assert accepted > 0


def first_difference(
    plain: list[TextDelta], drafted: list[TextDelta]
) -> tuple[TextDelta, TextDelta] | None:
    """Return the pieces at which two answers part; None: they don't, or one ends sooner."""
    pairs = zip(plain, drafted, strict=False)
    return next(((a, b) for a, b in pairs if a.text != b.text), None)
