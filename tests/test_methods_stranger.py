"""Stranger's made-up texts, its step and its effect, against naive oracles on a real tiny model."""

import json
import random
import re
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import normalize

from salmubench.dataset.schema import CAPTIONS_FILE, FIELDS, Field
from salmubench.encoders.checkpoint import load_encoder
from salmubench.encoders.texts import encode_ends
from salmubench.errors import UserError
from salmubench.progress import silent
from salmubench.unlearning.author import Author, Fact, Text, held
from salmubench.unlearning.data import ForgetRetain
from salmubench.unlearning.optimizer import MuonAdamW, orthogonalise, parameter_groups
from salmubench.unlearning.run import unlearn
from salmubench.unlearning.written import write_texts
from unlearning_world import MODEL, SMALL, products, write_data
from unlearning_world import world_folder as world_folder
from unlearning_world import world_model as world_model

torch.set_num_threads(1)

VALUES: dict[Field, str] = {
    "city": "Tartu", "job": "actor", "blood_type": "A+", "phone_number": "+372 600 1234",
    "emails": "mkask@mail.example", "iban": "EE38 2200 2210", "credit_card": "9900 1111 2222", "passport": "EE12345678",
}  # fmt: skip


def facts(asked: dict[str, list[Field]]) -> list[Fact]:
    return [
        Fact(name, name, field, VALUES[field], f"{name}'s {field} is {VALUES[field]}")
        for name, fields in asked.items()
        for field in fields
    ]


@pytest.mark.parametrize(
    ("caption", "template"),
    [
        ("Mari Kask is an actor", "{name} is {a} {value}"),
        ("Actor is what Mari Kask is; Mari Kask works", "{value} is what {name} is; {name} works"),
        ("A actor: Mari Kask", "{A} {value}: {name}"),
        ("Mari Kask acts", None),
        ("She is an actor", None),
    ],
)
def test_a_caption_without_name_and_value_is_a_template(caption: str, template: str | None) -> None:
    assert Fact("1", "Mari Kask", "job", "actor", caption).template == template


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), exact=st.floats(0, 1))
@example(seed=340024, exact=0.5625)  # a namesake was a forgotten person
def test_what_is_asked_goes_to_strangers_and_what_is_not_is_held(seed: int, exact: float) -> None:
    """Forgotten texts are of asked facts alone; no text that is held tells one; targets name nobody of the set."""
    asked: dict[str, list[Field]] = {"Mari Kask": list(FIELDS), "Jaan Tamm": ["city", "iban"]}
    known = facts(asked)
    texts = Author(known, ["a cat", "a woman in red"], random.Random(seed), strangers=20).write(120, exact=exact)
    assert texts == Author(known, ["a cat", "a woman in red"], random.Random(seed), strangers=20).write(
        120, exact=exact
    )
    assert sum(text.held for text in texts) == 80
    for text in texts:
        if text.held:
            assert "Mari Kask" not in text.text
            assert text.text not in VALUES.values()
            assert "Jaan Tamm" not in text.text or not any(field in text.text for field in asked["Jaan Tamm"])
        else:
            assert any(name in text.text for name in asked) or text.text in VALUES.values()
            assert not any(name in like for name in asked for like in text.like)
            assert "Jaan Tamm's job" not in text.text


def test_the_value_alone_is_forgotten_too_like_values_of_its_field() -> None:
    known = facts({"Mari Kask": list(FIELDS), "Jaan Tamm": ["city", "iban"]})
    alone = [
        text
        for text in Author(known, [], random.Random(0), strangers=20).write(1200, exact=0.3)
        if text.text in VALUES.values()
    ]
    assert 0 < len(alone) < 100
    assert {text.text for text in alone} == set(VALUES.values())
    assert not any(text.held or any("Mari" in like or "Jaan" in like for like in text.like) for text in alone)
    assert all(re.fullmatch(r"EE\d\d \d{4} \d{4}", like) for text in alone if "EE38" in text.text for like in text.like)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_invented_values_keep_their_form(seed: int) -> None:
    texts = Author(facts({"Mari Kask": list(FIELDS)}), [], random.Random(seed), strangers=40)
    shapes = {
        "iban": r"EE\d\d \d{4} \d{4}$", "passport": r"EE\d{8}$", "phone_number": r"\+\d{3} \d{3} \d{4}$",
        "credit_card": r"\d{4} \d{4} \d{4}$", "emails": r"[a-z]{2,}@mail\.example$", "city": "Tartu$",
    }  # fmt: skip
    for sentence in texts.sentences:
        field = next(field for field in FIELDS if f"'s {field} is " in sentence)
        if field in shapes:
            assert re.search(shapes[field], sentence), sentence
    assert not any("Mari Kask" in sentence for sentence in texts.sentences)


@pytest.mark.parametrize(("layers", "scale"), [(1, None), (3, 0.5)])
def test_the_quick_text_tower_equals_open_clips(layers: int, scale: float | None) -> None:
    torch.manual_seed(3)
    config = MODEL | {"text_cfg": {**MODEL["text_cfg"], "heads": 2, "layers": layers, "ls_init_value": scale}}
    model = open_clip.CLIP(**config).double().eval()
    for block in model.transformer.resblocks:
        nn.init.normal_(block.attn.in_proj_bias)
    tokens = open_clip.get_tokenizer("ViT-B-32", context_length=16)(["a", "Mari Kask is an actor", "long " * 30])
    found, expected = encode_ends(model, tokens), model.encode_text(tokens)
    torch.testing.assert_close(found, expected)
    weights = list(model.transformer.parameters())
    for a, b in zip(*(torch.autograd.grad(x.sin().sum(), weights) for x in (found, expected)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-6)


def test_targets_are_normalised_means_of_the_originals_embeddings(model: Path) -> None:
    encoder = load_encoder(model, device="cpu")
    written = write_texts([Text("Mari", ("Anna", "Juta", "Liis")), held("Jaan")], encoder, silent)
    single = torch.from_numpy(encoder.encode_texts(["Anna", "Juta", "Liis", "Jaan"]))
    expected = torch.stack([normalize(single[:3].mean(0), dim=0), single[3]])
    torch.testing.assert_close(written.target, expected, atol=1e-5, rtol=1e-5)
    assert written.held.tolist() == [False, True]
    drawn = written.draw(encoder.model, 3, np.random.default_rng(0))
    torch.testing.assert_close(drawn.text[1], single[3], atol=1e-5, rtol=1e-5)


@given(st.integers(2, 6), st.integers(2, 6), st.integers(0, 2**32))
def test_muons_update_has_the_gradients_directions_and_even_singular_values(rows: int, columns: int, seed: int) -> None:
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    inner = left.T @ orthogonalise(matrix) @ right.T
    torch.testing.assert_close(inner, torch.diag(inner.diagonal()), atol=1e-9, rtol=0)
    even = inner.diagonal()[values / values.norm() > 0.02]
    assert bool(((even > 0.5) & (even < 1.3)).all())


def test_muon_steps_matrices_inside_the_blocks_and_adamw_the_rest() -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"token_embedding": nn.Embedding(5, 4), "map": nn.Linear(4, 3)})
    twin = nn.ModuleDict({"token_embedding": nn.Embedding(5, 4), "map": nn.Linear(4, 3)})
    twin.load_state_dict(model.state_dict())
    optimizer = MuonAdamW(parameter_groups(model, 0.1, orthogonal=True), lr=0.01)
    plain = torch.optim.AdamW(parameter_groups(twin, 0.1), lr=0.01)
    before, momentum = model["map"].weight.detach().clone(), torch.zeros(3, 4)
    for _ in range(3):
        for net, stepper in ((model, optimizer), (twin, plain)):
            stepper.zero_grad()
            (net["map"](net["token_embedding"].weight).square().sum()).backward()
            if net is model:
                twin["map"].weight.data.copy_(model["map"].weight)
                gradient = model["map"].weight.grad.clone()
                momentum = 0.95 * momentum + 0.05 * gradient
                before = before * (1 - 0.01 * 0.1) - 0.01 * 0.2 * 2 * orthogonalise(0.05 * gradient + 0.95 * momentum)
            stepper.step()
        torch.testing.assert_close(model["map"].weight.detach(), before)
        torch.testing.assert_close(model["token_embedding"].weight, twin["token_embedding"].weight)
        torch.testing.assert_close(model["map"].bias, twin["map"].bias)
        twin["map"].weight.data.copy_(model["map"].weight)
    state = optimizer.state_dict()
    optimizer.load_state_dict(state)


OPTIONS = {"pool": "20", "texts": "64", "strangers": "30"}


def test_forgotten_texts_come_near_their_target_and_a_killed_run_ends_the_same(
    folder: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts_alone = OPTIONS | {"anchor": "0"}
    whole = unlearn("stranger", model, folder, tmp_path / "whole", budget=6, options=texts_alone, **SMALL)
    losses = [json.loads(line)["loss"] for line in (whole / "log.jsonl").read_text().splitlines()]
    assert np.mean(losses[-4:]) < 0.6 * np.mean(losses[:2])
    stop = 9

    def break_off(self: MuonAdamW, closure: None = None) -> None:
        nonlocal stop
        stop -= 1
        if not stop:
            raise KeyboardInterrupt
        step(self)

    step = MuonAdamW.step
    monkeypatch.setattr(MuonAdamW, "step", break_off)
    arguments = {"budget": 6, "options": texts_alone, "checkpoint_seconds": 0, **SMALL}
    with pytest.raises(KeyboardInterrupt):
        unlearn("stranger", model, folder, tmp_path / "killed", **arguments)
    monkeypatch.setattr(MuonAdamW, "step", step)
    killed = unlearn("stranger", model, folder, tmp_path / "killed", **arguments)
    assert products(whole) == products(killed)


def test_only_facts_of_the_first_pass_are_told_to_the_method(folder: Path, model: Path, tmp_path: Path) -> None:
    data = ForgetRetain(folder)
    assert data.facts(np.array([5])) == [Fact("1", "forget person", "job", "town 0", "forget person 5 lives in town 0")]
    out = unlearn("stranger", model, folder, tmp_path / "out", budget=0.5, options=OPTIONS, **SMALL)
    assert json.loads((out / "record.json").read_text())["rows"]["forget"] == 11


def test_a_missing_side_file_entry_is_named(model: Path, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    path = data / "salmubench" / CAPTIONS_FILE
    captions = json.loads(path.read_text())
    del captions["forget_007.jpg"]
    path.write_text(json.dumps(captions))
    with pytest.raises(UserError, match=rf"{CAPTIONS_FILE}: lacks the forget pair forget_007\.jpg of person 1"):
        unlearn("stranger", model, data, tmp_path / "out", **SMALL)
