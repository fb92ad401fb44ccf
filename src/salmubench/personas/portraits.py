"""Stage 2: pictures of an anchor. The face stays; clothing, expression, pose, light, backdrop and frame vary.

python_avatars (MIT) gives the drawing; its parts are vector graphics, so that a portrait is sharp at any size.
"""

import functools
import io
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import python_avatars as pa
import resvg_py
from PIL import Image

from salmubench.personas.anchors import DrawnFace
from salmubench.personas.markup import cheap
from salmubench.personas.scenes import Backdrop, Frame, develop, draw_backdrop, draw_frame, draw_light, with_articles
from salmubench.seeds import generator

LICENCE = "python-avatars, MIT licence"

SKIN_TONES = {
    "pale": ("#FFDBB4", "pale skin"),
    "light": ("#EDB98A", "light skin"),
    "tan": ("#D08B5B", "tan skin"),
    "brown": ("#AE5D29", "brown skin"),
    "dark": ("#614335", "dark skin"),
}
HAIR_TONES = {
    "black": ("#1d1512", "black"),
    "dark_brown": ("#53332a", "dark brown"),
    "auburn": ("#A55728", "auburn"),
    "blonde": ("#D9AE55", "blonde"),
    "platinum": ("#F2E6C8", "platinum blonde"),
    "red": ("#C93305", "red"),
    "grey": ("#B9B6B6", "grey"),
    "pink": ("#F58FA8", "pink"),
    "blue": ("#3D6FC4", "blue"),
    "green": ("#4C9A5B", "green"),
}
HAIR_PHRASES = {
    "big_hair": "big wavy {} hair", "bob": "{} hair in a bob", "bun": "{} hair in a bun", "curly": "curly {} hair",
    "curvy": "long wavy {} hair", "dreads": "long {} dreadlocks", "fro": "a {} afro",
    "fro_band": "a {} afro with a headband", "long_not_too_long": "shoulder-length {} hair",
    "mia_wallace": "a {} bob with a fringe", "straight_1": "long {} hair swept aside",
    "straight_strand": "straight {} hair",
    "braids": "{} braids tied up", "curly_2": "long curly {} hair", "loose_hair": "loose {} hair",
    "pixie": "a {} pixie cut", "half_shaved": "half-shaved {} hair", "twist_long_hair": "long {} twists",
    "dreadlocks": "short {} dreadlocks", "wild": "wild {} hair", "caesar": "cropped {} hair",
    "short_flat": "short {} hair", "short_curly": "short curly {} hair", "short_dreads_1": "short {} locks",
    "short_dreads_2": "spiky {} locks", "shaggy": "shaggy {} hair", "shaggy_mullet": "a {} mullet",
    "frizzle": "a {} tuft of hair", "elvis": "a {} rockabilly quiff", "mohawk": "a {} mohawk",
    "pompadour": "a {} pompadour", "quiff": "a {} quiff", "cornrows": "{} cornrows", "mowgli": "messy {} hair",
    "wick": "chin-length {} hair", "twist_long_hair_2": "long braided {} hair",
}  # fmt: skip
FACIAL_HAIR_PHRASES = {
    "beard_light": "a short beard", "beard_magestic": "a long full beard", "moustache_fancy": "a curled moustache",
    "moustache_magnum": "a moustache", "wick_beard": "a chin beard",
}  # fmt: skip
GLASSES_PHRASES = {
    "prescription_01": "light-rimmed glasses", "prescription_02": "black-rimmed glasses", "round": "round glasses",
    "sunglasses": "dark sunglasses", "kurt": "white-framed sunglasses",
}  # fmt: skip
_HIDE_EYES = ("sunglasses", "kurt")

CLOTH_TONES = {
    "red": "#D8403A", "pink": "#F277A8", "orange": "#F08A32", "yellow": "#F4D24A", "green": "#4D9C57",
    "turquoise": "#3BB5AA", "light blue": "#7CC4F5", "blue": "#3E74C9", "navy blue": "#25426E", "purple": "#8455B5",
    "brown": "#84603F", "black": "#262E33", "grey": "#929598", "white": "#F7F7F7",
}  # fmt: skip
CLOTHING_PHRASES = {
    "blazer_shirt": "a dark blazer over a {} shirt", "blazer_sweater": "a dark blazer over a {} sweater",
    "collar_sweater": "a {} sweater with a white collar", "hoodie": "a {} hoodie", "shirt_crew_neck": "a {} T-shirt",
    "shirt_scoop_neck": "a {} scoop-neck top", "shirt_v_neck": "a {} V-neck top",
    "bond_suit": "a black suit with a bow tie over a {} shirt", "shirt_wick": "a black suit with a {} tie",
    "chef": "a {} chef's jacket",
}  # fmt: skip
_MOUTHS = (
    ("smile", "laughing"), ("big_smile", "smiling broadly"), ("twinkle", "smiling gently"), ("default", "smiling"),
    ("serious", "looking serious"), ("sad", "looking sad"), ("disbelief", "looking astonished"),
    ("concerned", "looking worried"), ("grimace", "showing clenched teeth"), ("tongue", "showing the tongue"),
)  # fmt: skip
_EYES = (
    ("default", ""), ("happy", ""), ("squint", ""), ("side", " with eyes turned aside"),
    ("surprised", " with wide eyes"),
    ("closed", " with closed eyes"), ("wink", " with a wink"),
)  # fmt: skip
_EYE_SHARES = (0.34, 0.14, 0.12, 0.14, 0.08, 0.1, 0.08)

_HEAD = (132.0, 108.0)
_WIDTH, _HEIGHT = 264, 280


@dataclass(frozen=True)
class _Look:
    clothing: str
    cloth_color: str
    mouth: str
    eyes: str


@dataclass(frozen=True)
class Portrait:
    """One picture of a person, drawn when ``image`` is first asked for.

    Attributes:
        anchor: the person.
        frame: the picture's size.
        file_name: ``<identity>_<picture>_ar-<w/h>.jpg``.
        traits: what the picture shows, in plain words: gender, skin, hair, clothing, expression and background, and
            facial_hair and glasses where there are any.
    """

    anchor: DrawnFace
    frame: Frame
    file_name: str
    traits: dict[str, str]
    _look: _Look
    _backdrop: Backdrop
    _pose: str
    _light: list[int]

    @property
    def ratio(self) -> float:
        """Width over height."""
        return self.frame.ratio

    @functools.cached_property
    def image(self) -> bytes:
        """The picture as JPEG."""
        person = f"{_drawing(self.anchor, self._look)}{_hem(self._look.clothing, self._look.cloth_color)}"
        return develop(f'{self._backdrop.svg}<g transform="{self._pose}">{person}</g>', self.frame, self._light)


def _part(kind: Any, name: str) -> Any:
    return kind("" if name == "none" else name)


def _drawing(anchor: DrawnFace, look: _Look) -> str:
    """The avatar's SVG as one group, in the 264 x 280 units of python_avatars."""
    hair_color = HAIR_TONES[anchor.hair_color][0]
    svg: str = pa.Avatar(
        top=_part(pa.HairType, anchor.hair),
        eyebrows=_part(pa.EyebrowType, anchor.brows),
        nose=_part(pa.NoseType, anchor.nose),
        facial_hair=_part(pa.FacialHairType, anchor.facial_hair),
        accessory=_part(pa.AccessoryType, anchor.glasses),
        skin_color=SKIN_TONES[anchor.skin][0],
        hair_color=hair_color,
        facial_hair_color=hair_color,
        eyes=_part(pa.EyeType, look.eyes),
        mouth=_part(pa.MouthType, look.mouth),
        clothing=_part(pa.ClothingType, look.clothing),
        clothing_color=CLOTH_TONES[look.cloth_color],
    ).render()
    start = svg.index(">", svg.index("<svg")) + 1
    prefixes = " ".join(re.findall(r'xmlns:\w+="[^"]*"', svg[:start]))
    return f"<g {prefixes}>{cheap(svg[start : svg.rindex('</svg>')])}</g>"


@functools.lru_cache(maxsize=512)
def _hem(clothing: str, cloth_color: str) -> str:
    """Strips that continue the clothes below the drawing's lower edge, in the colours of its last row.

    A tall frame shows more of the body than the drawing has. The strips cover the drawing's edge, where skin shines
    through.
    """
    bare = pa.Avatar(
        top=pa.HairType.NONE,
        clothing=_part(pa.ClothingType, clothing),
        clothing_color=CLOTH_TONES[cloth_color],
    ).render()
    last_row = re.sub(
        r'height="\d+px" viewBox="[^"]*"', f'height="1px" viewBox="0 {_HEIGHT - 2} {_WIDTH} 1"', bare, count=1
    )
    png = resvg_py.svg_to_bytes(svg_string=last_row, zoom=2, skip_system_fonts=True, shape_rendering="crisp_edges")
    row = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))[0]
    starts = np.flatnonzero(np.any(row[1:] != row[:-1], axis=1)) + 1
    strips = []
    for start, stop in zip((0, *starts), (*starts, len(row)), strict=True):
        red, green, blue, alpha = (int(value) for value in row[start])
        if alpha:
            strips.append(
                f'<rect x="{start / 2}" y="{_HEIGHT - 3}" width="{(stop - start) / 2 + 0.2}" height="600" '
                f'fill="#{red:02x}{green:02x}{blue:02x}"/>'
            )
    return "".join(strips)


def _pose(rng: np.random.Generator, frame: Frame) -> str:
    """An SVG transform that keeps the head within the central square and lets the body run out of the frame."""
    scale = frame.short / _HEIGHT * rng.uniform(0.98, 1.3)
    squeeze, mirror = rng.uniform(0.9, 1.0), -1 if rng.random() < 0.5 else 1
    turn = float(np.clip(rng.normal(0, 7), -15, 15))
    x = frame.width / 2 + frame.short * rng.uniform(-0.07, 0.07)
    y = frame.height / 2 + frame.short * rng.uniform(-0.03, 0.06)
    return (
        f"translate({x:.2f} {y:.2f}) rotate({turn:.2f}) scale({mirror * squeeze * scale:.4f} {scale:.4f}) "
        f"translate({-_HEAD[0]} {-_HEAD[1]})"
    )


def _traits(anchor: DrawnFace, look: _Look, background: str) -> dict[str, str]:
    eyes = "" if anchor.glasses in _HIDE_EYES else dict(_EYES)[look.eyes]
    traits = {
        "gender": "woman" if anchor.gender == "female" else "man",
        "skin": SKIN_TONES[anchor.skin][1],
        "hair": with_articles(HAIR_PHRASES[anchor.hair].format(HAIR_TONES[anchor.hair_color][1])),
        "clothing": with_articles(CLOTHING_PHRASES[look.clothing].format(look.cloth_color)),
        "expression": dict(_MOUTHS)[look.mouth] + eyes,
        "background": background,
    }
    if anchor.facial_hair != "none":
        traits["facial_hair"] = FACIAL_HAIR_PHRASES[anchor.facial_hair]
    if anchor.glasses != "none":
        traits["glasses"] = GLASSES_PHRASES[anchor.glasses]
    return traits


def render_portrait(anchor: DrawnFace, *, seed: int, picture: int, long_side: int) -> Portrait:
    """Picture number ``picture`` (1 to 999) of a person; the same arguments give the same bytes."""
    rng = generator(seed, "portrait", anchor.identity_id, picture)
    frame = draw_frame(rng, long_side)
    backdrop = draw_backdrop(rng, frame)
    look = _Look(
        clothing=str(rng.choice(list(CLOTHING_PHRASES))),
        cloth_color=str(rng.choice(list(CLOTH_TONES))),
        mouth=str(rng.choice([mouth for mouth, _ in _MOUTHS])),
        eyes=str(rng.choice([eyes for eyes, _ in _EYES], p=_EYE_SHARES)),
    )
    return Portrait(
        anchor=anchor,
        frame=frame,
        file_name=f"{anchor.identity_id}_{picture:03d}_ar-{frame.ratio:.2f}.jpg",
        traits=_traits(anchor, look, backdrop.phrase),
        _look=look,
        _backdrop=backdrop,
        _pose=_pose(rng, frame),
        _light=draw_light(rng),
    )


def draw_portrait(anchor: DrawnFace, *, seed: int, picture: int, long_side: int) -> bytes:
    """The bytes alone: what a process that draws sends back."""
    return render_portrait(anchor, seed=seed, picture=picture, long_side=long_side).image
