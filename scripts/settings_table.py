"""Write docs/settings.md from the settings' own declarations, so that the page can't drift."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from server.options import Options, camel_case

PAGE = Path(__file__).parent.parent / "docs" / "settings.md"
HEAD = """# Settings

Made by `python scripts/settings_table.py` from `server/options.py`; a test holds both together.

In an editor a setting is `foretype.<name>`; on the command line it is `--<name>` with dashes.
Settings marked *at start* choose what runs: they are read once, from the command line or the
client's `initializationOptions`, never from a workspace. All others may change while the server
runs. A bad value keeps what held before, and the log says so.

| setting | default | values | meaning |
|---|---|---|---|
"""


def values(declared: Any) -> str:
    """Return what a setting may be, in a few words."""
    metadata = declared.metadata
    if metadata["choices"]:
        choices = ", ".join(f"`{choice}`" for choice in metadata["choices"])
        return f"names with {choices}" if "Mapping" in declared.type else choices
    if metadata["minimum"] is not None:
        return f"{metadata['minimum']} to {metadata['maximum']}"
    kinds = {"bool": "`true`, `false`", "str": "text", "tuple[str, ...]": "list of texts"}
    return kinds.get(declared.type, "names with `true` or `false`")


def page() -> str:
    """Return the whole page."""
    rows = []
    for declared in fields(Options):
        default = json.dumps(getattr(Options(), declared.name), default=list)
        help_text = declared.metadata["help"].replace("|", "\\|")
        start = " *At start.*" if declared.metadata["at_start"] else ""
        rows.append(
            f"| `{camel_case(declared.name)}` | `{default}` | {values(declared)} "
            f"| {help_text}{start} |\n"
        )
    return HEAD + "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
