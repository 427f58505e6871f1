"""Workspaces that the memory is measured with: made of phrases, or read from real files.

What is made says nothing of how useful the memory is.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from benchmarks.errors import BenchmarkError
from server.completion.engine import WorkspaceFile
from server.decoding.tokenizer import Tokenizer

TEXT_TOKENS = 2_000  # Of one file. Guessed.
PHRASE_TOKENS = 12  # A line of code, on average.
N_PHRASES = 20_000
LEAST_CHARS, MOST_CHARS = 2_000, 200_000  # Of a file that is read.
LEAST_FILES = 10


def make_files(texts: list[np.ndarray], tokenizer: Tokenizer) -> list[WorkspaceFile]:
    """Return files that spell some texts of token ids, in forty folders."""
    return [
        WorkspaceFile(path=f"folder_{i % 40}/file_{i}.py", text=_spelled(tokenizer, text))
        for i, text in enumerate(texts)
    ]


def make_texts(n_tokens: int, n_vocab: int, seed: int) -> list[np.ndarray]:
    """Return token ids that repeat phrases as code does: about TEXT_TOKENS a text.

    Args:
        n_tokens: of all texts together, about.
        n_vocab: V.
        seed: of the random numbers.
    """
    rng = np.random.default_rng(seed)
    # Zipf's law, for tokens and phrases alike.
    phrases = np.minimum(rng.zipf(1.2, (N_PHRASES, PHRASE_TOKENS)), n_vocab) - 1
    n_texts = max(2, n_tokens // TEXT_TOKENS)
    chosen = np.minimum(rng.zipf(1.3, (n_texts, TEXT_TOKENS // PHRASE_TOKENS)), N_PHRASES) - 1
    return [phrases[row].reshape(-1) for row in chosen]


def read_files(folder: Path) -> list[WorkspaceFile]:
    """Return the Python files of a folder, in a mixed order.

    Raises:
        BenchmarkError: there are too few.
    """
    files = []
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text(encoding="utf-8", errors="replace")
        if LEAST_CHARS <= len(text) <= MOST_CHARS:
            files.append(WorkspaceFile(path=path.relative_to(folder).as_posix(), text=text))
    if len(files) < LEAST_FILES:
        raise BenchmarkError(f"{folder} has {len(files)} Python files of some size, too few")
    random.Random(0).shuffle(files)
    return files


def _spelled(tokenizer: Tokenizer, ids: np.ndarray) -> str:
    return b"".join(tokenizer.token_bytes[i] for i in ids).decode("utf-8", errors="replace")
