"""Captions from the package's own grammar."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from salmubench.options import NoOptions
from salmubench.personas.wording import Caption, Part, by_grammar, caption_source
from salmubench.progress import Progress, silent


@caption_source("grammar", NoOptions)
class GrammarCaptions:
    """Templates in five styles, from the package's own grammar: quick, the same everywhere, no model."""

    def __init__(self, options: NoOptions) -> None:
        self.settings: Mapping[str, Any] = {}

    def write(
        self, people: Sequence[Part], *, seed: int, scratch: Path | None = None, progress: Progress = silent
    ) -> list[list[Caption]]:
        """See ``CaptionSource``."""
        return by_grammar(people, seed=seed, progress=progress)

    def trial(self, people: Sequence[Part], *, seed: int) -> float:
        """See ``CaptionSource``."""
        by_grammar(people[:1], seed=seed)  # what is unfolded once
        started = time.perf_counter()
        by_grammar(people, seed=seed)
        return (time.perf_counter() - started) / sum(len(fields) for _, fields in people)
