"""Backends in processes of their own: one tiny real run, and the sums."""

from pathlib import Path

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.figures import figure
from benchmarks.machine import read_device_bandwidth
from benchmarks.our_backend import OurBackend, decode_greedily, our_spec, time_task
from benchmarks.results import Recorder
from benchmarks.subjects import SubjectSpec, Task, sample_tokens
from benchmarks.throughput import Plan, decode_figures, list_tasks, measure, n_steps, noise_notes
from server.bundle import EMBEDDED_FOLDER, read_bundle
from server.manifest import ModelSpec
from tests.fakes import FakeBackend

SPEC = ModelSpec(n_layer=1, n_head=1, n_kv_head=1, n_embd=8, n_ctx=512, n_vocab=100)
BASE = SubjectSpec(name="", maker="", folder=EMBEDDED_FOLDER, n_threads=1, seed=0)


def test_tasks_fit_into_the_context() -> None:
    tasks = list_tasks(SPEC)
    assert [task.n_prompt for task in tasks if task.name == "prefill"] == [64, 256, 511]
    assert all(task.n_prompt + task.n_new <= SPEC.n_ctx for task in tasks)


def test_decode_gives_the_tokens_and_the_bytes_per_second() -> None:
    by_name = {one.name: one.median for one in decode_figures("ort", [10.0], 140_000_000, 28e9)}
    assert by_name == {"tokens_per_s": 100, "read_rate": 14, "share_of_bandwidth": 0.5}
    assert [one.name for one in decode_figures("stranger", [10.0], None, 28e9)] == ["tokens_per_s"]


def test_rounds_that_differ_a_lot_are_named() -> None:
    calm, noisy = figure("a", "decode", "ms", [1.0, 2.0]), figure("b", "decode", "ms", [1.0, 9.0])
    assert noise_notes([calm, noisy]) == ["b decode varied 9.0-fold between the rounds"]


@pytest.mark.parametrize(
    ("task", "passes"),
    [
        (Task(name="prefill", n_prompt=6), [6]),
        (Task(name="decode", n_prompt=6, n_new=2), [6, 1, 1]),
        (Task(name="verify", n_prompt=6, n_new=4), [6, 4, 4, 4]),
        (Task(name="line", n_prompt=6, n_new=3), [5, 1, 1, 1]),
    ],
)
def test_tasks_run_the_passes_that_they_name(task: Task, passes: list[int]) -> None:
    backend = FakeBackend(lambda _: 65)
    assert time_task(backend, task, list(range(20))) >= 0
    assert [len(one.token_ids) for one in backend.passes] == passes


@pytest.mark.slow
def test_a_device_is_read_as_fast_as_torch_can() -> None:
    assert read_device_bandwidth("cpu", n_bytes=1 << 20, n_rounds=2) > 1e6
    with pytest.raises(BenchmarkError, match="no read bandwidth of abacus"):
        read_device_bandwidth("abacus", n_bytes=1 << 20)


def test_line_is_decoded_greedily() -> None:
    backend = FakeBackend(lambda so_far: so_far[-1] + 1)
    assert decode_greedily(backend, backend.new_cache(), 65, 3) == [66, 67, 68]


@pytest.mark.slow
def test_backend_is_measured_and_a_missing_one_is_named() -> None:
    recorder = Recorder(kind="throughput", command="test", seed=0, settings={})
    tasks = (
        Task(name="prefill", n_prompt=8),
        Task(name="decode", n_prompt=8, n_new=2),
        Task(name="verify", n_prompt=8, n_new=4),
    )
    plan = Plan(n_rounds=2, n_loads=1, tasks=tasks)
    steps: list[str] = []
    specs = [our_spec(BASE, "ort"), our_spec(BASE, "nothing")]
    measure(recorder, specs, sample_tokens(100, 64, 0), plan, steps.append)
    names = {(one.subject, one.name) for one in recorder.figures}
    assert {("ort", "prefill_8"), ("ort", "verify_4"), ("ort", "read_rate")} <= names
    assert ("ort", "peak_memory") in names
    assert all(one.low > 0 for one in recorder.figures)
    assert [note for note in recorder.notes if note.startswith("skipped: nothing")]
    assert len(steps) <= n_steps(plan, len(specs))


@pytest.mark.slow
def test_run_without_any_backend_says_why(tmp_path: Path) -> None:
    recorder = Recorder(kind="throughput", command="test", seed=0, settings={})
    plan = Plan(n_rounds=1, n_loads=1, tasks=(Task(name="prefill", n_prompt=8),))
    with pytest.raises(BenchmarkError, match="skipped: nothing"):
        measure(recorder, [our_spec(BASE, "nothing")], [5] * 64, plan, lambda _: None)


def test_embedded_model_reads_most_of_its_graph_per_token() -> None:
    bundle = read_bundle(EMBEDDED_FOLDER)
    subject = OurBackend(our_spec(BASE, "ort"), sample_tokens(100, 64, 0))
    n_bytes = subject.describe()["weight_bytes"]
    assert 0.5 * bundle.model_path.stat().st_size < n_bytes < bundle.model_path.stat().st_size
