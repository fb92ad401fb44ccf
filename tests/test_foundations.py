"""The small shared ideas: registries, seeds, atomic files, the pool of jobs, the report schema, the presets."""

import importlib
import json
import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from salmubench.atomic import alone, read_json, replacing, require_writable, write_json
from salmubench.errors import RunError, UserError
from salmubench.evaluation.report import report_schema
from salmubench.jobs import Job, Pool, apart, cores
from salmubench.presets import preset
from salmubench.progress import Progress
from salmubench.registry import Registry
from salmubench.seeds import derive, generator
from salmubench.unlearning.method import Features, Method, Step, method, methods

PUBLISHED_SCHEMA = Path(__file__).parents[1] / "docs" / "report.schema.json"


def test_a_wrong_name_lists_the_near_ones_and_a_wild_one_lists_all() -> None:
    with pytest.raises(UserError, match="'finetuning'"):
        methods["fine-tuning"]
    with pytest.raises(UserError, match="choose from cliperase, cliperase-ce, delete"):
        methods["qqqqqqqq"]


def test_two_entries_cannot_share_a_name() -> None:
    registry: Registry[int] = Registry("thing", "salmubench.unlearning.methods")
    registry.add("one", 1)
    with pytest.raises(ValueError, match="two things"):
        registry.add("one", 2)


def test_what_is_typed_again_in_a_notebook_takes_the_formers_place() -> None:
    registry: Registry[int] = Registry("thing", "salmubench.unlearning.methods")

    def typed(name: str, module: str = "__main__") -> type:
        return type(name, (), {"__module__": module})

    registry.add("one", 1, source=typed("Mine"))
    registry.add("one", 2, source=typed("Mine"))
    assert registry["one"] == 2
    for other in (typed("Other"), typed("Mine", "package"), None):
        with pytest.raises(ValueError, match="two things"):
            registry.add("one", 3, source=other)
    registry.add("shipped", 1, source=typed("Mine", "package"))
    with pytest.raises(ValueError, match="two things"):
        registry.add("shipped", 2, source=typed("Mine"))


@given(seed=st.integers(0, 2**31), names=st.lists(st.one_of(st.text(max_size=8), st.integers(0, 99)), min_size=1))
def test_a_purpose_has_its_own_stream_whatever_others_draw(seed: int, names: list[str | int]) -> None:
    alone = generator(seed, *names).random(3)
    generator(seed, "another purpose").random(1000)
    np.testing.assert_array_equal(generator(seed, *names).random(3), alone)
    assert derive(seed, *names) != derive(seed, *names, "more")


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    write_json(target, {"old": True})

    def write_half() -> None:
        with replacing(target) as temporary:
            temporary.write_text("half of")
            raise ValueError("half-way")

    with pytest.raises(ValueError, match="half-way"):
        write_half()
    assert read_json(target) == {"old": True}
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_a_failed_write_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"x\.json: could not be written"), replacing(tmp_path / "x.json"):
        raise OSError(28, "No space left on device")


def test_a_file_in_the_way_is_the_user_s_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"x\.json: cannot be written here"):
        write_json(tmp_path / "file" / "x.json", {})
    with pytest.raises(UserError, match=r"file: cannot be written to"), alone(tmp_path / "file"):
        pass


def test_no_file_takes_the_place_of_a_device_or_pipe(tmp_path: Path) -> None:
    """As root a rename onto /dev/null would succeed."""
    os.mkfifo(tmp_path / "pipe")
    for write in (lambda path: write_json(path, {}), require_writable):
        with pytest.raises(UserError, match="pipe: is a device or a pipe, and a file is to be written; choose"):
            write(tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()
    assert len(list(tmp_path.iterdir())) == 1


def test_a_name_may_be_as_long_as_the_disk_takes_it(tmp_path: Path) -> None:
    write_json(tmp_path / ("ü" * 120 + ".json"), {})
    for write in (lambda path: write_json(path, {}), require_writable):
        with pytest.raises(
            UserError, match=r"ü\.json: cannot be written here \(File name too long\); choose another path"
        ):
            write(tmp_path / ("ü" * 126 + ".json"))
    assert [len(path.name) for path in tmp_path.iterdir()] == [125]


def test_a_folder_is_filled_by_one_at_a_time(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with alone(out), pytest.raises(UserError, match="out: another process is writing here"), alone(out):
        pass
    with alone(out):
        assert not list(out.iterdir())


def test_not_a_number_is_refused_in_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "x.json", {"value": float("nan")})
    assert not list(tmp_path.iterdir())


def test_broken_json_is_named(tmp_path: Path) -> None:
    for content in ("{", "[" * 100_000):
        (tmp_path / "x.json").write_text(content)
        with pytest.raises(UserError, match=r"x\.json: not valid JSON"):
            read_json(tmp_path / "x.json")
    with pytest.raises(UserError, match="cannot be read"):
        read_json(tmp_path)


def square(number: int, seconds: float, progress: Progress) -> tuple[int, int]:
    with progress("squaring", 2) as advance:
        time.sleep(seconds)
        advance(2)
    return number * number, os.getpid()


def fail(progress: Progress) -> None:
    raise UserError("x: wrong; mend it")


def test_jobs_run_in_other_processes_and_keep_their_order() -> None:
    with Pool(2) as pool:
        jobs = [Job(str(n), square, {"number": n, "seconds": 0.3 - n / 10}) for n in range(3)]
        values = pool.run("squares", jobs)
    assert [value for value, _ in values] == [0, 1, 4]
    assert os.getpid() not in {process for _, process in values}


def share(progress: Progress) -> tuple[int, int, str]:
    return cores(), torch.get_num_threads(), os.environ["SALMUBENCH_TOLD"]


def test_a_job_has_its_share_of_the_cores_and_the_environment_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    for told in ("once", "twice"):
        monkeypatch.setenv("SALMUBENCH_TOLD", told)
        found = dict(apart("shares", [Job("", share)] * 2, workers=2, threads=3))
        assert found == {0: (3, 3, told), 1: (3, 3, told)}
    assert cores() == len(os.sched_getaffinity(0))


def die(progress: Progress) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_one_sentence() -> None:
    with Pool(2) as pool, pytest.raises(RunError, match=r"squaring: .*killed"):
        pool.run("squaring", [Job("", die), Job("", square, {"number": 2, "seconds": 0.0})])


def test_a_job_s_error_reaches_the_caller_as_it_is() -> None:
    with Pool(1) as pool, pytest.raises(UserError, match="x: wrong; mend it"):
        pool.run("failing", [Job("", fail)])


def test_the_published_report_schema_is_the_code_s() -> None:
    """Write it anew with: python -c "import json; from salmubench.evaluation.report import report_schema; ..."."""
    assert json.loads(PUBLISHED_SCHEMA.read_text()) == report_schema()


def test_an_unknown_preset_lists_those_that_are_there() -> None:
    with pytest.raises(UserError, match="tiny, mini"):
        preset("giant")


def test_the_readme_s_method_runs_as_it_stands_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    code = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    assert code is not None
    (tmp_path / "push_apart.py").write_text(code[1])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(methods, "_entries", dict(methods._entries))
    importlib.import_module("push_apart")
    entry = methods["push-apart"]
    image, text = torch.eye(2, 3), torch.eye(2, 3).flip(0)
    step = Step({"forget": Features(image, text, torch.tensor(1.0))}, torch.tensor([1, 0]), 0.0)
    assert entry.build(entry.parse({})).loss(step) == 0
    before = entry.source_sha256
    (tmp_path / "push_apart.py").write_text(code[1] + "\n# edited\n")
    assert entry.source_sha256 != before


def test_a_method_that_does_not_import_or_needs_what_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_methods").mkdir()
    (tmp_path / "broken_methods" / "__init__.py").write_text("")
    (tmp_path / "broken_methods" / "mine.py").write_text("@method('mine')\nclass Mine: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    broken: Registry[int] = Registry("method", "broken_methods")
    for _ in range(2):
        with pytest.raises(UserError, match=r"broken_methods/mine\.py: does not import .*'method' is not defined"):
            broken.names()
    with pytest.raises(UserError, match="needs 'forgot': choose from forget"):
        method("mine", summary="", citation="")(type("Mine", (Method,), {"needs": ("forgot",)}))


def test_the_readme_links_to_files_that_are_there() -> None:
    root = Path(__file__).parents[1]
    for page in [root / "README.md", root / "CONTRIBUTING.md", *root.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
