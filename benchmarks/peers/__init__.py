"""The same weights in other programs: each a subject that is measured in turn with our backends.

Every peer is optional: one that is not installed or does not load is named as skipped. Peers that
keep no cache between two calls prefill the whole prompt for a line: that is what using them costs.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from benchmarks.errors import BenchmarkError
from benchmarks.subjects import Device, SubjectSpec, Task
from benchmarks.throughput import DECODE_TOKENS, LINE_TOKENS
from server.bundle import CHECKPOINT_FOLDER, Bundle
from server.manifest import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A program to compare with."""

    name: str
    package: str
    """What is imported."""
    device: Device = "cpu"
    """Where it is compared: the same weights in the same precision as ours there."""
    install: str
    maker: str = ""
    """`module:Class` of its subject; empty: there is none, for the reason in `why_not`."""
    options: Mapping[str, str] = field(default_factory=dict)
    why_not: str = ""


_HUGGING_FACE = "benchmarks.peers.hugging_face"
_LLAMA = "benchmarks.peers.llama:LlamaCpp"

PEERS = (
    Peer(
        name="transformers generate fp32",
        package="transformers",
        install="foretype[torch]",
        maker=f"{_HUGGING_FACE}:TransformersGenerate",
    ),
    Peer(
        name="transformers static cache, torch.compile fp32",
        package="transformers",
        install="foretype[torch]",
        maker=f"{_HUGGING_FACE}:CompiledGenerate",
    ),
    Peer(
        name="transformers generate fp16",
        package="transformers",
        install="foretype[torch]",
        device="cuda",
        maker=f"{_HUGGING_FACE}:TransformersGenerate",
    ),
    Peer(
        name="transformers static cache, torch.compile fp16",
        package="transformers",
        install="foretype[torch]",
        device="cuda",
        maker=f"{_HUGGING_FACE}:CompiledGenerate",
    ),
    Peer(
        name="optimum ORTModelForCausalLM fp32",
        package="optimum.onnxruntime",
        install="foretype[torch]",
        maker=f"{_HUGGING_FACE}:OptimumGenerate",
    ),
    Peer(
        name="CTranslate2 int8",
        package="ctranslate2",
        install="foretype[bench]",
        maker="benchmarks.peers.ct2:CTranslate2",
        options={"quantization": "int8"},
    ),
    Peer(
        name="llama.cpp Q8_0",
        package="llama_cpp",
        install="llama-cpp-python",
        maker=_LLAMA,
        options={"quantization": "Q8_0"},
    ),
    Peer(
        name="llama.cpp Q4_0",
        package="llama_cpp",
        install="llama-cpp-python",
        maker=_LLAMA,
        options={"quantization": "Q4_0"},
    ),
    Peer(
        name="onnxruntime-genai",
        package="onnxruntime_genai",
        install="onnxruntime-genai",
        why_not="its model builder knows no GPT-2",
    ),
)


def peer_specs(base: SubjectSpec, bundle: Bundle) -> tuple[list[SubjectSpec], list[str]]:
    """Return the peers that can be tried on the base's device, and why the others are skipped.

    Raises:
        BenchmarkError: the bundle has no weights that a peer could read.
    """
    if bundle.checkpoint_path is None:
        raise BenchmarkError(f"{bundle.folder} has no {CHECKPOINT_FOLDER} that peers could load")
    specs, skipped = [], []
    for peer in PEERS:
        if peer.device != base.device:
            continue
        if not _is_installed(peer.package):
            skipped.append(f"skipped: {peer.name} is not installed (pip install {peer.install})")
        elif not peer.maker:
            skipped.append(f"skipped: {peer.name}: {peer.why_not}")
        else:
            options = dict(peer.options)
            specs.append(replace(base, name=peer.name, maker=peer.maker, options=options))
    return specs, skipped


def list_tasks(spec: ModelSpec) -> tuple[Task, ...]:
    """Return what every peer can be asked."""
    n_prompt = min(512, spec.n_ctx - DECODE_TOKENS - 1)
    return (
        Task(name="prefill", n_prompt=n_prompt),
        Task(name="decode", n_prompt=n_prompt, n_new=DECODE_TOKENS),
        Task(name="line", n_prompt=n_prompt, n_new=LINE_TOKENS),
    )


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # its parent is not there
        return False
