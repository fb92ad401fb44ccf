"""The static site: what it holds, for any subset of what it could have, from hostile input, always the same bytes."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from reports_world import HOSTILE, METHODS, make_reports, make_world
from salmubench.atomic import read_json, write_json
from salmubench.dataset.schema import FIELDS
from salmubench.dataset.store import load_benchmark
from salmubench.errors import UserError
from salmubench.evaluation.report import outcomes_path, read_report
from salmubench.reports.cosines import Cosines, cosines
from salmubench.reports.pages import headline_of
from salmubench.reports.results import arrange
from salmubench.reports.site import build_site
from salmubench.reports.style import NARROW, WIDE, Figure, style

FIGURES = {"leak", "plane", "profile", "fields", "ranks", "cosines", "splits", "persona", "pipeline"}
SEVERAL = {"budgets", "recovery"}
"""Figures that need several budgets, and files of attacks."""
OWN = {"delete-2x-ranks", "delete-2x-cosines"}
"""Figures of the one method's page that has an outcomes file."""
World = tuple[Path, list[Path]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def site(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    data, reports = world
    return build_site(reports, tmp_path_factory.mktemp("site"), data=data).parent


class Page(HTMLParser):
    """Elements, ids and visible text of a page."""

    def __init__(self, page: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def omitted(self) -> int:
        return sum(attributes.get("class") == "omitted" for _, attributes in self.tags)


def strings(site: Path) -> str:
    """All text that the site holds: the page and the figures, attributes included."""
    return "\n".join(
        path.read_text(encoding="utf-8") for path in sorted(site.rglob("*")) if path.suffix in (".html", ".svg")
    )


def figures(site: Path) -> set[str]:
    return {path.stem for path in (site / "figures").glob("*.svg")}


def test_every_figure_is_in_the_page_and_as_files(world: World, site: Path) -> None:
    page = Page(site / "index.html")
    assert page.omitted() == len(SEVERAL)
    assert figures(site) == FIGURES | OWN
    for name in FIGURES | OWN:
        root = ElementTree.parse(site / "figures" / f"{name}.svg").getroot()
        assert root.tag.endswith("svg")
        assert "".join(root.itertext()).strip()
        with Image.open(site / "figures" / f"{name}.png") as picture:
            assert picture.width > 1500
    labels = [attributes.get("aria-label") for tag, attributes in page.tags if tag == "svg" and "role" in attributes]
    verdicts = [report.verdict for path in world[1] if (report := read_report(path)).name in METHODS]
    assert all(verdict and verdict.words in page.text for verdict in verdicts)
    assert len(labels) == 2 * len(FIGURES)
    assert all(label and len(label) > 30 for label in labels)


def test_page_needs_no_network(site: Path) -> None:
    page = Page(site / "index.html")
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "action"):
            target = attributes.get(name)
            assert target is None or re.match(r"#|data:image/|figures/|methods/|table\.", target), (tag, target)
    policy = next(
        a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy.split("script-src")[1]
    assert "@import" not in strings(site)


def test_ids_are_unique_and_references_resolve(site: Path) -> None:
    page = Page(site / "index.html")
    ids = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    sections = {attributes["id"] for tag, attributes in page.tags if tag == "section"}
    links = {str(a["href"])[1:] for t, a in page.tags if t == "a" and str(a.get("href", "")).startswith("#")}
    assert links <= sections
    used = set(re.findall(r"url\(#([^)]+)\)", strings(site))) | {
        str(a["xlink:href"])[1:] for _, a in page.tags if str(a.get("xlink:href", "")).startswith("#")
    }
    assert used <= set(ids) | set(re.findall(r'id="([^"]+)"', strings(site)))
    assert len(ids) == len(set(ids))


def test_same_reports_give_the_same_bytes(world: World, site: Path, tmp_path: Path) -> None:
    data, reports = world
    again = build_site(list(reversed(reports)), tmp_path, data=data).parent
    files = sorted(path.relative_to(site) for path in site.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert all((site / name).read_bytes() == (again / name).read_bytes() for name in files)


def test_no_value_is_readable_unless_asked_for(world: World, site: Path, tmp_path: Path) -> None:
    data, reports = world
    benchmark = load_benchmark(data)
    values = {person[field] for person in benchmark.identities.values() for field in FIELDS if len(person[field]) > 4}
    hidden = strings(site)
    assert not [value for value in values if value in hidden]
    shown = strings(build_site(reports, tmp_path, data=data, show_values=True).parent)
    assert len([value for value in values if value in shown]) >= 8


def test_leak_shows_a_pair_that_compromised_ranks_first_and_clean_does_not(world: World, site: Path) -> None:
    labels = [a["aria-label"] for _, a in Page(site / "index.html").tags if a.get("aria-label")]
    leak = next(label for label in labels if label and "ranks first" in label)
    ranks = [int(rank) for rank in re.findall(r"true caption has rank (\d+)", leak)]
    assert ranks[0] == 1
    assert ranks[1] > 100
    assert "phone" in Page(site / "index.html").text
    assert re.search(r"first for \d+\u00a0% of the forget set, Clean for \d+\u00a0%", Page(site / "index.html").text)
    assert "•" in leak


@pytest.mark.parametrize("kept", [("clean",), ("compromised",), ("delete-2x",), ("clean", "delete-2x", "vlunlearn-2x")])
def test_any_subset_of_reports(world: World, tmp_path: Path, kept: tuple[str, ...]) -> None:
    page = Page(build_site([path for path in world[1] if path.stem in kept], tmp_path))
    rows = [attributes for tag, attributes in page.tags if tag == "th" and attributes.get("scope") == "row"]
    assert len(rows) == 2 * len(kept)
    own = {f"{name}-ranks" for name in kept if f"{name}-ranks" in OWN}
    bounded = {"plane", "cosines"} if {"clean", "compromised"} <= {*kept} else set[str]()
    assert figures(tmp_path) == {"profile", "fields", "ranks", "splits"} | own | bounded


def test_without_data_the_figures_with_pictures_are_left_out_with_a_note(world: World, tmp_path: Path) -> None:
    page = Page(build_site(world[1], tmp_path))
    assert page.omitted() == 3 + len(SEVERAL)
    assert page.text.count("name its folder with --data") == 3
    assert figures(tmp_path) == (FIGURES | OWN) - {"leak", "persona", "pipeline"}


def test_without_methods_and_sidecars(world: World, tmp_path: Path) -> None:
    data, reports = world
    copies = [Path(shutil.copy(path, tmp_path)) for path in reports if path.stem in ("clean", "compromised")]
    page = Page(build_site(copies, tmp_path / "site", data=data))
    assert page.omitted() == 4 + len(SEVERAL)
    assert figures(tmp_path / "site") == FIGURES - {"leak", "plane", "cosines", "ranks"}
    assert page.text.count("outcomes file") == 3


def test_a_skipped_metric_is_a_dash_with_its_reason(world: World, tmp_path: Path) -> None:
    data, _ = world
    reports = make_reports(tmp_path / "reports", load_benchmark(data), skip=("GenKnow", "FragSim"))
    page = Page(build_site(reports, tmp_path / "site"))
    reasons = [a.get("title") for tag, a in page.tags if tag == "td" and a.get("data-value") == ""]
    assert len(reasons) == 2 * len(reports)
    assert set(reasons) == {"the data set has no general_knowledge folder"}


def hostile_reports(world: World, folder: Path) -> list[Path]:
    """The world's bounds with one method for each hostile name, the string in every free place of the report."""
    bounds = [Path(shutil.copy(path, folder)) for path in world[1] if path.stem in ("clean", "compromised")]
    base = read_json(world[1][2])
    paths = []
    for place, text in enumerate(HOSTILE):
        words = {**base["verdict"], "words": text}
        free = {
            "weights_sha256": text,
            "architecture": text,
            "precision": text,
            "device": text,
            "versions": {text: text},
        }
        extra = {text[:40]: {"value": 0.5, "target": "clean", "reason": text}}
        report = {**base, "name": text, "verdict": words, "provenance": {**base["provenance"], **free}}
        paths.append(folder / f"{place}.json")
        write_json(paths[-1], {**report, "metrics": {**base["metrics"], **extra}})
    return [*bounds, *paths]


def test_hostile_strings_stay_text(world: World, tmp_path: Path) -> None:
    page_path = build_site(hostile_reports(world, tmp_path), tmp_path / "site")
    assert not re.search(r"(?<!\\)[<\[`]", (tmp_path / "site" / "table.md").read_text())
    page = Page(page_path)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not [a for _, a in page.tags if any(name.startswith("on") for name in a)]
    images = [str(a.get("xlink:href") or a.get("src")) for tag, a in page.tags if tag in ("img", "image")]
    assert all(target.startswith("data:image/jpeg") for target in images)
    assert "<script>document.title" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert "\u202e" not in page.text
    for path in (tmp_path / "site" / "figures").glob("*.svg"):
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.parse(path).iter()}
        assert not tags & {"script", "img", "foreignObject", "a"}


def test_hostile_data_set_stays_text(world: World, tmp_path: Path) -> None:
    data, reports = world
    copy = Path(shutil.copytree(data, tmp_path / "data"))
    names = copy / "salmubench" / "identities_metadata.json"
    people = read_json(names)
    for place, person in enumerate(people.values()):
        person["name"] = HOSTILE[place % len(HOSTILE)]
        person["job"] = HOSTILE[(place + 1) % len(HOSTILE)]
    (copy / "manifest.json").unlink()
    write_json(names, people)
    moved = []
    for path in reports:
        report = read_json(path)
        report["provenance"]["data_revision"] = load_benchmark(copy).revision
        moved.append(tmp_path / path.name)
        write_json(moved[-1], report)
        if outcomes_path(path).exists():
            shutil.copy(outcomes_path(path), outcomes_path(moved[-1]))
    page = Page(build_site(moved, tmp_path / "site", data=copy, show_values=True))
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not [a for _, a in page.tags if any(name.startswith("on") for name in a)]
    for path in (tmp_path / "site" / "figures").glob("*.svg"):
        ElementTree.parse(path)


def test_forty_reports(world: World, tmp_path: Path) -> None:
    many = {
        f"{name.removesuffix('-2x')}-{budget}x": tuple(value * (0.75 + 0.025 * budget) for value in values)
        for name, values in METHODS.items()
        for budget in (1, 2, 5, 10)
    }
    reports = make_reports(tmp_path / "reports", load_benchmark(world[0]), methods=many, sidecars=False)
    page = Page(build_site(reports, tmp_path / "site"))
    rows = [a for tag, a in page.tags if tag == "th" and a.get("scope") == "row"]
    assert len(rows) == 2 * (len(many) + 2)
    assert all(f"delete\u00a0{budget}×" in page.text for budget in (1, 2, 5, 10))


def test_wrong_data_folder_and_broken_files_are_refused_in_one_sentence(world: World, tmp_path: Path) -> None:
    data, reports = world
    other = Path(shutil.copytree(data, tmp_path / "data"))
    manifest = read_json(other / "manifest.json")
    write_json(other / "manifest.json", {**manifest, "facts": {"preset": "another"}})
    with pytest.raises(UserError, match="is not the data that 'clean' was measured on"):
        build_site(reports, tmp_path / "site", data=other)
    bad = Path(shutil.copy(reports[0], tmp_path))
    outcomes_path(bad).write_bytes(b"no parquet")
    compromised = next(path for path in reports if path.stem == "compromised")
    with pytest.raises(UserError, match=r"clean\.outcomes\.parquet: not a sidecar"):
        build_site([bad, compromised], tmp_path / "site")
    with pytest.raises(UserError, match="no report to show"):
        build_site([], tmp_path / "site")
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize(
    ("methods", "headline"),
    [
        ((), "What a model knows that it should not"),
        (("vlunlearn-2x",), "The run forgets and keeps the rest"),
        (("delete-2x",), "The run is over-generalised"),
        (("delete-2x", "finetuning-2x"), "None of 2 runs forgets and keeps the rest"),
        (("delete-2x", "vlunlearn-2x"), "1 of 2 runs forgets and keeps the rest"),
    ],
)
def test_headline_says_what_came_out(world: World, methods: tuple[str, ...], headline: str) -> None:
    reports = [read_report(path) for path in world[1] if path.stem in ("clean", "compromised", *methods)]
    assert headline_of(arrange(reports)) == headline


@settings(max_examples=25, deadline=None)
@given(st.floats(-0.9, 0.9), st.floats(-0.9, 0.9), st.sampled_from([WIDE, NARROW]))
def test_names_of_the_hills_stay_apart_and_inside(clean: float, compromised: float, width: float) -> None:
    spread = np.linspace(-0.05, 0.05, 9)
    panels = {key: Cosines(clean + spread, compromised + spread) for key in ("AssocStr", "IntraIdSim", "InterIdSim")}
    figure = cosines(panels)
    assert isinstance(figure, Figure)
    with style("test"):
        canvas = figure.draw(width)
        renderer = FigureCanvasAgg(canvas).get_renderer()
        for axes in canvas.axes:
            frame = axes.get_window_extent(renderer)
            boxes = [text.get_window_extent(renderer) for text in axes.texts]
            assert not boxes[0].overlaps(boxes[1])
            assert all(frame.x0 - 3 <= box.x0 and box.x1 <= frame.x1 + 3 for box in boxes)
