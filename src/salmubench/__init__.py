"""SALMUBench: association-level unlearning in CLIP-style encoders, from fictitious people to a leaderboard.

The seven functions below are the public surface; the verbs of the command line call these and others of the same kind.
They are imported when first used, so that ``import salmubench`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from salmubench.dataset.store import load_benchmark
    from salmubench.encoders.checkpoint import load_encoder
    from salmubench.encoders.pretrain import train
    from salmubench.evaluation.compare import compare
    from salmubench.evaluation.protocol import evaluate, evaluate_all
    from salmubench.unlearning.run import unlearn

__version__ = "0.1.0"
__all__ = ["compare", "evaluate", "evaluate_all", "load_benchmark", "load_encoder", "train", "unlearn"]

_HOMES = {
    "compare": "salmubench.evaluation.compare",
    "evaluate": "salmubench.evaluation.protocol",
    "evaluate_all": "salmubench.evaluation.protocol",
    "load_benchmark": "salmubench.dataset.store",
    "load_encoder": "salmubench.encoders.checkpoint",
    "train": "salmubench.encoders.pretrain",
    "unlearn": "salmubench.unlearning.run",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'salmubench' has no attribute {name!r}")
