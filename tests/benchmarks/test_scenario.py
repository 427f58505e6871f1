"""A whole run against the real server, and how its file is cut."""

from pathlib import Path

import pytest

from benchmarks.cli import main, make_parser
from benchmarks.client import Client
from benchmarks.errors import BenchmarkError
from benchmarks.models import make_random_bundle
from benchmarks.results import Recorder
from benchmarks.scenario import Scenario, _measure_typing, cold_document, find_passage
from server.bundle import EMBEDDED_FOLDER, read_bundle
from server.decoding.tokenizer import Tokenizer
from tests.fakes import ByteTokenizer

TEXT = "a = 1\nb = 2\n\nc = 3\nd = 4\ne = 5\nf = 6\ng = 7\n"


def test_passage_is_the_whole_file() -> None:
    passage = find_passage(TEXT, 1)
    assert passage.prefix + passage.quick + passage.slow + passage.suffix == TEXT
    assert (passage.quick, passage.slow) == ("d = 4\n", "e = 5\n")


def test_blank_lines_are_typed_and_do_not_count() -> None:
    assert find_passage("a\nb\n\nc\nd\n", 1).quick == "\nc\n"


def test_short_file_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="too few lines"):
        find_passage(TEXT, 3)


def test_cold_document_ends_inside_a_line() -> None:
    passage = find_passage(TEXT, 1)
    assert cold_document(passage, 7, ByteTokenizer()) == "\nc = 3\n" + "d "
    with pytest.raises(BenchmarkError, match="are needed"):
        cold_document(passage, 1000, ByteTokenizer())


def test_command_line_has_a_short_latency_run() -> None:
    arguments = make_parser().parse_args(["latency", "--short"])
    assert arguments.short
    assert arguments.file.is_file()


def test_missing_file_is_an_error_not_a_traceback(tmp_path: Path) -> None:
    assert main(["report", str(tmp_path / "none.json")]) == 2
    assert main(["report"]) == 2


@pytest.mark.slow
@pytest.mark.timeout(400)  # A busy machine imports transformers for minutes.
def test_random_model_is_a_bundle_with_the_embedded_tokenizer(tmp_path: Path) -> None:
    folder = tmp_path / "random"
    sizes = {"n_layer": 1, "n_head": 2, "n_embd": 32, "n_positions": 64, "vocab_size": 8200}
    make_random_bundle(folder, "fp32", lambda _: None, **sizes)
    bundle = read_bundle(folder)
    assert bundle.manifest.spec.n_vocab == 8200
    assert bundle.checkpoint_path is not None
    embedded = read_bundle(EMBEDDED_FOLDER)
    assert bundle.tokenizer_path.read_bytes() == embedded.tokenizer_path.read_bytes()


@pytest.mark.e2e
def test_bare_server_answers_initialize() -> None:
    with Client(["-m", "benchmarks.bare_server"]) as client:
        assert "capabilities" in client.initialize({})


@pytest.mark.e2e
def test_server_that_can_not_start_is_named_with_its_reason() -> None:
    with (
        Client(["-c", "import sys; sys.exit('no such thing')"]) as client,
        pytest.raises(BenchmarkError, match="no such thing"),
    ):
        client.initialize({})


@pytest.mark.e2e
@pytest.mark.slow
def test_typing_into_the_real_server_is_measured(tmp_path: Path) -> None:
    recorder = Recorder(kind="latency", command="test", seed=0, settings={})
    text = "".join(
        f"def {name}(width, height):\n    return width * {name}_of(height)\n\n\n"
        for name in ("area", "volume", "weight", "price")
    )
    scenario = Scenario(
        file=tmp_path / "shapes.py",
        interval_ms=10,
        n_lines=1,
        n_starts=0,
        n_cancellations=0,
        is_random=False,
        settings={"threads": 1},
    )
    bundle = read_bundle(EMBEDDED_FOLDER)
    tokenizer = Tokenizer.from_file(bundle.tokenizer_path, bundle.manifest.spec.n_vocab)
    steps: list[str] = []
    passage = find_passage(text, 1)
    server = ["-m", "server", "--stdio"]
    _measure_typing(recorder, server, passage, scenario, tokenizer, steps.append)
    by_name = {one.name: one for one in recorder.figures}
    assert by_name["requests"].median == len(steps) == len(recorder.raw["requests"])
    assert by_name["flicker"].median == 0
    assert by_name["resident_memory"].median > 10
    assert any(row["source"] == "model" for row in recorder.raw["requests"])
