"""Captions by a language model: the grammar's sentence in other words, taken only if name and fact are untouched."""

import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field as Described

from salmubench.atomic import read_json, write_json
from salmubench.dataset.schema import Field, Style
from salmubench.errors import UserError
from salmubench.personas.identities import Persona
from salmubench.personas.wording import Caption, Part, by_grammar, caption_source
from salmubench.personas.writers import EndpointWriter, LocalWriter, Writer
from salmubench.progress import Progress, silent
from salmubench.seeds import derive

STYLE_WORDS: dict[Style, str] = {
    "plain": "a plain everyday sentence with a simple verb",
    "possessive": 'a possessive construction, as in "Ann\'s ... is ..."',
    "formal": "a formal statement that names the kind of document it is taken from",
    "inverted": "an inverted or passive sentence that puts the fact before the name",
    "record": "a short note as in a form or register, with labels instead of a full sentence",
}
"""What the model is told of each style."""

CONTEXT_TOKENS = 75
"""Of CLIP's context of 77 without start and end."""
SPARE = 2
"""Wordings that are asked for beyond those needed: some are refused."""
_SEEDS = 2**31
_MARKS = re.compile(r"^\s*(?:[-*•–]|\(?\d{1,2}[.):])\s+")
_QUOTES = ' "“”«»`'
_TALK = re.compile(
    r"\b(paraphras\w*|rephras\w*|rewrit\w*|rewrote|caption\w*|sentences?|styles?|variations?|sure)\b", re.I
)
_ODD = re.compile(r"[\d*#`<>{}\[\]\\]")


@cache
def _tokenizer() -> Any:
    from open_clip.tokenizer import SimpleTokenizer  # with it comes torch, which a grammar's captions do not need

    return SimpleTokenizer()


@dataclass(frozen=True)
class LLMOptions:
    """Options of ``llm``."""

    model: Annotated[str, Described(description="a folder, a hub id, or the name that the endpoint knows")] = (
        "google/gemma-3-12b-it"
    )
    endpoint: Annotated[str, Described(description="an OpenAI-shaped API instead of transformers, .../v1")] = ""
    retries: Annotated[int, Described(ge=0, description="further tries, each with another seed")] = 2
    batch_size: Annotated[int, Described(ge=1, description="prompts a call")] = 16
    temperature: Annotated[float, Described(gt=0, description="of the sampling")] = 0.8
    max_tokens: Annotated[int, Described(ge=1, description="of an answer")] = 400
    timeout: Annotated[float, Described(gt=0, description="seconds to wait for an endpoint's answer")] = 120.0


@dataclass
class _Request:
    """What is asked of the model for one fact of a person in one style: so many wordings."""

    person: int
    persona: Persona
    field: Field
    style: Style
    draft: str
    places: list[int]
    found: list[str]

    @property
    def missing(self) -> int:
        return len(self.places) - len(self.found)

    @property
    def prompt(self) -> str:
        return (
            f"Write {self.missing + SPARE} different captions that say the same as this one:\n"
            f"{self.draft}\n"
            f"Each is {STYLE_WORDS[self.style]}. Each is one line of at most 30 English words. Each contains exactly "
            f'"{self.persona.name}" and exactly "{self.persona.value(self.field)}", letter for letter. Add no other '
            "fact, name or number. End without a full stop. Answer with the captions alone, one a line."
        )

    def seed(self, world: int, attempt: int) -> int:
        return derive(world, "llm captions", self.persona.identity_id, self.field, self.style, attempt) % _SEEDS


@caption_source("llm", LLMOptions)
class LLMCaptions:
    """Paraphrases by a language model, through transformers or an OpenAI-shaped endpoint, else by the grammar."""

    def __init__(self, options: LLMOptions) -> None:
        self.options = options
        # Where the model lies or runs is no property of the captions, and nobody else's business.
        self.model = Path(options.model).name if Path(options.model).is_dir() else options.model
        shaping = {key: value for key, value in asdict(options).items() if key not in ("endpoint", "timeout")}
        self.settings: Mapping[str, Any] = {"caption_options": shaping | {"model": self.model}}

    @cached_property
    def _writer(self) -> Writer:
        ours = self.options
        if ours.endpoint:
            return EndpointWriter(
                ours.endpoint,
                ours.model,
                temperature=ours.temperature,
                max_tokens=ours.max_tokens,
                timeout=ours.timeout,
            )
        return LocalWriter(ours.model, temperature=ours.temperature, max_tokens=ours.max_tokens)

    def write(
        self, people: Sequence[Part], *, seed: int, scratch: Path | None = None, progress: Progress = silent
    ) -> list[list[Caption]]:
        """See ``CaptionSource``. What no try yields is the grammar's sentence."""
        captions = by_grammar(people, seed=seed)
        taken = [{caption.text.casefold() for caption in own} for own in captions]
        requests = list(_requests(people, captions))
        for attempt in range(self.options.retries + 1):
            pending = [request for request in requests if request.missing]
            if not pending:
                break
            bar = "writing captions" if not attempt else f"writing captions, try {attempt + 1}"
            with progress(bar, len(pending)) as advance:
                for start in range(0, len(pending), self.options.batch_size):
                    batch = pending[start : start + self.options.batch_size]
                    for request, answer in zip(batch, self._answers(batch, seed, attempt, scratch), strict=True):
                        _take(request, answer or "", taken[request.person])
                    advance(len(batch))
        for request in requests:
            for place, text in zip(request.places, request.found, strict=False):
                captions[request.person][place] = Caption(text, request.style, f"llm:{self.model}")
        return captions

    def trial(self, people: Sequence[Part], *, seed: int) -> float:
        """Seconds that a caption takes at the first try: a batch is asked for on a GPU, one answer on a CPU.

        Raises:
            UserError: the model is not on this machine, or is an endpoint's.
        """
        if self.options.endpoint:
            raise UserError(f"{self.options.endpoint} is not asked for an estimate; time some captions of its own")
        import torch

        requests = list(_requests(people, by_grammar(people, seed=seed)))
        batch = requests[: self.options.batch_size if torch.cuda.is_available() else 1]
        writer = self._writer
        started = time.perf_counter()
        writer.ask([request.prompt for request in batch], [request.seed(seed, 0) for request in batch])
        each = (time.perf_counter() - started) / len(batch)
        return each * len(requests) / sum(len(request.places) for request in requests)

    def _answers(
        self, batch: Sequence[_Request], seed: int, attempt: int, scratch: Path | None
    ) -> Sequence[str | None]:
        """The model's answers, or those that a stopped run got to the same batch."""
        prompts = [request.prompt for request in batch]
        seeds = [request.seed(seed, attempt) for request in batch]
        if scratch is None:
            return self._writer.ask(prompts, seeds)
        asked = json.dumps([self.settings, prompts, seeds])
        known = scratch / f"{hashlib.sha256(asked.encode()).hexdigest()}.json"
        if not known.is_file():
            write_json(known, self._writer.ask(prompts, seeds))
        answers: list[str | None] = read_json(known)
        return answers


def _requests(people: Sequence[Part], drafts: Sequence[Sequence[Caption]]) -> Iterator[_Request]:
    """One request for each fact of a person in each style that the grammar gives it."""
    for person, ((persona, fields), own) in enumerate(zip(people, drafts, strict=True)):
        groups: dict[tuple[Field, Style], _Request] = {}
        for place, (field, draft) in enumerate(zip(fields, own, strict=True)):
            blank = _Request(person, persona, field, draft.style, draft.text, [], [])
            groups.setdefault((field, draft.style), blank).places.append(place)
        yield from groups.values()


def _take(request: _Request, answer: str, taken: set[str]) -> None:
    """Keeps the answer's lines that pass, as many as are missing."""
    for line in answer.splitlines():
        text = tidy(line)
        if request.missing and text.casefold() not in taken and acceptable(text, request.persona, request.field):
            request.found.append(text)
            taken.add(text.casefold())


def tidy(line: str) -> str:
    """A line of an answer without list mark, quotation marks, doubled spaces and final full stop."""
    return " ".join(_MARKS.sub("", line).strip(_QUOTES).split()).removesuffix(".").strip(_QUOTES)


def acceptable(text: str, persona: Persona, field: Field) -> bool:
    """Whether ``text`` tells the fact: name and value once, letter for letter, no other number, no talk, not long."""
    rest = text
    for told in (persona.value(field), persona.name):
        parts = _standing_alone(told).split(rest)
        if len(parts) != 2:
            return False
        rest = " ".join(parts)
    return (
        text.isprintable()
        and text[-1] not in ".:,;!?"
        and re.search(r"[A-Za-z]{2}", rest) is not None
        and not _ODD.search(rest)
        and not _TALK.search(rest)
        and len(_tokenizer().encode(text)) <= CONTEXT_TOKENS
    )


def _standing_alone(told: str) -> re.Pattern[str]:
    """Finds ``told`` where no letter or digit goes on with it: ``A+`` is not in ``AA+``, nor a card in a longer one."""
    return re.compile(rf"(?<![\w@+])(?<!\d )(?<!\w[.-]){re.escape(told)}(?![\w@+])(?! \d)(?![.-]\w)")
