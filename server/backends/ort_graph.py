"""What an untrusted ONNX file asks for, read before onnxruntime sees it.

Reads the few fields of the protobuf format that matter, in place, and imports nothing for it: the
`onnx` package would take longer than the model. Does not know what a graph computes.
Source: onnx/onnx.proto of ONNX 1.18, the field numbers below.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from pathlib import Path

from server.errors import BundleError

ALLOWED_DOMAINS = frozenset({b"", b"ai.onnx", b"com.microsoft"})
"""Operators of the standard and onnxruntime's own; any other would need a library of a stranger."""
REFUSED_OPERATORS = frozenset({b"EPContext", b"PythonOp", b"PythonOpGrad"})
"""onnxruntime's operators that open a file that the graph names, or call into Python."""
MAX_NODES = 200_000
"""Nodes of all graphs together. Guessed: forty times a portable export of 48 layers."""
MAX_DEPTH = 8
"""Graphs inside attributes of nodes of graphs. Guessed: exports nest one or two."""
# An external tensor is an entry with the key `location`, written as length 8 (also in the longer
# ways that protobuf's varints allow) and the eight letters; without it onnxruntime opens no file.
_EXTERNAL_DATA = b"location"
_LENGTH_8 = re.compile(rb"(?:\x08|\x88\x80*\x00)\Z")
_VARINT_BYTES = 10

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MODEL_GRAPH, _MODEL_OPSETS, _MODEL_FUNCTIONS = 7, 8, 25
_OPSET_DOMAIN = 1
_GRAPH_NODE = 1
_NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS = 6, 11

Span = tuple[int, int]


def check_graph(path: Path) -> None:
    """Refuse a graph that wants more than to compute: other files, foreign code, endless nesting.

    Raises:
        BundleError: it does, or it is no ONNX file; the message says what was found.
    """
    refuse_external_data(path)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            _Reader(data).check_model()
        except _RefusedError as exc:
            raise BundleError(f"{path} is refused: {exc}; export the model again") from exc


def refuse_external_data(path: Path) -> None:
    """Raise BundleError if a graph keeps weights in another file, wherever that file lies."""
    if path.stat().st_size == 0:
        raise BundleError(f"{path} is empty; export the model again")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        place = data.find(_EXTERNAL_DATA)  # Many times quicker than a regular expression.
        while place >= 0:
            if _LENGTH_8.search(data[max(0, place - _VARINT_BYTES) : place]):
                raise BundleError(
                    f"{path} keeps weights in another file, a bundle's graph is one file; "
                    "export the model again"
                )
            place = data.find(_EXTERNAL_DATA, place + 1)


class _RefusedError(Exception):
    """Says what was found."""


class _Reader:
    """One file, and how many nodes were seen in it."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._n_nodes = 0

    def check_model(self) -> None:
        """Look at the whole file.

        Raises:
            _RefusedError: something in it is not allowed.
        """
        has_graph = False
        for number, span in self._messages((0, len(self._data))):
            if number == _MODEL_GRAPH:
                has_graph = True
                self._check_graph(span, 0)
            elif number == _MODEL_FUNCTIONS:
                raise _RefusedError("it defines functions, which can nest without end")
            elif number == _MODEL_OPSETS:
                for field, name in self._messages(span):
                    if field == _OPSET_DOMAIN:
                        self._check_domain(name)
        if not has_graph:
            raise _RefusedError("it holds no graph")

    def _check_graph(self, graph: Span, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise _RefusedError(f"its graphs are nested deeper than {MAX_DEPTH}")
        for number, span in self._messages(graph):
            if number == _GRAPH_NODE:
                self._n_nodes += 1
                if self._n_nodes > MAX_NODES:
                    raise _RefusedError(f"it has more than {MAX_NODES} nodes")
                self._check_node(span, depth)

    def _check_node(self, node: Span, depth: int) -> None:
        for number, span in self._messages(node):
            if number == _NODE_DOMAIN:
                self._check_domain(span)
            elif number == _NODE_OPERATOR:
                name = self._data[span[0] : span[1]]
                if name in REFUSED_OPERATORS:
                    raise _RefusedError(f"it uses the operator {name.decode()}")
            elif number == _NODE_ATTRIBUTE:
                for field, inner in self._messages(span):
                    if field in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
                        self._check_graph(inner, depth + 1)

    def _check_domain(self, span: Span) -> None:
        name = self._data[span[0] : span[1]]
        if name not in ALLOWED_DOMAINS:
            told = name[:60].decode("utf-8", "replace")
            raise _RefusedError(f"it needs operators of {told!r}, which onnxruntime does not have")

    def _messages(self, span: Span) -> Iterator[tuple[int, Span]]:
        """Yield number and place of each field that holds bytes; skip the others."""
        place, end = span
        while place < end:
            tag, place = self._varint(place, end)
            kind = tag & 7
            if kind == _BYTES:
                n_bytes, place = self._varint(place, end)
                if n_bytes > end - place:
                    raise _RefusedError("it ends inside a field")
                yield tag >> 3, (place, place + n_bytes)
                place += n_bytes
            elif kind == _VARINT:
                _, place = self._varint(place, end)
            elif kind in (_FIXED64, _FIXED32):
                place += 8 if kind == _FIXED64 else 4
            else:
                raise _RefusedError("it is no ONNX file")
        if place > end:
            raise _RefusedError("it ends inside a field")

    def _varint(self, place: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if place >= end:
                raise _RefusedError("it ends inside a field")
            byte = self._data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, place
        raise _RefusedError("it is no ONNX file")
