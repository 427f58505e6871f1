"""transformers' config objects from a stranger's config.json, which is untrusted.

Only fields that transformers' own class for the architecture declares by name are taken, and only
with plain values: no code, no path, no address. Knows neither weights nor bundles; whoever reads
the file translates the error.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PretrainedConfig

# Fields of transformers' base class that shape a decoder; its others choose code or devices.
BASE_FIELDS = ("bos_token_id", "eos_token_id", "pad_token_id", "tie_word_embeddings")
PLAIN_TEXT = re.compile(r"[\w .+-]*")  # names of activations and the like: no path, no address
# Buffers that old checkpoints carry and transformers computes by itself.
COMPUTED_TENSORS = re.compile(r"\.(attn|attention)\.(bias|masked_bias)$|rotary_emb\.inv_freq$")


def declared_fields(config_class: type[PretrainedConfig]) -> list[str]:
    """Return the names that a config class declares, and those that shape any decoder."""
    names = list(inspect.signature(config_class.__init__).parameters)[1:]
    names += [name for name in BASE_FIELDS if name not in names]
    return [n for n in names if n not in ("kwargs", "args") and not n.startswith("_")]


def make_config(config_class: type[PretrainedConfig], raw: Mapping[str, Any]) -> PretrainedConfig:
    """Return a config object made of declared fields alone; the others are passed over.

    Args:
        config_class: transformers' class for the architecture.
        raw: the JSON object; a field may bear any name that the class knows it by.

    Raises:
        ValueError: a field has no plain value, or the class refuses the values.
    """
    aliases = {new: old for new, old in config_class.attribute_map.items() if new in raw}
    values = dict(raw) | {old: raw[new] for new, old in aliases.items() if old not in raw}
    fields = {n: values[n] for n in declared_fields(config_class) if n in values}
    for name, value in fields.items():
        _check_plain(name, value)
    try:
        return config_class(**fields)
    except (TypeError, ValueError, KeyError, AttributeError) as exc:
        raise ValueError(f"is malformed: {exc}") from exc


def _check_plain(name: str, value: object) -> None:
    match value:
        case str() if not PLAIN_TEXT.fullmatch(value):
            raise ValueError(f"sets {name} to {value!r}, which is no plain name")
        case dict():
            for key, item in value.items():
                _check_plain(f"{name}.{key}", item)
        case list():
            for item in value:
                _check_plain(name, item)
