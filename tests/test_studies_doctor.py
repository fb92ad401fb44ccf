"""What `doctor` says of a machine, of the hub and of a preset's time."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from hub_server import Hub, serving
from salmubench.cli import app
from salmubench.dataset.retain import shard_sizes
from salmubench.errors import UserError
from salmubench.jobs import cores
from salmubench.personas.plan import expected_counts
from salmubench.presets import PRESETS, Preset
from salmubench.progress import duration
from salmubench.studies import forecast as forecasting
from salmubench.studies import machine as machines
from salmubench.studies.doctor import doctor
from salmubench.studies.forecast import Pace, forecast, measure, training_pairs
from salmubench.studies.machine import OFFICIAL, USES, ask_hub, examine, unmet


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def online(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)


def test_the_hub_that_holds_the_official_data_is_reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Hub({f"datasets/{OFFICIAL}": {"README.md": b"data"}})) as hub:
        online(monkeypatch, hub.url)
        answer = ask_hub()
    assert (answer.state, answer.address, answer.note) == ("reachable", hub.url, "")
    assert answer.seconds is not None


def test_a_hub_without_the_data_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Hub({})) as hub:
        online(monkeypatch, hub.url)
        answer = ask_hub()
    assert answer.state == "refused"
    assert "401" in answer.note
    assert OFFICIAL in answer.note


@pytest.fixture
def mute() -> Iterator[str]:
    """The address of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_mute_hub_is_given_up_in_time(mute: str, monkeypatch: pytest.MonkeyPatch) -> None:
    online(monkeypatch, mute)
    began = time.monotonic()
    assert ask_hub(0.5).state == "unreachable"
    assert time.monotonic() - began < 3


def test_an_offline_user_is_taken_at_her_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody may ask there
    answer = ask_hub()
    assert (answer.state, answer.seconds) == ("offline", None)


def test_unmet_names_what_is_missing_or_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = ["torch>=2", "numpy>=999", "no-such-package>=1; extra == 'scale'", "rich; extra == 'track'"]
    monkeypatch.setattr(machines, "requires", lambda name: listed)
    (old,) = unmet()
    assert old.startswith("numpy>=999 (is ")
    assert unmet("scale") == ("no-such-package>=1",)
    assert unmet("track") == ()


def test_a_machine_is_described_whole() -> None:
    found = examine()
    assert found.devices[0].name == "cpu"
    assert f"{cores()} cores" in found.devices[0].description
    assert 0 < found.memory_free <= found.memory
    assert all(0 < disk.free <= disk.bytes and Path(disk.folder).is_dir() for disk in found.disks)
    assert [extra.name for extra in found.extras] == list(USES)
    assert found.hub.state == "offline"
    assert found.unmet == ()


def test_memory_is_the_containers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "max").write_text("max\n")
    (tmp_path / "limit").write_text(f"{16 << 30}\n")
    monkeypatch.setattr(machines, "LIMITS", (tmp_path / "none", tmp_path / "max", tmp_path / "limit"))
    monkeypatch.setattr(machines.psutil, "virtual_memory", lambda: SimpleNamespace(total=64 << 30, available=60 << 30))
    found = examine()
    assert found.memory == 16 << 30
    assert found.memory_free < 16 << 30


def test_a_caches_size_is_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf" / "segment").write_bytes(b"x" * 1000)
    (tmp_path / "link").symlink_to("shelf/segment")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert {cache.name: cache.bytes for cache in examine().caches}["hub"] == 1000


def stepping(monkeypatch: pytest.MonkeyPatch, seconds: Callable[[int], float]) -> Callable[[int], None]:
    """A step that takes so long by the clock that a trial reads."""
    now = 0.0

    def step(pairs: int) -> None:
        nonlocal now
        now += seconds(pairs)

    clock = SimpleNamespace(process_time=lambda: now, perf_counter=lambda: now)
    monkeypatch.setattr(forecasting, "time", clock)
    return step


@given(
    fixed=st.floats(0, 2), each=st.floats(1e-3, 1), most=st.integers(2, 5000), device=st.sampled_from(["cpu", "cuda"])
)
def test_a_trial_tells_a_whole_steps_pace(fixed: float, each: float, most: int, device: str) -> None:
    """A fixed time and one a pair are told apart; of a step that outlasts the limit, all is the pairs'."""
    with pytest.MonkeyPatch.context() as patch:
        found = measure(stepping(patch, lambda pairs: fixed + each * pairs), most, 1.0, device=device)
    assert isinstance(found, Pace)
    timed_once = fixed + 2 * each > 0.5
    whole = (fixed + 2 * each) / 2 if timed_once else (fixed + each * most) / most
    share = cores() if device == "cpu" else 1
    assert found.seconds * share == pytest.approx(whole, rel=1e-6)
    assert found.batch <= most


def test_a_trial_stays_within_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def seconds(pairs: int) -> float:
        if pairs > 8:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return 0.01

    assert measure(stepping(monkeypatch, seconds), 100, 1.0, device="cuda") == Pace(pytest.approx(0.01 / 8), 8)

    def never(pairs: int) -> float:
        raise MemoryError

    assert measure(stepping(monkeypatch, never), 100, 1.0, device="cuda") == "memory does not hold 2 pairs a step"

    def broken(pairs: int) -> float:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        measure(stepping(monkeypatch, broken), 100, 1.0, device="cuda")


def test_training_is_counted_as_it_is_done(world: Path, micro: Preset) -> None:
    def rows(split: str) -> int:
        return sum(pq.read_metadata(path).num_rows for path in (world / "salmu" / "data").glob(f"{split}-*.parquet"))

    counts = expected_counts(micro.world, 42, "pair")
    retain = rows("retain_synth") + sum(shard_sizes(world / "retain_real").values())
    assert training_pairs(micro, counts) == {"clean": 2 * retain, "compromised": 2 * (retain + rows("sensitive"))}


def test_a_presets_foreign_pairs_are_counted() -> None:
    counts = expected_counts(PRESETS["small"].world, 42, "pair")
    retain = 1_280_000 + counts["retain_synth"]
    assert training_pairs(PRESETS["small"], counts)["clean"] == 10 * retain
    assert "1,280,000 pairs of --retain" in forecast("small", trial=False).stages[1].note


def test_a_preset_is_tried_and_scaled(micro: Preset) -> None:
    found = forecast(micro)
    assert all(stage.seconds is not None and stage.seconds > 0 for stage in found.stages)
    assert found.seconds == pytest.approx(sum(stage.seconds or 0 for stage in found.stages))
    clean, compromised = found.stages[1:3]
    assert (clean.seconds or 0) / clean.work == pytest.approx((compromised.seconds or 0) / compromised.work)
    assert found.bytes


def test_a_model_that_memory_does_not_hold_has_no_time(micro: Preset) -> None:
    huge = {**micro.pretraining.model, "text_cfg": {**micro.pretraining.model["text_cfg"], "vocab_size": 10**12}}
    found = forecast(replace(micro, pretraining=replace(micro.pretraining, model=huge)))
    assert found.stages[0].seconds is not None
    assert all(stage.seconds is None and "GB of memory" in stage.note for stage in found.stages[1:])
    assert found.seconds is None


def test_without_a_trial_every_time_is_unknown() -> None:
    found = doctor(trial=False).forecasts
    assert [each.preset for each in found] == list(PRESETS)
    assert {stage.seconds for each in found for stage in each.stages} == {None}
    with pytest.raises(UserError, match="no preset 'huge'"):
        doctor(["mini", "huge"])


def test_the_command_line_prints_tables_and_json() -> None:
    shown = CliRunner().invoke(app, ["doctor", "--preset", "tiny", "--no-trial"], env={"COLUMNS": "160"})
    assert shown.exit_code == 0, shown.exception
    assert all(words in shown.output for words in ("torch", "free", "HF_HUB_OFFLINE", "unknown"))
    told = CliRunner().invoke(app, ["doctor", "--preset", "tiny", "--json"])
    assert told.exit_code == 0, told.exception
    content = json.loads(told.stdout)
    assert content["machine"]["hub"]["state"] == "offline"
    (tiny,) = content["forecasts"]
    assert tiny["seconds"] == pytest.approx(sum(stage["seconds"] for stage in tiny["stages"]))


def test_a_missing_package_is_told_and_ends_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "requires", lambda name: ["no-such-package>=1"])
    result = CliRunner().invoke(app, ["doctor", "--preset", "tiny", "--no-trial"])
    assert result.exit_code == 1
    assert "Missing: no-such-package>=1" in result.output


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "a second"),
        (59, "59 seconds"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (7200, "2 hours"),
        (1e7, "116 days"),
    ],
)
def test_times_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words
