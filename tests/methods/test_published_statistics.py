"""Published methods without gradients, derived anew: predictions and statistics of three cases."""

import torch
from published import (
    Run,
    differentiate,
    evaluate,
    normalised,
    own_moments,
    source_moments,
    unbiased,
)

from grata_monai.methods.diga import DIGA
from grata_monai.methods.domain_adaptor import DomainAdaptor
from grata_monai.methods.dua import DUA
from grata_monai.methods.intent import InTEnt
from grata_monai.methods.medbn import MedBN
from grata_monai.methods.mirror import Mirror
from grata_monai.methods.prediction_time_bn import PredictionTimeBN
from grata_monai.methods.source import Source


def mix(source, image, share):
    """Mean and variance, the image's with this share."""
    return tuple((1 - share) * a + share * b for a, b in zip(source, image, strict=True))


def test_source_as_published():
    run = Run(Source())
    for case in run.cases():
        run.check(run.theta, evaluate(run.theta, case.images, run.moments))


def test_mirror_as_published():
    run = Run(Mirror())
    for case in run.cases():
        x = case.images
        views = [
            evaluate(run.theta, x.flip(axes), run.moments).flip(axes)
            for axes in ((), (2,), (3,), (2, 3))
        ]
        run.check(run.theta, torch.stack(views).mean(0))


def test_prediction_time_bn_as_published():
    run = Run(PredictionTimeBN())
    for case in run.cases():
        run.check(run.theta, evaluate(run.theta, case.images, own_moments(case.images)))


def test_medbn_as_published():
    run = Run(MedBN())
    for case in run.cases():
        x = case.images
        middle = x.flatten(2).sort(2).values[..., (36 - 1) // 2].view(1, 2, 1, 1)
        spread = (x - middle).square().mean((2, 3), keepdim=True)
        run.check(run.theta, evaluate(run.theta, x, (middle, spread)))


def test_dua_as_published():
    run, running = Run(DUA(copies=4)), None
    for number, case in enumerate(run.cases(), start=1):
        # windows of 6 voxels are mirrored and turned but not shifted: statistics stay theirs
        share = 0.1 * 0.94**number + 0.005
        running = mix(running or run.moments, unbiased(case.windows[[0, 1, 0, 1]]), share)
        torch.testing.assert_close(source_moments(run.state.network), running, rtol=0, atol=1e-6)
        run.check(run.theta, evaluate(run.theta, case.images, running))


def test_diga_as_published():
    run, history = Run(DIGA(confidence=0.7)), None

    def look(images):
        moments = mix(run.moments, own_moments(images), 0.2)
        features = normalised(run.theta, images, moments).movedim(1, -1).flatten(0, -2)
        return features, evaluate(run.theta, images, moments).softmax(1).movedim(1, -1).flatten(
            0, -2
        )

    def classify(features, prototypes):
        return (-(features[:, None] - prototypes).norm(dim=2)).softmax(1)

    for case in run.cases():
        features, p = look(case.windows)
        own = torch.stack(
            [features[(p.argmax(1) == k) & (p.amax(1) >= 0.7)].mean(0) for k in (0, 1)]
        )
        assert bool(torch.isfinite(own).all())
        history = own if history is None else 0.9 * history + 0.1 * own
        torch.testing.assert_close(
            run.state.history.features[0].double(), history, rtol=0, atol=1e-6
        )
        features, p = look(case.images)
        fused = 0.8 * classify(features, history) + 0.2 * classify(features, own)
        expected = (0.8 * fused + 0.2 * p).T.reshape(1, 2, 6, 6)
        torch.testing.assert_close(run.found.softmax(1).double(), expected, rtol=0, atol=1e-4)
        run.check(run.theta)


def test_domain_adaptor_as_published():
    rate = 1e-2
    run = Run(DomainAdaptor(rate=rate))

    def apart(one, two):
        return sum((a - b).square().mean() for a, b in zip(one, two, strict=True))

    for case in run.cases():
        x = case.windows
        of_source = run.moments[0], run.moments[1].sqrt()
        mean, variance = unbiased(x)
        batch = mean, variance.sqrt()
        shares = []
        for image in x.split(1):
            own = image.mean((2, 3), keepdim=True), image.std((2, 3), keepdim=True)
            total = apart(batch, of_source) + apart(own, of_source) + apart(own, batch)
            shares.append(1 - apart(batch, of_source) / total)
        share = torch.stack(shares).mean()  # of the source
        mixed = mix(run.moments, (mean, variance), 1 - share)
        # scale and shift with which the batch's statistics do what the mixture would
        scale, shift, *rest = run.theta
        ratio = ((variance + 1e-5) / (mixed[1] + 1e-5)).sqrt().flatten()
        offset = ((mean - mixed[0]) / (mixed[1] + 1e-5).sqrt()).flatten()
        theta = [scale * ratio, shift + offset * scale, *rest]
        before = evaluate(run.theta, x, mixed)
        torch.testing.assert_close(evaluate(theta, x, (mean, variance)), before)

        def loss(t):
            logits = evaluate(t, x, (mean, variance))
            heat = 2 * logits.detach().std(1, keepdim=True)
            p = (logits / heat).softmax(1)
            return (-(p * p.log()).sum(1, keepdim=True) * heat**2).mean()

        gradient = differentiate(loss, theta)
        theta = [value - rate * g for value, g in zip(theta, gradient, strict=True)]
        run.check(theta, evaluate(theta, case.images, (mean, variance)))
        assert float(torch.cat([g.flatten() for g in gradient]).norm()) > 1e-2


def test_intent_as_published():
    run = Run(InTEnt())
    for case in run.cases():
        image = unbiased(case.images)
        maps, scores = [], []
        for step in range(6):
            p = evaluate(run.theta, case.images, mix(run.moments, image, step / 5)).softmax(1)
            doubt, is_inside = -(p * p.log()).sum(1), p[:, 1] > p[:, 0]
            maps.append(p)
            scores.append((doubt[is_inside].mean() + doubt[~is_inside].mean()) / 2)
        doubts = torch.stack(scores)
        weights = ((doubts.max() - doubts) / (doubts.max() - doubts.min())).softmax(0)
        expected = sum(w * p for w, p in zip(weights, maps, strict=True))
        torch.testing.assert_close(run.found.softmax(1).double(), expected, rtol=0, atol=1e-6)
        run.check(run.theta)
        torch.testing.assert_close(source_moments(run.state.network), run.moments)
