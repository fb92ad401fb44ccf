"""Where people's faces and pictures come from: what stages 1 and 2 take and give, and the sources by name.

A file of ``sources/`` holds a source: a frozen dataclass of its options and a class decorated with
``@anchor_source(...)`` or ``@portrait_source(...)``. Nothing else is needed: the build, the command line and the tests
find the file by themselves.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from salmubench.options import parse_options
from salmubench.progress import Progress
from salmubench.registry import Registry

Gender = Literal["female", "male"]


@dataclass(frozen=True)
class Anchor:
    """What the later stages need to know of any face; a source adds what its pictures are made of.

    Attributes:
        identity_id: eight digits.
        gender: what the name and the captions agree with.
    """

    identity_id: str
    gender: Gender

    @property
    def demographics(self) -> dict[str, str]:
        """What the person's pictures must agree with, e.g. ``{"gender": "female", "skin": "tan"}``."""
        return {"gender": self.gender}


class Picture(Protocol):
    """One picture of a person, known before a pixel is drawn.

    Attributes:
        file_name: ``<identity>_<picture>_ar-<w/h>.jpg``.
        traits: what it shows, kind -> words, as ``captions.generic_caption`` takes them.
    """

    @property
    def anchor(self) -> Anchor: ...
    @property
    def file_name(self) -> str: ...
    @property
    def traits(self) -> Mapping[str, str]: ...


class AnchorSource(Protocol):
    """Stage 1. ``avoid`` are the set's own people, ``beside`` others who were sampled before."""

    def sample(
        self,
        count: int,
        *,
        seed: int,
        purpose: str,
        avoid: Sequence[Anchor] = (),
        beside: Sequence[Anchor] = (),
        first_id: int = 0,
        progress: Progress = ...,
    ) -> Sequence[Anchor]:
        """So many people, whose ids count up from ``first_id``.

        Raises:
            UserError: the source has not so many.
        """
        ...

    def work(self, people: int) -> int:
        """Things that are looked at for so many people: the faces that are sampled, the photographs of a folder."""
        ...

    def trial(self, *, seed: int) -> tuple[Sequence[Anchor], float]:
        """A few people, and the seconds that one of the things looked at took.

        Raises:
            UserError: a model is not on this machine.
        """
        ...

    def facts(self) -> dict[str, Any]:
        """What the manifest records of the source beyond its options."""
        ...


class PortraitSource(Protocol):
    """Stage 2.

    Attributes:
        licence: of the pictures, for the manifest and the cards.
        at_once: pictures that ``draw`` makes together; their bytes may depend on the company.
    """

    licence: str
    at_once: int

    def plan(self, anchor: Anchor, *, seed: int, picture: int, long_side: int) -> Picture:
        """Picture number ``picture`` (1 to 999) of a person, not yet drawn.

        Raises:
            UserError: the source cannot draw people of this kind.
        """
        ...

    def batches(self, pictures: Sequence[Any]) -> Iterator[list[Any]]:
        """The pictures in groups that ``draw`` takes: a function of the pictures alone."""
        ...

    def draw(self, pictures: Sequence[Any], *, seed: int) -> list[bytes]:
        """A group's pictures as JPEG, in order; the same group gives the same bytes on the same device."""
        ...

    def trial(self, people: Sequence[Any], *, seed: int, long_side: int) -> tuple[float, float]:
        """Seconds and bytes of a picture, from a few pictures of some people.

        Raises:
            UserError: a model is not on this machine.
        """
        ...


S = TypeVar("S")


@dataclass(frozen=True)
class SourceSpec(Generic[S]):
    """A source by name.

    Attributes:
        options: the frozen dataclass of its options, every field with a default.
        factory: makes the source of an instance of ``options``.
        summary: first line of the class's docstring.
    """

    name: str
    options: type
    factory: Callable[[Any], S]
    summary: str


anchor_sources: Registry[SourceSpec[AnchorSource]] = Registry("source of anchors", "salmubench.personas.sources")
portrait_sources: Registry[SourceSpec[PortraitSource]] = Registry("source of portraits", "salmubench.personas.sources")

C = TypeVar("C", bound=type)


def _register(registry: Registry[Any], name: str, options: type) -> Callable[[C], C]:
    def register(source: C) -> C:
        registry.add(name, SourceSpec(name, options, source, (source.__doc__ or "").strip().splitlines()[0]))
        return source

    return register


def anchor_source(name: str, options: type) -> Callable[[C], C]:
    """Registers a class that is made of an instance of ``options`` as a source of anchors."""
    return _register(anchor_sources, name, options)


def portrait_source(name: str, options: type) -> Callable[[C], C]:
    """Registers a class that is made of an instance of ``options`` as a source of portraits."""
    return _register(portrait_sources, name, options)


def open_source(registry: Registry[SourceSpec[S]], name: str, settings: Mapping[str, Any], *, prefix: str) -> S:
    """Makes a source of its name and of those of the ``settings`` that begin with ``prefix``, e.g. ``"portraits."``.

    Raises:
        UserError: there is no such source or option, or a value does not fit.
    """
    spec = registry[name]
    own = {key.removeprefix(prefix): value for key, value in settings.items() if key.startswith(prefix)}
    return spec.factory(parse_options(spec.options, own, owner=f"{registry.kind} {name!r}", prefix=prefix))
