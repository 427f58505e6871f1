"""Which peers are tried, which are named as skipped, and how one is timed."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from benchmarks.errors import BenchmarkError
from benchmarks.our_backend import captured_specs
from benchmarks.peers import PEERS, Peer, list_tasks, peer_specs
from benchmarks.peers.ct2 import name_all_ids
from benchmarks.peers.hugging_face import TransformersGenerate
from benchmarks.subjects import SubjectSpec, Task
from server.bundle import EMBEDDED_FOLDER, read_bundle

BASE = SubjectSpec(name="", maker="", folder=EMBEDDED_FOLDER, n_threads=1, seed=0)


def test_absent_peer_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = (
        Peer(name="absent", package="no_such_package_", install="it", maker="X"),
        Peer(name="absent child", package="no_such_package_.part", install="it", maker="X"),
        Peer(name="undriven", package="json", install="it", why_not="it knows no GPT-2"),
        Peer(name="driven", package="json", install="it", maker="X"),
    )
    monkeypatch.setattr("benchmarks.peers.PEERS", absent)
    specs, skipped = peer_specs(BASE, read_bundle(EMBEDDED_FOLDER))
    assert [spec.name for spec in specs] == ["driven"]
    assert skipped == [
        "skipped: absent is not installed (pip install it)",
        "skipped: absent child is not installed (pip install it)",
        "skipped: undriven: it knows no GPT-2",
    ]


def test_on_a_graphics_card_peers_run_in_half_precision_and_passes_are_captured() -> None:
    base = replace(BASE, device="cuda")
    specs, _ = peer_specs(base, read_bundle(EMBEDDED_FOLDER))
    assert {spec.name for spec in specs} <= {peer.name for peer in PEERS if "fp16" in peer.name}
    (captured,) = captured_specs(base)
    assert captured.options["captures"]
    assert captured_specs(BASE) == []


def test_bundle_without_weights_is_refused() -> None:
    bundle = read_bundle(EMBEDDED_FOLDER)
    without = replace(bundle, manifest=replace(bundle.manifest, files={}))
    with pytest.raises(BenchmarkError, match="no checkpoint"):
        peer_specs(BASE, without)


def test_makers_exist() -> None:
    for peer in PEERS:
        module, _, name = peer.maker.partition(":")
        assert hasattr(import_module(module), name) if module else peer.why_not


def test_tasks_fit_into_a_small_context() -> None:
    spec = replace(read_bundle(EMBEDDED_FOLDER).manifest.spec, n_ctx=64)
    assert all(task.n_prompt + task.n_new < 64 for task in list_tasks(spec))


@pytest.mark.slow
@pytest.mark.timeout(400)  # A busy machine imports transformers for minutes.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_transformers_generates_as_many_tokens_as_are_timed() -> None:
    spec = replace(BASE, name="transformers")
    peer = TransformersGenerate(spec, list(range(4, 40)))
    assert len(peer.generate([5, 6, 7], 3)) == 3
    assert (peer.run(Task(name="decode", n_prompt=8, n_new=2)) or 0) > 0
    assert (peer.run(Task(name="line", n_prompt=8, n_new=2)) or 0) > 0
    assert peer.run(Task(name="verify", n_prompt=8, n_new=2)) is None


@pytest.mark.slow
def test_ctranslate2_runs_the_same_weights() -> None:
    pytest.importorskip("ctranslate2", reason="the extra `bench` is not installed")
    from benchmarks.peers.ct2 import CTranslate2

    options = {"quantization": "int8"}
    peer = CTranslate2(replace(BASE, name="ct2", options=options), list(range(4, 40)))
    assert peer.describe()["dtype"].startswith("int8")
    for name in ("prefill", "decode", "line"):
        assert (peer.run(Task(name=name, n_prompt=16, n_new=3)) or 0) > 0
    assert len(peer.generate([5, 6], 4)) == 4


def test_ids_that_a_tokenizer_leaves_open_are_named_for_ctranslate2() -> None:
    tokenizer = {"model": {"vocab": {"a": 1, "b": 2}}, "added_tokens": [{"id": 0}]}
    named = name_all_ids(tokenizer, 5)["model"]["vocab"]
    assert named == {"a": 1, "b": 2, "<unused 3>": 3, "<unused 4>": 4}
    assert name_all_ids(tokenizer, 3) == tokenizer


@pytest.mark.slow
def test_llama_cpp_runs_the_same_weights() -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python builds for minutes; not installed")
    from benchmarks.peers.llama import LlamaCpp

    options = {"quantization": "Q8_0"}
    peer = LlamaCpp(replace(BASE, name="llama", options=options), list(range(4, 40)))
    for name in ("prefill", "decode", "line"):
        assert (peer.run(Task(name=name, n_prompt=16, n_new=3)) or 0) > 0
    assert len(peer.generate([5, 6, 7], 4)) == 4


def test_gguf_holds_the_checkpoints_weights(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf", reason="the extra `bench` is not installed")
    from benchmarks.peers.gguf_file import write_gguf

    bundle = read_bundle(EMBEDDED_FOLDER)
    assert bundle.checkpoint_path is not None
    write_gguf(bundle.checkpoint_path, bundle.tokenizer_path, tmp_path / "m.gguf", "Q8_0")
    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    spec = bundle.manifest.spec
    assert reader.fields["gpt2.block_count"].contents() == spec.n_layer
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    raw = Tokenizer.from_file(str(bundle.tokenizer_path))
    assert tokens == [raw.id_to_token(i) for i in range(spec.n_vocab)]
    weights = load_file(bundle.checkpoint_path / "model.safetensors")
    written = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in reader.tensors}
    assert len(written) == len(weights) + 1  # The head is written apart from the embedding.
    for theirs, ours in (
        ("blk.1.ffn_up.weight", weights["transformer.h.1.mlp.c_fc.weight"].T),
        ("output.weight", weights["transformer.wte.weight"]),
        ("position_embd.weight", weights["transformer.wpe.weight"]),
    ):
        error = np.abs(written[theirs] - ours.astype(np.float32))
        assert error.max() <= np.abs(ours).max() / 127
