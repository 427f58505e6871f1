"""Describes what a figure was measured on: machine, versions, commit, load, read bandwidth."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.errors import BenchmarkError

PACKAGES = (
    "foretype",
    "onnxruntime-gpu",
    "onnxruntime",
    "torch",
    "transformers",
    "optimum",
    "optimum-onnx",
    "ctranslate2",
    "llama-cpp-python",
    "tokenizers",
    "pygls",
    "numpy",
)
ROOT = Path(__file__).parent.parent
# Far above any cache that a processor of today has, so that every byte comes from memory.
BANDWIDTH_BYTES = 256 << 20


def describe_machine() -> dict[str, Any]:
    """Return processor, cores, memory and system; no names of hosts or users."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }


def installed_versions() -> dict[str, str]:
    """Return the versions of what takes part in a measurement and is installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine_line() -> str:
    """Return processor, cores and onnxruntime's version in one line."""
    machine, versions = describe_machine(), installed_versions()
    onnxruntime = versions.get("onnxruntime-gpu") or versions.get("onnxruntime", "?")
    return f"{machine['processor']}, {machine['cores']} cores, onnxruntime {onnxruntime}"


def describe_commit() -> dict[str, Any]:
    """Return the commit of this checkout and whether files differ from it; empty outside of git."""
    try:
        commit = _git("rev-parse", "HEAD")
        return {"commit": commit, "has_changes": bool(_git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": "", "has_changes": False}


def load_average() -> float:
    """Return how many processes wanted a core in the last minute: above the cores, all wait."""
    return round(psutil.getloadavg()[0], 2)


def read_bandwidth(n_threads: int, n_bytes: int = BANDWIDTH_BYTES, n_rounds: int = 5) -> float:
    """Return the most bytes per second that this machine was seen reading.

    Each thread takes the maximum of its part of an array, which numpy does with vector instructions
    and without Python's lock. The best of several rounds, as it is a roof.
    """
    parts = np.array_split(np.ones(n_bytes // 4, np.float32), n_threads)
    best_s = float("inf")
    with ThreadPoolExecutor(n_threads) as pool:
        for _ in range(n_rounds):
            started = time.perf_counter()
            for _ in pool.map(np.max, parts):
                pass
            best_s = min(best_s, time.perf_counter() - started)
    return sum(part.nbytes for part in parts) / best_s


def read_device_bandwidth(
    device: str = "cuda", n_bytes: int = 1 << 30, n_rounds: int = 20
) -> float:
    """Return the most bytes per second that a device of torch's was seen reading.

    Raises:
        BenchmarkError: torch is not installed, or does not know the device.
    """
    try:
        import torch

        values = torch.ones(n_bytes // 4, dtype=torch.float32, device=device)
    except (ImportError, RuntimeError, AssertionError) as exc:
        raise BenchmarkError(f"no read bandwidth of {device}: {exc}") from exc
    best_s = float("inf")
    for _ in range(n_rounds):
        started = time.perf_counter()
        values.max().item()  # waits until it is there
        best_s = min(best_s, time.perf_counter() - started)
    return n_bytes / best_s


def busy_note(loads: Mapping[str, float], n_cores: int) -> str:
    """Return a warning if others wanted the cores while we measured; empty if not."""
    highest = max(loads.values())
    if highest <= n_cores:
        return ""
    return (
        f"The machine was busy: a load average of {highest:g} on {n_cores} cores, this measurement "
        "included. Times alone say little then; ratios of interleaved subjects say more."
    )


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.processor()


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()
