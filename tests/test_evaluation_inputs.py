"""Bad input through the real command line: one sentence with file and row, exit code 2, and nothing half-written."""

import io
import json
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from dataset_small import build_small, rewrite
from hub_server import files_of
from salmubench import cli
from salmubench.atomic import write_json
from salmubench.dataset.schema import CAPTIONS_FILE, FRAGILE_IDS_FILE, GENERIC_CAPTIONS_FILE, IDENTITIES_FILE, Row
from salmubench.encoders.checkpoint import save_checkpoint
from salmubench.evaluation.report import read_report

torch.set_num_threads(1)
PART = "-00000-of-00001.parquet"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 123\n"
CONFIG: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 1, "layers": 1},
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only."""
    folder = build_small(tmp_path_factory.mktemp("small")) / "salmubench"
    write_json(folder / FRAGILE_IDS_FILE, ["00000020_101_ar-1.00.jpg"])
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only."""
    folder = tmp_path_factory.mktemp("models") / "small"
    torch.manual_seed(0)
    save_checkpoint(open_clip.CLIP(**CONFIG), {"model_cfg": CONFIG, "preprocess_cfg": {}}, folder)
    return folder


@pytest.fixture
def data(small: Path, tmp_path: Path) -> Path:
    """To be spoilt."""
    shutil.copytree(small, tmp_path / "data set")
    return tmp_path / "data set"


Run = Callable[..., tuple[int, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process; its exit code and what it said on stderr."""

    def run(*words: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["salmubench", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), capsys.readouterr().err

    return run


def _refused(command: Run, out: Path, *words: str | Path) -> str:
    """Runs evaluate with a report that lies there already and one in a folder that does not; both stay as they were."""
    out.mkdir()
    (out / "report.json").write_text("an older report")
    new = out.parent / "no such" / "folder" / "report.json"
    common = ("--device", "cpu", "--official", out / "official.json")
    for report in (out / "report.json", new):
        code, said = command("evaluate", *words, *common, "--out", report)
        sentences = [line for line in said.splitlines() if line.startswith("Error: ")]
        assert code == 2, said
        assert len(sentences) == 1
        assert "Traceback" not in said
        assert files_of(out) == {"report.json": b"an older report"}
        assert not new.parent.parent.exists()
    return sentences[0]


def _table(folder: Path, split: str, change: Callable[[pa.Table], pa.Table]) -> None:
    path = folder / "data" / f"{split}{PART}"
    pq.write_table(change(pq.read_table(path)), path)


def _value(split: str, column: str, row: int, value: object) -> Callable[[Path], None]:
    """Puts another value into one cell."""

    def spoil(folder: Path) -> None:
        def change(table: pa.Table) -> pa.Table:
            values = table.column(column).to_pylist()
            values[row] = value
            place = table.column_names.index(column)
            return table.set_column(place, column, pa.array(values, table.schema.field(column).type))

        _table(folder, split, change)

    return spoil


def _json(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return spoil


def _cut(name: str, share: float) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * share)])

    return spoil


FORGET = f"data/forget{PART}"
FIRST = "00000000_001_ar-1.00.jpg"
SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing split": (lambda f: (f / FORGET).unlink(), "the split 'forget' is missing"),
    "missing column": (
        lambda f: _table(f, "forget", lambda t: t.drop_columns("image")),
        f"{FORGET}: the column 'image'",
    ),
    "truncated parquet": (_cut(FORGET, 0.9), f"{FORGET}: not a whole parquet file"),
    "empty parquet": (_cut(FORGET, 0), f"{FORGET}: not a whole parquet file"),
    "pointer": (lambda f: (f / FORGET).write_text(POINTER), f"{FORGET}: a git-lfs pointer, not the file itself"),
    "broken picture": (
        _value("holdout_identity", "image", 5, {"bytes": b"junk", "path": "x"}),
        f"data/holdout_identity{PART}, row 5: not a picture",
    ),
    "pointer for a picture": (
        _value("retain_synth", "image", 20, {"bytes": POINTER.encode(), "path": "x"}),
        f"data/retain_synth{PART}, row 20: a git-lfs pointer",
    ),
    "no picture": (_value("forget", "image", 2, None), f"{FORGET}, row 2: there is no picture"),
    "null caption": (_value("forget", "text", 3, None), f"{FORGET}, row 3: 'text' is null"),
    "null file name": (_value("forget", "file_name", 4, None), f"{FORGET}, row 4: 'file_name' is null"),
    "file name twice": (_value("forget", "file_name", 6, FIRST), "stands in the split 'forget' already"),
    "nobody": (_value("forget", "identity_id", 6, None), "has no identity_id; every sensitive row needs one"),
    "no metadata": (_json(IDENTITIES_FILE, lambda c: c.pop("00000001")), f"{IDENTITIES_FILE}: lacks the identity"),
    "no caption metadata": (_json(CAPTIONS_FILE, lambda c: c.pop(FIRST)), f"{CAPTIONS_FILE}: lacks {FIRST}"),
    "no side file": (lambda f: (f / GENERIC_CAPTIONS_FILE).unlink(), f"{GENERIC_CAPTIONS_FILE}: no such file"),
    "empty set": (lambda f: rewrite(f, "holdout_association", lambda _: []), "'holdout_association' has no rows"),
    "empty folder": (lambda f: [shutil.rmtree(f), f.mkdir()], "no data set here; --data takes a folder"),
    "a file": (lambda f: [shutil.rmtree(f), f.write_text("x")], "data set: is a file; --data takes the folder"),
    "nothing": (shutil.rmtree, "no data set here"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_bad_data(case: str, command: Run, data: Path, model: Path, tmp_path: Path) -> None:
    spoil, words = SPOILT[case]
    spoil(data)
    assert words in _refused(command, tmp_path / "out", model, "--data", data)


class Touch:
    """Unpickled without care, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (open, (str(self.path), "w"))


def _weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    state = open_clip.CLIP(**CONFIG).state_dict()
    change(state)
    torch.save(state, folder / "weights.pth")
    return folder / "weights.pth"


BAD_MODELS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "NaN": (lambda f: _weights(f, lambda s: s["ln_final.bias"].fill_(torch.nan)), "the tensor ln_final.bias holds NaN"),
    "another": (lambda f: _weights(f, lambda s: s.pop("ln_final.bias")), "the tensor ln_final.bias is missing"),
    "code": (lambda f: _weights(f, lambda s: s.update(x=Touch(f / "ran"))), "weights.pth: not plain weights (it asks"),
}


@pytest.mark.parametrize("case", BAD_MODELS)
def test_bad_weights(case: str, command: Run, small: Path, tmp_path: Path) -> None:
    make, words = BAD_MODELS[case]
    (tmp_path / "own.json").write_text(json.dumps(CONFIG))
    path = make(tmp_path)
    assert words in _refused(command, tmp_path / "out", path, "--arch", tmp_path / "own.json", "--data", small)
    assert not (tmp_path / "ran").exists()


def test_a_pickle_under_a_safe_name(command: Run, small: Path, tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(pickle.dumps(Touch(tmp_path / "ran")))
    said = _refused(command, tmp_path / "out", tmp_path / "w.safetensors", "--arch", "RN50", "--data", small)
    assert "w.safetensors: not a whole safetensors file" in said
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--limit", "0"), "--limit"),
        (("--arch", "RN5O"), "--arch RN5O: open_clip knows no such architecture; did you mean RN50"),
        (("--precision", "fp12"), "--precision fp12"),
        (("--general-knowledge", "nowhere"), "nowhere/classnames.txt: no such text file; --general-knowledge takes"),
        (("--clean", "nowhere.json"), "--compromised is missing"),
        (("--batch-size", "0"), "--batch-size 0: give a number of inputs, 1 or more, or auto"),
        (("--batch-size", "9" * 5000), "give a number of inputs, 1 or more, or auto"),
        (("--workers", "257"), "--workers 257: give the number of threads that decode pictures, 1 to 256"),
        (("--name", " "), "--name ' ': is empty; say what the report"),
        (("--verify", "x.json"), "--verify x.json: measures as the report was and writes nothing; leave --out out"),
    ],
)
def test_bad_flags(flags: tuple[str, str], words: str, command: Run, small: Path, model: Path, tmp_path: Path) -> None:
    assert words in _refused(command, tmp_path / "out", model, "--data", small, *flags)


def test_two_results_need_two_files(command: Run, small: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    common = ("evaluate", model, "--data", small, "--device", "cpu", "--out", out, "--official")
    for official in (out, tmp_path / "." / "report.outcomes.parquet"):
        code, said = command(*common, official)
        assert code == 2
        assert "two files of this evaluation would have this name; choose another --out or --official" in said
    assert not files_of(tmp_path)


def test_odd_names_are_fine_and_folders_are_made(command: Run, data: Path, model: Path, tmp_path: Path) -> None:
    odd = tmp_path / "Łódź – données [1] {c}" / "данные 100%"
    odd.parent.mkdir()
    data.rename(odd)
    shutil.copytree(model, odd.parent / "modèle 'α'")
    rewrite(
        odd, "forget", lambda rows: [Row(_picture(), rows[0].text * 400, *list(vars(rows[0]).values())[2:]), *rows[1:]]
    )
    out = tmp_path / "not there" / "yet" / "rapport é.json"
    code, said = command("evaluate", odd.parent / "modèle 'α'", "--data", odd, "--out", out, "--device", "cpu")
    assert code == 0, said
    report = read_report(out)
    assert (report.name, report.provenance.data) == ("modèle 'α'", "данные 100%")
    assert report.metrics["FragSim"].value is not None


def _picture() -> bytes:
    stream = io.BytesIO()
    Image.new("CMYK", (300, 5)).save(stream, "JPEG")
    return stream.getvalue()


def test_unlearning_writes_into_no_foreign_folder(command: Run, small: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter 1.tex").write_text("mine")
    words = ("unlearn", "finetuning", "--model", model, "--data", small, "--out", out, "--device", "cpu")
    code, said = command(*words)
    assert code == 2
    assert "thesis: holds chapter 1.tex, which no unlearning run wrote; choose another --out" in said
    assert files_of(out) == {"chapter 1.tex": b"mine"}


def _run(*words: str | Path, **options: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "salmubench", *map(str, words)], capture_output=True, text=True, check=False, **options
    )


def test_a_full_disk(small: Path, model: Path, tmp_path: Path) -> None:
    """No file may grow over 2 KB."""
    out = tmp_path / "out" / "report.json"

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))

    words = ("evaluate", model, "--data", small, "--out", out, "--device", "cpu")
    done = _run(*words, preexec_fn=small_files)
    assert done.returncode == 1, done.stderr
    assert "could not be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.parent.exists() or not files_of(out.parent)


def test_a_disk_that_takes_no_files(command: Run, small: Path, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", folder], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("only root may mount a disk")
    try:
        code, said = command("evaluate", model, "--data", small, "--out", folder / "report.json", "--device", "cpu")
    finally:
        subprocess.run(["umount", folder], check=True)
    assert code == 2
    assert "cannot be written here (Read-only file system); choose another path" in said


@pytest.mark.parametrize("seconds", [0.05, 0.2, 0.5, 1])
def test_ctrl_c_while_it_starts(seconds: float) -> None:
    """Python itself needs some 20 ms before the first line of ours; what it says until then is its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); from salmubench.__main__ import main; main()", "--help"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert "Traceback" not in said
    assert process.returncode in (0, 130)
    assert (process.returncode == 130) == ("Stopped" in said)
