"""What of a model is trained: all of it, one tower, the last blocks of each tower, or low-rank adapters (LoRA)."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from salmubench.errors import UserError
from salmubench.seeds import derive
from salmubench.unlearning.method import Method

SHARED = ("logit_scale", "logit_bias")
"""Parameters that belong to neither tower."""
SCOPES = "full, vision, text, last-N (e.g. last-2), lora-R (e.g. lora-8)"


@dataclass(frozen=True)
class Scope:
    """What is trained.

    ``full``: everything. ``vision``, ``text``: one tower with its projection; the logit scale stays. ``last-N``: the
    last N blocks of each tower (all of them where it has fewer), nothing before or behind. ``lora-R``: adapters of
    rank R, scaled by 1, beside each linear map, convolution and attention of both towers' blocks; the rest is frozen,
    and the adapters are merged into the weights at the end.

    Attributes:
        kind: full, vision, text, last or lora.
        number: N or R; 0 for the other kinds.
    """

    kind: str
    number: int = 0

    @classmethod
    def parse(cls, text: str) -> "Scope":
        """``last-2`` as a scope.

        Raises:
            UserError: there is no such scope.
        """
        found = re.fullmatch(r"(full|vision|text)|(last|lora)-([1-9]\d{0,3})", text)
        if found is None:
            raise UserError(f"--scope {text}: there is no such scope; choose from {SCOPES}")
        return cls(found[1] or found[2], int(found[3] or 0))

    def require_fit(self, name: str, method: Method[Any]) -> None:
        """Checks that a method can work with this scope.

        Args:
            name: what the method is called.
            method: it.

        Raises:
            UserError: adapters are asked for and peft is missing, or the method works on the weights themselves.
        """
        if self.kind != "lora":
            return
        if not method.trains or type(method).after_step is not Method.after_step:
            raise UserError(f"--scope {self}: {name} edits weights one by one; choose another scope than adapters")
        if find_spec("peft") is None:
            raise UserError(f"--scope {self}: needs the package peft; pip install 'salmubench[lora]'")

    def __str__(self) -> str:
        return f"{self.kind}-{self.number}" if self.number else self.kind

    def choose(self, model: nn.Module) -> None:
        """Marks the weights that are trained, those that an adapter changes included.

        Raises:
            UserError: the model has none.
        """
        model.requires_grad_(self.kind == "full")
        if self.kind in ("vision", "text"):
            for name, weight in model.named_parameters():
                weight.requires_grad_(name not in SHARED and name.startswith("visual.") == (self.kind == "vision"))
        for part in self._parts(model):
            for weight in part.parameters():
                weight.requires_grad_(self.kind == "last" or weight.ndim >= 2)  # adapters leave biases alone
        if not any(weight.requires_grad for weight in model.parameters()):
            raise UserError(f"--scope {self}: selects no weight of this model; choose another of {SCOPES}")

    def _parts(self, model: nn.Module) -> list[nn.Module]:
        if self.kind == "last":
            return [block for tower in towers(model) for block in blocks(tower)[-self.number :]]
        return [model.get_submodule(name) for name in adapted(model)] if self.kind == "lora" else []

    @contextmanager
    def adapters(self, model: nn.Module, seed: int) -> Iterator[None]:
        """For ``lora``: trains adapters while the context lasts, then merges them into the weights."""
        if self.kind != "lora":
            yield
            return
        from peft import LoraConfig, LoraModel

        config = LoraConfig(r=self.number, lora_alpha=self.number, target_modules=adapted(model))
        with torch.random.fork_rng(devices=[]):  # peft draws its first factors from the global generator
            torch.manual_seed(derive(seed, "unlearning", "lora"))
            tuner = LoraModel(model, config, "unlearning").eval()
        yield
        tuner.merge_and_unload()
        self.choose(model)


def towers(model: nn.Module) -> list[nn.Module]:
    """The vision tower and the text tower; the latter is spread over the model itself in open_clip's ``CLIP``."""
    return [model.get_submodule("visual"), model.get_submodule("text" if hasattr(model, "text") else "transformer")]


def blocks(tower: nn.Module) -> list[nn.Module]:
    """A tower's blocks in order: a transformer's layers, a ResNet's bottlenecks.

    They are the parts of its outermost lists of modules; a part without parts (a stem's convolution, a head's linear
    map) is none.
    """
    found: list[nn.Module] = []
    inside = "\0"
    for name, module in tower.named_modules():
        if isinstance(module, nn.ModuleList | nn.Sequential) and not f"{name}.".startswith(inside):
            found += [part for part in module if any(True for _ in part.children())]
            inside = f"{name}."
    return found


def adapted(model: nn.Module) -> list[str]:
    """Names of the modules in both towers' blocks that LoRA adapts; an attention is adapted as a whole."""
    names = {module: name for name, module in model.named_modules()}
    found: list[str] = []
    for tower in towers(model):
        for block in blocks(tower):
            attentions = [module for module in block.modules() if isinstance(module, nn.MultiheadAttention)]
            inner = {part for attention in attentions for part in attention.modules()}
            plain = [m for m in block.modules() if isinstance(m, nn.Linear | nn.Conv2d) and m not in inner]
            found += [names[module] for module in (*attentions, *plain)]
    return found
