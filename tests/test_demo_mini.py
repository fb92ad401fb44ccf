"""The `mini` demo shows the effect that the benchmark is about, within a laptop's patience."""

import subprocess
import sys
from pathlib import Path

import pytest

from salmubench.atomic import read_json
from salmubench.evaluation.report import read_report

SALMUBENCH = Path(sys.executable).with_name("salmubench")


@pytest.mark.slow
def test_mini_separates_compromised_from_clean_in_twelve_minutes(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    subprocess.run([SALMUBENCH, "demo", "--preset", "mini", "--no-open", "--out", out], check=True)
    reports = (read_report(out / "reports" / f"{name}.json").metrics for name in ("clean", "compromised"))
    clean, compromised = ({key: entry.value for key, entry in metrics.items()} for metrics in reports)
    assert compromised["RetFail"] >= 0.35
    assert compromised["ACS"] >= 0.90
    assert clean["RetFail"] <= 0.02
    assert clean["ACS"] <= 0.65
    assert min(clean["GenKnow"], compromised["GenKnow"]) >= 0.60
    assert abs(clean["GenKnow"] - compromised["GenKnow"]) <= 0.03
    for key in ("InterIdSim", "IntraIdSim"):
        assert compromised[key] - clean[key] >= 0.30
    assert sum(read_json(out / "demo.json")["seconds"].values()) <= 12 * 60
