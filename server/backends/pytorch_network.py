"""Builds a transformers network from a bundle's checkpoint folder, which is untrusted.

A config is made only of fields that transformers' own class for the architecture declares, with
plain values; weights come from safetensors. No pickle, no remote code, no network connection. Does
not know the backend's contract.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from server.backends.pytorch_config import COMPUTED_TENSORS, make_config
from server.bundle import CONFIG_FILE, WEIGHTS_FILE
from server.errors import BackendUnavailableError, BundleError
from server.manifest import ModelSpec

CONFIG_BYTES = 1_000_000  # far above any config of a decoder


def import_torch() -> Any:
    """Return the module torch, with transformers at hand and quiet.

    Raises:
        BackendUnavailableError: one of them is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside strangers' modules
            import safetensors.torch  # noqa: F401 - missing here, it would be missing later
            import torch
            import transformers
    except ImportError as exc:
        raise BackendUnavailableError(
            f"{exc.name or exc} is not installed; install foretype[torch]"
        ) from exc
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    return torch


def load_network(folder: Path, spec: ModelSpec) -> Any:
    """Return a network in fp32 on the CPU, in evaluation mode.

    Args:
        folder: config and weights.
        spec: the sizes that the manifest promises.

    Raises:
        BundleError: config or weights are malformed, or of other sizes than the manifest says.
        BackendUnavailableError: transformers has no causal language model of this architecture.
    """
    config = read_config(folder / CONFIG_FILE)
    _check_sizes(config, spec, folder / CONFIG_FILE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside strangers' modules
        network = _empty_network(config)
    _fill(network, folder / WEIGHTS_FILE)
    network.tie_weights()
    return network.eval()


def read_config(path: Path) -> Any:
    """Return transformers' config object, made of declared fields with plain values alone.

    Raises:
        BundleError: it is no JSON object, or a field has no plain value.
        BackendUnavailableError: transformers has no causal language model of this architecture.
    """
    from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING

    raw = _read_json(path)
    architecture = str(raw.get("model_type"))
    if architecture not in CONFIG_MAPPING:
        raise BackendUnavailableError(f"this transformers has no architecture {architecture!r}")
    config_class = CONFIG_MAPPING[architecture]
    if config_class not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise BackendUnavailableError(f"{architecture!r} is no causal language model")
    try:
        return make_config(config_class, raw)
    except ValueError as exc:
        raise BundleError(f"{path} {exc}; export the model again") from exc


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > CONFIG_BYTES:
            raise BundleError(f"{path} is larger than {CONFIG_BYTES} bytes; export the model again")
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        raise BundleError(f"{path} can't be read ({exc}); export the model again") from exc
    if not isinstance(raw, dict):
        raise BundleError(f"{path} holds {type(raw).__name__}, expected an object")
    return raw


def _check_sizes(config: Any, spec: ModelSpec, path: Path) -> None:
    """Refuse a network that the manifest does not describe, before memory is taken for it."""
    promised = {
        "num_hidden_layers": spec.n_layer,
        "num_attention_heads": spec.n_head,
        "hidden_size": spec.n_embd,
        "max_position_embeddings": spec.n_ctx,
        "vocab_size": spec.n_vocab,
    }
    for name, size in promised.items():
        if (found := getattr(config, name, None)) != size:
            raise BundleError(
                f"{path} says {name} is {found!r}, the manifest says {size}; export the model again"
            )


def _empty_network(config: Any) -> Any:
    """Return a network whose weights are not yet set."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING
    from transformers.modeling_utils import no_init_weights

    with no_init_weights():
        network_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
        return network_class(config)


def _fill(network: Any, path: Path) -> None:
    """Set every weight from a safetensors file; none may be missing, unknown or of another shape.

    Raises:
        BundleError: the file does not fit the network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(path)
        prefix = f"{network.base_model_prefix}."
        if not any(name.startswith(prefix) for name in weights):  # saved without the head
            weights = {prefix + name: tensor for name, tensor in weights.items()}
        missing, unknown = network.load_state_dict(weights, strict=False)
    except (SafetensorError, OSError, RuntimeError) as exc:
        raise BundleError(f"{path} can't be loaded ({exc}); export the model again") from exc
    tied = set(network._tied_weights_keys or ()) if network.config.tie_word_embeddings else set()
    unlike = (set(missing) - tied) | {name for name in unknown if not COMPUTED_TENSORS.search(name)}
    if unlike:
        names = ", ".join(sorted(unlike)[:4])
        raise BundleError(f"{path} lacks or adds the weights {names}; export the model again")
