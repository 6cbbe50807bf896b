import math

import pytest
import torch

from equicli.canonicalization.fisher import log_density, mode
from equicli.groups.continuous import CONTINUOUS

GROUPS = ["so2", "o2"]


def parameters(count, reflections, scale=1.0):
    """F as networks give it: with one column for SO(2), with two for O(2)."""
    f = torch.randn(count, 2, 2, generator=torch.Generator().manual_seed(0)) * scale
    return f if reflections else f * torch.tensor([1.0, 0.0])


@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e-6, 1.0, 1e30])
@pytest.mark.parametrize("reflections", [False, True])
def test_modes_are_orthogonal_for_parameters_of_any_length_and_so_are_gradients_finite(reflections, scale):
    f = parameters(64, reflections, scale).requires_grad_()
    found = mode(f, reflections)
    torch.testing.assert_close(found @ found.mT, torch.eye(2).expand(64, 2, 2), atol=1e-5, rtol=0)
    assert reflections or (torch.linalg.det(found) > 0).all()
    found.sum().backward()
    assert f.grad.isfinite().all()


@pytest.mark.parametrize("reflections", [False, True])
def test_without_any_direction_the_mode_is_the_identity(reflections):
    f = torch.zeros(1, 2, 2, requires_grad=True)
    found = mode(f, reflections)
    assert torch.equal(found[0], torch.eye(2))
    (found.sum() + log_density(f, torch.eye(2)[None], reflections).sum()).backward()
    assert f.grad.isfinite().all()


@pytest.mark.parametrize("name", GROUPS)
def test_the_mode_turns_with_the_parameter(name):
    group = CONTINUOUS[name]
    h = group.sample(64, torch.Generator().manual_seed(0)).float()
    f = parameters(64, group.reflections)
    torch.testing.assert_close(mode(h @ f, group.reflections), h @ mode(f, group.reflections), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", GROUPS)
def test_the_mode_is_the_most_probable_and_probabilities_add_up_to_one(name):
    group = CONTINUOUS[name]
    steps = 720
    poses = torch.stack([group.find(360 * k / steps, False) for k in range(steps)])
    if group.reflections:
        poses = torch.cat([poses, poses @ torch.diag(torch.tensor([-1.0, 1.0], dtype=torch.float64))])
    f = parameters(16, group.reflections, 3.0)
    log_p = log_density(f, poses, group.reflections)
    torch.testing.assert_close(log_p.logsumexp(1) - math.log(len(poses)), torch.zeros(16), atol=1e-4, rtol=0)
    best = poses[log_p.argmax(1)].float()
    torch.testing.assert_close(mode(f, group.reflections), best, atol=0.01, rtol=0)


def test_the_gradient_of_the_mode_is_that_of_the_direction():
    f = torch.tensor([[[3.0, 0], [4.0, 0]]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f: mode(f, False), (f,))


def test_the_likelihood_has_a_slope_where_the_cosine_has_none():
    opposite = torch.tensor([[[-2.0, 0], [0, 0]]], requires_grad=True)
    log_density(opposite, torch.eye(2)[None], False).sum().backward()
    assert opposite.grad[0, 0, 0] > 1
    cosine = torch.tensor([[[-2.0, 0], [0, 0]]], requires_grad=True)
    mode(cosine, False)[:, 0, 0].sum().backward()
    assert cosine.grad.abs().max() < 1e-6
