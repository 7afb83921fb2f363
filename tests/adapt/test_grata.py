"""GraTa against values worked out by hand, and against plain autograd."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from grata_monai import GraTa
from grata_monai.adapt.heads import HEAD_LOSSES
from grata_monai.core.errors import AdaptationError
from grata_monai.networks import MultiTaskUNet

HAND = {
    "base": "paper",
    "parameters": ["all"],
    "weak_views": ["identity", "flip:0"],
    "base_rate": 0.1,
    "image_share": 0.0,
}


def two_parameters() -> nn.Conv2d:
    """f(x) = w·x + b on a single voxel, with w = .5 and b = -.2."""
    network = nn.Conv2d(1, 1, 1)
    with torch.no_grad():
        network.weight.fill_(0.5)
        network.bias.fill_(-0.2)
    return network


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def test_step_on_two_parameters_equals_the_sum_done_by_hand():
    x, strong, w, b = 1.0, 3.0, 0.5, -0.2
    # 1. entropy -p·log(p + ε) and its gradient at θ
    p = sigmoid(w * x + b)
    entropy = -p * math.log(p + 1e-6)
    slope = -(math.log(p + 1e-6) + p / (p + 1e-6)) * p * (1 - p)
    g_a = (slope * x, slope)
    # 2. θ' = θ - g_a, pseudo-label there
    w1, b1 = w - g_a[0], b - g_a[1]
    label = sigmoid(w1 * x + b1)
    # 3. cross entropy of the strong view against the label, gradient at θ'
    q = sigmoid(w1 * strong + b1)
    loss = -(label * math.log(q) + (1 - label) * math.log(1 - q))
    g_p = ((q - label) * strong, q - label)
    # 4. cosine, rate, first step of Adam: η·g/(|g| + 1e-8)
    cosine = (g_a[0] * g_p[0] + g_a[1] * g_p[1]) / (math.hypot(*g_a) * math.hypot(*g_p))
    rate = 0.1 * (cosine + 1) ** 2 / 4
    expected = [v - rate * g / (abs(g) + 1e-8) for v, g in zip((w, b), g_p, strict=True)]

    grata = GraTa(two_parameters(), HAND, strong_view=lambda images: images * 3)
    step = grata.step(torch.ones(1, 1, 1, 1))

    assert step.auxiliary_loss == pytest.approx(entropy, abs=1e-6)
    assert step.pseudo_loss == pytest.approx(loss, abs=1e-6)
    assert step.cosine == pytest.approx(cosine, abs=1e-6)
    assert step.rate == pytest.approx(rate, abs=1e-7)
    moved = [grata.network.weight.item(), grata.network.bias.item()]
    assert moved == pytest.approx(expected, abs=1e-6)
    assert step.update_norm == pytest.approx(math.hypot(moved[0] - w, moved[1] - b), abs=1e-6)


def batch_norm_network() -> nn.Sequential:
    generator = torch.Generator().manual_seed(3)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 2, 1),
    )
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.8 - 0.3)
        for layer in network:
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_var.abs_().add_(0.5)
    return network


def run_plain_autograd(network, images, strong, *, steps, base_rate):
    """GraTa as METHOD.md states it, in train mode so that torch itself takes batch statistics."""
    model = copy.deepcopy(network).train()
    parameters = [p for m in model if isinstance(m, nn.BatchNorm2d) for p in (m.weight, m.bias)]
    optimizer = torch.optim.Adam(parameters, lr=base_rate)
    trace = []
    for _ in range(steps):
        theta = [p.detach().clone() for p in parameters]
        p = torch.sigmoid(model(images))
        entropy = (-p * torch.log(p + 1e-6)).sum(1).mean()
        g_a = torch.autograd.grad(entropy, parameters)
        with torch.no_grad():
            for parameter, g in zip(parameters, g_a, strict=True):
                parameter.sub_(g)
            views = [torch.sigmoid(model(images))]
            views += [torch.sigmoid(model(images.flip(axis))).flip(axis) for axis in (2, 3)]
            views += [
                torch.sigmoid(model(images.rot90(k, (2, 3)))).rot90(-k, (2, 3)) for k in (1, 2, 3)
            ]
            label = torch.stack(views).mean(0)
        loss = functional.binary_cross_entropy_with_logits(model(strong), label)
        g_p = torch.autograd.grad(loss, parameters)
        flat_a = torch.cat([g.flatten() for g in g_a])
        flat_p = torch.cat([g.flatten() for g in g_p])
        cosine = torch.dot(flat_a, flat_p) / (flat_a.norm() * flat_p.norm())
        rate = base_rate * (cosine.item() + 1) ** 2 / 4
        with torch.no_grad():
            for parameter, value in zip(parameters, theta, strict=True):
                parameter.copy_(value)
        for parameter, g in zip(parameters, g_p, strict=True):
            parameter.grad = g
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        trace.append((entropy.item(), loss.item(), cosine.item(), rate))
    return model, parameters, trace


def test_paper_recipe_equals_an_independent_computation_with_plain_autograd():
    network = batch_norm_network()
    images = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    strong = (images * 0.7 + 0.1).sqrt()
    recipe = {"base": "paper", "base_rate": 0.05, "steps": 3}
    grata = GraTa(network, recipe, activation="sigmoid", strong_view=lambda _: strong)
    steps = list(grata.adapt(images))

    model, parameters, trace = run_plain_autograd(network, images, strong, steps=3, base_rate=0.05)

    for step, (entropy, loss, cosine, rate) in zip(steps, trace, strict=True):
        assert step.auxiliary_loss == pytest.approx(entropy, abs=1e-6)
        assert step.pseudo_loss == pytest.approx(loss, abs=1e-6)
        assert step.cosine == pytest.approx(cosine, abs=2e-5)
        assert step.rate == pytest.approx(rate, abs=1e-6)
    for ours, theirs in zip(grata.moving.tensors, parameters, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    with torch.no_grad():
        torch.testing.assert_close(grata.predict(images), model(images), atol=1e-5, rtol=1e-5)


def test_the_callers_network_and_images_stay_as_they_are():
    network = batch_norm_network()
    before = copy.deepcopy(network.state_dict())
    images = torch.rand(1, 3, 16, 16)
    untouched = images.clone()
    list(GraTa(network, {"base": "paper", "base_rate": 0.1}).adapt(images))
    assert torch.equal(images, untouched)
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert network.training
    assert all(p.requires_grad and p.grad is None for p in network.parameters())


def test_zero_rate_moves_nothing():
    network = batch_norm_network()
    grata = GraTa(network, {"base": "clinical", "base_rate": 0.0})
    steps = list(grata.adapt(torch.rand(1, 3, 16, 16)))
    assert [step.update_norm for step in steps] == [0.0] * len(steps)
    expected = network.state_dict()
    assert all(torch.equal(expected[k], v) for k, v in grata.network.state_dict().items())


def test_a_cosine_below_the_minimum_ends_the_adaptation_without_a_step():
    grata = GraTa(batch_norm_network(), {"base": "clinical", "min_cosine": 1.0, "steps": 4})
    steps = list(grata.adapt(torch.rand(1, 3, 16, 16)))
    assert [(step.is_taken, step.update_norm) for step in steps] == [(False, 0.0)]


def test_without_perturbation_and_dynamic_step_it_is_plain_consistency():
    network = batch_norm_network()
    images = torch.rand(1, 3, 16, 16)
    recipe = {
        "base": "paper",
        "perturbation": 0.0,
        "is_dynamic": False,
        "optimizer": "SGD",
        "base_rate": 0.3,
        "image_share": 0.0,
        "weak_views": ["identity"],
    }
    grata = GraTa(network, recipe, strong_view=lambda x: x * 0.5, activation="sigmoid")
    grata.step(images)
    model = copy.deepcopy(network).eval()
    label = torch.sigmoid(model(images)).detach()
    functional.binary_cross_entropy_with_logits(model(images * 0.5), label).backward()
    for index in (1, 4):
        expected = model[index].weight - 0.3 * model[index].weight.grad
        torch.testing.assert_close(grata.network[index].weight, expected)


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW", "RMSprop"])
def test_any_optimiser_of_torch_steps(optimizer):
    grata = GraTa(batch_norm_network(), {"base": "paper", "optimizer": optimizer, "steps": 2})
    assert all(step.update_norm > 0 for step in grata.adapt(torch.rand(1, 3, 16, 16)))


def test_state_goes_back_bit_for_bit():
    grata = GraTa(batch_norm_network(), "clinical")
    images = torch.rand(1, 3, 16, 16)
    state = grata.state_dict()
    first = list(grata.adapt(images))
    grata.load_state_dict(state)
    assert list(grata.adapt(images)) == first


def test_images_that_are_not_finite_raise_and_move_nothing():
    network = batch_norm_network()
    grata = GraTa(network, "clinical")
    with pytest.raises(AdaptationError, match="must be finite"):
        grata.step(torch.full((1, 3, 16, 16), float("nan")))
    expected = network.state_dict()
    assert all(torch.equal(expected[k], v) for k, v in grata.network.state_dict().items())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_steps_work_where_gradients_are_off(mode):
    grata = GraTa(batch_norm_network(), "clinical")
    with mode():
        assert grata.step(torch.rand(1, 3, 16, 16)).update_norm > 0


LOSSES = ["entropy_half", "consistency", *HEAD_LOSSES]


@pytest.mark.parametrize("auxiliary", LOSSES)
@pytest.mark.parametrize("pseudo", LOSSES)
def test_every_loss_plays_both_roles(auxiliary, pseudo):
    """θ ← θ − η·∇pseudo(θ − ρ·∇auxiliary(θ)), by autograd alone."""
    network = MultiTaskUNet(features=(4, 8)).eval().double()
    images = torch.rand(1, 1, 6, 6, 4, generator=torch.Generator().manual_seed(1)).double()
    recipe = {
        "auxiliary_loss": auxiliary,
        "pseudo_loss": pseudo,
        "weak_views": ["identity"],
        "optimizer": "SGD",
        "base_rate": 0.5,
        "perturbation": 0.1,
        "is_dynamic": False,
    }
    draws = torch.Generator().manual_seed(0)

    def slope(at: dict[str, Tensor], name: str) -> tuple[Tensor, dict[str, Tensor]]:
        made = copy.deepcopy(network)
        made.load_state_dict({**made.state_dict(), **at})
        moving = {key: value for key, value in made.named_parameters() if key in at}
        if name in HEAD_LOSSES:
            loss = HEAD_LOSSES[name](made, images, generator=draws)
        elif name == "consistency":
            log_p = made(0.8 * images).float().log_softmax(1)
            loss = -(made(images).float().softmax(1).detach() * log_p).sum(1).mean()
        else:
            p = made(images).float().softmax(1)
            loss = -(p * torch.log(p + 1e-6)).sum(1).mean()
        loss.backward()
        return loss, {
            key: torch.zeros_like(value) if value.grad is None else value.grad
            for key, value in moving.items()
        }

    grata = GraTa(network, recipe, strong_view=lambda x: 0.8 * x)
    theta = {
        f"{name}.{key}": value.detach().clone()
        for name, layer in network.named_modules()
        if isinstance(layer, nn.BatchNorm3d)
        for key, value in layer.named_parameters()
    }
    loss_a, g_a = slope(theta, auxiliary)
    loss_p, g_p = slope({key: theta[key] - 0.1 * g_a[key] for key in theta}, pseudo)

    step = grata.step(images)

    assert step.auxiliary_loss == pytest.approx(loss_a.item(), rel=1e-6)
    assert step.pseudo_loss == pytest.approx(loss_p.item(), rel=1e-6)
    after = dict(grata.network.named_parameters())
    for key, value in theta.items():
        torch.testing.assert_close(after[key].detach(), value - 0.5 * g_p[key])
    assert any(bool(g.abs().max() > 0) for g in g_p.values())
