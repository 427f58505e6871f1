"""Downloads a checkpoint from the Hugging Face Hub: only the files that a checkpoint needs.

Knows the Hub, not what the files mean. A download that broke is resumed by the next one, and what
is downloaded is one commit, whose hash is returned.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from export.checkpoint import INDEX_FILE
from export.special_tokens import FACTS_FILE
from server.bundle import CONFIG_FILE, TOKENIZER_FILE
from server.errors import CheckpointError

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
FILES = (
    CONFIG_FILE,
    TOKENIZER_FILE,
    FACTS_FILE,
    "model*.safetensors",
    INDEX_FILE,
)
CONNECT_TIMEOUT_S = 10.0


def is_hub_name(model: str) -> bool:
    """Whether a model's name could be the Hub's, such as `gpt2` or `bigcode/tiny_starcoder_py`."""
    return HUB_NAME.fullmatch(model) is not None


def download_checkpoint(name: str, revision: str = "") -> tuple[Path, str]:
    """Download a checkpoint, or find it where an earlier download left it.

    Args:
        name: such as `openai-community/gpt2`.
        revision: a branch, a tag or a commit; empty: the newest.

    Returns:
        The folder and the commit's hash.

    Raises:
        CheckpointError: no such checkpoint or revision, no safetensors in it, or no Hub in reach;
        the message says what to do instead.
    """
    from huggingface_hub import HfApi, snapshot_download

    with _translated(name, revision):
        info = HfApi().model_info(name, revision=revision or None, timeout=CONNECT_TIMEOUT_S)
    files = [file.rfilename for file in info.siblings or ()]
    if not any(re.fullmatch(r"model.*\.safetensors", file) for file in files):
        raise CheckpointError(
            f"{name} on the Hub has no model.safetensors, only files that could run code or none; "
            "look for a revision or a copy with safetensors"
        )
    commit = info.sha or ""
    with _translated(name, revision):
        # Prints its own progress bars; resumes what an earlier call left incomplete.
        folder = snapshot_download(name, revision=commit or None, allow_patterns=list(FILES))
    return Path(folder), commit


@contextmanager
def _translated(name: str, revision: str) -> Iterator[None]:
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError as exc:
        raise CheckpointError(
            f"{name} asks for consent on the Hub; give it there, run `hf auth login`, try again"
        ) from exc
    except RevisionNotFoundError as exc:
        raise CheckpointError(f"{name} on the Hub has no revision {revision!r}") from exc
    except (RepositoryNotFoundError, HFValidationError) as exc:
        raise CheckpointError(
            f"there is no folder {name} here and no checkpoint {name} on the Hub "
            "(or it is private: `hf auth login`)"
        ) from exc
    except OSError as exc:  # of requests, sockets and disks
        raise CheckpointError(
            f"there is no folder {name} here, and the Hub can't be reached or broke off "
            f"({type(exc).__name__}); try again to resume, or download the checkpoint elsewhere "
            "and give its folder"
        ) from exc
