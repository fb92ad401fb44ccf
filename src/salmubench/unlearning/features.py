"""From a plan's step to the features that a method looks at: the model's live, the frozen original's looked up."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from salmubench.encoders.encoder import Encoder
from salmubench.progress import Progress
from salmubench.seeds import derive, generator
from salmubench.unlearning.batches import Pairs, load_pairs
from salmubench.unlearning.data import SETS, ForgetRetain, Rows
from salmubench.unlearning.method import Features, Method, Need, Step, TextFeatures, trained_weights
from salmubench.unlearning.pixels import PixelCache
from salmubench.unlearning.plan import Plan
from salmubench.unlearning.split import WHOLE, Split
from salmubench.unlearning.written import Written, write_texts

ORIGINAL_BATCH = 128
"""Pairs a forward pass of the frozen original."""


@dataclass(frozen=True)
class Inputs:
    """One step's batches on the device.

    Attributes:
        step: number of the step.
        positions: set -> where its batch lies in the set's ``Pairs``.
        pictures: set -> this process's share of the pictures, shape (s, 3, h, w); s = b with one process.
        captions: need -> its share of the tokens, shape (s, context).
        permutation: shape (b,).
    """

    step: int
    positions: dict[str, Rows]
    pictures: dict[str, Tensor]
    captions: dict[Need, Tensor]
    permutation: Tensor


class FeatureSource:
    """Holds the pairs that a run needs, decoded and tokenised, and the original's features of them.

    Args:
        data: the guarded data.
        plan: which rows each step sees.
        needs: what the method looks at; nothing else is read or encoded.
        encoder: the original, in eval mode; its features are computed here, so call this before the first step.
        steps: how many of the plan's steps can be asked for; what no other step sees is not read.
        scratch: folder for the pixels' unlinked file.
        progress: shows decoding and the original's encoding.
        split: how steps are divided among processes and forward passes.
        cache: where decoded pictures are kept for the next run, if anywhere.
    """

    def __init__(
        self,
        data: ForgetRetain,
        plan: Plan,
        needs: Sequence[Need],
        encoder: Encoder,
        *,
        steps: int,
        scratch: Path,
        progress: Progress,
        split: Split = WHOLE,
        cache: PixelCache | None = None,
    ) -> None:
        self.plan, self.split = plan, split
        self.looked: list[int] = []
        self._written: Written | None = None
        self._texts_a_step = 0
        self.needs = tuple(needs)
        self.device = encoder.device
        self.pairs: dict[str, Pairs] = {}
        for name in SETS:
            if any(name in _sets_of(need) for need in needs):
                rows, _ = plan.consumed(name, range(steps))
                with split.one_first(), progress(f"decoding {name} pictures", len(rows)) as advance:
                    self.pairs[name] = load_pairs(
                        data, name, rows, encoder, scratch=scratch, cache=cache, advance=advance
                    )
        self._texts = {name: pairs.tokens for name, pairs in self.pairs.items()}
        if "generic" in needs or "generic_original" in needs:
            self._texts["generic"] = encoder.tokenizer(data.generic_captions(self.pairs["forget"].rows))
        self._original: dict[str, Features] = {
            name: _encode_original(encoder, self.pairs[_set_of(name)], tokens, name, split, progress)
            for name, tokens in self._texts.items()
            if f"{name}_original" in needs
        }

    def inputs(self, step: int) -> Inputs:
        """Gathers a step's batches: no decoding, no file access beyond the memory map."""
        positions = {name: pairs.positions(self.plan.rows(name, step)) for name, pairs in self.pairs.items()}
        live = [need for need in self.needs if need != "texts" and not need.endswith("_original")]
        share = self.split.share(len(self.plan.forget[step]))
        own = {name: places[share] for name, places in positions.items()}
        captions: dict[Need, Tensor] = {
            need: self._texts[need][torch.from_numpy(own[_set_of(need)])].to(self.device) for need in live
        }
        pictures = {
            name: self.pairs[name].pictures(own[name], self.device)
            for name in dict.fromkeys(_set_of(need) for need in live)
        }
        permutation = torch.from_numpy(self.plan.permutation(step)).to(self.device)
        return Inputs(step, positions, pictures, captions, permutation)

    def write(self, method: Method[Any], data: ForgetRetain, encoder: Encoder, progress: Progress) -> None:
        """Lets a method make up texts, where it wants some; the original's features of them are computed here."""
        if "texts" not in self.needs:
            return
        rows = self.pairs["forget"].rows
        harmless = [*data.generic_captions(rows), *self.pairs["retain"].text]
        chance = random.Random(derive(self.plan.seed, "unlearning", "texts"))
        written = method.write(data.facts(rows), harmless, chance)
        self._written = write_texts(written, encoder, progress)
        self._texts_a_step = method.texts_a_step

    def start(self, method: Method[Any], model: nn.Module, progress: Progress) -> None:
        """Lets a method look at data before the first step, where it wants to."""
        sizes = [len(rows) for rows in self.plan.forget[: self.plan.first_pass]]
        if type(method).start is Method.start:
            return
        with progress("looking at the first pass", sum(sizes)) as advance:

            def look() -> Iterator[Step]:
                for step, size in enumerate(sizes):
                    advance(size if len(self.looked) < len(sizes) else 0)
                    self.looked.append(step)
                    yield self.encode(model, self.inputs(step))

            method.start(model, look)

    def consumed(self, steps: int) -> dict[str, tuple[tuple[str, ...], Rows]]:
        """File names of what was looked at or seen in the first ``steps`` steps, and how often, by set."""
        found = {}
        for name, pairs in self.pairs.items():
            rows, counts = self.plan.consumed(name, [*self.looked, *range(steps)])
            found[name] = (tuple(pairs.file_name[place] for place in pairs.positions(rows)), counts)
        return found

    def encode(self, model: nn.Module, inputs: Inputs) -> Step:
        """One forward pass through each tower for all batches of the step together, or as many as ``split`` says.

        Made-up texts have a pass of their own.
        """
        features = self._look_up(inputs) | (self._encode_live(model, inputs) if inputs.pictures else {})
        weights, made_up = list(trained_weights(model).values()), self._draw(model, inputs.step)
        progress = inputs.step / len(self.plan)
        return Step(features, inputs.permutation, progress, weights, self.split.mean, made_up)

    def _encode_live(self, model: nn.Module, inputs: Inputs) -> dict[Need, Features]:
        size = len(inputs.permutation)
        images, texts, scale = self.split.encode(model, inputs.pictures, inputs.captions, size)
        return {need: Features(images[_set_of(need)], text, scale) for need, text in texts.items()}

    def _look_up(self, inputs: Inputs) -> dict[Need, Features]:
        features: dict[Need, Features] = {}
        for need in self.needs:
            if need.endswith("_original"):
                original = self._original[need.removesuffix("_original")]
                place = torch.from_numpy(inputs.positions[_set_of(need)]).to(self.device)
                features[need] = Features(original.image[place], original.text[place], original.logit_scale)
        return features

    def _draw(self, model: nn.Module, step: int) -> TextFeatures | None:
        if self._written is None:
            return None
        chance = generator(self.plan.seed, "unlearning", "texts", step)
        return self._written.draw(model, self._texts_a_step, chance)


def _set_of(need: str) -> str:
    return "retain" if need.startswith("retain") else "forget"


def _sets_of(need: str) -> tuple[str, ...]:
    return SETS if need == "texts" else (_set_of(need),)


@torch.no_grad()
def _encode_original(
    encoder: Encoder, pairs: Pairs, tokens: Tensor, name: str, split: Split, progress: Progress
) -> Features:
    """The frozen original's features of every distinct pair, once: exact, since nothing is augmented.

    Processes take batches in turn and add up what they have.
    """
    count, device = len(pairs.rows), encoder.device
    images = torch.zeros(count, encoder.dimension, device=device)
    texts = torch.zeros(count, encoder.dimension, device=device)
    scale = torch.zeros((), device=device)
    with progress(f"encoding the original's {name}", count) as advance:
        for number in range(split.process, math.ceil(count / ORIGINAL_BATCH), split.processes):
            place = pairs.positions(pairs.rows[number * ORIGINAL_BATCH : (number + 1) * ORIGINAL_BATCH])
            captions = tokens[torch.from_numpy(place)].to(device)
            image, text, found, *_ = encoder.model(pairs.pictures(place, device), captions)
            scale = scale if number else found.float()
            images[place[0] : place[-1] + 1], texts[place[0] : place[-1] + 1] = image.float(), text.float()
            advance(len(place))
    return Features(split.total(images), split.total(texts), split.total(scale))
