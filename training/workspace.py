"""Held-out packages as workspaces: what the network expects and what the memory recalls, token by
token.

Of each package some files are written anew, from their first token on; all its other files are the
workspace that the memory knows. The memory is the server's own. Knows nothing of fitting.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn

from server.completion.imports import HEAD_CHARS, imported_modules
from server.decoding.memory.index import LearnedText, WorkspaceIndex
from server.decoding.memory.recall import DocumentText, Recall
from server.decoding.memory.search import Found, Nearness, Places
from server.decoding.memory.stream import MAX_MATCH_TOKENS, TokenWidth
from training.cutpoints import HeldOutFile, choose_files
from training.generate import Reader
from training.likelihood import NO_LIMIT, window_starts
from training.tokenizer import bytes_per_id, encode, end_id

INDEX_BYTES = 256_000_000  # More than any package of the corpus needs.


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceProtocol:
    """Which files are written anew and how much of each."""

    files_per_package: int = 12
    chars: tuple[int, int] = (2000, 40_000)
    # Of each file, so many characters from its beginning are scored.
    scored_chars: int = 9000
    # Of the workspace, so many files are open in the editor.
    open_files: int = 3
    n_ctx: int = 512
    seed: int = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Recollection:
    """One token of a held-out file: what was expected, what was recalled, what came."""

    file: int
    """Index of the file."""
    log_probs: np.ndarray
    """[V], the network's."""
    places: Places
    """That agree with the tokens before it."""
    truth: int
    n_bytes: int
    """Of the token that came."""


def workspace_files(
    rows: Sequence[dict[str, str]], protocol: WorkspaceProtocol
) -> list[HeldOutFile]:
    """Return the files that are written anew."""
    return choose_files(
        rows, per_package=protocol.files_per_package, chars=protocol.chars, seed=protocol.seed
    )


def recollect(
    model: nn.Module,
    tokenizer: Tokenizer,
    rows: Sequence[dict[str, str]],
    files: Sequence[HeldOutFile],
    protocol: WorkspaceProtocol,
) -> Iterator[Recollection]:
    """Write files token by token and yield what network and memory made of each token.

    Args:
        model: in evaluation mode; logits [B, T, V] for ids [B, T].
        tokenizer: the model's own.
        rows: of a corpus split: the packages' texts.
        files: from `workspace_files`.
        protocol: how much of each file.
    """
    width = TokenWidth(tokenizer.get_vocab_size())
    indexes = {
        package: _index(tokenizer, rows, files, package, protocol, width)
        for package in sorted({file.package for file in files})
    }
    sizes = bytes_per_id(tokenizer)
    for number, file in enumerate(files):
        ids = encode(tokenizer, file.text[: protocol.scored_chars])
        heads = _heads(file.text, sizes[ids])
        snapshot = indexes[file.package].snapshot
        for i, log_probs in enumerate(_expected(model, tokenizer, ids, protocol.n_ctx)):
            document = DocumentText(ids[:i], (), width)
            recall = Recall(
                lambda snapshot=snapshot: snapshot,
                document,
                file.path,
                width,
                imported=imported_modules(heads[i], file.path, "python"),
            )
            places = recall.matches(ids[max(0, i - MAX_MATCH_TOKENS) : i]).found
            yield Recollection(
                file=number,
                log_probs=log_probs,
                places=places,
                truth=ids[i],
                n_bytes=int(sizes[ids[i]]),
            )


def _heads(text: str, sizes: np.ndarray) -> list[str]:
    """Return, for each token, the beginning of the text that was written before it.

    Args:
        text: of a file.
        sizes: [N], bytes of its tokens.
    """
    data = text.encode()[:HEAD_CHARS]
    ends = np.minimum(np.concatenate([[0], np.cumsum(sizes)[:-1]]), len(data))
    whole = data.decode(errors="ignore")
    return [
        whole if end == len(data) else data[:end].decode(errors="ignore") for end in ends.tolist()
    ]


def document_only(places: Places) -> Places:
    """Return the places in the document itself."""
    kept = places.nearness == Nearness.DOCUMENT
    return Found(
        lengths=places.lengths[kept],
        next_ids=places.next_ids[kept],
        nearness=places.nearness[kept],
        places=places.places[kept],
        starts=(0,),
    )


def _index(
    tokenizer: Tokenizer,
    rows: Sequence[dict[str, str]],
    files: Sequence[HeldOutFile],
    package: str,
    protocol: WorkspaceProtocol,
    width: TokenWidth,
) -> WorkspaceIndex:
    """Return a memory of all files of a package but those that are written anew."""
    written = {file.path for file in files if file.package == package}
    others = [row for row in rows if row["package"] == package and row["path"] not in written]
    rng = random.Random(f"{protocol.seed}/{package}")
    is_open = {row["path"] for row in rng.sample(others, min(protocol.open_files, len(others)))}
    index = WorkspaceIndex(width, INDEX_BYTES)
    index.learn(
        lambda: [
            LearnedText(
                row["path"], width.pack(encode(tokenizer, row["text"])), row["path"] in is_open
            )
            for row in others
        ]
    )
    return index


@torch.inference_mode()
def _expected(
    model: nn.Module, tokenizer: Tokenizer, own_ids: Sequence[int], n_ctx: int
) -> Iterator[np.ndarray]:
    """Yield the log-probabilities [V] for each token of a text, in order."""
    n_ctx = min(n_ctx, Reader(model).n_ctx, NO_LIMIT)
    ids = [end_id(tokenizer), *own_ids]
    for start, fresh in window_starts(len(own_ids), n_ctx):
        window = torch.tensor([ids[start : start + n_ctx + 1]])
        yield from model(window[:, :-1])[0, fresh:].float().log_softmax(-1).numpy()
