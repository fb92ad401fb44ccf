"""DELETE: decoupled distillation to erase, in the benchmark's similarity form and in its original KL form."""

import torch
from torch import Tensor
from torch.nn.functional import kl_div

from salmubench.unlearning.method import Method, NoOptions, RetainOptions, Step, erasure, method, similarity_mse

CITATION = "DELETE, Zhou et al. (arXiv 2503.23751)"


@method(
    "delete",
    summary="forget cosines to 0; retain cosines kept at the original's",
    citation=CITATION,
    options=RetainOptions,
)
class Delete(Method[RetainOptions]):
    """Minimises MSE(S_u(Df), 0) + retain * MSE(S_u(Dr), S_o(Dr)).

    The cosine terms are over the whole matrix and retain is 1, as the SALMUBench authors run it
    (github.com/lluisgomez/MultiDelete).
    """

    needs = ("forget", "retain", "retain_original")

    def loss(self, step: Step) -> Tensor:
        retention = similarity_mse(step.retain.similarity, step.retain_original.similarity)
        return erasure(step.forget) + self.options.retain * retention


def masked_distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over rows of KL(softmax of the teacher's logits without the true match || softmax of the student's)."""
    own = torch.eye(len(teacher), dtype=torch.bool, device=teacher.device)
    target = teacher.masked_fill(own, float("-inf")).softmax(dim=1)
    return kl_div(student.log_softmax(dim=1), target, reduction="batchmean")


@method(
    "delete-kl",
    summary="distils the original on forget pairs, its true match masked out; retain pairs are never seen",
    citation=CITATION,
    variant_of="delete",
)
class DeleteKL(Method[NoOptions]):
    """Minimises [KL(p_o || p_u) picture to caption + caption to picture] / 2 on Df, p_o without the true match.

    The paper masks the forgotten class; in a dual encoder a batch's captions are a picture's classes, and back.
    """

    needs = ("forget", "forget_original")

    def loss(self, step: Step) -> Tensor:
        student, teacher = (f.logit_scale * f.similarity for f in (step.forget, step.forget_original))
        return (masked_distillation(student, teacher) + masked_distillation(student.T, teacher.T)) / 2
