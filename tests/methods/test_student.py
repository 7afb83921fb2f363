"""TeST: what the teacher and then the student follow, by hand."""

import pytest
import torch
from method_case import Case, begin, segment
from torch import Tensor, nn

from grata_monai.adapt.strong import STRONG_VIEWS
from grata_monai.methods.student import TeST


class Linear(nn.Module):
    """Logits are the intensities, scaled and shifted."""

    def __init__(self, scale: float, shift: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))
        self.shift = nn.Parameter(torch.tensor(shift))

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * images + self.shift


@pytest.fixture
def case() -> Case:
    images = torch.rand(1, 1, 6, 4)
    return Case(
        images=images,
        windows=images,
        extents=torch.tensor([[[-1.0, 1.0]] * 2]),
        source=images,
        predict=lambda images, network: network(images),
        activation="sigmoid",
    )


def constant_student(case: Case, *, student: float, teacher: float, weight: float) -> float:
    """Take one step of stage 2 with networks that see nothing; return the student's shift."""
    method = TeST(rate=0.1, teacher_steps=0, student_steps=1, entropy_weight=weight)
    state = begin(method, Linear(0.0, student), "sigmoid")
    state.moving.named["scale"].requires_grad_(False)
    state.moving.named.pop("scale")
    state.optimizer = torch.optim.Adam(state.moving.tensors, lr=0.1)
    nn.init.constant_(state.teacher.network.shift, teacher)
    segment(method, case, state)
    return state.network.shift.item()


def test_the_student_follows_the_teacher(case):
    # σ(0) - σ(±2) is the gradient; Adam's first step has the length of the rate
    assert constant_student(case, student=0.0, teacher=2.0, weight=0.0) == pytest.approx(0.1)
    assert constant_student(case, student=0.0, teacher=-2.0, weight=0.0) == pytest.approx(-0.1)


def test_an_agreeing_student_only_grows_more_certain(case):
    # the entropy's derivative by the logit a is -a·σ(a)·σ(-a)
    assert constant_student(case, student=1.0, teacher=1.0, weight=0.5) == pytest.approx(1.1)
    assert constant_student(case, student=-1.0, teacher=-1.0, weight=0.5) == pytest.approx(-1.1)


def test_the_teacher_follows_its_weak_prediction_on_a_strong_view(case):
    rate = 0.01
    method = TeST(rate=rate, teacher_steps=1, student_steps=0)
    state = begin(method, Linear(3.0, -1.0), "sigmoid")
    logits = segment(method, case, state)

    strong = STRONG_VIEWS["mild"](case.images, generator=torch.Generator().manual_seed(0))
    network = Linear(3.0, -1.0)
    target = torch.sigmoid(3 * case.images - 1)  # the same from the flipped image, flipped back
    loss = nn.functional.binary_cross_entropy_with_logits(network(strong), target)
    by_scale, by_shift = torch.autograd.grad(loss, (network.scale, network.shift))
    teacher = state.teacher.network
    assert teacher.scale.item() == pytest.approx(3 - rate * by_scale.sign().item(), rel=1e-5)
    assert teacher.shift.item() == pytest.approx(-1 - rate * by_shift.sign().item(), rel=1e-5)
    # the student starts at the source, not at the teacher
    torch.testing.assert_close(logits, 3 * case.images - 1)


def test_the_student_follows_a_strong_view(case):
    rate = 0.01
    method = TeST(rate=rate, teacher_steps=0, student_steps=1, entropy_weight=0.0)
    state = begin(method, Linear(3.0, -1.0), "sigmoid")
    segment(method, case, state)

    strong = STRONG_VIEWS["mild"](case.images, generator=torch.Generator().manual_seed(0))
    # on the image itself student and teacher agree, and nothing would move
    apart = torch.sigmoid(3 * strong - 1) - torch.sigmoid(3 * case.images - 1)
    student = state.network
    assert student.scale.item() == pytest.approx(
        3 - rate * (apart * strong).mean().sign().item(), rel=1e-5
    )
    assert student.shift.item() == pytest.approx(-1 - rate * apart.mean().sign().item(), rel=1e-5)
