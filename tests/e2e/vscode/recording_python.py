"""A Python for tests that keeps a record of what an editor and the server say to each other.

Run in place of an interpreter: `-m server` goes through it message by message, everything else is
handed on. Each line of the record is one message as JSON, with who sent it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import BinaryIO


def copy_messages(source: BinaryIO, target: BinaryIO, sender: str, record: Path) -> None:
    """Hand messages on until there are no more, and append each to the record."""
    with record.open("a") as lines:
        while header := source.readline():
            length = 0
            block = header
            while header.strip():
                name, _, value = header.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
                header = source.readline()
                block += header
            body = source.read(length)
            target.write(block + body)
            target.flush()
            lines.write(json.dumps({"from": sender, **json.loads(body)}) + "\n")
            lines.flush()
    target.close()


def main() -> int:
    """Run Python with the arguments; return its exit status."""
    python, arguments = os.environ["RECORDED_PYTHON"], sys.argv[1:]
    if arguments[:2] != ["-m", "server"]:
        return subprocess.run([python, *arguments], check=False).returncode
    record = Path(os.environ["RECORD"])
    server = subprocess.Popen([python, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdin
    assert server.stdout
    with record.open("a") as lines:
        lines.write(json.dumps({"from": "process", "pid": server.pid}) + "\n")
    incoming = (sys.stdin.buffer, server.stdin, "editor", record)
    threading.Thread(target=copy_messages, args=incoming, daemon=True).start()
    copy_messages(server.stdout, sys.stdout.buffer, "server", record)
    return server.wait()


if __name__ == "__main__":
    raise SystemExit(main())
