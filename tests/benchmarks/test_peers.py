"""Which peers are tried, which are named as skipped, and how one is timed."""

import sys
from dataclasses import replace

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.peers import PEERS, Peer, TransformersGenerate, list_tasks, peer_specs
from benchmarks.subjects import SubjectSpec, Task
from server.bundle import EMBEDDED_FOLDER, read_bundle

BASE = SubjectSpec(name="", maker="", folder=EMBEDDED_FOLDER, n_threads=1, seed=0)


def test_absent_peer_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = (
        Peer(name="absent", package="no_such_package_", install="it", maker="X"),
        Peer(name="absent child", package="no_such_package_.part", install="it", maker="X"),
        Peer(name="undriven", package="json", install="it"),
        Peer(name="driven", package="json", install="it", maker="X"),
    )
    monkeypatch.setattr("benchmarks.peers.PEERS", absent)
    specs, skipped = peer_specs(BASE, read_bundle(EMBEDDED_FOLDER))
    assert [spec.name for spec in specs] == ["driven"]
    assert skipped == [
        "skipped: absent is not installed (pip install it)",
        "skipped: absent child is not installed (pip install it)",
        "skipped: undriven can't be driven by this benchmark yet",
    ]


def test_bundle_without_weights_is_refused() -> None:
    bundle = read_bundle(EMBEDDED_FOLDER)
    without = replace(bundle, manifest=replace(bundle.manifest, files={}))
    with pytest.raises(BenchmarkError, match="no checkpoint"):
        peer_specs(BASE, without)


def test_makers_exist() -> None:
    module = sys.modules["benchmarks.peers"]
    assert all(hasattr(module, peer.maker) for peer in PEERS if peer.maker)


def test_tasks_fit_into_a_small_context() -> None:
    spec = replace(read_bundle(EMBEDDED_FOLDER).manifest.spec, n_ctx=64)
    assert all(task.n_prompt + task.n_new < 64 for task in list_tasks(spec))


@pytest.mark.slow
@pytest.mark.timeout(400)  # A busy machine imports transformers for minutes.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_transformers_generates_as_many_tokens_as_are_timed() -> None:
    spec = replace(BASE, name="transformers")
    peer = TransformersGenerate(spec, list(range(4, 40)))
    assert len(peer._generate([5, 6, 7], 3)) == 3
    assert (peer.run(Task(name="decode", n_prompt=8, n_new=2)) or 0) > 0
    assert (peer.run(Task(name="line", n_prompt=8, n_new=2)) or 0) > 0
    assert peer.run(Task(name="verify", n_prompt=8, n_new=2)) is None
