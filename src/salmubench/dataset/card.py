"""Cards: README.md in the hub's format and croissant.json for both parquet folders, credits beside the shards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData

from salmubench.atomic import write_json, write_text
from salmubench.dataset.croissant import croissant
from salmubench.dataset.manifest import read_manifest
from salmubench.dataset.pictures import open_parquet
from salmubench.dataset.schema import (
    CAPTIONS_FILE,
    FRAGILE_IDS_FILE,
    FRAGILE_SIMILARITIES_FILE,
    GENERIC_CAPTIONS_FILE,
    IDENTITIES_FILE,
)
from salmubench.dataset.store import load_split, split_files
from salmubench.errors import UserError

VERSION = "1.0.0"
LICENCE_LINKS = {
    "mit": "https://opensource.org/licenses/MIT",
    "cc-by-sa-4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
}
DRAWN = "- Portraits are drawn with [python-avatars](https://github.com/ibonn/python_avatars) (MIT licence)."
ICONS = """- Pictures of general things show emojis designed by [OpenMoji](https://openmoji.org), the open-source emoji
  and icon project (CC BY-SA 4.0); put on varied backgrounds, turned and scaled. They lie in `retain_real/` and
  `general_knowledge/` and may be passed on under CC BY-SA 4.0 only."""
WRITTEN = "- Captions and personal data are written by a program and are free to use under the MIT licence."
FICTITIOUS = "Every person in it is **fictitious**: names, addresses, numbers and faces are drawn by a program."
PHOTOGRAPHED = """Names, addresses and numbers are **fictitious**: a program drew them. The faces come from a folder of
photographs; who chose it answers for it that they are nobody's who did not agree."""

_MEANINGS = {
    "forget": "what a method must forget; it may see these",
    "holdout_association": "facts of people in `forget` that nobody asked to delete; evaluation only",
    "holdout_identity": "people wholly held out; evaluation only",
    "retain_synth": "generic captions without personal data; a method may see these",
    "sensitive": "all sensitive pairs: forget and both holdouts; trained into Compromised alone",
}
_SIDE_FILES = (
    (IDENTITIES_FILE, "identity -> name, country and the eight facts"),
    (CAPTIONS_FILE, "picture -> field, caption and style of its sensitive caption"),
    (GENERIC_CAPTIONS_FILE, "picture -> its generic caption"),
    (FRAGILE_SIMILARITIES_FILE, "picture without identity -> image-text cosine under Compromised (once scored)"),
    (FRAGILE_IDS_FILE, "the weakest 5 % of them (once scored)"),
)
_FOLDERS: Mapping[str, Mapping[str, Any]] = {
    "salmubench": {
        "title": "SALMUBench, a made world: evaluation set",
        "summary": "Pictures of people with one sensitive fact each, split into what a CLIP-style encoder must forget "
        "and what it must keep: the evaluation half of a benchmark of association-level unlearning.",
        "splits": ("forget", "holdout_association", "holdout_identity", "retain_synth"),
        "side_files": _SIDE_FILES,
        "rules": "A method starts from the Compromised model and sees `forget` and retain data, never a holdout.",
    },
    "salmu": {
        "title": "SALMUBench, a made world: training set",
        "summary": "Pictures of people with one sensitive fact each, and generically captioned pictures: what the "
        "Clean and the Compromised model of a benchmark of association-level unlearning differ in and what they share.",
        "splits": ("sensitive", "retain_synth"),
        "side_files": (),
        "rules": "`sensitive` holds the holdouts too: it trains Compromised and must never reach an unlearning method.",
    },
}
_SIZE_CATEGORIES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))


@dataclass(frozen=True)
class _Credits:
    """Where a data set's contents come from, and the licences that follow from it."""

    people: str
    lines: str
    licences: tuple[str, ...]


def _credits(facts: Mapping[str, Any]) -> _Credits:
    """By what the manifest says of sources, licences and writers; by default all is drawn and written by programs."""
    sources = facts.get("sources", {})
    drawn = sources.get("portraits", "procedural") == "procedural"
    models = sorted(writer.partition(":")[2] for writer in facts.get("captions", {}) if writer.startswith("llm:"))
    portraits = DRAWN if drawn else f"- Portraits: {facts.get('licences', ['made by a model; see its licence'])[0]}."
    captions = (
        f"- Captions are paraphrases by {', '.join(models)}, whose terms hold for them; personal data are written by a "
        "program and are free to use under the MIT licence."
    )
    return _Credits(
        people=FICTITIOUS if sources.get("anchors", "procedural") == "procedural" else PHOTOGRAPHED,
        lines="\n".join((portraits, ICONS, captions if models else WRITTEN)),
        licences=("mit", "cc-by-sa-4.0") if drawn and not models else ("other", "cc-by-sa-4.0"),
    )


def _split_facts(folder: Path, split: str) -> dict[str, Any]:
    """Rows, identities and bytes of a split; pictures are not read."""
    pairs, _ = load_split(folder, split)
    files = [open_parquet(path).metadata for path in split_files(folder, split)]
    return {
        "name": split,
        "rows": len(pairs),
        "identities": len(set(pairs.identity_id) - {None}) or "-",
        "meaning": _MEANINGS[split],
        "num_bytes": sum(
            file.row_group(group).total_byte_size for file in files for group in range(file.num_row_groups)
        ),
        "download": sum(path.stat().st_size for path in split_files(folder, split)),
    }


def _card_data(title: str, licences: Sequence[str], splits: Sequence[Mapping[str, Any]]) -> DatasetCardData:
    """The YAML head: by it the hub and ``datasets.load_dataset`` know splits, files and features."""
    rows = sum(split["rows"] for split in splits)
    text = {"dtype": "string"}
    return DatasetCardData(
        pretty_name=title,
        language=["en"],
        license=list(licences),
        task_categories=["zero-shot-image-classification", "image-feature-extraction"],
        tags=["machine-unlearning", "privacy", "clip", "synthetic"],
        size_categories=[next((label for limit, label in _SIZE_CATEGORIES if rows < limit), "100K<n<1M")],
        annotations_creators=["machine-generated"],
        source_datasets=["original"],
        dataset_info={
            "features": [
                {"name": "image", "dtype": "image"},
                *({"name": name} | text for name in ("text", "identity_id", "file_name")),
            ],
            "splits": [
                {"name": split["name"], "num_bytes": split["num_bytes"], "num_examples": split["rows"]}
                for split in splits
            ],
            "download_size": sum(split["download"] for split in splits),
            "dataset_size": sum(split["num_bytes"] for split in splits),
        },
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": split["name"], "path": f"data/{split['name']}-*"} for split in splits],
            }
        ],
    )


def _write_folder_cards(folder: Path, facts: Mapping[str, Any]) -> None:
    about, made_of = _FOLDERS[folder.name], _credits(facts)
    splits = [_split_facts(folder, split) for split in about["splits"]]
    card = DatasetCard.from_template(
        _card_data(about["title"], made_of.licences, splits),
        template_path=str(Path(__file__).with_name("card.md.jinja")),
        title=about["title"],
        summary=about["summary"],
        rules=about["rules"],
        side_files=about["side_files"],
        splits=splits,
        folder=folder.name,
        people=made_of.people,
        licences=made_of.lines,
        **{key: facts.get(key, "not recorded") for key in ("preset", "seed", "association_split")},
    )
    write_text(folder / "README.md", str(card))
    write_json(
        folder / "croissant.json",
        croissant(
            folder.name,
            " ".join(f"{about['summary']} {made_of.people} {made_of.lines}".replace("**", "").split()),
            splits={split["name"]: split["meaning"] for split in splits},
            licences=[LICENCE_LINKS[name] for name in made_of.licences if name in LICENCE_LINKS],
            version=VERSION,
        ),
    )


def write_cards(data: Path, *, facts: Mapping[str, Any] | None = None) -> list[Path]:
    """Writes README.md and croissant.json into ``salmubench/`` and ``salmu/``, credits into the two shard folders.

    Cards are no data: they do not stand in the manifest, and writing them anew leaves the data set's revision alone.

    Args:
        data: the data set folder.
        facts: preset, seed, association_split, sources, captions and licences; by default those of the manifest.

    Returns:
        The files written.

    Raises:
        UserError: there is no data set folder, or a split is missing or damaged.
    """
    if not any((data / name).is_dir() for name in _FOLDERS):
        raise UserError(f"{data}: not a data set folder (no {' or '.join(_FOLDERS)} in it); check the path")
    if facts is None:
        manifest = read_manifest(data)
        facts = manifest.facts if manifest else {}
    written: list[Path] = []
    for name in _FOLDERS:
        if (data / name).is_dir():
            _write_folder_cards(data / name, facts)
            written += [data / name / "README.md", data / name / "croissant.json"]
    for name in ("retain_real", "general_knowledge"):
        if (data / name).is_dir():
            write_text(data / name / "README.md", f"# {name}\n\n{_credits(facts).lines}\n")
            written.append(data / name / "README.md")
    return written
