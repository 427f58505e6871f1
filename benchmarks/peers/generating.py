"""What peers have in common: each is asked to generate, and when its tokens came is noted."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.subjects import Subject, SubjectSpec, Task
from server.bundle import Bundle, read_bundle


class Generating(Subject):
    """A program whose smallest unit of work is a call that generates."""

    @abstractmethod
    def generate(self, prompt: list[int], n_new: int, n_known: int = 0) -> list[float]:
        """Generate greedily and return when each new token was there, in ms from the call.

        Args:
            prompt: token ids.
            n_new: as many tokens, whatever they are.
            n_known: so many of the prompt were seen before, for who keeps anything between two
                calls; the others are seen for the first time.
        """

    def run(self, task: Task) -> float | None:
        """Time one call, from its beginning to its end, or between its first and last token."""
        prompt = self.token_ids[: task.n_prompt]
        match task.name:
            case "prefill":
                return self.generate(prompt, 1)[-1]
            case "line":
                return self.generate(prompt, task.n_new, n_known=len(prompt) - 1)[-1]
            case "decode":
                times_ms = self.generate(prompt, task.n_new + 1)
                return (times_ms[-1] - times_ms[0]) / task.n_new
            case "verify":
                return None


def checkpoint_of(spec: SubjectSpec) -> tuple[Bundle, Path]:
    """Return a bundle and the checkpoint that it carries.

    Raises:
        BenchmarkError: it carries none.
    """
    bundle = read_bundle(spec.folder)
    if bundle.checkpoint_path is None:
        raise BenchmarkError(f"{spec.folder} has no checkpoint")
    return bundle, bundle.checkpoint_path
