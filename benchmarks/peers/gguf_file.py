"""Writes a GPT-2 checkpoint as GGUF, the file format of llama.cpp.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; names of tensors as
https://github.com/ggml-org/llama.cpp/blob/master/gguf-py/gguf/constants.py has them.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, quants
from safetensors.numpy import load_file

_NORMS = {"ln_1": "attn_norm", "ln_2": "ffn_norm"}
_MATRICES = {
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}


def write_gguf(checkpoint: Path, tokenizer: Path, output: Path, quantization: str) -> None:
    """Write weights and vocabulary.

    Matrices and the embedding, which is the head too, are quantized; what llama.cpp wants in full
    precision stays so.

    Args:
        checkpoint: folder with `config.json` and `model.safetensors`.
        tokenizer: a byte-level BPE's `tokenizer.json`.
        output: the file.
        quantization: `Q8_0` or `Q4_0`.
    """
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    kind = GGMLQuantizationType[quantization]
    writer = GGUFWriter(output, "gpt2")
    writer.add_file_type(LlamaFileType[f"MOSTLY_{quantization}"])
    writer.add_block_count(config["n_layer"])
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_feed_forward_length(4 * config["n_embd"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config.get("layer_norm_epsilon", 1e-5))
    _add_vocabulary(writer, json.loads(tokenizer.read_text(encoding="utf-8")), config)
    tensors = {
        name.removeprefix("transformer."): array.astype(np.float32)
        for name, array in load_file(checkpoint / "model.safetensors").items()
    }

    def add(name: str, array: np.ndarray, *, is_quantized: bool = False) -> None:
        array = np.ascontiguousarray(array)
        if is_quantized:
            writer.add_tensor(name, quants.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, array)

    add("token_embd.weight", tensors["wte.weight"], is_quantized=True)
    add("output.weight", tensors["wte.weight"], is_quantized=True)
    add("position_embd.weight", tensors["wpe.weight"])
    for part in ("weight", "bias"):
        add(f"output_norm.{part}", tensors[f"ln_f.{part}"])
    for layer in range(config["n_layer"]):
        for theirs, named in _NORMS.items():
            for part in ("weight", "bias"):
                add(f"blk.{layer}.{named}.{part}", tensors[f"h.{layer}.{theirs}.{part}"])
        for theirs, named in _MATRICES.items():
            # GPT-2 keeps its matrices as [in, out], GGUF as [out, in].
            weight = tensors[f"h.{layer}.{theirs}.weight"].T
            add(f"blk.{layer}.{named}.weight", weight, is_quantized=True)
            add(f"blk.{layer}.{named}.bias", tensors[f"h.{layer}.{theirs}.bias"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_vocabulary(writer: GGUFWriter, raw: dict, config: dict) -> None:
    """Add tokens and merges; ids that the tokenizer leaves open get names of their own."""
    names = {i: f"<unused {i}>" for i in range(config["vocab_size"])}
    names |= {i: token for token, i in raw["model"]["vocab"].items()}
    names |= {added["id"]: added["content"] for added in raw.get("added_tokens", ())}
    merges = [m if isinstance(m, str) else " ".join(m) for m in raw["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([names[i] for i in sorted(names)])
    writer.add_token_types([1] * len(names))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(config.get("bos_token_id", 0))
    writer.add_eos_token_id(config.get("eos_token_id", 0))
