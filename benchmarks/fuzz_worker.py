"""Fuzzes one target in a process of its own: `python -m benchmarks.fuzz_worker TARGET [FLAG...]`.

The flags are libFuzzer's. Needs the extra `fuzz`; `benchmarks.fuzz` starts it.
"""

from __future__ import annotations

import logging
import sys

import atheris

with atheris.instrument_imports(include=["server", "pygls", "lsprotocol", "cattrs"]):
    from benchmarks.fuzz_targets import TARGETS


def main() -> None:
    """Fuzz until the time is over or something is found; ends the process."""
    logging.disable(logging.CRITICAL)
    name, *flags = sys.argv[1:]
    atheris.Setup([sys.argv[0], *flags], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
