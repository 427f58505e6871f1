"""The screen of Neovim as cells, kept from what it sends to a terminal.

Every frame is kept, so that a test can say what a user saw between two states. Does not know what
makes Neovim draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

GHOST_COLOR = 0x7788AA
"""Set for the highlight group, so that ghost text can be told from the buffer on the screen."""


@dataclass
class Cell:
    """One character on the screen; the second half of a wide one is empty."""

    text: str = " "
    highlight: int = 0


@dataclass
class Frame:
    """What a user saw at one moment."""

    cells: list[list[Cell]]
    attributes: dict[int, dict[str, Any]]
    cursor: tuple[int, int]
    """Row and column of the cursor, from 0."""

    @property
    def lines(self) -> list[str]:
        """The rows of the screen without space at their ends."""
        return ["".join(cell.text for cell in row).rstrip() for row in self.cells]

    @property
    def ghost(self) -> str:
        """The cells in the colour of ghost text; its lines as rows, empty if there are none."""
        rows = []
        for row in self.cells:
            cells = [cell.text for cell in row if self._is_ghost(cell)]
            if cells:
                rows.append("".join(cells))
        return "\n".join(rows)

    def _is_ghost(self, cell: Cell) -> bool:
        return self.attributes.get(cell.highlight, {}).get("foreground") == GHOST_COLOR


@dataclass
class Screen:
    """Cells kept up to date from Neovim's `redraw` events (`:h ui-linegrid`)."""

    cells: list[list[Cell]] = field(default_factory=list)
    attributes: dict[int, dict[str, Any]] = field(default_factory=dict)
    cursor: tuple[int, int] = (0, 0)
    colors: tuple[int, int] = (0, 0)
    frames: list[Frame] = field(default_factory=list)
    """All that was drawn, one for each `flush`."""

    def apply(self, events: Sequence[Sequence[Any]]) -> None:
        """Take one batch of events; events that change no cell are left out."""
        for name, *calls in events:
            handle = getattr(self, f"_{name}", None)
            for arguments in calls if handle else ():
                handle(*arguments)

    def _grid_resize(self, _grid: int, width: int, height: int) -> None:
        self.cells = [[Cell() for _ in range(width)] for _ in range(height)]

    def _grid_clear(self, _grid: int) -> None:
        self.cells = [[Cell() for _ in row] for row in self.cells]

    def _grid_line(
        self, _grid: int, row: int, column: int, cells: Sequence[Sequence[Any]], _wrap: bool
    ) -> None:
        highlight = 0
        for text, *more in cells:
            highlight = more[0] if more else highlight
            for _ in range(more[1] if len(more) > 1 else 1):
                self.cells[row][column] = Cell(text, highlight)
                column += 1

    def _grid_scroll(
        self, _grid: int, top: int, bottom: int, left: int, right: int, rows: int, _columns: int
    ) -> None:
        before = [list(row) for row in self.cells]
        for row in range(top, bottom):
            if top <= row + rows < bottom:
                self.cells[row][left:right] = before[row + rows][left:right]

    def _grid_cursor_goto(self, _grid: int, row: int, column: int) -> None:
        self.cursor = (row, column)

    def _hl_attr_define(self, number: int, rgb: dict[str, Any], *_: Any) -> None:
        self.attributes[number] = rgb

    def _default_colors_set(self, foreground: int, background: int, *_: Any) -> None:
        self.colors = (foreground, background)

    def _flush(self) -> None:
        cells = [list(row) for row in self.cells]
        self.frames.append(Frame(cells, dict(self.attributes), self.cursor))
