"""The contact sheet of a curation: some of the pictures that stayed and some of those that fell, with the reason."""

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from salmubench.atomic import replacing
from salmubench.dataset.pictures import decode_picture
from salmubench.personas.curation import Candidate, Verdicts
from salmubench.seeds import generator

_TILE, _GAP, _LINE, _COLUMNS, _ROWS = 128, 10, 16, 8, 3
_INK, _PAPER, _KEPT, _DROPPED = "#1c2024", "#ffffff", "#2f7d3c", "#b83227"


def write_contact_sheet(path: Path, candidates: Sequence[Candidate], verdicts: Verdicts, *, seed: int) -> None:
    """Draws up to 24 kept and 24 dropped pictures, a seeded choice; the dropped ones from every test in turn."""
    rng = generator(seed, "contact sheet")
    shuffled = [candidates[place] for place in rng.permutation(len(candidates))]
    kept = [one for one in shuffled if one.file_name not in verdicts.dropped][: _COLUMNS * _ROWS]
    fallen = [one for one in shuffled if one.file_name in verdicts.dropped]
    turns: dict[str, int] = {}
    ranked = []
    for one in fallen:
        test = verdicts.dropped[one.file_name][0]
        turns[test] = turns.get(test, 0) + 1
        ranked.append((turns[test], test, one))
    dropped = [one for _, _, one in sorted(ranked, key=lambda entry: entry[:2])][: _COLUMNS * _ROWS]
    kept_total = len(candidates) - len(verdicts.dropped)
    blocks = [
        (f"Kept: {kept_total} of {len(candidates)} pictures", _KEPT, kept, [one.identity_id for one in kept]),
        (f"Dropped: {len(fallen)}", _DROPPED, dropped, [verdicts.dropped[one.file_name][1] for one in dropped]),
    ]
    width = _GAP + _COLUMNS * (_TILE + _GAP)
    heights = [_GAP + 2 * _LINE + -(-len(block[2]) // _COLUMNS) * (_TILE + _LINE + _GAP) for block in blocks]
    sheet = Image.new("RGB", (width, sum(heights)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    top = 0
    for (title, color, shown, words), height in zip(blocks, heights, strict=True):
        draw.text((_GAP, top + _GAP), title, fill=color, font=ImageFont.load_default(18))
        for place, (one, line) in enumerate(zip(shown, words, strict=True)):
            left = _GAP + place % _COLUMNS * (_TILE + _GAP)
            upper = top + _GAP + 2 * _LINE + place // _COLUMNS * (_TILE + _LINE + _GAP)
            picture = ImageOps.contain(decode_picture(one.path.read_bytes(), one.file_name), (_TILE, _TILE))
            sheet.paste(picture, (left + (_TILE - picture.width) // 2, upper + (_TILE - picture.height) // 2))
            draw.rectangle((left - 1, upper - 1, left + _TILE, upper + _TILE), outline=color)
            draw.text((left, upper + _TILE + 2), line[:24], fill=_INK, font=ImageFont.load_default(10))
        top += height
    stream = io.BytesIO()
    sheet.save(stream, "PNG")
    with replacing(path) as temporary:
        temporary.write_bytes(stream.getvalue())
