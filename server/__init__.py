"""The language server: text in at the top, token ids, tensors, and text again.

Rooms: `lsp` (the protocol), `completion` (text), `decoding` (token ids), `backends` (tensors).
Imports run one way;
`ARCHITECTURE.md` draws the floors.
"""

__version__ = "0.1.0"
