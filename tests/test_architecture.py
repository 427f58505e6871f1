"""The walls, held by tests: who may import whom, and what starting the server must not load."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("server", "export", "training", "benchmarks")

# Floors of the server, from the ground. A module imports from its own floor or from below.
FLOORS = {
    "server.errors": 0,
    "server.exit_codes": 0,
    "server.bundle": 1,
    "server.manifest": 1,
    "server.options": 1,
    "server.plugins": 1,
    "server.documents": 1,
    "server.notebooks": 1,
    "server.logs": 1,
    "server.process": 1,
    "server.backends": 2,
    "server.decoding": 3,
    "server.completion": 4,
    "server.lsp": 5,
    "server.complete": 5,
    "server.doctor": 5,
    "server.cli": 6,
    "server.__main__": 7,
}
# The doors between the rooms: the only modules of the text room that see token ids.
DOORS = {
    "server.completion.engines.local",
    "server.completion.engines.local_prompts",
    "server.completion.engines.local_memory",
}
PURE = (
    "server.manifest",
    "server.decoding.sampling",
    "server.decoding.healing",
    "server.decoding.prevention",
    "server.decoding.memory.names",
    "server.decoding.memory.stream",
    "server.decoding.memory.suffix_array",
    "server.decoding.memory.recall",
    "server.decoding.memory.mixture",
    "server.decoding.memory.drafts",
    "server.decoding.memory.answer",
    "server.decoding.memory.coefficients",
    "server.decoding.memory.copies",
    "server.completion.window",
    "server.completion.stopping",
    "server.completion.trimming",
    "server.completion.confidence",
    "server.completion.filters",
    "server.completion.filters.chain",
    "server.completion.filters.unsafe",
    "server.completion.filters.repetition",
    "server.completion.filters.surroundings",
    "server.completion.filters.whitespace",
    "server.completion.gates",
    "server.completion.imports",
    "server.completion.cache",
    "server.completion.generated",
    "server.completion.offer_settings",
    "server.documents",
    "server.notebooks",
)
IMPURE_IMPORTS = {"os", "time", "random", "socket", "subprocess", "threading", "asyncio", "io"}
BUNDLE_NAMES = ("manifest.json", "model.onnx", "tokenizer.json", "model.safetensors", "memory.json")


def module_name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(p): p for name in PACKAGES for p in sorted((ROOT / name).rglob("*.py"))}


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, at the top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def floor(module: str) -> int:
    matches = [n for n in FLOORS if module == n or module.startswith(n + ".")]
    assert matches, f"{module} has no floor: add it to FLOORS and to ARCHITECTURE.md"
    return FLOORS[max(matches, key=len)]


def test_packages_import_one_way() -> None:
    allowed = {
        "server": set(),
        "export": {"server"},
        "training": {"server"},
        "benchmarks": {"server", "export", "training"},
    }
    for module, path in MODULES.items():
        package = module.split(".")[0]
        for name in imports(path):
            other = name.split(".")[0]
            if other in PACKAGES and other != package:
                assert other in allowed[package], f"{module} imports {name}"


def test_floors_of_the_server_import_downwards() -> None:
    for module, path in MODULES.items():
        if module == "server" or not module.startswith("server."):
            continue
        for name in imports(path):
            if name.startswith("server.") and (
                name in MODULES or name.rsplit(".", 1)[0] in MODULES
            ):
                target = name if name in MODULES else name.rsplit(".", 1)[0]
                if target != "server":
                    assert floor(target) <= floor(module), f"{module} imports {name} from above"


def test_only_the_lsp_room_knows_the_protocol() -> None:
    for module, path in MODULES.items():
        if module.startswith("server") and not module.startswith("server.lsp"):
            for name in imports(path):
                assert name.split(".")[0] not in {"pygls", "lsprotocol"}, f"{module} imports {name}"


def test_the_text_room_sees_neither_token_ids_nor_tensors() -> None:
    for module, path in MODULES.items():
        if module.startswith("server.completion") and module not in DOORS:
            for name in imports(path):
                assert not name.startswith(("server.decoding", "server.backends", "numpy")), (
                    f"{module} imports {name}"
                )


def test_networks_are_imported_by_backends_alone() -> None:
    homes = {
        "torch": ("server.backends.pytorch",),
        "transformers": ("server.backends.pytorch",),
        "onnxruntime": ("server.backends.ort",),
        "tokenizers": ("server.decoding.tokenizer",),
    }
    for module, path in MODULES.items():
        if not module.startswith("server"):
            continue
        for name in imports(path):
            home = homes.get(name.split(".")[0])
            assert home is None or module.startswith(home), f"{module} imports {name}"


@pytest.mark.parametrize("module", PURE)
def test_pure_modules_do_no_io_and_read_no_clock(module: str) -> None:
    for name in imports(MODULES[module]):
        assert name.split(".")[0] not in IMPURE_IMPORTS, f"{module} imports {name}"


def test_file_names_of_the_bundle_live_in_one_module() -> None:
    for module, path in MODULES.items():
        if module.startswith("server.") and module != "server.bundle":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    assert node.value not in BUNDLE_NAMES, f"{module} names {node.value}"


def test_the_command_line_loads_no_network() -> None:
    script = (
        "import sys, server.cli\n"
        "heavy = {'torch', 'transformers', 'onnxruntime', 'tokenizers', 'numpy', 'rich'}\n"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == ""


def test_no_module_is_named_after_nothing() -> None:
    for module in MODULES:
        assert module.rsplit(".", 1)[-1] not in {"utils", "helpers", "common", "core", "misc"}


def test_no_module_of_the_server_stands_in_a_circle_of_imports() -> None:
    """Imports inside functions and those for types alone count: they are circles of knowledge."""
    graph = {
        module: {name for name in imports(path) if name in MODULES and name != module}
        for module, path in MODULES.items()
        if module.startswith("server.")
    }
    while leaves := [module for module, names in graph.items() if not names & graph.keys()]:
        for module in leaves:
            del graph[module]
    assert not graph, f"circles among {sorted(graph)}"
