"""The matrix Fisher distribution on SO(3), beside means over random rotations."""

import torch

from equicli.canonicalization.losses import vertical_loss
from equicli.canonicalization.points.fisher import log_density, log_density_of_vertical, log_normalization
from equicli.groups import parse_group

SO3 = parse_group("so3")
ROTATIONS = SO3.sample(200_000, torch.Generator().manual_seed(0))


def test_the_normalization_is_the_mean_over_all_rotations_of_any_handedness():
    parameter = 1.5 * torch.randn(4, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert {-1.0, 1.0} == set(torch.linalg.det(parameter).sign().tolist())
    means = torch.stack([torch.einsum("ij,nij->n", f, ROTATIONS).exp().mean().log() for f in parameter])
    assert torch.allclose(log_normalization(parameter), means, atol=0.02)
    assert torch.allclose(log_normalization(torch.zeros(1, 3, 3)), torch.zeros(1), atol=1e-6)


def test_it_neither_overflows_nor_loses_its_gradient_where_the_pose_is_sure():
    for length in (1e-6, 1.0, 1e2, 1e4):
        parameter = (length * torch.eye(3)[None]).requires_grad_()
        value = log_density(parameter, torch.eye(3)[None]).sum()
        value.backward()
        assert value.isfinite() and parameter.grad.isfinite().all()
        turned = log_density(parameter.detach(), SO3.sample(5).float())
        assert (turned <= value.detach()).all()


def test_of_the_vertical_alone_the_density_is_that_of_a_direction():
    parameter = torch.zeros(1, 3, 3, dtype=torch.float64)
    parameter[0, :, 2] = torch.tensor([0.5, -1.0, 2.0])
    # A heading of any length says nothing of the vertical.
    parameter[0, :, 0] = torch.tensor([3.0, 0.0, 0.0])
    mean = (ROTATIONS[:, :, 2] @ parameter[0, :, 2]).exp().mean().log()
    assert torch.allclose(log_density_of_vertical(parameter), 2.0 - mean, atol=0.02)
    assert log_density_of_vertical(torch.zeros(1, 3, 3)).abs().item() < 1e-6
    upright, fallen = torch.eye(3)[None], torch.eye(3)[[2, 0, 1]][None]
    assert (float(vertical_loss(upright, None)), float(vertical_loss(fallen, None))) == (0, 1)
