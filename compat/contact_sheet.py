"""A contact sheet: queries on the left, what was found on the right, right and wrong marked.

A hit's frame is green with a check when it is relevant, red with a cross when it is not: the sign
speaks where the colour does not. The same rows give the same bytes.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from compat.errors import MissingExtraError, UsageError
from compat.images import decode

try:
    import matplotlib as mpl
except ModuleNotFoundError as error:
    raise MissingExtraError("drawing a contact sheet", "server", "matplotlib") from error

TOP = 5
MAX_ROWS = 50
_TILE_PX = 168
_FRAME_PX = 6
_GAP_PX = 16
_QUERY_GAP_PX = 44
_MARGIN_PX = 24
_TITLE_PX, _HEADER_PX, _CAPTION_PX = 44, 28, 44
_PAPER, _INK, _MUTED, _LINE = "#ffffff", "#14181f", "#5a6472", "#dfe3e8"
_RIGHT, _WRONG, _QUERY = "#0a7a4e", "#b3261e", "#5a6472"


@dataclass(frozen=True)
class SheetHit:
    """One gallery image that was found."""

    image: bytes
    label: str
    score: float  # cosine, higher is closer
    is_relevant: bool


@dataclass(frozen=True)
class SheetRow:
    """One query and what was found for it, best first."""

    query: bytes
    label: str
    hits: Sequence[SheetHit]


def contact_sheet(rows: Sequence[SheetRow], title: str) -> bytes:
    """Draw a PNG; at most `TOP` hits of a row are shown.

    Raises:
        UsageError: no rows, or more than `MAX_ROWS`. Remedy: choose some.
        ImageError: an image cannot be used; the message names its row and place.
    """
    if not 1 <= len(rows) <= MAX_ROWS:
        raise UsageError(f"a contact sheet shows 1 to {MAX_ROWS} queries, got {len(rows)}")
    width = _x_of(TOP) - _GAP_PX + _MARGIN_PX
    row_px = _TILE_PX + _CAPTION_PX
    height = _TITLE_PX + _HEADER_PX + len(rows) * (row_px + _GAP_PX) + _MARGIN_PX
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    _text(draw, (_MARGIN_PX, 16), title, size=20, bold=True, room=width - 2 * _MARGIN_PX)
    top = _TITLE_PX + 8
    _text(draw, (_MARGIN_PX, top), "query", size=13, colour=_MUTED, room=_TILE_PX)
    words = f"the {TOP} nearest in the gallery, best first"
    _text(draw, (_x_of(0), top), words, size=13, colour=_MUTED, room=width - _x_of(0))
    for place, row in enumerate(rows):
        y = _TITLE_PX + _HEADER_PX + place * (row_px + _GAP_PX) + 4
        _row(sheet, row, y, f"row {place + 1}")
    target = io.BytesIO()
    sheet.save(target, "PNG", optimize=True)
    return target.getvalue()


def _row(sheet: Image.Image, row: SheetRow, y: int, name: str) -> None:
    draw = ImageDraw.Draw(sheet)
    _tile(sheet, row.query, (_MARGIN_PX, y), colour=_QUERY, name=f"the query of {name}")
    _text(draw, (_MARGIN_PX, y + _TILE_PX + 5), row.label, size=13, bold=True, room=_TILE_PX)
    line_x = _MARGIN_PX + _TILE_PX + _QUERY_GAP_PX // 2
    draw.line([(line_x, y), (line_x, y + _TILE_PX)], fill=_LINE, width=2)
    for place, hit in enumerate(row.hits[:TOP]):
        x = _x_of(place)
        colour = _RIGHT if hit.is_relevant else _WRONG
        _tile(sheet, hit.image, (x, y), colour=colour, name=f"hit {place + 1} of {name}")
        _sign(sheet, (x + _TILE_PX, y), colour=colour, is_check=hit.is_relevant)
        _text(draw, (x, y + _TILE_PX + 5), hit.label, size=13, room=_TILE_PX)
        words = f"{place + 1}.  cosine {hit.score:.3f}".replace("-", "\N{MINUS SIGN}")
        _text(draw, (x, y + _TILE_PX + 23), words, size=12, colour=_MUTED, room=_TILE_PX)


def _tile(sheet: Image.Image, blob: bytes, at: tuple[int, int], *, colour: str, name: str) -> None:
    """An image inside a frame, whole: padded, never cropped."""
    inner = _TILE_PX - 2 * _FRAME_PX
    picture = ImageOps.pad(decode(blob, name), (inner, inner), color=_PAPER)
    box = (at[0], at[1], at[0] + _TILE_PX - 1, at[1] + _TILE_PX - 1)
    draw = ImageDraw.Draw(sheet)
    draw.rounded_rectangle(box, radius=6, fill=_PAPER, outline=colour, width=_FRAME_PX - 2)
    sheet.paste(picture, (at[0] + _FRAME_PX, at[1] + _FRAME_PX))


def _sign(sheet: Image.Image, corner: tuple[int, int], *, colour: str, is_check: bool) -> None:
    """A check or a cross in a disc at the upper right corner, drawn large and scaled: smooth."""
    scale, side = 4, 30
    disc = Image.new("RGBA", (side * scale, side * scale), (0, 0, 0, 0))
    draw = ImageDraw.Draw(disc)
    whole = side * scale
    draw.ellipse((0, 0, whole - 1, whole - 1), fill=_PAPER)
    draw.ellipse((8, 8, whole - 9, whole - 9), fill=colour)
    strokes = (
        [[(36, 62), (54, 80), (86, 44)]]
        if is_check
        else [[(42, 42), (78, 78)], [(78, 42), (42, 78)]]
    )
    for stroke in strokes:
        draw.line(stroke, fill=_PAPER, width=13, joint="curve")
    small = disc.resize((side, side), Image.Resampling.LANCZOS)
    sheet.paste(small, (corner[0] - side + 9, corner[1] - 9), small)


def _text(
    draw: ImageDraw.ImageDraw,
    at: tuple[int, int],
    words: str,
    *,
    size: int,
    room: int,
    colour: str = _INK,
    bold: bool = False,
) -> None:
    """One line; what does not fit in ``room`` pixels ends in an ellipsis."""
    font = _font(size, bold)
    line = " ".join(words.split())[:400]
    if font.getlength(line) > room:
        while line and font.getlength(line + "…") > room:
            line = line[:-1]
        line += "…"
    draw.text(at, line, font=font, fill=colour)


def _x_of(place: int) -> int:
    """Left edge of the hit at ``place``, from 0."""
    return _MARGIN_PX + _TILE_PX + _QUERY_GAP_PX + place * (_TILE_PX + _GAP_PX)


@cache
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib ships: the same letters on every machine."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(mpl.get_data_path()) / "fonts" / "ttf" / name, size)
