"""What fewer bits cost: measured on the embedded weights, and worse where weights are worse."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.accuracy import DTYPES, export_all, list_passages, measure
from benchmarks.results import Recorder
from server.bundle import EMBEDDED_FOLDER, read_bundle

TEXTS = [
    (Path(__file__).parents[2] / "server" / name).read_text() for name in ("cli.py", "bundle.py")
]


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_each_format_is_held_to_fp32_pytorch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.accuracy.GREEDY_TOKENS", 24)
    bundle = read_bundle(EMBEDDED_FOLDER)
    recorder = Recorder(kind="accuracy", command="test", seed=0, settings={})
    bundles, notes = export_all(bundle, tmp_path, lambda _: None)
    assert (tuple(bundles), notes) == (DTYPES, [])
    measure(recorder, bundles, list_passages(bundle, TEXTS), 1, lambda _: None)
    found = {(one.subject, one.name): one for one in recorder.figures}
    bits = {name: found[name, "bits_per_byte"].median for name in ("PyTorch fp32", *DTYPES)}
    assert bits["fp32"] == pytest.approx(bits["PyTorch fp32"], rel=1e-4)
    assert bits["fp16"] == pytest.approx(bits["fp32"], rel=2e-3)
    assert bits["int8"] == pytest.approx(bits["fp32"], rel=0.02)
    errors = [found[name, "relative_error"].median for name in DTYPES]
    assert errors == sorted(errors)
    assert found["fp32", "same_text_tokens"].low == 24
    assert found["int4", "same_choice"].median < found["fp32", "same_choice"].median == 1


def test_what_can_t_be_exported_is_named(tmp_path: Path) -> None:
    shutil.copytree(EMBEDDED_FOLDER, tmp_path / "bundle")
    bundle = read_bundle(tmp_path / "bundle")
    (tmp_path / "bundle" / "checkpoint" / "model.safetensors").write_bytes(b"damaged")
    bundles, notes = export_all(bundle, tmp_path / "out", lambda _: None)
    assert not bundles
    assert [note.split(":")[1].strip() for note in notes] == list(DTYPES)


def test_a_passage_is_what_one_context_holds() -> None:
    bundle = read_bundle(EMBEDDED_FOLDER)
    short, long = list_passages(bundle, ["x = 1\n", TEXTS[1]])
    assert short.n_bytes == len("x = 1\n")
    assert len(long.token_ids) == bundle.manifest.spec.n_ctx
    assert long.token_ids[0] == bundle.manifest.special_tokens.end
    assert 1000 < long.n_bytes < len(TEXTS[1])


def test_the_page_shows_the_results_file() -> None:
    root = Path(__file__).parents[2]
    made = subprocess.run(
        [sys.executable, root / "scripts" / "accuracy_table.py"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert made.stdout in (root / "docs" / "performance.md").read_text(encoding="utf-8")
