"""Finds the tokens with a meaning: the end of text, and those of fill-in-the-middle.

Knows tokenizer.json and foretype.json; knows neither weights nor graphs. What foretype.json says
wins over names that are merely usual.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from export.checkpoint import read_json
from server.bundle import TOKENIZER_FILE
from server.errors import CheckpointError, nearest_name
from server.manifest import FimOrder, FimTokens, SpecialTokens

FACTS_FILE = "foretype.json"
FimChoice = FimOrder | Literal["none"]

# (prefix, suffix, middle) as published models name them.
FIM_NAMES = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen2.5-Coder
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),  # SantaCoder
    ("<PRE>", "<SUF>", "<MID>"),  # Bavarian et al. 2022
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),  # Code Llama
)
END_NAMES = ("<|endoftext|>", "</s>", "<|end_of_text|>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What foretype.json in a checkpoint says; everything is optional.

    {"fim": {"prefix": "<|fim_prefix|>", "suffix": ..., "middle": ..., "order": "spm"},
     "end": "<|endoftext|>", "license": "Apache-2.0", "card": "...",
     "learned": {"step": 9000, "tokens": 30000000}}
    """

    fim: Mapping[str, str] | None = None
    end: str = ""
    license: str = ""
    card: str = ""
    learned: Mapping[str, int] | None = None
    """How far training has come, for those who go on from here; an export carries it along."""


def read_facts(folder: Path) -> Facts:
    """Read foretype.json, if there is one.

    Raises:
        CheckpointError: it is malformed or has an unknown field.
    """
    path = folder / FACTS_FILE
    if not path.exists():
        return Facts()
    raw = read_json(path)
    known = ("fim", "end", "license", "card", "learned")
    for name, value in raw.items():
        if name not in known:
            raise CheckpointError(f"{path} has the field {name!r}{nearest_name(name, known)}")
        if name not in ("fim", "learned") and not isinstance(value, str):
            raise CheckpointError(f"{path}: {name} is {value!r}, must be a string")
    fim = raw.get("fim")
    if fim is not None and not _is_fim(fim):
        raise CheckpointError(
            f"{path}: fim must give prefix, suffix and middle as tokens, and order as spm or psm"
        )
    learned = raw.get("learned")
    if learned is not None and not _is_count(learned):
        raise CheckpointError(f"{path}: learned must count step and tokens")
    return Facts(**raw)


def find_special_tokens(
    folder: Path, config: Mapping[str, Any], facts: Facts, order: FimChoice | None = None
) -> SpecialTokens:
    """Return the special tokens' ids, from foretype.json or by their usual names.

    An `order` that is given overrides foretype.json; psm where neither says anything, as published
    models were mostly trained on it; "none" for a model that fills the middle badly. The config's
    `eos_token_id` is the end if no name tells it.

    Raises:
        CheckpointError: tokenizer.json lacks a token that foretype.json names, or no end is known.
    """
    ids = token_ids(folder / TOKENIZER_FILE)

    def id_of(token: str) -> int:
        if token not in ids:
            raise CheckpointError(
                f"{folder / FACTS_FILE} names the token {token!r}, which "
                f"{folder / TOKENIZER_FILE} does not have"
            )
        return ids[token]

    end = id_of(facts.end) if facts.end else _usual_end(ids, config, folder)
    if order == "none":
        return SpecialTokens(end=end)
    fim = _declared_fim(facts.fim, id_of, order) if facts.fim else _usual_fim(ids, order)
    return SpecialTokens(end=end, fim=fim)


def token_ids(path: Path) -> dict[str, int]:
    """Return all tokens of a tokenizer.json with their ids.

    Raises:
        CheckpointError: the file is malformed.
    """
    raw = read_json(path)
    try:
        vocabulary = raw["model"]["vocab"]
        ids = dict(vocabulary) if isinstance(vocabulary, dict) else {}
        return ids | {token["content"]: token["id"] for token in raw.get("added_tokens", ())}
    except (KeyError, TypeError) as exc:
        raise CheckpointError(f"{path} is no tokenizer of the tokenizers library ({exc})") from exc


def _declared_fim(fim: Mapping[str, str], id_of: Any, order: FimOrder | None) -> FimTokens:
    declared: Any = fim.get("order", "psm")
    return FimTokens(
        prefix=id_of(fim["prefix"]),
        suffix=id_of(fim["suffix"]),
        middle=id_of(fim["middle"]),
        order=order or declared,
    )


def _usual_fim(ids: Mapping[str, int], order: FimOrder | None) -> FimTokens | None:
    for names in FIM_NAMES:
        if all(name in ids for name in names):
            prefix, suffix, middle = (ids[name] for name in names)
            return FimTokens(prefix=prefix, suffix=suffix, middle=middle, order=order or "psm")
    return None


def _usual_end(ids: Mapping[str, int], config: Mapping[str, Any], folder: Path) -> int:
    for name in END_NAMES:
        if name in ids:
            return ids[name]
    end = config.get("eos_token_id")
    end = end[0] if isinstance(end, list) and end else end
    if isinstance(end, int) and not isinstance(end, bool):
        return end
    raise CheckpointError(
        f"no end token is known; write {folder / FACTS_FILE} with the field end, "
        'such as {"end": "<|endoftext|>"}'
    )


def _is_fim(fim: object) -> bool:
    return (
        isinstance(fim, dict)
        and set(fim) <= {"prefix", "suffix", "middle", "order"}
        and all(isinstance(fim.get(name), str) for name in ("prefix", "suffix", "middle"))
        and fim.get("order", "psm") in get_args(FimOrder)
    )


def _is_count(learned: object) -> bool:
    return (
        isinstance(learned, dict)
        and set(learned) == {"step", "tokens"}
        and all(type(value) is int for value in learned.values())
    )
