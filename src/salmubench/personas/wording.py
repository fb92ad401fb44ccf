"""Where the captions of the sensitive pictures come from: what stage 5 takes and gives, and the sources by name.

As with faces and pictures (``source.py``), a file of ``sources/`` holds a source: a frozen dataclass of its options and
a class decorated with ``@caption_source(...)``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from salmubench.dataset.schema import Field, Style
from salmubench.personas.captions import sensitive_captions
from salmubench.personas.identities import Persona
from salmubench.personas.source import SourceSpec
from salmubench.progress import Progress, silent
from salmubench.registry import Registry

Part = tuple[Persona, Sequence[Field]]
"""A person and the field that each of the person's pictures tells."""


@dataclass(frozen=True)
class Caption:
    """A caption of a sensitive picture.

    Attributes:
        text: holds the person's name and the fact letter for letter; no final full stop.
        style: one of the five.
        source: who wrote it, ``"grammar"`` or ``"llm:<model>"``.
    """

    text: str
    style: Style
    source: str


class CaptionSource(Protocol):
    """Stage 5.

    Attributes:
        settings: what shapes the captions beside the source's name, for build.json and the manifest.
    """

    settings: Mapping[str, Any]

    def write(
        self, people: Sequence[Part], *, seed: int, scratch: Path | None = None, progress: Progress = silent
    ) -> list[list[Caption]]:
        """One caption for each field of each person; no two of a person are equal.

        Args:
            people: each person with the fields that are asked for, repeated as often as captions are.
            seed: the world's seed.
            scratch: a folder in which a source may keep what must not be done twice when a run was stopped.
            progress: shows a bar.

        Raises:
            UserError: more captions of a field are asked for than there are, or the source cannot be used as set.
            RunError: the disk is full.
        """
        ...

    def trial(self, people: Sequence[Part], *, seed: int) -> float:
        """Seconds that a caption takes at the first try, from some of these.

        Raises:
            UserError: a model is not on this machine, or asking it is not for a trial.
        """
        ...


caption_sources: Registry[SourceSpec[CaptionSource]] = Registry("source of captions", "salmubench.personas.sources")

C = TypeVar("C", bound=type)


def caption_source(name: str, options: type) -> Callable[[C], C]:
    """Registers a class that is made of an instance of ``options`` as a source of captions."""

    def register(source: C) -> C:
        caption_sources.add(name, SourceSpec(name, options, source, (source.__doc__ or "").strip().splitlines()[0]))
        return source

    return register


def by_grammar(people: Sequence[Part], *, seed: int, progress: Progress = silent) -> list[list[Caption]]:
    """The captions of the package's own grammar.

    Raises:
        UserError: more captions of a field are asked for than it has templates.
    """
    captions = []
    with progress("writing captions", sum(len(fields) for _, fields in people)) as advance:
        for persona, fields in people:
            own = sensitive_captions(persona, fields, seed=seed)
            captions.append([Caption(text, style, "grammar") for text, style in own])
            advance(len(fields))
    return captions
