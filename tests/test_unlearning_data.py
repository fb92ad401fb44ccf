"""The guard, and the features that a method gets, on real files and a real (tiny, untrained) open_clip model."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from salmubench.atomic import write_json
from salmubench.dataset.manifest import write_manifest
from salmubench.dataset.pictures import decode_picture
from salmubench.dataset.schema import GENERIC_CAPTIONS_FILE, Row
from salmubench.dataset.store import write_split
from salmubench.encoders.checkpoint import load_encoder
from salmubench.errors import UserError
from salmubench.progress import silent
from salmubench.unlearning.data import ForgetRetain
from salmubench.unlearning.features import FeatureSource
from salmubench.unlearning.pixels import PixelTransform
from salmubench.unlearning.plan import make_plan
from salmubench.unlearning.run import unlearn
from unlearning_world import FORGET, SHARDS, SMALL, SYNTHETIC, picture, products, rows
from unlearning_world import world_folder as world_folder
from unlearning_world import world_model as world_model

torch.set_num_threads(1)


def test_forget_and_retain_are_read_row_by_row(folder: Path) -> None:
    data = ForgetRetain(folder)
    assert (data.size("forget"), data.size("retain")) == (FORGET, SYNTHETIC + sum(SHARDS))
    wanted = np.array([0, 3, 14, 15, 21])
    found = list(data.read("forget", wanted))
    expected = list(rows("forget", FORGET))
    assert [(pair.row, pair.image, pair.text, pair.file_name) for pair in found] == [
        (n, expected[n].image, expected[n].text, expected[n].file_name) for n in wanted
    ]
    retain = list(data.read("retain", np.array([2, 8, 9, 15, 16, 19])))
    assert [pair.file_name for pair in retain] == [
        "retain_synth_002.jpg", "retain_synth_008.jpg", "retain_real/00000.tar/s000", "retain_real/00000.tar/s006",
        "retain_real/00001.tar/s007", "retain_real/00001.tar/s010",
    ]  # fmt: skip
    assert [pair.image for pair in retain[2:]] == [picture("real", n) for n in (0, 6, 7, 10)]
    assert retain[-1].text == "a thing 10"


@pytest.mark.parametrize("name", ["holdout_association", "holdout_identity", "sensitive", "clean", ""])
def test_any_other_set_raises(folder: Path, name: str) -> None:
    data = ForgetRetain(folder)
    with pytest.raises(UserError, match="forget and retain only"):
        list(data.read(name, np.array([0])))
    with pytest.raises(UserError, match="forget and retain only"):
        data.size(name)


def copy(folder: Path, target: Path) -> Path:
    for path in folder.rglob("*"):
        if path.is_file():
            (target / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
            (target / path.relative_to(folder)).write_bytes(path.read_bytes())
    return target


def test_poisoned_holdouts_change_nothing(folder: Path, model: Path, tmp_path: Path) -> None:
    poisoned = copy(folder, tmp_path / "data")
    for path in (poisoned / "salmubench" / "data").glob("holdout_*.parquet"):
        path.write_bytes(b"not a parquet file")
    next((poisoned / "salmubench" / "data").glob("holdout_identity-*.parquet")).unlink()
    kept = unlearn("cliperase", model, folder, tmp_path / "a", budget=0.5, **SMALL)
    touched = unlearn("cliperase", model, poisoned, tmp_path / "b", budget=0.5, **SMALL)
    assert products(kept) == products(touched)
    seen = pq.read_table(kept / "rows.parquet").to_pydict()
    assert not [name for name in seen["file_name"] if "holdout" in name]


def test_an_evaluation_folder_by_itself_and_shards_without_sizes(folder: Path, tmp_path: Path) -> None:
    assert ForgetRetain(folder / "salmubench").size("retain") == SYNTHETIC
    uncounted = copy(folder, tmp_path / "data")
    (uncounted / "retain_real" / "sizes.json").unlink()
    assert ForgetRetain(uncounted).size("retain") == SYNTHETIC + sum(SHARDS)


def test_damage_names_file_and_row(folder: Path, model: Path, tmp_path: Path) -> None:
    broken = copy(folder, tmp_path / "data")
    content = list(rows("forget", FORGET))
    content[4] = Row(b"no picture", content[4].text, None, content[4].file_name)
    write_split(broken / "salmubench", "forget", content)
    unlearn("finetuning", model, broken, tmp_path / "fine", **SMALL)  # looks at retain alone
    with pytest.raises(UserError, match=r"forget-00000-of-00001\.parquet, row 4"):
        unlearn("negative-gradient", model, broken, tmp_path / "out", **SMALL)
    assert (tmp_path / "fine" / "record.json").exists()
    write_json(broken / "salmubench" / GENERIC_CAPTIONS_FILE, {"forget_000.jpg": "a person"})
    write_split(broken / "salmubench", "forget", rows("forget", FORGET))
    with pytest.raises(UserError, match=r"lacks the generic caption of forget_0"):
        unlearn("generic-captions", model, broken, tmp_path / "generic", **SMALL)


def test_a_lost_shard_is_named(folder: Path, tmp_path: Path) -> None:
    lacking = copy(folder, tmp_path / "data")
    write_manifest(lacking, facts={})
    shard = next((lacking / "retain_real").glob("*.tar"))
    shard.unlink()
    with pytest.raises(UserError, match=rf"{shard.name}: is missing"):
        ForgetRetain(lacking)


def test_pixels_are_what_evaluation_sees(folder: Path, model: Path) -> None:
    encoder = load_encoder(model, device="cpu")
    transform = PixelTransform.of(encoder.preprocess)
    pair = next(ForgetRetain(folder).read("forget", np.array([5])))
    expected = encoder.preprocess(decode_picture(pair.image, pair.where))
    found = transform.normalise(torch.from_numpy(transform.pixels(pair).copy())[None])[0]
    assert torch.equal(found, expected)


def test_features_are_the_encoders_and_the_original_is_cached(folder: Path, model: Path, tmp_path: Path) -> None:
    encoder = load_encoder(model, device="cpu")
    data = ForgetRetain(folder)
    plan = make_plan(data.size("forget"), data.size("retain"), budget=1.5, batch_size=6, seed=3)
    needs = ("forget", "generic", "retain", "forget_original", "generic_original", "retain_original")
    source = FeatureSource(data, plan, needs, encoder, steps=len(plan), scratch=tmp_path, progress=silent)
    for number in (0, len(plan) - 1):
        step = source.encode(encoder.model, source.inputs(number))
        for name, live, original in (
            ("forget", step.forget, step.forget_original),
            ("retain", step.retain, step.retain_original),
        ):
            order = np.argsort(plan.rows(name, number))
            pairs = list(data.read(name, plan.rows(name, number)[order]))
            image = encoder.encode_pictures([(pair.where, pair.image) for pair in pairs], len(pairs))
            text = encoder.encode_texts([pair.text for pair in pairs])
            for features in (live, original):
                np.testing.assert_allclose(features.image.detach().numpy()[order], image, atol=2e-6)
                np.testing.assert_allclose(features.text.detach().numpy()[order], text, atol=2e-6)
            assert live.image.requires_grad
            assert not original.image.requires_grad
        captions = data.generic_captions(plan.rows("forget", number))
        for generic in (step.generic, step.generic_original):
            np.testing.assert_allclose(generic.text.detach().numpy(), encoder.encode_texts(captions), atol=2e-6)
        assert torch.equal(step.generic.image, step.forget.image)
    assert list(tmp_path.iterdir()) == []
