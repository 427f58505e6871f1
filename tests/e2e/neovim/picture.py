"""Frames of the screen as a picture: cell for cell what Neovim drew, shown one after another.

Does not know Neovim. The picture needs no script and no font from the network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any
from xml.sax.saxutils import escape

from tests.e2e.neovim.screen import Frame

CELL_WIDTH, CELL_HEIGHT = 9, 20
FRAME_S = 0.8
"""How long one frame is shown; chosen so that it can be read."""


def svg(frames: Sequence[Frame], colors: tuple[int, int], title: str) -> str:
    """Draw frames of equal size, the last one for three times as long as the others.

    Args:
        frames: at least one.
        colors: foreground and background of cells without a colour, as 0xRRGGBB.
        title: said to those who do not see the picture.
    """
    width = len(frames[0].cells[0]) * CELL_WIDTH
    height = len(frames[0].cells) * CELL_HEIGHT
    total_s = (len(frames) + 2) * FRAME_S
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="15">',
        f"<title>{escape(title)}</title>",
        f'<rect width="100%" height="100%" rx="6" fill="#{colors[1]:06x}"/>',
    ]
    for number, frame in enumerate(frames):
        start = number / (len(frames) + 2)
        end = (number + 1) / (len(frames) + 2) if number + 1 < len(frames) else 1.0
        is_last = number + 1 == len(frames)
        parts.append(f'<g visibility="{"visible" if is_last else "hidden"}">')
        if len(frames) > 1:
            values, times = _steps(start, end)
            parts.append(
                f'<animate attributeName="visibility" calcMode="discrete" values="{values}" '
                f'keyTimes="{times}" dur="{total_s:.1f}s" repeatCount="indefinite"/>'
            )
        parts += [*_cells(frame, colors), "</g>"]
    return "\n".join([*parts, "</svg>\n"])


def _steps(start: float, end: float) -> tuple[str, str]:
    steps = [("hidden", 0.0)] if start > 0 else []
    steps.append(("visible", start))
    if end < 1:
        steps.append(("hidden", end))
    return ";".join(value for value, _ in steps), ";".join(f"{time:.4f}" for _, time in steps)


def _cells(frame: Frame, colors: tuple[int, int]) -> Iterator[str]:
    for y, row in enumerate(frame.cells):
        x = 0
        for highlight, cells in groupby(row, key=lambda cell: cell.highlight):
            texts = [cell.text for cell in cells]
            attributes = frame.attributes.get(highlight, {})
            yield from _run(x, y, texts, attributes, colors)
            x += len(texts)
    y, x = frame.cursor
    yield (
        f'<rect x="{x * CELL_WIDTH}" y="{y * CELL_HEIGHT}" width="2" height="{CELL_HEIGHT}" '
        f'fill="#{colors[0]:06x}"/>'
    )


def _run(
    x: int, y: int, texts: Sequence[str], attributes: dict[str, Any], colors: tuple[int, int]
) -> Iterator[str]:
    foreground = attributes.get("foreground", colors[0])
    background = attributes.get("background", colors[1])
    if attributes.get("reverse"):
        foreground, background = background, foreground
    left, top, width = x * CELL_WIDTH, y * CELL_HEIGHT, len(texts) * CELL_WIDTH
    if background != colors[1]:
        yield (
            f'<rect x="{left}" y="{top}" width="{width}" height="{CELL_HEIGHT}" '
            f'fill="#{background:06x}"/>'
        )
    text = "".join(texts)
    if text.strip():
        style = ' font-style="italic"' if attributes.get("italic") else ""
        style += ' font-weight="bold"' if attributes.get("bold") else ""
        yield (
            f'<text x="{left}" y="{top + 15}" fill="#{foreground:06x}" textLength="{width}" '
            f'xml:space="preserve"{style}>{escape(text)}</text>'
        )
