"""What an unlearning method is. The loop (``unlearning/run.py``) exists once; a method says what to minimise.

A file in ``unlearning/methods/`` holds one method and its variants: a frozen dataclass of its options and a class
decorated with ``@method(...)`` that names what it looks at (``needs``) and whose ``loss`` turns one step's batches into
a scalar. Nothing else is needed: the command line, the help, the docs and the tests find the file by themselves. What
is more than a loss overrides a hook: ``start`` before the steps, ``after_step``, ``finish`` after them.
"""

import hashlib
import inspect
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar, get_args

import torch
from open_clip.loss import ClipLoss
from pydantic import Field
from torch import Tensor, nn

from salmubench.atomic import sha256_file
from salmubench.errors import UserError
from salmubench.options import NoOptions as NoOptions
from salmubench.options import option_help, parse_options
from salmubench.registry import Registry
from salmubench.unlearning.author import Fact, Text

Need = Literal["forget", "generic", "retain", "forget_original", "generic_original", "retain_original", "texts"]
SEEN: dict[Need, str] = {
    "forget": "forget pairs",
    "generic": "forget pictures with their generic captions",
    "retain": "retain pairs",
    "forget_original": "the original's features of the forget pairs",
    "generic_original": "the original's features of the generic captions",
    "retain_original": "the original's features of the retain pairs",
    "texts": "texts made up from forget, generic and retain captions, and the original's features of such texts",
}


@dataclass(frozen=True)
class Features:
    """Both towers' L2-normalised float32 embeddings of a batch, shape (b, d), and the logit scale (already exp'd)."""

    image: Tensor
    text: Tensor
    logit_scale: Tensor

    @property
    def similarity(self) -> Tensor:
        """Cosine matrix S, shape (b, b): picture i against caption j."""
        return self.image @ self.text.T


@dataclass(frozen=True)
class TextFeatures:
    """The model's embeddings of a step's made-up texts, and what the texts shall be like; all L2-normalised.

    Attributes:
        text: shape (n, d), with gradient.
        target: the normalised mean of the original's embeddings of the texts that each shall be like, shape (n, d).
        held: whether a text shall stay where it was, shape (n,), bool.
    """

    text: Tensor
    target: Tensor
    held: Tensor


class Step:
    """What a method may look at in one step: forget and retain data only, never a holdout and never Clean.

    Attributes:
        permutation: a random permutation of the batch without fixed points, shape (b,), int64.
        progress: share of the run that is done, 0 to 1.
    """

    def __init__(
        self,
        features: Mapping[Need, Features],
        permutation: Tensor,
        progress: float,
        weights: Sequence[Tensor] = (),
        reduce: Callable[[Tensor], Tensor] = lambda gradient: gradient,
        texts: TextFeatures | None = None,
    ) -> None:
        self._features = features
        self._texts = texts
        self._weights, self._reduce = tuple(weights), reduce
        self.permutation = permutation
        self.progress = progress

    def gradient(self, loss: Tensor) -> tuple[Tensor, ...]:
        """Gradient of a loss of this step by each weight that is trained, in the order of ``trained_weights``.

        It costs a backward pass; the loop's own one is still to come, so that ``loss`` may weigh its parts by it.
        """
        found = torch.autograd.grad(loss, self._weights, retain_graph=True, materialize_grads=True)
        return tuple(self._reduce(gradient) for gradient in found)

    def _get(self, need: Need) -> Features:
        if need not in self._features:
            raise LookupError(f"the method looks at step.{need}, which its `needs` does not name")
        return self._features[need]

    @property
    def forget(self) -> Features:
        """The model's features of the forget batch, with gradient."""
        return self._get("forget")

    @property
    def generic(self) -> Features:
        """The forget batch's pictures with their generic captions (no name, no fact), with gradient."""
        return self._get("generic")

    @property
    def retain(self) -> Features:
        """The model's features of the retain batch, as large as the forget batch, with gradient."""
        return self._get("retain")

    @property
    def forget_original(self) -> Features:
        """The frozen original's features of the same forget batch, without gradient."""
        return self._get("forget_original")

    @property
    def generic_original(self) -> Features:
        """The frozen original's features of the same forget pictures and their generic captions, without gradient."""
        return self._get("generic_original")

    @property
    def retain_original(self) -> Features:
        """The frozen original's features of the same retain batch, without gradient."""
        return self._get("retain_original")

    @property
    def texts(self) -> TextFeatures:
        """Features of as many of the texts that ``Method.write`` made up as the method wants in a step."""
        if self._texts is None:
            raise LookupError("the method looks at step.texts, which its `needs` does not name")
        return self._texts


Look = Callable[[], Iterator[Step]]
"""Encodes the steps of the run's first pass over forget (of a part where the budget is less), at the model as it
stands. Each call begins anew; all that is read through it stands in the run's record."""

OptionsT = TypeVar("OptionsT")


class Method(Generic[OptionsT]):
    """One unlearning method. Subclass, set ``needs``, write ``loss``; override a hook where needed.

    Attributes:
        needs: the features of ``Step`` that the method looks at. The loop encodes these and no others.
        trains: whether the loop takes steps along ``loss``. A method that edits the weights at once does so in
            ``start`` and sets this to False; it then consumes what it looks at, one pass over forget at most.
        orthogonal: whether the matrices inside the blocks take Muon's steps in place of AdamW's.
        texts_a_step: made-up texts that a step encodes, two thirds of them held ones, where ``needs`` names ``texts``.
    """

    needs: Sequence[Need] = ()
    trains: bool = True
    orthogonal: bool = False
    texts_a_step: int = 0

    def __init__(self, options: OptionsT) -> None:
        self.options = options

    def write(self, facts: Sequence[Fact], harmless: Sequence[str], chance: random.Random) -> Sequence[Text]:
        """Makes up the texts from which the steps draw; called once, for a method that needs ``texts``.

        Args:
            facts: what the forget captions that the run sees tell.
            harmless: the forget pictures' generic captions and the retain captions that the run sees.
            chance: drives all draws.
        """
        raise TypeError(f"{type(self).__name__} needs texts and writes none")

    def start(self, model: nn.Module, look: Look) -> None:
        """Called once before the first step, and again where a killed run goes on, with the original each time.

        May keep what it needs of the original, look at data, and change the weights in place; must do the same each
        time. Of the weights only ``trained_weights(model)`` are the method's to change.
        """

    def loss(self, step: Step) -> Tensor:
        """The scalar that this step minimises."""
        raise TypeError(f"{type(self).__name__} has no loss")

    def after_step(self, model: nn.Module) -> None:
        """Called after each step of the optimiser, e.g. to hold weights where they were."""

    def finish(self, model: nn.Module, generator: torch.Generator) -> None:
        """Called once after the last step, e.g. to publish with noise; may change the weights in place.

        Args:
            generator: a CPU generator, so that what is drawn does not depend on the device.
        """


def trained_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that the run's scope leaves to a method, by name, in the model's order."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


@torch.enable_grad()
def gradient_sums(
    model: nn.Module, look: Look, *losses: Callable[[Step], Tensor], power: int = 1
) -> list[dict[str, Tensor]]:
    """For each loss the sum over a look's steps of its gradient, to the ``power``, by each trained weight's name."""
    sums = [{name: torch.zeros_like(weight) for name, weight in trained_weights(model).items()} for _ in losses]
    for step in look():
        for total, loss in zip(sums, losses, strict=True):
            for part, gradient in zip(total.values(), step.gradient(loss(step)), strict=True):
                part.add_(gradient**power)
    return sums


@dataclass(frozen=True)
class MethodEntry:
    """A registered method with what ``salmubench methods`` shows of it."""

    name: str
    summary: str
    citation: str
    build: type[Method[Any]]
    options: type
    variant_of: str | None = None

    @property
    def source_sha256(self) -> str:
        """SHA-256 of the file that the method stands in; of its functions' text where it was typed into a notebook."""
        try:
            return sha256_file(Path(inspect.getfile(self.build)))
        except (OSError, TypeError):
            functions = [part for part in vars(self.build).values() if inspect.isfunction(part)]
        try:
            return hashlib.sha256("".join(map(inspect.getsource, functions)).encode()).hexdigest()
        except OSError:  # typed at a bare prompt, which keeps no text
            return ""

    def parse(self, settings: Mapping[str, str]) -> Any:
        """Turns ``--set key=value`` texts into the method's options.

        Raises:
            UserError: an option that the method does not have (near names are listed), or a value that does not fit.
        """
        return parse_options(self.options, settings, owner=f"method {self.name!r}")

    def option_help(self) -> dict[str, str]:
        """Each option with its default and what it means, e.g. ``{"epsilon": "5.0: privacy budget"}``."""
        return option_help(self.options)


@dataclass(frozen=True)
class RetainOptions:
    """How much the terms on retain pairs count."""

    retain: Annotated[float, Field(ge=0, description="weight of the terms on retain pairs")] = 1.0


methods: Registry[MethodEntry] = Registry("method", "salmubench.unlearning.methods")

M = TypeVar("M", bound=type[Method[Any]])


def method(
    name: str, *, summary: str, citation: str, options: type = NoOptions, variant_of: str | None = None
) -> Callable[[M], M]:
    """Registers the decorated ``Method`` subclass under ``name``.

    Args:
        summary: one line for people: what is minimised.
        citation: where the method comes from.
        options: a frozen dataclass, every field with a default, ``Annotated[..., pydantic.Field(description=...)]``.
        variant_of: the method of which this is another reading.
    """

    def register(cls: M) -> M:
        unknown = set(cls.needs) - set(get_args(Need))
        if unknown:
            raise UserError(f"method {name!r} needs {min(unknown)!r}: choose from {', '.join(get_args(Need))}")
        methods.add(name, MethodEntry(name, summary, citation, cls, options, variant_of), source=cls)
        return cls

    return register


_clip_loss = ClipLoss()


def clip_loss(features: Features) -> Tensor:
    """CLIP's symmetric cross-entropy over the batch (open_clip's own ``ClipLoss``): picture i belongs to caption i."""
    loss: Tensor = _clip_loss(features.image, features.text, features.logit_scale)
    return loss


def similarity_mse(similarity: Tensor, target: Tensor) -> Tensor:
    """MSE between two cosine matrices, picture-to-text plus text-to-picture, hence twice the mean squared difference.

    The SALMUBench authors' code sums both directions (github.com/lluisgomez/MultiDelete, vl_unlearn/task_unlearn.py);
    the factor sets how strongly this term weighs against embedding terms.
    """
    return 2 * nn.functional.mse_loss(similarity, target)


def erasure(features: Features) -> Tensor:
    """``similarity_mse`` of a batch's whole cosine matrix and 0: what DELETE and CLIPErase do to forget pairs."""
    return similarity_mse(features.similarity, torch.zeros_like(features.similarity))


def embedding_mse(features: Features, original: Features) -> Tensor:
    """MSE of the picture embeddings plus MSE of the text embeddings, each a mean over the b x d entries."""
    mse = nn.functional.mse_loss
    return mse(features.image, original.image) + mse(features.text, original.text)
