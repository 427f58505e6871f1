"""The real server with two more requests, for the soak: what it holds of a document, and of memory.

They exist in this program alone: `python -m server` has no code for them, and no flag or variable
turns them on. The text itself is not sent, only its hash.
"""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Mapping
from functools import partial
from typing import Any

from server.cli import given_settings, make_parser
from server.logs import configure
from server.lsp.connection import Connection
from server.lsp.lifeline import exit_after
from server.lsp.server import ForetypeServer
from server.lsp.stdio import take_stdio

CHECKSUM = "benchmarks/checksum"
HELD = "benchmarks/held"


class CheckedServer(ForetypeServer):
    """Tells what it holds."""

    def _register(self) -> None:
        super()._register()
        self.feature(CHECKSUM)(partial(self._checksum))
        self.feature(HELD)(partial(self._held))

    def _checksum(self, message: Mapping[str, Any]) -> dict[str, Any]:
        document = self.documents.store.get(message["uri"])
        if document is None:
            return {"isOpen": False}
        return {"isOpen": True, "version": document.version, "hash": text_hash(document.text)}

    def _held(self, message: Any) -> dict[str, int]:
        remembered = self._completer.n_documents if self._completer is not None else 0
        more = {"remembered": remembered, "threads": threading.active_count()}
        return {**self._tasks(message), **more}


def text_hash(text: str) -> str:
    """Return the hash by which two texts are compared; line ends count."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def main() -> int:
    """Serve over stdio, as `python -m server` does."""
    arguments = make_parser().parse_args()
    configure(arguments.log_file, arguments.log_level)
    connection = Connection(*take_stdio())
    return CheckedServer(given_settings(arguments)).serve(connection, on_stop=exit_after)


if __name__ == "__main__":
    sys.exit(main())
