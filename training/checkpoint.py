"""Checkpoints on disk: whole or not at all, without pickles, and readable by anybody.

    RUN/step-00001234/   config.json model.safetensors tokenizer.json generation_config.json
                         foretype.json         (a Hugging Face folder, for `python -m export`)
                         optimizer.safetensors state.json   (what resuming needs besides)
    RUN/latest           the name of the newest whole step

A step is written beside the others and renamed when it is complete; `latest` moves last. Recurrent
baselines have a `config.json` of our own. Knows nothing of schedules or data.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from server.backends.pytorch_config import make_config
from training.config import ModelConfig
from training.errors import CheckpointError
from training.model import Gpt2, Recurrent, build_model
from training.tokenizer import END, FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX, end_id, load_tokenizer

WEIGHTS = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"
FACTS = "foretype.json"
LATEST = "latest"
# Where an exported bundle keeps the weights that it was made from.
BUNDLE_WEIGHTS = "checkpoint"
N_KEPT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainState:
    """Where a run stands: everything but weights and optimizer."""

    step: int = 0
    cursor: int = 0
    # Steps and progress of the schedule, which a cooldown begins anew.
    schedule_step: int = 0
    progress: float = 0.0
    elapsed_s: float = 0.0
    # The stages count steps of the whole run, across cooldowns.
    best_bits: float = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A step that was read back."""

    folder: Path
    state: TrainState
    optimizer: dict[str, Tensor]
    rng: Tensor


def foretype_facts(
    licence: str, card: str = "", learned: TrainState | None = None
) -> dict[str, object]:
    """Return what `foretype.json` tells: fill-in-the-middle tokens, end, licence, progress."""
    facts: dict[str, object] = {
        "fim": {
            "prefix": FIM_PREFIX,
            "suffix": FIM_SUFFIX,
            "middle": FIM_MIDDLE,
            "order": "spm",
        },
        "end": END,
        "license": licence,
        "card": card,
    }
    if learned is not None:
        facts["learned"] = {"step": learned.step, "tokens": learned.cursor}
    return facts


def learned_of(folder: Path) -> TrainState:
    """Return how far the training of a released checkpoint, or of an exported bundle, had come.

    Raises:
        CheckpointError: its `foretype.json` does not tell.
    """
    path = folder / FACTS
    if (folder / BUNDLE_WEIGHTS / FACTS).is_file():
        path = folder / BUNDLE_WEIGHTS / FACTS
    learned = _read_json(path).get("learned")
    if not isinstance(learned, dict) or not all(
        isinstance(learned.get(key), int) for key in ("step", "tokens")
    ):
        raise CheckpointError(f"{path} does not say how far training has come")
    return TrainState(step=learned["step"], cursor=learned["tokens"])


def save_model(
    folder: Path,
    model: nn.Module,
    tokenizer: Tokenizer,
    facts: Mapping[str, object],
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a model as a Hugging Face folder (or, for a recurrent one, its like)."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(folder / FACTS, dict(facts))
    if isinstance(model, Gpt2):
        network = model.network
        config = {**network.config.to_diff_dict(), "torch_dtype": str(dtype).split(".")[1]}
        config |= {"architectures": ["GPT2LMHeadModel"], "n_ctx": network.config.n_positions}
        _write_json(folder / "config.json", config)
        end = end_id(tokenizer)
        _write_json(folder / "generation_config.json", {"bos_token_id": end, "eos_token_id": end})
        _write_json(
            folder / "tokenizer_config.json",
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "model_max_length": network.config.n_positions,
                "bos_token": END,
                "eos_token": END,
                "unk_token": END,
                "clean_up_tokenization_spaces": False,
            },
        )
        # The head is the embedding: written once.
        weights = {k: v for k, v in network.state_dict().items() if k != "lm_head.weight"}
    else:
        assert isinstance(model, Recurrent)
        kind = "lstm" if isinstance(model.cells, nn.LSTM) else "rnn"
        sizes = {
            "n_vocab": model.embedding.num_embeddings,
            "n_layer": model.cells.num_layers,
            "n_embd": model.cells.hidden_size,
        }
        _write_json(folder / "config.json", {"model_type": f"foretype-{kind}", **sizes})
        weights = model.state_dict()
    tensors = {k: v.detach().to("cpu", dtype).contiguous() for k, v in weights.items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def load_model(folder: Path) -> tuple[nn.Module, Tokenizer]:
    """Read a model of any folder that `save_model`, or transformers, wrote; weights in fp32.

    An exported bundle that carries its weights is read, too.

    Raises:
        CheckpointError: something is missing, or the weights are of other sizes.
    """
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    if (folder / BUNDLE_WEIGHTS / WEIGHTS).is_file():
        folder = folder / BUNDLE_WEIGHTS
    config = _read_json(folder / "config.json")
    kind = str(config.get("model_type", ""))
    if kind in ("foretype-lstm", "foretype-rnn"):
        sizes = ModelConfig(
            kind="lstm" if kind.endswith("lstm") else "rnn",
            n_layer=config["n_layer"],
            n_embd=config["n_embd"],
            n_head=1,
        )
        model = build_model(sizes, config["n_vocab"], 0, seed=0)
    elif kind == "gpt2":
        try:
            model = Gpt2(GPT2LMHeadModel(make_config(GPT2Config, config)))
        except ValueError as exc:
            raise CheckpointError(f"{folder / 'config.json'} {exc}") from exc
    else:
        raise CheckpointError(f"{folder}: config.json is of {kind or 'no type'}; gpt2 is needed")
    load_weights(folder, model)
    return model.eval(), tokenizer


def load_weights(folder: Path, model: nn.Module) -> None:
    """Read the weights of a folder, or of an exported bundle, into a network of the same sizes.

    Raises:
        CheckpointError: they are missing, damaged, or of another shape.
    """
    if (folder / BUNDLE_WEIGHTS / WEIGHTS).is_file():
        folder = folder / BUNDLE_WEIGHTS
    tensors = _read_tensors(folder / WEIGHTS)
    target = model.network if isinstance(model, Gpt2) else model
    own = target.state_dict()
    for name, value in own.items():
        found = tensors.get(name)
        if found is None and name == "lm_head.weight":
            found = tensors.get("transformer.wte.weight")
        if found is None:
            raise CheckpointError(f"{folder / WEIGHTS} has no {name}")
        if found.shape != value.shape:
            raise CheckpointError(
                f"{folder / WEIGHTS}: {name} is {list(found.shape)}, "
                f"the config asks for {list(value.shape)}"
            )
        value.copy_(found)


def save_step(
    run: Path,
    model: nn.Module,
    tokenizer: Tokenizer,
    facts: Mapping[str, object],
    *,
    state: TrainState,
    optimizer: dict[str, Tensor],
    record: Mapping[str, object],
) -> Path:
    """Write a step whole, point `latest` at it, and drop the oldest.

    Raises:
        CheckpointError: the disk is full or the folder cannot be written; nothing older is lost.
    """
    final = run / f"step-{state.step:08d}"
    partial = run / f".partial-{state.step:08d}"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        save_model(partial, model, tokenizer, facts)
        tensors = {k: v.detach().cpu().contiguous() for k, v in optimizer.items()}
        save_file({**tensors, "rng": torch.get_rng_state()}, partial / OPTIMIZER)
        _write_json(partial / STATE, {"state": dataclasses.asdict(state), "record": dict(record)})
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
        write_atomically(run / LATEST, final.name + "\n")
    except (OSError, SafetensorError) as exc:
        shutil.rmtree(partial, ignore_errors=True)
        raise CheckpointError(
            f"{final}: the checkpoint could not be written ({exc}); the last one stays"
        ) from exc
    for old in sorted(run.glob("step-*"))[:-N_KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def latest_step(run: Path) -> Path | None:
    """Return the newest whole step of a run, or None."""
    pointer = run / LATEST
    if not pointer.is_file():
        return None
    folder = run / pointer.read_text(encoding="utf-8").strip()
    return folder if folder.is_dir() else None


def read_step(folder: Path, model: nn.Module) -> Checkpoint:
    """Read a step into a network and return the rest of it.

    Raises:
        CheckpointError: it is missing, damaged, or of another network.
    """
    load_weights(folder, model)
    tensors = _read_tensors(folder / OPTIMIZER)
    rng = tensors.pop("rng", torch.get_rng_state())
    state = _read_json(folder / STATE)["state"]
    return Checkpoint(folder=folder, state=TrainState(**state), optimizer=tensors, rng=rng)


def write_atomically(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise CheckpointError(f"{path}: {exc}") from exc
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} is no JSON object")
    return value


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as exc:
        raise CheckpointError(f"{path}: {exc}") from exc
