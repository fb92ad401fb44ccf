"""What of a model a run changes: towers, last blocks and adapters, of a ResNet and of a transformer."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch

from commands import salmubench
from salmubench.encoders.checkpoint import load_encoder, save_checkpoint
from salmubench.errors import UserError
from salmubench.unlearning.run import unlearn
from salmubench.unlearning.scope import Scope, adapted, blocks, towers
from unlearning_world import MODEL, SMALL, products
from unlearning_world import world_folder as world_folder

torch.set_num_threads(1)
VISION = {
    "resnet": MODEL["vision_cfg"],
    "vit": {"image_size": 32, "layers": 3, "width": 64, "patch_size": 16},
}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 2}


@pytest.fixture(scope="module", params=list(VISION))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet's last normalisation of a block starts at zero gain, which would leave its convolutions untrained."""
    torch.manual_seed(0)
    config = {"embed_dim": 16, "vision_cfg": VISION[request.param], "text_cfg": TEXT}
    network = open_clip.CLIP(**config)
    for name, weight in network.named_parameters():
        if name.endswith("bn3.weight"):
            torch.nn.init.ones_(weight)
    path = tmp_path_factory.mktemp("scope") / request.param
    save_checkpoint(network, {"model_cfg": config, "preprocess_cfg": {"size": 32}}, path)
    return path


def moved(before: Path, after: Path) -> set[str]:
    old, new = (load_encoder(path, device="cpu").model.state_dict() for path in (before, after))
    assert set(old) == set(new), "a plain open_clip checkpoint"
    return {name for name in old if not torch.equal(old[name], new[name])}


def vision(name: str) -> bool:
    return name.startswith("visual.")


def last_two(name: str) -> bool:
    return bool(re.match(r"transformer|visual\.transformer\.resblocks\.[12]|visual\.layer[34]", name))


def adapters(name: str) -> bool:
    return "resblocks" in name or "visual.layer" in name


SCOPES: dict[str, Callable[[str], bool]] = {
    "vision": vision,
    "text": lambda name: not vision(name) and name != "logit_scale",
    "last-2": last_two,
    "lora-3": adapters,
}


@pytest.mark.parametrize("scope", list(SCOPES))
def test_a_scope_moves_its_weights_and_no_other(scope: str, folder: Path, model: Path, tmp_path: Path) -> None:
    out = unlearn("negative-gradient", model, folder, tmp_path / "out", budget=2, scope=scope, **SMALL)
    changed = moved(model, out)
    assert changed
    assert all(SCOPES[scope](name) for name in changed)
    network = load_encoder(model, device="cpu").model
    matrices = {name for name, weight in network.named_parameters() if weight.ndim > 1 and SCOPES[scope](name)}
    assert matrices - {"positional_embedding"} <= changed
    if scope.startswith("lora"):
        assert all(network.get_parameter(name).ndim > 1 for name in changed)
        for name in changed:  # the change has the adapter's rank
            old, new = (load_encoder(path, device="cpu").model.get_parameter(name) for path in (model, out))
            change = (new - old).detach().flatten(1).double()
            if old.shape[2:] in ((), (1, 1)):
                assert torch.linalg.matrix_rank(change, rtol=1e-3) <= 3
    assert json.loads((out / "record.json").read_text())["scope"] == scope


def test_merged_adapters_are_the_trained_model(folder: Path, model: Path) -> None:
    """Inside the context and after it the model gives the same embeddings, moved from the original's."""
    network = load_encoder(model, device="cpu").model
    pictures, texts = torch.randn(3, 3, 32, 32), open_clip.tokenize(["a", "b c", "d"], 16)
    with torch.no_grad():
        original = network(pictures, texts)[:2]
    with Scope("lora", 2).adapters(network, 7):
        trained = [weight for weight in network.parameters() if weight.requires_grad]
        with torch.no_grad():
            torch.testing.assert_close(network(pictures, texts)[:2], original)
            for weight in trained:
                weight.add_(0.05 * torch.randn_like(weight))
            adapted_features = network(pictures, texts)[:2]
    assert not any("lora" in name for name, _ in network.named_modules())
    with torch.no_grad():
        torch.testing.assert_close(network(pictures, texts)[:2], adapted_features, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(adapted_features[0], original[0], atol=1e-3)
    assert not torch.allclose(adapted_features[1], original[1], atol=1e-3)


def test_adapters_start_from_the_seed_alone(folder: Path, model: Path, tmp_path: Path) -> None:
    runs = []
    for number in range(2):
        torch.manual_seed(number)  # the global generator has no say
        runs.append(unlearn("delete", model, folder, tmp_path / f"{number}", scope="lora-2", **SMALL))
    assert products(runs[0]) == products(runs[1])


def test_noise_is_published_on_what_was_trained(folder: Path, model: Path, tmp_path: Path) -> None:
    out = unlearn("descent-to-delete", model, folder, tmp_path / "out", scope="lora-2", **SMALL)
    chosen = set(adapted(load_encoder(model, device="cpu").model))
    assert {name.rpartition(".")[0].removesuffix(".out_proj") for name in moved(model, out)} == chosen


@pytest.mark.parametrize(
    ("scope", "method", "message"),
    [
        ("vison", "delete", "--scope vison: there is no such scope; choose from full, vision, text, last-N"),
        ("last-0", "delete", "--scope last-0"),
        ("lora", "delete", "--scope lora"),
        ("last-1.5", "delete", "--scope last-1.5"),
        ("lora-4", "salun", "--scope lora-4: salun edits weights one by one"),
        ("lora-4", "ssd", "--scope lora-4: ssd edits weights one by one"),
        ("lora-4", "slug", "--scope lora-4: slug edits weights one by one"),
    ],
)
def test_wrong_scopes_are_named(
    scope: str, method: str, message: str, folder: Path, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        unlearn(method, model, folder, tmp_path / "out", scope=scope, **SMALL)
    assert not (tmp_path / "out").exists()


def test_a_scope_without_weights_is_one_sentence() -> None:
    network = torch.nn.ModuleDict({"visual": torch.nn.Linear(2, 2), "transformer": torch.nn.Linear(2, 2)})
    for scope in ("last-3", "lora-3"):
        with pytest.raises(UserError, match=f"--scope {scope}: selects no weight of this model"):
            Scope.parse(scope).choose(network)


@pytest.mark.parametrize(
    ("name", "counts"), [("RN50", (16, 12)), ("ViT-B-16", (12, 12)), ("ViT-B-16-SigLIP", (12, 12))]
)
def test_blocks_of_real_architectures(name: str, counts: tuple[int, int]) -> None:
    with torch.device("meta"):
        network = open_clip.create_model(name, load_weights=False, device="meta")
    assert tuple(len(blocks(tower)) for tower in towers(network)) == counts
    assert adapted(network)


def test_the_command_line_takes_a_scope(folder: Path, model: Path, tmp_path: Path) -> None:
    command = ["unlearn", "delete", "--model", model, "--data", folder]
    command += ["--out", tmp_path / "out", "--batch-size", "6", "--device", "cpu", "--scope"]
    scope, code, words = {
        "resnet": ("vision", 0, "The unlearned model"),
        "vit": ("left", 2, "Error: --scope left: there is no such scope"),
    }[model.name]
    done = salmubench(*command, scope)
    assert (done.returncode, done.stderr.count("Traceback")) == (code, 0), done.stderr
    assert words in done.stdout + done.stderr
    assert code or all(vision(changed) for changed in moved(model, tmp_path / "out"))
