"""Opens an onnxruntime session on an untrusted graph: provider, threads, checks and errors.

Imports onnxruntime only when asked for a session. Does not know what the graph computes: the
layouts are `ort_fused` and `ort_portable`.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from server.backends.contract import BackendOptions
from server.backends.ort_graph import check_graph
from server.bundle import Bundle
from server.errors import BackendFailedError, BackendUnavailableError, BundleError
from server.manifest import Manifest

logger = logging.getLogger(__name__)

ELEMENT_TYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}
DRIVERS = {"linux": "libcuda.so.1", "win32": "nvcuda.dll"}
BOUNDED_SPINNING = (1, 26)  # the first onnxruntime that knows spin_duration_us
SILENT = 4  # onnxruntime's `fatal`: what matters comes as an exception, the rest is noise on stderr


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSession:
    """A session that is ready to run, and what the two layouts need to know of it."""

    ort: Any
    """The module itself, imported late."""
    session: Any
    manifest: Manifest
    device: str
    """`cpu` or `cuda`: where the KV cache lives."""
    provider: str
    n_threads: int
    captures: bool
    """Whether passes of one token shall be captured as CUDA graphs."""
    errors: tuple[type[Exception], ...]
    """Everything that onnxruntime raises; to be translated at the backend's border."""

    def dtype_of(self, name: str) -> type[np.generic]:
        """Return the element type of one of the graph's inputs or outputs."""
        return _element_type(self._argument(name))

    def cache_shape(self, n_tokens: int) -> tuple[int, int, int, int]:
        """Return [1, H, n_tokens, D], H counting the heads of keys and values."""
        spec = self.manifest.spec
        return 1, spec.n_kv_head, n_tokens, spec.head_width

    def _argument(self, name: str) -> Any:
        for argument in (*self.session.get_inputs(), *self.session.get_outputs()):
            if argument.name == name:
                return argument
        raise AssertionError(f"{name} was checked when the session was opened")


def open_session(bundle: Bundle, options: BackendOptions, device: str) -> OpenSession:
    """Load a bundle's graph.

    Args:
        bundle: read and checked.
        options: threads, spinning and whether to capture.
        device: `cpu` or `cuda`, whatever the options say.

    Raises:
        BackendUnavailableError: onnxruntime or the CUDA provider is not there.
        BundleError: the graph wants more than to compute, or names tensors that the manifest does
        not name.
        BackendFailedError: onnxruntime refuses the graph.
    """
    ort = _import_onnxruntime()
    path, manifest = bundle.model_path, bundle.manifest
    check_graph(path)
    on_cuda = device == "cuda"
    if on_cuda:
        _check_cuda(ort, manifest)
    provider = "CUDAExecutionProvider" if on_cuda else "CPUExecutionProvider"
    captures = options.captures and bool(manifest.tensors.best_ids)
    n_threads = options.n_threads or default_n_threads()
    errors = ort_errors()
    try:
        session = ort.InferenceSession(
            str(path),
            _session_options(ort, n_threads, options),
            providers=[(provider, {"enable_cuda_graph": "1"} if on_cuda and captures else {})],
            enable_fallback=0,  # onnxruntime's own fallback prints to stdout
        )
    except errors as exc:
        raise BackendFailedError(f"onnxruntime can't load {path}: {first_line(exc)}") from exc
    if session.get_providers()[0] != provider:
        raise BackendUnavailableError(
            "onnxruntime's CUDA provider does not load, as CUDA's libraries are missing or of "
            "another version; install foretype[cuda]"
        )
    session.disable_fallback()
    _check_tensors(session, manifest, path)
    return OpenSession(
        ort=ort,
        session=session,
        manifest=manifest,
        device=device,
        provider=provider,
        n_threads=n_threads,
        captures=captures,
        errors=errors,
    )


def default_n_threads() -> int:
    """Return how many threads one operator gets: the physical cores that this process may use.

    onnxruntime's own default would also pin threads to cores, which hurts beside other programs.
    """
    cores = psutil.cpu_count(logical=False) or 1
    process = psutil.Process()
    allowed = len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else cores
    return max(1, min(cores, allowed))


def _import_onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as exc:
        raise BackendUnavailableError(
            f"onnxruntime can't be imported ({exc}); install foretype again"
        ) from exc
    ort: Any = onnxruntime
    ort.set_default_logger_severity(SILENT)
    return ort


def ort_errors() -> tuple[type[Exception], ...]:
    """Return every class of exception that onnxruntime raises: its own have no common root."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [v for v in vars(state).values() if isinstance(v, type) and issubclass(v, Exception)]
    return (*own, RuntimeError, ValueError, TypeError, OSError, MemoryError)


def _session_options(ort: Any, n_threads: int, options: BackendOptions) -> Any:
    made = ort.SessionOptions()
    made.log_severity_level = SILENT
    made.intra_op_num_threads = n_threads
    made.inter_op_num_threads = 1
    # Patterns are kept per combination of input shapes, and here nearly every pass has its own.
    made.enable_mem_pattern = False
    spins_briefly = options.spin_us > 0 and _version(ort) >= BOUNDED_SPINNING
    spins = options.spinning or spins_briefly
    made.add_session_config_entry("session.intra_op.allow_spinning", "1" if spins else "0")
    if spins and not options.spinning:
        made.add_session_config_entry("session.intra_op.spin_duration_us", str(options.spin_us))
        made.add_session_config_entry("session.force_spinning_stop", "1")  # when a pass is over
    return made


def _version(ort: Any) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", ort.__version__)[:2])


def _check_cuda(ort: Any, manifest: Manifest) -> None:
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise BackendUnavailableError(
            "this onnxruntime has no CUDA provider; install onnxruntime-gpu instead of onnxruntime"
        )
    try:
        ctypes.CDLL(DRIVERS.get(sys.platform, DRIVERS["linux"]))
    except OSError as exc:
        raise BackendUnavailableError(f"no NVIDIA driver on this machine ({exc})") from exc
    if manifest.layout == "fused" and manifest.cache_dtype != "fp16":
        raise BackendUnavailableError(
            "this bundle's attention runs on the CPU only, as its KV cache is fp32; "
            "export the checkpoint with --dtype fp16 --device cuda"
        )
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):  # preload_dlls prints, stdout is the protocol's
        ort.preload_dlls()
    if printed.getvalue():
        logger.debug("onnxruntime's preload_dlls: %s", printed.getvalue())


def _check_tensors(session: Any, manifest: Manifest, path: Path) -> None:
    """Hold the graph's border against the manifest, so that a wrong name fails here, by name."""
    wanted_inputs, wanted_outputs = border(manifest)
    inputs = {a.name: a for a in session.get_inputs()}
    outputs = {a.name: a for a in session.get_outputs()}
    if set(inputs) != set(wanted_inputs) or not set(wanted_outputs) <= set(outputs):
        unlike = set(inputs) ^ set(wanted_inputs) | (set(wanted_outputs) - set(outputs))
        raise BundleError(
            f"{path} and its manifest disagree about the tensors {', '.join(sorted(unlike)[:4])}; "
            "export the model again"
        )
    for argument in (*inputs.values(), *outputs.values()):
        _element_type(argument)


def border(manifest: Manifest) -> tuple[list[str], list[str]]:
    """Return the names of the graph's inputs and of the outputs that are read."""
    names = manifest.tensors
    single = (
        names.input_ids,
        names.position_ids,
        names.attention_mask,
        names.seqlens_k,
        names.total_len,
        names.logits_from,
    )
    past, present = cache_names(manifest)
    answers = (names.logits, names.log_probs, names.best_ids, names.best_log_probs)
    return [name for name in single if name] + past, [name for name in answers if name] + present


def cache_names(manifest: Manifest) -> tuple[list[str], list[str]]:
    """Return the names of all `past` inputs and all `present` outputs, in the same order."""
    names = manifest.tensors
    pairs = [(names.past_key, names.present_key), (names.past_value, names.present_value)]
    layers = range(manifest.spec.n_layer)
    # Not `str.format`: a stranger's manifest is no format string.
    past = [p.replace("{layer}", str(i)) for i in layers for p, _ in pairs if p]
    present = [p.replace("{layer}", str(i)) for i in layers for _, p in pairs if p]
    return past, present


def _element_type(argument: Any) -> type[np.generic]:
    if argument.type not in ELEMENT_TYPES:
        raise BundleError(
            f"tensor {argument.name} is a {argument.type}, "
            f"expected one of {', '.join(ELEMENT_TYPES)}; export the model again"
        )
    return ELEMENT_TYPES[argument.type]


def first_line(exc: Exception) -> str:
    """Return the sentence of an error, without the stack that onnxruntime appends."""
    return str(exc).strip().split("\n", 1)[0][:300] or type(exc).__name__
