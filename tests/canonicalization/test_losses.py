import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from equicli.canonicalization.losses import contrast_loss, prior_loss

IDENTITY = [0]


def unit_vectors(seed, order, size=5):
    vectors = torch.randn(3, order, size, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(vectors, dim=-1)


@pytest.mark.parametrize("order", [1, 2, 4, 8])
def test_uniform_scores_cost_the_logarithm_of_the_order(order):
    assert prior_loss(torch.full((3, order), 0.7), IDENTITY).item() == pytest.approx(math.log(order), abs=1e-6)


@pytest.mark.parametrize(("order", "opposite", "orthogonal"), [(4, 0.341, 0.744), (8, 0.667, 1.274)])
def test_without_a_temperature_the_prior_loss_cannot_fall_below_its_bound(order, opposite, orthogonal):
    best = -torch.ones(1, order)
    best[:, 0] = 1
    bound = prior_loss(best, IDENTITY).item()
    assert bound == pytest.approx(math.log(1 + (order - 1) / math.e**2), abs=1e-6) == pytest.approx(opposite, abs=1e-3)
    assert prior_loss(best.clamp(min=0), IDENTITY).item() == pytest.approx(orthogonal, abs=1e-3)
    cosines = torch.rand(1000, order, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert all(prior_loss(row[None], IDENTITY) >= bound for row in cosines)


@given(st.integers(0, 100), st.sets(st.integers(0, 7), min_size=1))
@settings(deadline=None, max_examples=30)
def test_a_set_prior_costs_minus_the_logarithm_of_the_sets_probability(seed, poses):
    scores = 3 * torch.randn(4, 8, generator=torch.Generator().manual_seed(seed))
    probability = scores.double().softmax(dim=1)[:, sorted(poses)].sum(dim=1)
    assert prior_loss(scores, sorted(poses)).item() == pytest.approx(-probability.log().mean().item(), abs=1e-5)


def test_a_prior_of_all_poses_costs_nothing():
    assert prior_loss(torch.randn(3, 4), range(4)).item() == pytest.approx(0, abs=1e-6)


def test_large_scores_do_not_overflow():
    scores = torch.tensor([[1e4, -1e4]])
    assert prior_loss(scores, [0]).item() == 0
    assert prior_loss(scores, [1]).item() == 2e4


@pytest.mark.parametrize("order", [2, 4, 8])
def test_identical_and_opposite_vectors_have_contrast_loss_one(order):
    same = unit_vectors(0, 1).expand(-1, order, -1)
    signs = torch.tensor([1.0, -1.0]).repeat(order // 2)[None, :, None]
    assert contrast_loss(same).item() == pytest.approx(1, abs=1e-6)
    assert contrast_loss(same * signs).item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("order", [2, 4, 8])
def test_orthogonal_vectors_have_contrast_loss_zero(order):
    assert contrast_loss(torch.eye(order).expand(3, -1, -1)).item() == 0


def test_the_trivial_group_has_contrast_loss_zero():
    assert contrast_loss(unit_vectors(0, 1)).item() == 0


@given(st.integers(0, 100), st.integers(2, 8))
@settings(deadline=None, max_examples=20)
def test_the_contrast_loss_is_the_mean_absolute_cosine_of_different_views(seed, order):
    vectors = unit_vectors(seed, order)
    pairs = [(g, h) for g in range(order) for h in range(order) if g != h]
    mean = torch.stack([(vectors[:, g] * vectors[:, h]).sum(-1).abs() for g, h in pairs]).mean()
    assert contrast_loss(vectors).item() == pytest.approx(mean.item(), abs=1e-6)


def test_losses_do_not_depend_on_how_often_an_image_is_in_the_batch():
    scores, vectors = torch.randn(3, 4), unit_vectors(1, 4)
    torch.testing.assert_close(prior_loss(scores.repeat(5, 1), [0]), prior_loss(scores, [0]))
    torch.testing.assert_close(contrast_loss(vectors.repeat(5, 1, 1)), contrast_loss(vectors))
