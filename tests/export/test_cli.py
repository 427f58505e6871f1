"""The command line: one sentence for each error, and no half bundle however it is ended."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from export.cli import main
from server.bundle import read_bundle

# Stops where a bundle is written but not yet checked, so that a test can end it there.
STOPS_IN_THE_MIDDLE = """
import signal
import sys
import export.pipeline
from export.cli import main

# A shell's background job is started with SIGINT ignored, and so are the tests in it.
signal.signal(signal.SIGINT, signal.default_int_handler)

def stop(*_args):
    print("in the middle", flush=True)
    sys.stdin.read()

export.pipeline._validate = stop
raise SystemExit(main(sys.argv[1:]))
"""


def test_help_explains_every_choice(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["--help"])

    assert exit_info.value.code == 0
    text = capsys.readouterr().out
    for word in (
        "fused:",
        "portable:",
        "fp32:",
        "fp16:",
        "int8:",
        "int4:",
        "spm",
        "psm",
        "--device",
    ):
        assert word in text


def test_help_needs_neither_torch_nor_onnx() -> None:
    code = (
        "import sys; sys.modules.update(torch=None, onnx=None, transformers=None)\n"
        "from export.cli import main; main(['--help'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (
            ["--dtype", "in8"],
            "'in8' is unknown; did you mean 'int8'? known: fp16, fp32, int4, int8",
        ),
        (["--layout", "fuse"], "did you mean 'fused'?"),
        (["--device", "gpu"], "'gpu' is unknown; "),
        (["--fim-order", "pms"], "known: none, psm, spm"),
    ],
)
def test_unknown_choice_gets_the_nearest_name(
    capsys: pytest.CaptureFixture[str], arguments: list[str], hint: str
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["model", *arguments])

    assert exit_info.value.code == 2
    assert hint in capsys.readouterr().err


def test_error_is_one_sentence_and_a_failing_exit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([str(tmp_path), "--output", str(tmp_path / "bundle")])

    captured = capsys.readouterr()
    assert code == 1
    assert captured.out == ""
    (error,) = [line for line in captured.err.splitlines() if line.startswith("error")]
    assert error.startswith(f"error: {tmp_path}/config.json is missing")


def test_missing_package_says_what_to_install(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)

    code = main([str(checkpoint), "--output", str(tmp_path / "bundle")])

    assert code == 1
    assert "error: onnx is missing; install" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_export_ends_with_sizes_parity_and_speed(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([str(checkpoint), "--output", str(tmp_path / "bundle"), "--name", "[tiny]"])

    text = capsys.readouterr().out
    assert code == 0
    for part in ("[tiny]: fused int8", "model.onnx", "decode relative error", "loss difference"):
        assert part in text
    assert re.search(r"CPUExecutionProvider: prefill of \d+ tokens [\d.]+ ms", text)
    assert f"written to {tmp_path / 'bundle'}" in text
    assert read_bundle(tmp_path / "bundle").manifest.name == "[tiny]"


@pytest.mark.e2e
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_export_leaves_nothing(
    checkpoint: Path, tmp_path: Path, ending: signal.Signals
) -> None:
    process = start_export(checkpoint, tmp_path / "bundle")
    process.send_signal(ending)
    _, errors = process.communicate()

    assert process.returncode == 130
    assert "interrupted; nothing was written" in errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.e2e
def test_killed_export_leaves_nothing_that_looks_whole(checkpoint: Path, tmp_path: Path) -> None:
    process = start_export(checkpoint, tmp_path / "bundle")
    process.kill()
    process.communicate()

    assert not (tmp_path / "bundle").exists()
    assert not list(tmp_path.rglob("manifest.json"))


def start_export(checkpoint: Path, output: Path) -> subprocess.Popen[str]:
    """Start an export and return once its files are written and unchecked."""
    process = subprocess.Popen(
        [sys.executable, "-c", STOPS_IN_THE_MIDDLE, str(checkpoint), "--output", str(output)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "in the middle\n"
    return process
