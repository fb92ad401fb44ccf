"""DELETE: decoupled distillation to erase, in the benchmark's similarity form and in its original KL form."""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import kl_div

from salmubench.unlearning.method import Method, Need, Step, method, similarity_mse


@dataclass(frozen=True)
class DeleteOptions:
    """Which reading of DELETE."""

    form: Annotated[
        Literal["similarity", "kl"],
        Field(description="similarity (SALMUBench's) or kl (the original: the teacher without the forgotten match)"),
    ] = "similarity"


def masked_distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over rows of KL(softmax of the teacher's logits without the true match || softmax of the student's)."""
    own = torch.eye(len(teacher), dtype=torch.bool, device=teacher.device)
    target = teacher.masked_fill(own, float("-inf")).softmax(dim=1)
    return kl_div(student.log_softmax(dim=1), target, reduction="batchmean")


@method(
    "delete",
    summary="forget cosines to 0; retain cosines kept at the original's (form=kl: masked-teacher distillation)",
    citation="DELETE, Zhou et al. (arXiv 2503.23751)",
    options=DeleteOptions,
)
class Delete(Method[DeleteOptions]):
    """``similarity``: MSE(S_u(Df), 0) + MSE(S_u(Dr), S_o(Dr)). ``kl``: masked distillation on Df, both ways.

    The cosine terms are over the whole matrix, as the SALMUBench authors run it (github.com/lluisgomez/MultiDelete).
    """

    def __init__(self, options: DeleteOptions) -> None:
        super().__init__(options)
        similarity: tuple[Need, ...] = ("forget", "retain", "retain_original")
        self.needs = similarity if options.form == "similarity" else ("forget", "forget_original")

    def loss(self, step: Step) -> Tensor:
        similarity = step.forget.similarity
        if self.options.form == "similarity":
            retention = similarity_mse(step.retain.similarity, step.retain_original.similarity)
            return similarity_mse(similarity, torch.zeros_like(similarity)) + retention
        student = step.forget.logit_scale * similarity
        teacher = step.forget_original.logit_scale * step.forget_original.similarity
        return (masked_distillation(student, teacher) + masked_distillation(student.T, teacher.T)) / 2
