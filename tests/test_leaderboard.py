"""Entries and the site: what may stand in one table, what is refused, and that hostile text stays text."""

import csv
import io
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leaderboard_world import WHO, changed, some_entries, some_reports
from reports_world import HOSTILE, METHODS
from salmubench.atomic import read_json, sha256_file, write_json
from salmubench.cli import app
from salmubench.errors import UserError
from salmubench.reports.leaderboard.entry import entry_schema, read_entry
from salmubench.reports.leaderboard.published import ROWS
from salmubench.reports.leaderboard.site import build
from salmubench.reports.leaderboard.submit import submit
from salmubench.reports.leaderboard.tables import literal

PUBLISHED_SCHEMA = Path(__file__).parents[1] / "docs" / "leaderboard.schema.json"
FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", '=HYPERLINK("https://x.example")', "\t=1", "|calc", "%0A")
MARKDOWN = ("[a](javascript:alert)", "![x](https://x.example/p.png)", "a|b", "`code`", "**b**", "www.x.example", "# h")


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return some_reports(tmp_path_factory.mktemp("reports"))


@pytest.fixture
def entries(reports: dict[str, Path], tmp_path: Path) -> Path:
    return some_entries(tmp_path / "entries", reports)


class Page(HTMLParser):
    """Elements with their attributes, and the text, of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def boards(self) -> list[str]:
        return [str(a["id"]) for tag, a in self.tags if tag == "section" and a.get("class") == "board"]


def rows(site: Path, ident: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((site / "tables" / f"{ident}.csv").read_text(encoding="utf-8"))))


def test_the_published_schema_is_current_and_takes_an_entry(entries: Path) -> None:
    assert json.loads(PUBLISHED_SCHEMA.read_text()) == entry_schema()
    for path in entries.glob("*.json"):
        jsonschema.validate(read_json(path), entry_schema())


def test_submit_takes_from_the_report_what_it_can(entries: Path, reports: dict[str, Path]) -> None:
    entry, report = read_entry(entries / "delete-2x.json")
    assert (entry.method, entry.budget, entry.settings, entry.track) == ("delete", 2, "untuned", "standard")
    assert entry.checkpoint.sha256 == report.provenance.weights_sha256
    assert entry.metric_versions == {key: 1 for key in report.metrics}
    assert (entry.state, entry.verified) == ("self-reported", None)
    assert report.provenance.run == {}  # the submitter's command line and memory are nobody's business


def test_submit_names_all_that_is_missing(reports: dict[str, Path], tmp_path: Path, capsys: Any) -> None:
    bare = tmp_path / "bare.json"
    content = read_json(reports["delete-2x"])
    content["provenance"]["unlearning"] = None
    write_json(bare, content)
    with pytest.raises(UserError) as error:
        submit(bare, tmp_path / "entry.json")
    for flag in ("--method", "--budget", "--set or --untuned", "--author", "--checkpoint"):
        assert flag in str(error.value)
    assert not (tmp_path / "entry.json").exists()
    named = ["--method", "mine", "--budget", "1", "--set", "margin=0.2", "--author", "Ada", "--checkpoint", "weights"]
    app(["leaderboard", "submit", str(bare), "--out", str(tmp_path / "entry.json"), *named], standalone_mode=False)
    said = capsys.readouterr().out
    assert "no paper is named (--paper)" in said
    assert "the open track" in said
    entry, _ = read_entry(tmp_path / "entry.json")
    assert (entry.track, entry.settings) == ("open", {"margin": "0.2"})


def test_what_a_record_has_set_is_tuned(tmp_path: Path) -> None:
    record = {"method": "delete", "options": {"retain": 2.0}, "budget": 2, "learning_rate": 1e-4, "batch_size": 32}
    made = some_reports(tmp_path / "reports", unlearning=record)
    folder = some_entries(tmp_path / "entries", made)
    assert read_entry(folder / "delete-2x.json")[0].settings == {"learning_rate": 1e-4, "retain": 2.0}
    changed(folder / "delete-2x.json", lambda entry: entry.update(settings="untuned"))
    with pytest.raises(UserError, match=r"says untuned, and its run's record has learning_rate, retain set"):
        read_entry(folder / "delete-2x.json")


REFUSED = {
    "touched a holdout": lambda e: e["report"]["provenance"].update(touched_holdout=True),
    "other weights": lambda e: e["checkpoint"].update(sha256="0" * 64),
    "data revision or metric versions": lambda e: e.update(data_revision="sha256:b"),
    "metric versions are not those": lambda e: e["metric_versions"].update(RetFail=2),
    "measured on 50 rows": lambda e: e["report"]["provenance"].update(limit=50),
    "lacks RetFail": lambda e: (e["report"]["metrics"].pop("RetFail"), e["metric_versions"].pop("RetFail")),
    "standard track needs the record": lambda e: e["report"]["provenance"].update(touched_holdout=None),
    "has the budget 2": lambda e: e.update(budget=1),
    "no cosine or share": lambda e: e["report"]["metrics"]["AssocStr"].update(value=1e308),
    r"\(paper": lambda e: e.update(paper="javascript:alert(1)"),
    r"\(code": lambda e: e.update(code="https://good.example@bad.example/"),
    r"\(code: ": lambda e: e.update(code="https://x.example/\"onload=alert(1)"),
    r"checkpoint\.reference": lambda e: e["checkpoint"].update(reference="javascript:alert(1)"),
    "reference: .*neither": lambda e: e["checkpoint"].update(reference="../../secret"),
    r"\(method": lambda e: e.update(method="m" * 81),
    "method: .*shows nothing": lambda e: e.update(method="\u200b\u3164\u2800 "),
    r"\(surprise": lambda e: e.update(surprise=1),
    r"\(settings": lambda e: e.update(settings={}),
    "half a surrogate pair": lambda e: e["report"]["provenance"]["unlearning"].update(summary="\ud800"),
}  # fmt: skip


@pytest.mark.parametrize("words", REFUSED)
def test_an_unfit_entry_is_refused_in_one_sentence(entries: Path, tmp_path: Path, words: str) -> None:
    content = read_json(entries / "delete-2x.json")
    REFUSED[words](content)
    (entries / "delete-2x.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=words) as error:
        build(entries, tmp_path / "site")
    assert "delete-2x.json" in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "site").exists()


def test_size_and_depth_are_bounded(entries: Path, tmp_path: Path) -> None:
    path = entries / "delete-2x.json"
    whole = path.read_text()
    for text, words in (
        ("[" * 100_000, "not valid JSON"),
        ("[" * 40 + "]" * 40, "deeper than any entry"),
        (whole + " " * (5 << 20), "larger than any entry"),
        (whole.replace('"budget": 2.0', '"budget": NaN'), "budget"),
        (whole.replace('"budget": 2.0', '"budget": 1' + "0" * 5000), "not valid JSON"),
    ):
        assert text != whole
        path.write_text(text)
        with pytest.raises(UserError, match=words):
            read_entry(path)


def test_a_linked_report_stays_in_the_folder(reports: dict[str, Path], tmp_path: Path) -> None:
    folder, secret = tmp_path / "entries", tmp_path / "secret.json"
    (folder / "reports").mkdir(parents=True)
    secret.write_bytes(reports["delete-2x"].read_bytes())
    (folder / "reports" / "delete.json").write_bytes(secret.read_bytes())
    entry = folder / "delete.json"
    submit(folder / "reports" / "delete.json", entry, link=True, **WHO)
    assert read_json(entry)["report"]["path"] == "reports/delete.json"
    assert read_entry(entry)[1].name == "delete-2x"
    with pytest.raises(UserError, match="does not lie in the entry's folder"):
        submit(secret, entry, link=True, **WHO)
    (folder / "link.json.txt").symlink_to(secret)
    (folder / "out").symlink_to(tmp_path, target_is_directory=True)
    for named in ("../secret.json", str(secret), "link.json.txt", "out/secret.json", "reports/../../secret.json",
                  "..\\secret.json", "C:secret.json", "a\u0000b"):  # fmt: skip
        bad = changed(entry, lambda e, named=named: e["report"].update(path=named), tmp_path / "entries" / "bad.json")
        with pytest.raises(UserError, match="leads out of its folder"):
            read_entry(bad)
    os.mkfifo(folder / "pipe")
    with pytest.raises(UserError, match="not an ordinary file"):
        read_entry(changed(entry, lambda e: e["report"].update(path="pipe"), folder / "bad.json"))
    (folder / "bad.json").unlink()
    (folder / "bad.json").symlink_to(entry)
    with pytest.raises(UserError, match="not an ordinary file"):
        build(folder, tmp_path / "site")
    (folder / "bad.json").unlink()
    (folder / "reports" / "delete.json").write_text(secret.read_text() + " ")
    with pytest.raises(UserError, match="not the report that it was made with"):
        read_entry(entry)


def test_what_cannot_be_compared_never_shares_a_table(reports: dict[str, Path], tmp_path: Path) -> None:
    folder = some_entries(tmp_path / "entries", reports)
    other = some_reports(tmp_path / "other", revision="sha256:" + "b" * 64)
    submit(other["delete-2x"], folder / "other-data.json", **WHO)
    submit(other["vlunlearn-2x"], folder / "open.json", track="open", **WHO)
    tuned = {"method": "delete", "options": {}, "budget": 2, "learning_rate": 1e-3, "batch_size": 32}
    moved = some_reports(tmp_path / "moved", unlearning=tuned)
    submit(moved["delete-2x"], folder / "tuned.json", **WHO)

    def second_version(entry: dict[str, Any]) -> None:
        entry["metric_versions"]["ACS"] = entry["report"]["metrics"]["ACS"]["version"] = 2

    def with_option(entry: dict[str, Any]) -> None:
        entry["report"]["metrics"]["ACS"]["options"] = {"feature": "product"}

    changed(folder / "delete-2x.json", second_version, folder / "version.json")
    changed(folder / "delete-2x.json", with_option, folder / "option.json")
    page, _ = build(folder, tmp_path / "site")
    boards = Page(page).boards()
    sizes = {ident: len([row for row in rows(page.parent, ident) if row["verdict"]]) for ident in boards}
    assert sorted(sizes.values()) == [1, 1, 1, 1, 1, 7, 9]  # 7: the paper's
    assert boards[-1] == "published"
    main = rows(page.parent, boards[0])
    assert [row["method"] for row in main[:2]] == ["Clean", "Compromised"]
    assert {row["method"] for row in main[2:]} == {name.removesuffix("-2x") for name in METHODS}
    unjudged = [ident for ident in boards if rows(page.parent, ident)[0]["verdict"] == "not judged"]
    assert len(unjudged) == 4  # no bound is of their data, metric versions and options
    assert sum("-tuned-" in ident for ident in boards) == 1


def test_verdicts_are_ours_and_not_the_entrys(entries: Path, tmp_path: Path) -> None:
    def boast(entry: dict[str, Any]) -> None:
        entry["report"]["verdict"].update(label="forgets", failure_modes=[], leakage_reduction=1.0)

    changed(entries / "generic-captions-2x.json", boast)
    page, _ = build(entries, tmp_path / "site")
    verdicts = {row["method"]: row["verdict"] for row in rows(page.parent, Page(page).boards()[0])}
    assert verdicts["generic-captions"] == "ineffective"
    assert verdicts["vlunlearn"] == "forgets"
    assert verdicts["Clean"] == ""


def test_the_papers_rows_are_marked_and_as_published(entries: Path, tmp_path: Path) -> None:
    page, _ = build(entries, tmp_path / "site")
    table = rows(page.parent, "published")
    assert {row["state"] for row in table} == {"published, not re-run"}
    found = {row["method"]: tuple(float(row[key]) for key in ("RetFail", "GenKnow", "InterIdSim", "IntraIdSim"))
             for row in table}  # fmt: skip
    assert {name.casefold(): values for name, values in ROWS.items()} == {
        name.casefold(): values for name, values in found.items()
    }
    assert {row["method"]: row["verdict"] for row in table}["Shuffled Captions"] == "catastrophic, over-generalised"
    assert "published, not re-run" in Page(page).text


def test_two_bounds_of_the_same_data_are_refused(entries: Path, tmp_path: Path) -> None:
    (entries / "again.json").write_bytes((entries / "clean.json").read_bytes())
    with pytest.raises(UserError, match=r"again-\w+ and clean-\w+ are both clean of the same data"):
        build(entries, tmp_path / "site")
    with pytest.raises(UserError, match="was not unlearned"):
        read_entry(changed(entries / "clean.json", lambda e: e.update(budget=1)))


def test_the_site_is_the_same_again_and_forgets_what_is_gone(entries: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    build(entries, site)
    (site / "CNAME").write_text("board.example")
    (site / "entries" / "mine.txt").write_text("kept")
    before = {path.relative_to(site): path.read_bytes() for path in site.rglob("*") if path.is_file()}
    build(entries, site)
    assert before == {path.relative_to(site): path.read_bytes() for path in site.rglob("*") if path.is_file()}
    (entries / "delete-2x.json").unlink()
    build(entries, site)
    gone = before.keys() - {path.relative_to(site) for path in site.rglob("*")}
    assert {path.suffix for path in gone} == {".html", ".json"}
    assert all(path.name.startswith("delete-2x-") for path in gone)
    with pytest.raises(UserError, match="is the folder of the entries"):
        build(entries, entries)
    with pytest.raises(UserError, match="holds no entry"):
        build(tmp_path, site)


def test_pages_link_to_each_other_and_need_no_network(entries: Path, tmp_path: Path) -> None:
    changed(entries / "delete-2x.json", lambda e: e.update(paper="https://arxiv.org/abs/2503.23751"))
    page, _ = build(entries, tmp_path / "site")
    outside = set()
    for path in page.parent.rglob("*.html"):
        for tag, attributes in Page(path).tags:
            assert "src" not in attributes
            target = str(attributes.get("href") or "")
            if target.startswith("https://"):
                outside.add(target)
                assert tag == "a"
                assert "noreferrer" in str(attributes["rel"])
            elif target:
                assert (path.parent / target).is_file()
    assert outside == {"https://arxiv.org/abs/2603.26316", "https://arxiv.org/abs/2503.23751"}
    linked = {a["href"] for tag, a in Page(page).tags if tag == "a" and str(a.get("href")).startswith("entries/")}
    assert len(linked) == len(METHODS) + 2


def hostile(text: str) -> Any:
    """Puts ``text`` wherever an entry takes one."""

    def change(entry: dict[str, Any]) -> None:
        short = text[:80] or "x"
        entry.update(method=short, authors=[text[:200], "Bo"], settings={text[:200]: text[:200]})
        origin = entry["report"]["provenance"]
        origin.update(architecture=text, data=text, precision=text, device=text, association_split=text)
        origin["unlearning"].update(summary=text, citation=text)
        entry["report"].update(name=text)
        entry["report"]["metrics"]["GenKnow"] = {"value": None, "target": "compromised", "reason": text}
        origin["data_revision"] = entry["data_revision"] = text[:200]

    return change


def test_hostile_strings_stay_text(entries: Path, tmp_path: Path) -> None:
    attacks = [*HOSTILE, *FORMULAS, *MARKDOWN]
    base = read_json(entries / "delete-2x.json")
    for place, text in enumerate(attacks):
        content = json.loads(json.dumps(base))
        hostile(text)(content)
        (entries / f"{place}.json").write_text(json.dumps(content))
    odd = entries / "<img src=x onerror=alert(1)>=cmd'\".json"
    odd.write_text((entries / "0.json").read_text())
    page, _ = build(entries, tmp_path / "site")
    plain = build(some_entries(tmp_path / "tame", some_reports(tmp_path / "r")), tmp_path / "plain")[0]
    usual = {tag for path in plain.parent.rglob("*.html") for tag, _ in Page(path).tags}
    for path in page.parent.rglob("*"):
        assert re.fullmatch(r"[a-z0-9.-]+", path.name)
        if path.suffix == ".html":
            found = Page(path)
            assert {tag for tag, _ in found.tags} <= usual | {"li", "ul"}
            assert not [a for _, a in found.tags if any(name.startswith("on") for name in a)]
            assert not re.search(r"[\u202a-\u202e\u0000-\u0008]", found.text)
            assert sum(tag == "script" for tag, _ in found.tags) == (2 if path == page else 0)
        elif path.suffix == ".csv":
            for row in csv.reader(io.StringIO(path.read_text(encoding="utf-8"))):
                assert not [cell for cell in row[:5] if cell[:1] in tuple("=+-@\t\r|%")]
        elif path.suffix == ".md":
            lines = path.read_text(encoding="utf-8").splitlines()
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
            assert not re.search(r"(?<!\\)[<\[`]", path.read_text(encoding="utf-8"))
        elif path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))


@settings(max_examples=100, deadline=None)
@given(st.text("ab |<>`[]()*_\\@.:/#~!$&{}whtps", max_size=30))
def test_markdown_shows_any_text_as_it_is(text: str) -> None:
    shown = literal(text)
    assert re.sub(r"\\(.)", r"\1", shown) == text
    unescaped = re.sub(r"\\.", "", shown)
    assert not set(unescaped) & set("|<>`[]()*_\\@#~!$&{}")
    assert not re.search(r"https?:|www\.", unescaped)


def test_a_stamp_counts_only_for_the_entry_that_was_verified(entries: Path, tmp_path: Path) -> None:
    from salmubench.reports.leaderboard.entry import Verification, write_entry

    path = entries / "delete-2x.json"
    entry, _ = read_entry(path)
    stamp = Verification(entry_sha256=entry.digest(), date="2026-11-28", salmubench="0.1.0", device="cpu", limit=None,
                         seed=42, touched_holdout=False, numbers={}, differences=[])  # fmt: skip
    stamped = entry.model_copy(update={"verified": stamp})
    write_entry(stamped, path)
    assert build(entries, tmp_path / "trusting")[1] == 1
    assert "verified in full" in Page(tmp_path / "trusting" / "index.html").text
    key, other = b"k" * 32, b"o" * 32
    assert build(entries, tmp_path / "site", key=key)[1] == 0
    boards = Page(tmp_path / "site" / "index.html").boards()
    assert {row["state"] for row in rows(tmp_path / "site", boards[0])} == {"self-reported"}
    sealed = stamped.model_copy(update={"verified": stamp.model_copy(update={"seal": stamped.seal(key)})})
    write_entry(sealed, path)
    assert read_entry(path)[0].is_sealed(key)
    assert not read_entry(path)[0].is_sealed(other)
    build(entries, tmp_path / "site", key=key)
    states = {row["method"]: row["state"] for row in rows(tmp_path / "site", boards[0])}
    assert states["delete"] == "verified in full"
    forged = sealed.model_copy(update={"verified": sealed.verified.model_copy(update={"device": "cuda"})})  # type: ignore[union-attr]
    assert not forged.is_sealed(key)
    changed(path, lambda e: e["report"]["metrics"]["AssocStr"].update(value=0.2))
    with pytest.raises(UserError, match="was changed after it was verified"):
        build(entries, tmp_path / "site")


def test_the_sha_of_a_linked_report_is_that_of_its_bytes(reports: dict[str, Path], tmp_path: Path) -> None:
    report = tmp_path / "delete.report"
    report.write_bytes(reports["delete-2x"].read_bytes())
    submit(report, tmp_path / "entry.json", link=True, **WHO)
    assert read_json(tmp_path / "entry.json")["report"]["sha256"] == sha256_file(report)
