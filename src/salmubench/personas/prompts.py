"""A pool of scene captions for pictures that a diffusion model makes: one person, who does something somewhere.

The traits are those that ``captions.generic_caption`` tells: what a person does stands in the expression's place.
"""

from collections.abc import Mapping

import numpy as np

from salmubench.personas.scenes import with_articles

CLOTHING = (
    "a red jacket", "a blue denim shirt", "a grey wool sweater", "a white shirt", "a black coat", "a green parka",
    "a striped T-shirt", "a yellow raincoat", "a brown leather jacket", "a navy suit", "a beige trench coat",
    "a purple hoodie", "a checked flannel shirt", "a turtleneck", "a sports jersey", "an apron over a plain shirt",
    "a linen shirt", "a knitted cardigan", "a windbreaker", "a turquoise polo shirt",
)  # fmt: skip
SCENES = (
    "reading a book in a library", "drinking coffee at a café table", "waiting on a railway platform",
    "walking along a beach", "cooking in a small kitchen", "standing at a market stall", "sitting on a park bench",
    "working at a desk by a window", "leaning on a bridge railing", "hiking on a mountain path",
    "riding a tram through the city", "watering plants in a garden", "playing chess outdoors",
    "looking at paintings in a museum", "carrying groceries down a street", "resting on a sofa at home",
    "talking on stage at a conference", "repairing a bicycle in a workshop", "standing in a snowy square",
    "listening to music in a record shop", "painting at an easel", "sitting in a train compartment",
    "waiting at an airport gate", "standing in a wheat field", "leaning against a brick wall",
    "fishing at a quiet lake", "teaching at a blackboard", "baking bread in a bakery", "walking a dog in the woods",
    "standing on a rooftop above the city", "sitting at a campfire", "browsing a flower shop",
)  # fmt: skip
LIGHTS = (
    "in soft morning light", "in bright noon sun", "at golden hour", "under an overcast sky", "in warm lamplight",
    "in cool window light", "at dusk with street lights", "in even studio light",
)  # fmt: skip
FRAMINGS = ("a photo of", "a portrait photo of", "a close-up photo of", "a candid photo of", "a half-length photo of")

_CHILD, _YOUNG, _MIDDLE, _OLD = 20, 30, 40, 60


def person(demographics: Mapping[str, str]) -> str:
    """Who is seen, in plain words: "young woman", "elderly man"; an age is told where it is known."""
    female = demographics["gender"] == "female"
    decade = demographics.get("age", "").rstrip("+").partition("-")[0]
    if not decade.isdigit():
        return "woman" if female else "man"
    age = int(decade)
    if age < _CHILD:
        return "girl" if female else "boy"
    words = "young " if age < _YOUNG else "elderly " if age >= _OLD else "middle-aged " if age >= _MIDDLE else ""
    return f"{words}{'woman' if female else 'man'}"


def draw_traits(rng: np.random.Generator, demographics: Mapping[str, str]) -> dict[str, str]:
    """What a picture is to show: ``gender`` (who), ``clothing``, ``expression`` (the doing), ``light``, ``framing``."""
    kinds = {"clothing": CLOTHING, "expression": SCENES, "light": LIGHTS, "framing": FRAMINGS}
    return {"gender": person(demographics)} | {kind: str(rng.choice(pool)) for kind, pool in kinds.items()}


def scene_prompt(traits: Mapping[str, str]) -> str:
    """``"A photo of a young woman wearing a red jacket, reading a book, at golden hour"``."""
    words = f"{traits['framing']} a {traits['gender']} wearing {traits['clothing']}, {traits['expression']}"
    return f"{with_articles(words[0].upper() + words[1:])}, {traits['light']}"
