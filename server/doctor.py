"""`doctor`: what is installed, what runs, what is blocked and why; made to be pasted into a bug
report.

Holds no text of any document and no path but those below the home folder, which is written as `~`.
"""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from server import __version__
from server.backends.contract import Backend, BackendOptions, Logits
from server.bundle import Bundle, locate_bundle, read_bundle
from server.completion.engines.local_memory import LocalMemory
from server.completion.workspace.survey import survey
from server.decoding.memory.speedups import IS_COMPILED
from server.errors import BackendError, BundleError, CompletionServerError
from server.exit_codes import ExitCode
from server.options import Options, camel_case
from server.plugins import Plugins

PACKAGES = (
    "onnxruntime-gpu",
    "onnxruntime",
    "tokenizers",
    "pygls",
    "lsprotocol",
    "numpy",
    "torch",
    "transformers",
    "optimum",
)
LOOK_UPS = (
    "compiled code"
    if IS_COMPILED
    else "numpy, more slowly: nothing was compiled for it when Foretype was installed"
)
PROBE_TOKENS = 64
DECODE_STEPS = 16
REPORT_WIDTH = 200  # rows stay whole when pasted


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """How one backend did: figures, or why it can't be used."""

    name: str
    device: str = ""
    provider: str = ""
    dtype: str = ""
    load_ms: float = 0.0
    prefill_ms: float = 0.0
    decode_ms: float = 0.0
    logits: Logits | None = None
    """[V] after the probe's prompt."""
    problem: str = ""


def run(options: Options, folder: Path | None = None) -> int:
    """Print the report and return the exit status: 0 if something can complete, else 1.

    Args:
        options: as the server would have them.
        folder: the workspace; None: the current folder.
    """
    console = Console(width=REPORT_WIDTH, soft_wrap=True, highlight=False)
    plugins = Plugins(options.blocked_plugins)
    console.print(f"Foretype {__version__}, Python {platform.python_version()}, {_system()}\n")
    console.print(_package_table())
    bundle = _print_model(console, options)
    probes = [] if bundle is None else probe_backends(bundle, options, plugins)
    console.print(_backend_table(probes))
    console.print(_plugin_table(plugins))
    if bundle is not None:
        console.print(f"Workspace memory: {survey_workspace(bundle, options, folder)}")
        console.print(f"Looked up in it by {LOOK_UPS}")
    console.print(f"Settings that differ from the defaults: {changed_settings(options) or 'none'}")
    is_usable = any(not probe.problem for probe in probes)
    if options.engine == "local" and not is_usable:
        console.print("Nothing can complete: no backend runs the model.")
        return ExitCode.FAILED
    return ExitCode.DONE


def probe_backends(bundle: Bundle, options: Options, plugins: Plugins) -> list[Probe]:
    """Load each registered backend in turn, time it and keep its logits for comparison."""
    wanted = BackendOptions(
        device=options.device, n_threads=options.threads, spinning=options.spinning
    )
    probes = []
    for name in plugins.names("backends"):
        try:
            started = time.perf_counter()
            backend = plugins.load("backends", name).load(bundle, wanted)
            probes.append(_probe(name, backend, _ms_since(started)))
        except CompletionServerError as exc:
            probes.append(Probe(name=name, problem=str(exc)))
        except Exception as exc:  # a stranger's backend may raise anything
            plugins.block("backends", name, f"{type(exc).__name__}: {exc}")
            probes.append(Probe(name=name, problem=f"{type(exc).__name__}: {exc}"))
    return probes


def survey_workspace(bundle: Bundle, options: Options, folder: Path | None = None) -> str:
    """Return how much of a folder the server would learn, and how long that takes."""
    if options.memory != "workspace" or options.engine != "local":
        return "nothing of the workspace is read"
    try:
        memory = LocalMemory.of(bundle, options.memory_bytes)
    except BundleError as exc:
        return _without_home(str(exc))
    seen = survey(folder or Path.cwd(), options, memory, lambda: memory.info)
    end = "" if seen.is_whole else ", and there is more"
    return f"{seen.memory.told} of this folder, learned in {seen.seconds:.1f} s{end}"


def changed_settings(options: Options) -> str:
    """Return the settings that differ from the defaults as `name=value`, without paths."""
    default = Options()
    private = {"model", "http_url", "denied_paths"}
    names = (f.name for f in fields(Options))
    changed = (n for n in names if getattr(options, n) != getattr(default, n))
    return ", ".join(
        f"{camel_case(n)}={'(set)' if n in private else repr(getattr(options, n))}" for n in changed
    )


def _probe(name: str, backend: Backend, load_ms: float) -> Probe:
    spec = backend.spec
    n_prompt = min(PROBE_TOKENS, spec.n_ctx - DECODE_STEPS)
    prompt = np.random.default_rng(0).integers(0, spec.n_vocab, n_prompt).tolist()
    try:
        backend.forward(prompt, backend.new_cache())  # the first pass allocates
        cache = backend.new_cache()
        started = time.perf_counter()
        logits = backend.forward(prompt, cache)[-1].copy()
        prefill_ms = _ms_since(started)
        started = time.perf_counter()
        for _ in range(DECODE_STEPS):
            backend.forward(prompt[:1], cache)
        decode_ms = _ms_since(started) / DECODE_STEPS
    except BackendError as exc:
        return Probe(name=name, load_ms=load_ms, problem=str(exc))
    finally:
        backend.close()
    return Probe(
        name=name,
        device=backend.info.device,
        provider=backend.info.provider,
        dtype=backend.info.dtype,
        load_ms=load_ms,
        prefill_ms=prefill_ms,
        decode_ms=decode_ms,
        logits=logits,
    )


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1e3


def _system() -> str:
    return f"{platform.system()} {platform.release()} on {platform.machine()}"


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _table(title: str, *columns: str) -> Table:
    table = Table(*columns, title=title, title_justify="left", box=box.MARKDOWN)
    table.title_style = "bold"
    for column in table.columns:
        column.overflow = "fold"
    return table


def _package_table() -> Table:
    table = _table("Packages", "package", "version")
    for package in PACKAGES:
        table.add_row(package, _installed(package))
    return table


def _print_model(console: Console, options: Options) -> Bundle | None:
    try:
        bundle = read_bundle(locate_bundle(options.model))
    except BundleError as exc:
        console.print(f"Model: {_without_home(str(exc))}\n")
        return None
    manifest = bundle.manifest
    spec = manifest.spec
    n_bytes = bundle.model_path.stat().st_size
    console.print(
        f"Model: {manifest.name}, {manifest.layout} {manifest.dtype}, {n_bytes / 1e6:.1f} MB, "
        f"{spec.n_layer} layers of width {spec.n_embd}, {spec.n_vocab} tokens, "
        f"context {spec.n_ctx}, licence {manifest.license or 'not stated'}, all hashes match\n"
    )
    return bundle


def _backend_table(probes: list[Probe]) -> Table:
    table = _table(
        "Backends", "backend", "device", "provider", "dtype", "load ms",
        f"prefill {PROBE_TOKENS} ms", "decode ms/token", "against the first", "problem",
    )  # fmt: skip
    reference = next((p.logits for p in probes if p.logits is not None), None)
    for p in probes:
        if p.problem:
            table.add_row(p.name, *[""] * 7, _without_home(p.problem))
            continue
        table.add_row(
            p.name, p.device, p.provider, p.dtype, f"{p.load_ms:.0f}", f"{p.prefill_ms:.1f}",
            f"{p.decode_ms:.2f}", _agreement(p.logits, reference), "",
        )  # fmt: skip
    return table


def _agreement(logits: Logits | None, reference: Logits | None) -> str:
    if logits is None or reference is None:
        return ""
    size = max(float(np.linalg.norm(reference)), 1e-9)
    error = float(np.linalg.norm(logits - reference)) / size
    same = "same" if logits.argmax() == reference.argmax() else "other"
    return f"relative error {error:.1e}, {same} token"


def _plugin_table(plugins: Plugins) -> Table:
    table = _table("Plugins", "group", "name", "from", "state")
    for state in plugins.states():
        table.add_row(
            state.group, state.name, f"{state.distribution} ({state.target})", state.blocked or "ok"
        )
    return table


def _without_home(text: str) -> str:
    home = str(Path.home())
    return text.replace(home, "~") if home != "/" else text
