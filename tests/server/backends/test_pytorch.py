"""The PyTorch backend against missing packages and checkpoints that are not what they should be."""

import json
import sys
from dataclasses import replace
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from server.backends.contract import BackendOptions
from server.backends.pytorch import PyTorchBackend
from server.bundle import Bundle
from server.errors import BackendFailedError, BackendUnavailableError, BundleError
from tests.server.backends.conftest import MakeBundle

CPU = BackendOptions(device="cpu", n_threads=1)


def edit_config(bundle: Bundle, **changes: Any) -> None:
    assert bundle.checkpoint_path is not None
    path = bundle.checkpoint_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(bundle: Bundle, drop: str = "", add: str = "") -> None:
    assert bundle.checkpoint_path is not None
    path = bundle.checkpoint_path / "model.safetensors"
    weights = load_file(path)
    if drop:
        del weights[drop]
    if add:
        weights[add] = next(iter(weights.values())).clone()
    save_file(weights, path)


@pytest.mark.parametrize("package", ["torch", "transformers", "safetensors"])
def test_a_missing_package_names_the_extra(
    make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    bundle = make_bundle()
    for name in list(sys.modules):
        if name == package or name.startswith(package + "."):
            monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BackendUnavailableError, match=r"install foretype\[torch\]"):
        PyTorchBackend.load(bundle, CPU)


def test_a_bundle_without_a_checkpoint_says_so(make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    bundle = replace(bundle, manifest=replace(bundle.manifest, files={}))
    with pytest.raises(BackendUnavailableError, match="has no checkpoint for PyTorch"):
        PyTorchBackend.load(bundle, CPU)


def test_cuda_that_is_not_there_is_said(
    make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendUnavailableError, match="no CUDA device"):
        PyTorchBackend.load(make_bundle(), BackendOptions(device="cuda"))


def test_a_config_can_neither_fetch_nor_run_anything(own_bundle: Bundle) -> None:
    """Fields that make transformers import code or fetch kernels never reach it."""
    edit_config(
        own_bundle,
        auto_map={"AutoModelForCausalLM": "evil/repo--code.Model"},
        _attn_implementation="kernels-community/evil",
        attn_implementation="kernels-community/evil",
        _attn_implementation_internal="kernels-community/evil",
        quantization_config={"quant_method": "evil"},
        _name_or_path="evil/repo",
    )
    backend = PyTorchBackend.load(own_bundle, CPU)
    assert backend.forward([1, 2], backend.new_cache()).shape == (1, 264)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation_function": "http://evil/x"}, "no plain name"),
        ({"n_layer": 3}, "num_hidden_layers is 3, the manifest says 2"),
        ({"n_embd": 10**9}, "hidden_size is 1000000000"),
        ({"n_layer": "two"}, "num_hidden_layers is 'two'"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(
    own_bundle: Bundle, changes: dict[str, Any], message: str
) -> None:
    edit_config(own_bundle, **changes)
    with pytest.raises(BundleError, match=message):
        PyTorchBackend.load(own_bundle, CPU)


@pytest.mark.parametrize("architecture", ["no-such-network", "bert", "t5", None])
def test_an_architecture_that_is_no_decoder_is_refused(
    own_bundle: Bundle, architecture: str | None
) -> None:
    edit_config(own_bundle, model_type=architecture)
    with pytest.raises((BackendUnavailableError, BundleError, BackendFailedError)):
        PyTorchBackend.load(own_bundle, CPU)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000])
def test_a_config_that_is_no_json_object_is_refused(own_bundle: Bundle, text: str) -> None:
    assert own_bundle.checkpoint_path is not None
    (own_bundle.checkpoint_path / "config.json").write_text(text)
    with pytest.raises(BundleError, match=r"config\.json"):
        PyTorchBackend.load(own_bundle, CPU)


def test_weights_that_are_missing_or_unknown_are_named(own_bundle: Bundle) -> None:
    edit_weights(own_bundle, drop="transformer.h.0.ln_1.weight")
    with pytest.raises(BundleError, match=r"lacks or adds .*transformer\.h\.0\.ln_1\.weight"):
        PyTorchBackend.load(own_bundle, CPU)


def test_an_unknown_weight_is_named(own_bundle: Bundle) -> None:
    edit_weights(own_bundle, add="transformer.h.0.extra")
    with pytest.raises(BundleError, match=r"lacks or adds .*transformer\.h\.0\.extra"):
        PyTorchBackend.load(own_bundle, CPU)


def test_a_truncated_weight_file_is_refused(own_bundle: Bundle) -> None:
    assert own_bundle.checkpoint_path is not None
    path = own_bundle.checkpoint_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BundleError, match=r"model\.safetensors can't be loaded"):
        PyTorchBackend.load(own_bundle, CPU)


def test_what_torch_raises_becomes_a_failure_of_the_backend(
    make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def run_out(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    backend = PyTorchBackend.load(make_bundle(), CPU)
    monkeypatch.setattr(backend, "_body", run_out)
    with pytest.raises(BackendFailedError, match="PyTorch failed on cpu: CUDA out of memory"):
        backend.forward([1], backend.new_cache())
