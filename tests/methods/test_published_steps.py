"""Published steps, derived anew from the papers' formulae: weights after each of three cases.

CoTTA's derivation is in `test_cotta.py`. What draws a strong view is replaced by a fixed one here;
the draws have tests of their own.
"""

import math

import pytest
import torch
from published import (
    Adam,
    Run,
    batch_moments,
    cross_entropy,
    differentiate,
    drawn,
    entropy,
    evaluate,
    make_network,
    normalised,
    own_moments,
    stronger,
    unbiased,
)
from torch import Tensor, nn
from torch.distributions import Categorical, kl_divergence
from torch.nn import functional

from grata_monai.adapt.recipe import PAPER
from grata_monai.adapt.strong import STRONG_VIEWS
from grata_monai.methods.affine_consistency import AffineConsistency
from grata_monai.methods.detta import DeTTA
from grata_monai.methods.dltta import DLTTA
from grata_monai.methods.grata import GraTaMethod
from grata_monai.methods.memo import MEMO
from grata_monai.methods.sar import SAR
from grata_monai.methods.shape_moments import ShapeMoments, ShapePrior
from grata_monai.methods.student import TeST
from grata_monai.methods.tent import Tent
from grata_monai.methods.tipi import TIPI
from grata_monai.methods.ttt import TTT

RATE = 1e-2


@pytest.fixture
def fixed_views(monkeypatch):
    """Let every strong view be `stronger`."""
    for name in ("mild", "paper"):
        monkeypatch.setitem(STRONG_VIEWS, name, stronger)


class WithHead(nn.Module):
    """The network, with a head that turns, or restores, what the convolution makes."""

    def __init__(self, task: str) -> None:
        super().__init__()
        self.network, self.auxiliary_tasks = make_network(), frozenset({task})
        self.head = nn.Linear(72, 4) if task == "rotation" else nn.Conv2d(2, 2, 1)
        self.double()

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)

    def auxiliary(self, images: Tensor, task: str) -> Tensor:
        if task == "rotation":
            return self.head(self.network(images).flatten(1))
        return self.head(self.network[0](images))


def flipped_mean(theta, images, moments):
    """Mean probabilities of the image and its mirror image."""
    mirrored = evaluate(theta, images.flip(2), moments).softmax(1).flip(2)
    return (evaluate(theta, images, moments).softmax(1) + mirrored) / 2


def descend(theta, gradient, rate):
    return [value - rate * g for value, g in zip(theta, gradient, strict=True)]


def test_tent_as_published():
    run, adam = Run(Tent(rate=RATE)), Adam(RATE)
    theta = run.theta
    for case in run.cases():
        x = case.windows
        gradient = differentiate(lambda t: entropy(evaluate(t, x, own_moments(x))).mean(), theta)
        theta = adam.step(theta, gradient)
        run.check(theta, evaluate(theta, case.images, own_moments(case.images)))
    run.check_distance(theta)


def test_sar_as_published():
    run = Run(SAR(rate=RATE))
    theta, velocity, limit = run.theta, [torch.zeros(())] * 4, 0.4 * math.log(2)
    for case in run.cases():
        x = case.windows

        def entropies(t):
            return entropy(evaluate(t, x, own_moments(x)))

        chosen = entropies(theta) < limit
        assert 0 < int(chosen.sum()) < chosen.numel()
        ascent = differentiate(lambda t: entropies(t)[chosen].mean(), theta)
        length = torch.cat([g.flatten() for g in ascent]).norm()
        worst = descend(theta, ascent, -0.05 / length)
        again = chosen & (entropies(worst) < limit)
        gradient = differentiate(lambda t: entropies(t)[again].mean(), worst)
        velocity = [0.9 * v + g for v, g in zip(velocity, gradient, strict=True)]
        theta = descend(theta, velocity, RATE)
        run.check(theta, evaluate(theta, case.images, own_moments(case.images)))
    run.check_distance(theta)


def test_dltta_as_published():
    run, adam = Run(DLTTA(rate=RATE, capacity=3, neighbours=2)), Adam(RATE)
    theta, memory, factors = run.theta, [], []
    for case in run.cases():
        x = case.windows

        def look(t):
            moments = own_moments(x)
            return normalised(t, x, moments).flatten(1), evaluate(t, x, moments)

        apart = []
        for feature, logits in zip(*look(theta), strict=True):
            if len(memory) <= 2:
                continue
            cosines = [f @ feature / f.norm() / feature.norm() for f, _ in memory]
            nearest = sorted(range(len(memory)), key=lambda i: -cosines[i])[:2]
            shares = torch.stack([(cosines[i] / 0.2).exp() for i in nearest])
            past = sum(
                s * memory[i][1] for s, i in zip(shares / shares.sum(), nearest, strict=True)
            )
            one, two = (Categorical(logits=z.movedim(0, -1)) for z in (logits / 4, past))
            apart.append((kl_divergence(one, two) + kl_divergence(two, one)).mean())
        factors.append(float(torch.stack(apart).mean().exp()) if apart else len(memory))
        gradient = differentiate(lambda t: entropy(look(t)[1]).mean(), theta)
        theta = adam.step(theta, gradient, RATE * factors[-1])
        memory = [*memory, *zip(*look(theta), strict=True)][-3:]
        run.check(theta, evaluate(theta, case.images, own_moments(case.images)))
    assert factors[:2] == [0, 2]
    assert factors[2] > 1.05
    run.check_distance(theta)


def test_ttt_as_published():
    run = Run(TTT(rate=RATE, steps=2, copies=2), WithHead("rotation").eval())
    for case in run.cases():
        theta, generator = run.theta, drawn(case)
        copies = case.windows[[0, 0, 1, 1]]
        for _ in range(2):
            turns = torch.randint(4, (4,), generator=generator)
            pairs = zip(copies, turns.tolist(), strict=True)
            x = torch.stack([torch.rot90(image, k, (1, 2)) for image, k in pairs])

            def loss(t):
                logits = evaluate(t, x, run.moments).flatten(1)
                return functional.cross_entropy(functional.linear(logits, *t[4:]), turns)

            theta = descend(theta, differentiate(loss, theta, norm_only=False), RATE)
        run.check(theta, evaluate(theta, case.images, run.moments))
        run.check_distance(theta)


def test_tipi_as_published():
    epsilon = 0.05
    run = Run(TIPI(rate_per_window=RATE, epsilon=epsilon))
    theta, velocity, running = run.theta, [torch.zeros(())] * 4, run.moments
    for case in run.cases():
        x = case.windows
        clean = evaluate(theta, x, batch_moments(x))

        def apart(t, y):
            one = Categorical(logits=evaluate(t, y, batch_moments(y)).movedim(1, -1))
            return kl_divergence(one, Categorical(logits=clean.movedim(1, -1))).mean()

        noise = torch.rand(x.shape, generator=drawn(case)).double()
        start = (x + epsilon * (2 * noise - 1)).requires_grad_()
        (uphill,) = torch.autograd.grad(apart(theta, start), start)
        adversary = torch.minimum(
            torch.maximum(start.detach() + epsilon * uphill.sign(), x - epsilon), x + epsilon
        )
        gradient = differentiate(
            lambda t: apart(t, adversary) + entropy(evaluate(t, x, batch_moments(x))).mean(), theta
        )
        velocity = [0.9 * v + g for v, g in zip(velocity, gradient, strict=True)]
        theta = descend(theta, velocity, 2 * RATE)
        running = [0.9 * old + 0.1 * new for old, new in zip(running, unbiased(x), strict=True)]
        run.check(theta, evaluate(theta, case.images, running))
    run.check_distance(theta)


def test_test_as_published(fixed_views):
    run = Run(TeST(rate=RATE, teacher_steps=2, student_steps=2))
    for case in run.cases():
        x, strong = case.windows, stronger(case.windows, generator=None)
        teacher, student = run.theta, run.theta
        adam = Adam(RATE)
        for _ in range(2):
            label = flipped_mean(teacher, x, run.moments)

            def follow(t):
                return cross_entropy(evaluate(t, strong, run.moments), label)

            teacher = adam.step(teacher, differentiate(follow, teacher, norm_only=False))
        label, adam = flipped_mean(teacher, x, run.moments), Adam(RATE)
        for _ in range(2):

            def distil(t):
                certainty = entropy(evaluate(t, x, run.moments)).mean()
                return cross_entropy(evaluate(t, strong, run.moments), label) + 0.1 * certainty

            student = adam.step(student, differentiate(distil, student, norm_only=False))
        run.check(student, evaluate(student, case.images, run.moments))
        run.check_distance(student)


def test_shape_moments_as_published():
    size, centre = 9.0, (0.2, -0.3)
    prior = ShapePrior((size,), (centre,))
    run = Run(ShapeMoments(prior=prior, rate=RATE, steps=2, least_size=4))
    for case in run.cases():
        x, theta, adam = case.windows[:1], run.theta, Adam(RATE)
        where = torch.linspace(-1, 1, 6).double()

        def loss(t):
            outside, inside = evaluate(t, x, own_moments(x)).softmax(1)[0]
            assert int((inside > 0.5).sum()) > 4
            certainty = (
                -0.9 * (inside * inside.log()).mean() - 0.1 * (outside * outside.log()).mean()
            )
            r, e = inside.mean(), size / 36
            ratio = r * (r / e).log() + (1 - r) * ((1 - r) / (1 - e)).log()
            rows = (inside.sum(1) @ where / inside.sum() - centre[0]) * 5 / 2  # in voxels
            columns = (inside.sum(0) @ where / inside.sum() - centre[1]) * 5 / 2
            return certainty + ratio + 1e-4 * (rows**2 + columns**2)

        for _ in range(2):
            gradient = differentiate(loss, theta)
            decayed = [g + 1e-4 * v for g, v in zip(gradient[:2], theta[:2], strict=True)]
            theta = adam.step(theta, [*decayed, *gradient[2:]])
        run.check(theta, evaluate(theta, case.images, own_moments(case.images)))
        run.check_distance(theta)


def test_detta_as_published():
    run = Run(DeTTA(rate=RATE, steps=2), WithHead("denoising").eval())
    for case in run.cases():
        x, theta, running = case.windows, run.theta, run.moments
        adam, generator = Adam(RATE, (0.9, 0.99)), drawn(case)
        for _ in range(2):
            noisy = x + 0.1 * torch.randn(x.shape, generator=generator).double()

            def loss(t):
                seen = normalised(t, noisy, batch_moments(noisy))
                return (functional.conv2d(seen, *t[4:]) - x).square().mean()

            theta = adam.step(theta, differentiate(loss, theta))
            running = [0.9 * a + 0.1 * b for a, b in zip(running, unbiased(noisy), strict=True)]
        run.check(theta, evaluate(theta, case.images, running))
        run.check_distance(theta)


def test_memo_as_published(fixed_views):
    run = Run(MEMO(rate=RATE, views=("identity", "flip:0"), copies=1))

    def mixed(images):
        pairs = zip(run.moments, own_moments(images), strict=True)
        return tuple(16 / 17 * source + 1 / 17 * own for source, own in pairs)

    for case in run.cases():
        x = stronger(case.windows, generator=None)

        def loss(t):
            mean = flipped_mean(t, x, mixed(x))
            return -(mean * mean.log()).sum(1).mean()

        theta = descend(run.theta, differentiate(loss, run.theta, norm_only=False), RATE)
        run.check(theta, evaluate(theta, case.images, mixed(case.images)))
        run.check_distance(theta)


def test_affine_consistency_as_published():
    run = Run(AffineConsistency(rate=RATE, steps=2, pairs=2))

    def sample(images, affine, padding_mode="zeros"):
        grid = functional.affine_grid(affine[None, :2], list(images.shape), align_corners=False)
        return functional.grid_sample(images, grid, padding_mode=padding_mode, align_corners=False)

    for case in run.cases():
        theta, adam, generator = run.theta, Adam(RATE), drawn(case)
        for _ in range(2):
            affines = [torch.eye(3).double() for _ in range(4)]
            for affine in affines:
                affine[:2] += 0.05 * torch.randn(2, 3, generator=generator).double()

            def loss(t, pair):
                image, maps, mask = case.windows[[pair]], [], 1.0
                for affine in affines[2 * pair : 2 * pair + 2]:
                    logits = evaluate(t, sample(image, affine, "border"), run.moments)
                    maps.append(sample(logits, affine.inverse()).softmax(1)[:, 1:])
                    seen = sample(torch.ones_like(image[:, :1]), affine.inverse())
                    mask = mask * (seen > 0.999)
                p, q = (m * mask for m in maps)
                return 1 - (2 * p * q).sum() / ((p + q) ** 2 / 2).sum()

            gradient = differentiate(
                lambda t: (loss(t, 0) + loss(t, 1)) / 2, theta, norm_only=False
            )
            theta = adam.step([(1 - 0.01 * RATE) * value for value in theta], gradient)
        run.check(theta, evaluate(theta, case.images, run.moments))
        run.check_distance(theta)


def test_grata_as_published(fixed_views):
    run, adam = Run(GraTaMethod(PAPER.changed(base_rate=0.1).steps, is_online=True)), Adam(0.1)
    theta, rates = run.theta, []
    for case in run.cases():
        x, strong = case.windows, stronger(case.windows, generator=None)

        def uncertainty(t):
            p = evaluate(t, x, own_moments(x)).softmax(1)
            return -(p * (p + 1e-6).log()).sum(1).mean()

        first = differentiate(uncertainty, theta)
        ahead = descend(theta, first, 1.0)
        views = [(x.flip(axis), lambda p, axis=axis: p.flip(axis)) for axis in (2, 3)]
        for k in range(4):
            turned = torch.rot90(x, k, (2, 3))
            views.append((turned, lambda p, k=k: torch.rot90(p, -k, (2, 3))))
        maps = [back(evaluate(ahead, v, own_moments(v)).softmax(1)) for v, back in views]
        label = torch.stack(maps).mean(0)
        second = differentiate(
            lambda t: cross_entropy(evaluate(t, strong, own_moments(strong)), label), ahead
        )
        one, two = (torch.cat([g.flatten() for g in gradient]) for gradient in (first, second))
        cosine = one @ two / one.norm() / two.norm()
        rates.append(0.1 * float((cosine + 1) ** 2) / 4)
        theta = adam.step(theta, second, rates[-1])
        run.check(theta, evaluate(theta, case.images, own_moments(case.images)))
    assert min(rates) < 0.99 * max(rates), rates
    run.check_distance(theta, 1e-4)
