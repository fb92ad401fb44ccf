"""What a data set folder promises (benchmark.md, section 2): each promise is a generator of offenders, a sentence each.

A promise that has no offender is kept. ``check.py`` runs them.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from math import ceil

from salmubench.atomic import sha256_file
from salmubench.dataset import sides
from salmubench.dataset.manifest import data_files
from salmubench.dataset.pictures import PictureStore
from salmubench.dataset.retain import read_classification, shard_sizes
from salmubench.dataset.schema import (
    CAPTIONS_FILE,
    EVALUATION_SPLITS,
    FIELDS,
    FRAGILE_IDS_FILE,
    FRAGILE_SIMILARITIES_FILE,
    GENERIC_CAPTIONS_FILE,
    IDENTITIES_FILE,
    SENSITIVE_SPLITS,
)
from salmubench.dataset.splits import choose_fragile, fragile_count, group_sizes
from salmubench.dataset.store import derive_sets, load_split
from salmubench.dataset.subject import Line, NothingToCheck, Subject, decode_all

Promise = Callable[[Subject], Iterator[str]]
PROMISES: dict[str, tuple[str, Promise]] = {}
"""Name -> (the promise in words, its offenders), in the order of checking."""


def _promise(name: str, words: str) -> Callable[[Promise], Promise]:
    def register(promise: Promise) -> Promise:
        PROMISES[name] = (words, promise)
        return promise

    return register


@_promise("hashes", "every data file is the one that the manifest describes, and none stands outside it")
def _hashes(subject: Subject) -> Iterator[str]:
    if subject.dataset is None or subject.manifest is None:
        raise NothingToCheck("there is no manifest.json")
    present = {path.relative_to(subject.dataset).as_posix() for path in data_files(subject.dataset)}
    for name, entry in subject.manifest.files.items():
        if name not in present:
            yield f"{name} stands in the manifest but is missing"
        elif sha256_file(subject.dataset / name) != entry.get("sha256"):
            yield f"{name} has another SHA-256 than the manifest states"
    for name in sorted(present - set(subject.manifest.files)):
        yield f"{name} does not stand in the manifest"


@_promise("counts", "the sets have the numbers of rows that the manifest states")
def _counts(subject: Subject) -> Iterator[str]:
    stated = subject.manifest.facts.get("counts") if subject.manifest else None
    if not isinstance(stated, Mapping):
        raise NothingToCheck("no manifest states counts")
    found = {name: len(pairs) for name, pairs in (dict(subject.splits) | derive_sets(subject.splits)).items()}
    found["sensitive"] = sum(found[split] for split in SENSITIVE_SPLITS)
    found["identities"] = len(set.union(*(subject.people(split) for split in SENSITIVE_SPLITS)))
    if subject.dataset and (subject.dataset / "retain_real").is_dir():
        found["retain_real"] = len(subject.shard_captions)
    if subject.dataset and (subject.dataset / "general_knowledge").is_dir():
        knowledge, _ = read_classification(subject.dataset / "general_knowledge")
        found["general_knowledge"], found["general_classes"] = len(knowledge), len(knowledge.class_names)
    for name in sorted(set(stated) & set(found)):
        if stated[name] != found[name]:
            yield f"{name} counts {found[name]} where the manifest states {stated[name]}"


@_promise("pictures", "every picture decodes")
def _pictures(subject: Subject) -> Iterator[str]:
    for decoded in subject.decoded.values():
        if decoded.broken:
            yield decoded.broken


@_promise("file names", "every file name occurs once over the four splits")
def _file_names(subject: Subject) -> Iterator[str]:
    seen: dict[str, str] = {}
    for line in subject.lines(*EVALUATION_SPLITS):
        if line.file_name in seen:
            yield f"{line.file_name} stands in {seen[line.file_name]} and again in {line.split}"
        seen[line.file_name] = line.split


@_promise("identities", "every sensitive row has a person, and nobody who is wholly held out has a row elsewhere")
def _identities(subject: Subject) -> Iterator[str]:
    for line in subject.lines(*SENSITIVE_SPLITS):
        if line.identity_id is None:
            yield f"{line.split}, {line.file_name} has no identity_id"
    held_out = subject.people("holdout_identity")
    for line in subject.lines("forget", "holdout_association"):
        if line.identity_id in held_out:
            yield f"{line.split}, {line.file_name} shows {line.identity_id}, who is wholly held out"
    for who in sorted(subject.people("holdout_association") - subject.people("forget")):
        yield f"{who} has rows in holdout_association but none in forget"


@_promise("pairs", "no picture and no caption of a person stands in two sensitive splits")
def _pairs(subject: Subject) -> Iterator[str]:
    pictures: dict[bytes, Line] = {}
    captions: dict[tuple[str | None, str], Line] = {}
    for split in SENSITIVE_SPLITS:
        for line, digest in zip(subject.lines(split), subject.decoded[split].digests, strict=True):
            twin = pictures.setdefault(digest, line)
            if twin.split != split:
                yield f"{split}, {line.file_name} holds the same picture as {twin.split}, {twin.file_name}"
            twin = captions.setdefault((line.identity_id, line.text), line)
            if twin.split != split:
                yield f"{split}, {line.file_name} holds the same caption as {twin.split}, {twin.file_name}"


@_promise("proportions", "identities fall 50 % (halved) / 25 % (forgotten) / 25 % (held out)")
def _proportions(subject: Subject) -> Iterator[str]:
    halved, held_out = subject.people("holdout_association"), subject.people("holdout_identity")
    whole = subject.people("forget") - halved
    found = (len(halved), len(whole), len(held_out))
    if found != group_sizes(sum(found)):
        yield f"identities fall {found} where {sum(found)} of them should fall {group_sizes(sum(found))}"


def _halves_by_pair(subject: Subject) -> Iterator[str]:
    counts: dict[str | None, list[int]] = defaultdict(lambda: [0, 0])
    for line in subject.lines("forget", "holdout_association"):
        counts[line.identity_id][line.split != "forget"] += 1
    for who in sorted(subject.people("holdout_association")):
        forgotten, kept = counts[who]
        if forgotten - kept not in (0, 1):
            yield f"{who} has {forgotten} pairs in forget and {kept} in holdout_association, which are no halves"


def _halves_by_field(subject: Subject) -> Iterator[str]:
    fields: dict[str | None, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    for line in subject.lines("forget", "holdout_association"):
        if line.file_name in subject.captions:
            fields[line.identity_id][line.split != "forget"].add(subject.captions[line.file_name].data_field)
    for who in sorted(subject.people("holdout_association")):
        forgotten, kept = fields[who]
        if forgotten & kept:
            yield f"the field {min(forgotten & kept)!r} of {who} stands in forget and in holdout_association"
        if len(forgotten) != ceil(len(forgotten | kept) / 2):
            yield f"{who} has {len(forgotten)} fields in forget and {len(kept)} in holdout_association"


@_promise("halves", "a halved person's pairs fall half and half, in the way that the manifest names (else in either)")
def _halves(subject: Subject) -> Iterator[str]:
    ways = {"pair": _halves_by_pair, "field": _halves_by_field}
    named = subject.manifest.facts.get("association_split") if subject.manifest else None
    if named in ways:
        yield from ways[named](subject)
    elif named is not None:
        yield f"the manifest names the association_split {named!r}, which is neither pair nor field"
    elif next(_halves_by_field(subject), None) is not None:
        yield from _halves_by_pair(subject)


@_promise("side files", "the side files speak of exactly the sensitive rows, with the same captions")
def _side_files(subject: Subject) -> Iterator[str]:
    rows = {line.file_name: line for line in subject.lines(*SENSITIVE_SPLITS)}
    for name, line in rows.items():
        if line.identity_id not in subject.identities:
            yield f"{IDENTITIES_FILE} lacks {line.identity_id} of {line.split}, {name}"
        if name not in subject.captions:
            yield f"{CAPTIONS_FILE} lacks {name} of {line.split}"
        elif subject.captions[name].caption != line.text:
            yield f"{CAPTIONS_FILE} has another caption for {name} than {line.split}"
        if name not in subject.generic:
            yield f"{GENERIC_CAPTIONS_FILE} lacks {name} of {line.split}"
    for file, names in ((CAPTIONS_FILE, subject.captions), (GENERIC_CAPTIONS_FILE, subject.generic)):
        for name in sorted(set(names) - set(rows)):
            yield f"{file} speaks of {name}, which is in no sensitive split"


@_promise("captions", "every sensitive caption holds the person's name and the field's value letter for letter")
def _captions(subject: Subject) -> Iterator[str]:
    for line in subject.lines(*SENSITIVE_SPLITS):
        facts, info = subject.identities.get(str(line.identity_id)), subject.captions.get(line.file_name)
        if facts is None or info is None:
            continue  # the promise about the side files names it
        for key in ("name", info.data_field):
            if facts[key] not in line.text:
                yield f"{line.split}, {line.file_name}: {line.text!r} does not hold the {key} {facts[key]!r}"


@_promise("unique people", "names, phone numbers, e-mails, IBANs, cards and passports are one person's each")
def _unique_people(subject: Subject) -> Iterator[str]:
    for key in ("name", "phone_number", "emails", "iban", "credit_card", "passport"):
        owners: dict[str, str] = {}
        for who, facts in subject.identities.items():
            if owners.setdefault(facts[key], who) != who:
                yield f"{owners[facts[key]]} and {who} share the {key} {facts[key]!r}"


class _NameFinder:
    """Finds people's full names in texts; a name is looked for only where its first word stands."""

    def __init__(self, people: Mapping[str, Mapping[str, str]], among: Collection[str]) -> None:
        self._by_first_word: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for who in sorted(among):
            if who in people:
                name = people[who]["name"]
                self._by_first_word[(re.findall(r"\w+", name) or [""])[0]].append((name, who))

    def people(self, text: str) -> Iterator[str]:
        """The identities whose name the text holds."""
        for word in dict.fromkeys(re.findall(r"\w+", text)):
            for name, who in self._by_first_word.get(word, ()):
                if name in text:
                    yield who


def _retained(subject: Subject) -> Iterator[tuple[str, str]]:
    """(where, caption) of everything retained that a method may see."""
    for line in subject.lines("retain_synth"):
        yield f"{line.split}, {line.file_name}", line.text
    for name, caption in subject.generic.items():
        yield f"{GENERIC_CAPTIONS_FILE}, {name}", caption
    if subject.dataset and (subject.dataset / "retain_real").is_dir():
        for key, caption in subject.shard_captions:
            yield f"retain_real, {key}", caption


@_promise("generic captions", "no generic or retained caption holds the name of a person of the set")
def _generic_captions(subject: Subject) -> Iterator[str]:
    finder = _NameFinder(subject.identities, subject.identities)
    for where, text in _retained(subject):
        for who in finder.people(text):
            yield f"{where}: {text!r} holds the name of {who}"


def _holds(text: str, value: str) -> bool:
    """Whether a text holds a value as whole words: ``B+`` does not stand in ``AB+``."""
    return value in text and re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text) is not None


@_promise("holdouts", "no held-out fact of a person stands in a caption that a method may see")
def _holdouts(subject: Subject) -> Iterator[str]:
    held: dict[str, set[str]] = {who: set(FIELDS) for who in subject.people("holdout_identity")}
    halved: dict[str, set[str]] = defaultdict(set)
    for line in subject.lines("holdout_association"):
        if line.file_name in subject.captions:
            halved[str(line.identity_id)].add(subject.captions[line.file_name].data_field)
    by_field = subject.manifest is not None and subject.manifest.facts.get("association_split") == "field"
    in_forget = held | (dict(halved) if by_field else {})  # halved by pair, both sides tell the same facts by design
    seen = ((f"forget, {line.file_name}", line.text) for line in subject.lines("forget"))
    for fields, captions in ((in_forget, seen), (held | dict(halved), _retained(subject))):
        finder = _NameFinder(subject.identities, fields)
        for where, text in captions:
            for who in finder.people(text):
                facts = subject.identities[who]
                for key in sorted(fields[who]):
                    if _holds(text.replace(facts["name"], " "), facts[key]):
                        yield f"{where}: {text!r} tells the held-out {key} of {who}"


@_promise("fragile set", "the fragile set is the weakest 5 % of retain_disjoint")
def _fragile(subject: Subject) -> Iterator[str]:
    names, similarity = sides.read_fragile_ids(subject.root), sides.read_fragile_similarities(subject.root)
    if names is None:
        raise NothingToCheck(f"there is no {FRAGILE_IDS_FILE}: the set is not scored yet")
    disjoint = set(derive_sets(subject.splits)["retain_disjoint"].file_name)
    for name in names:
        if name not in disjoint:
            yield f"{FRAGILE_IDS_FILE}: {name} is no picture of retain_disjoint"
    if len(set(names)) != fragile_count(len(disjoint)):
        yield f"{FRAGILE_IDS_FILE} names {len(set(names))} pictures where 5 % are {fragile_count(len(disjoint))}"
    if similarity is None:
        return
    for name in sorted(disjoint ^ set(similarity)):
        yield f"{FRAGILE_SIMILARITIES_FILE}: {name} is scored but not in retain_disjoint, or the reverse"
    for name in sorted(set(names) ^ set(choose_fragile(similarity))):
        yield f"{FRAGILE_IDS_FILE}: {name} is not among the weakest, or is missing though it is"


@_promise(
    "training set", "salmu/ holds the union of the sensitive splits and the same retain_synth, picture for picture"
)
def _training(subject: Subject) -> Iterator[str]:
    folder = subject.folder("salmu")
    for split, parts in (("sensitive", SENSITIVE_SPLITS), ("retain_synth", ("retain_synth",))):
        lines = [line for part in parts for line in subject.lines(part)]
        digests = [digest for part in parts for digest in subject.decoded[part].digests]
        expected = {line.file_name: (line, digest) for line, digest in zip(lines, digests, strict=True)}
        pairs, store = load_split(folder, split)
        trained = decode_all(store, f"salmu/{split}", subject.progress).digests
        for name, who, text, digest in zip(pairs.file_name, pairs.identity_id, pairs.text, trained, strict=True):
            line, twin = expected.pop(name, (None, None))
            if line is None:
                yield f"salmu/{split}, {name} is in no evaluation split, or twice in salmu"
            elif (who, text, digest) != (line.identity_id, line.text, twin):
                yield f"salmu/{split}, {name} differs from {line.split} in person, caption or picture"
        for name in expected:
            yield f"salmu/{split} lacks {name} of {expected[name][0].split}"


@_promise("retain shards", "sizes.json counts the pairs of every shard of retain_real/")
def _retain_shards(subject: Subject) -> Iterator[str]:
    folder = subject.folder("retain_real")
    sizes = shard_sizes(folder)
    shards = {path.name for path in folder.glob("*.tar")}
    for name in sorted(shards ^ set(sizes)):
        yield f"retain_real: {name} stands in sizes.json but is missing, or the reverse"
    if len(subject.shard_captions) != sum(sizes.values()):
        yield f"retain_real holds {len(subject.shard_captions)} pairs where sizes.json states {sum(sizes.values())}"


@_promise("general knowledge", "every class of general_knowledge/ has a picture, and every picture decodes")
def _general_knowledge(subject: Subject) -> Iterator[str]:
    knowledge, sources = read_classification(subject.folder("general_knowledge"))
    for label in sorted(set(range(len(knowledge.class_names))) - set(knowledge.label.tolist())):
        yield f"general_knowledge: the class {knowledge.class_names[label]!r} has no picture"
    broken = decode_all(PictureStore(sources), "general_knowledge", subject.progress).broken
    if broken:
        yield broken
