"""The subject that is ours: a backend of the server, through its contract."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from benchmarks.models import checkpoint_weight_bytes, graph_weight_bytes
from benchmarks.subjects import Subject, SubjectSpec, Task
from server.backends.choice import warm_up
from server.backends.contract import Backend, BackendOptions, TokenIds
from server.bundle import Bundle, read_bundle
from server.plugins import Plugins

VERIFY_ROUNDS = 3


class OurBackend(Subject):
    """A registered backend; option `backend` is its name, `spinning` and `captures` as in
    `BackendOptions`.
    """

    def __init__(self, spec: SubjectSpec, token_ids: Sequence[int]) -> None:
        super().__init__(spec, token_ids)
        self._bundle = read_bundle(spec.folder)
        options = BackendOptions(
            device=spec.device,
            n_threads=spec.n_threads,
            spinning=spec.options.get("spinning", False),
            captures=spec.options.get("captures", False),
        )
        kind: type[Backend] = Plugins().load("backends", spec.options["backend"])
        self._backend = kind.load(self._bundle, options)
        warm_up(self._backend)

    def describe(self) -> dict[str, Any]:
        """Return what really runs."""
        info = self._backend.info
        return {
            "provider": info.provider,
            "dtype": info.dtype,
            "weight_bytes": weight_bytes(self._bundle, info.name, info.dtype),
        }

    def run(self, task: Task) -> float:
        """Time one task; what comes before it in the cache is not timed."""
        return time_task(self._backend, task, self.token_ids)


def time_task(backend: Backend, task: Task, token_ids: TokenIds) -> float:
    """Return the milliseconds of a task on a backend."""
    prompt, rest = token_ids[: task.n_prompt], token_ids[task.n_prompt :]
    cache = backend.new_cache()
    if task.name == "prefill":
        return _ms(lambda: backend.predict(prompt, cache))
    if task.name == "line":
        backend.predict(prompt[:-1], cache)
        return _ms(lambda: decode_greedily(backend, cache, prompt[-1], task.n_new))
    backend.predict(prompt, cache)
    if task.name == "decode":

        def decode() -> None:
            for token_id in rest[: task.n_new]:
                backend.predict([token_id], cache)

        return _ms(decode) / task.n_new

    def verify() -> None:
        for _ in range(VERIFY_ROUNDS):
            cache.truncate(task.n_prompt)
            backend.predict(rest[: task.n_new], cache, task.n_new)

    return _ms(verify) / VERIFY_ROUNDS


def decode_greedily(backend: Backend, cache: Any, token_id: int, n_new: int) -> list[int]:
    """Run one token and return the `n_new` likeliest after it, one at a time."""
    generated: list[int] = []
    while len(generated) < n_new:
        token_id = backend.predict([token_id], cache)[-1].best_id
        generated.append(token_id)
    return generated


def weight_bytes(bundle: Bundle, backend: str, dtype: str) -> int | None:
    """Return the bytes of weights that a backend reads per token; None: a stranger's backend."""
    if backend == "ort":
        return graph_weight_bytes(bundle)
    if backend == "pytorch":
        return checkpoint_weight_bytes(bundle, 2 if dtype == "float16" else 4)
    return None


def our_spec(spec: SubjectSpec, backend: str, name: str = "", **options: Any) -> SubjectSpec:
    """Return the spec of one of our backends like another subject's."""
    return replace(
        spec,
        name=name or backend,
        maker="benchmarks.our_backend:OurBackend",
        options={"backend": backend, **options},
    )


def captured_specs(spec: SubjectSpec) -> list[SubjectSpec]:
    """Return our quickest backend with one-token passes captured as CUDA graphs; none on a CPU."""
    if spec.device == "cpu":
        return []
    return [our_spec(spec, "ort", "ort, CUDA graphs", captures=True)]


def _ms(work: Any) -> float:
    started = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - started)
