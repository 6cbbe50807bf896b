import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from equicli.canonicalization.canonicalizer import Pose
from equicli.canonicalization.losses import (
    artifact_loss,
    contrast_loss,
    distribution_loss,
    rotation_loss,
    set_loss,
    straight_through,
)
from equicli.groups import parse_group
from equicli.groups.action import act, views
from equicli.groups.elements import distance, multiply
from tests.canonicalization.examples import conv_canonicalizer, noise
from tests.groups.examples import smooth

IDENTITY = [0]


def unit_vectors(seed, order, size=5):
    vectors = torch.randn(3, order, size, generator=torch.Generator().manual_seed(seed))
    return nn.functional.normalize(vectors, dim=-1)


@pytest.mark.parametrize("order", [1, 2, 4, 8])
def test_uniform_scores_cost_the_logarithm_of_the_order(order):
    assert set_loss(torch.full((3, order), 0.7), IDENTITY).item() == pytest.approx(math.log(order), abs=1e-6)


@pytest.mark.parametrize(("order", "opposite", "orthogonal"), [(4, 0.341, 0.744), (8, 0.667, 1.274)])
def test_without_a_temperature_the_set_loss_cannot_fall_below_its_bound(order, opposite, orthogonal):
    best = -torch.ones(1, order)
    best[:, 0] = 1
    bound = set_loss(best, IDENTITY).item()
    assert bound == pytest.approx(math.log(1 + (order - 1) / math.e**2), abs=1e-6) == pytest.approx(opposite, abs=1e-3)
    assert set_loss(best.clamp(min=0), IDENTITY).item() == pytest.approx(orthogonal, abs=1e-3)
    cosines = torch.rand(1000, order, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert all(set_loss(row[None], IDENTITY) >= bound for row in cosines)


@given(st.integers(0, 100), st.sets(st.integers(0, 7), min_size=1))
@settings(deadline=None, max_examples=30)
def test_a_set_prior_costs_minus_the_logarithm_of_the_sets_probability(seed, poses):
    scores = 3 * torch.randn(4, 8, generator=torch.Generator().manual_seed(seed))
    probability = scores.double().softmax(dim=1)[:, sorted(poses)].sum(dim=1)
    assert set_loss(scores, sorted(poses)).item() == pytest.approx(-probability.log().mean().item(), abs=1e-5)


def test_a_prior_of_all_poses_costs_nothing():
    assert set_loss(torch.randn(3, 4), range(4)).item() == pytest.approx(0, abs=1e-6)


def test_large_scores_do_not_overflow():
    scores = torch.tensor([[1e4, -1e4]])
    assert set_loss(scores, [0]).item() == 0
    assert set_loss(scores, [1]).item() == 2e4


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
    torch.testing.assert_close(set_loss(scores.repeat(5, 1), [0]), set_loss(scores, [0]))
    torch.testing.assert_close(contrast_loss(vectors.repeat(5, 1, 1)), contrast_loss(vectors))


SURE = 200.0  # a score that makes a probability of one


def one_hot(*poses, order=4):
    return SURE * nn.functional.one_hot(torch.tensor(poses), order).float()


def test_a_distribution_prior_costs_nothing_just_where_each_pose_is_certain_and_as_frequent_as_it_says():
    shares = torch.tensor([0.5, 0.25, 0.25, 0.0])
    assert distribution_loss(one_hot(0, 1, 0, 2), shares).item() == pytest.approx(0, abs=1e-6)
    assert distribution_loss(one_hot(2, 0, 0, 1), shares).item() == pytest.approx(0, abs=1e-6)
    for wrong in ((0, 0, 0, 1), (0, 1, 1, 2), (0, 1, 0, 3)):
        assert distribution_loss(one_hot(*wrong), shares) > 0.1


@given(st.integers(0, 100), st.integers(2, 8))
@settings(deadline=None, max_examples=30)
def test_a_distribution_prior_never_costs_less_than_nothing_and_most_where_every_sample_says_pi(seed, order):
    generator = torch.Generator().manual_seed(seed)
    shares = torch.rand(order, generator=generator).softmax(0)
    scores = 3 * torch.randn(5, order, generator=generator)
    entropy = -(shares * shares.log()).sum().item()
    assert distribution_loss(scores, shares) >= 0
    # p = π for every x, the optimum of a KL divergence per sample, costs the entropy of π.
    assert distribution_loss(shares.log().expand(5, -1), shares).item() == pytest.approx(entropy, abs=1e-5)


def test_a_distribution_prior_pulls_samples_that_say_pi_towards_certainty():
    shares = torch.tensor([0.5, 0.5, 0.0, 0.0]) + 1e-6
    scores = shares.log().expand(8, -1) + 0.01 * torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    scores = scores.clone().requires_grad_()
    optimizer = torch.optim.Adam([scores], lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        loss = distribution_loss(scores, shares)
        loss.backward()
        optimizer.step()
    assert scores.softmax(dim=1).amax(dim=1).min() > 0.95
    assert {3, 4, 5} >= set(scores.argmax(dim=1).bincount(minlength=4)[:2].tolist())


def rotations(seed, count, group="so2"):
    return parse_group(group).sample(count, torch.Generator().manual_seed(seed)).float()


@given(st.integers(0, 100), st.sampled_from(["so2", "o2"]))
@settings(deadline=None, max_examples=20)
def test_a_rotation_prior_costs_the_mean_square_of_the_entries_of_the_difference(seed, group):
    found, wanted = rotations(seed, 6, group), rotations(seed + 1, 1, group)
    assert rotation_loss(found, wanted).item() == pytest.approx((found - wanted).square().mean().item(), abs=1e-6)


@given(st.floats(0, 360))
def test_a_rotation_prior_costs_one_minus_the_cosine_of_the_angle(angle):
    group = parse_group("so2")
    found = group.find(angle + 30, False).float()[None]
    wanted = group.find(30, False)[None]
    assert rotation_loss(found, wanted).item() == pytest.approx(1 - math.cos(math.radians(angle)), abs=1e-5)


@pytest.mark.parametrize("group", ["so2", "o2", "so3", "so2z"])
def test_a_rotation_that_is_its_pose_costs_nothing_in_the_plane_and_in_space(group):
    found = rotations(0, 6, group)
    assert rotation_loss(torch.eye(found.shape[-1])[None], torch.eye(found.shape[-1])[None]).item() == 0
    assert rotation_loss(found, found).item() == pytest.approx(0, abs=1e-6)
    turn = parse_group(group).find(60, False).float()
    assert artifact_loss(parse_group(group), Pose(found), Pose(found), turn).item() == pytest.approx(0.5, abs=1e-5)


@given(st.integers(0, 100))
@settings(deadline=None, max_examples=20)
def test_in_space_a_rotation_prior_costs_one_minus_the_cosine_of_the_angle_about_any_axis(seed):
    group, found, wanted = parse_group("so3"), rotations(seed, 6, "so3"), rotations(seed + 1, 1, "so3")
    expected = (1 - distance(group, found, wanted).deg2rad().cos()).mean().item()
    assert rotation_loss(found, wanted).item() == pytest.approx(expected, abs=1e-5)
    assert expected == pytest.approx((found - wanted).square().sum((-2, -1)).mean().item() / 4, abs=1e-5)


def test_of_several_rotations_the_nearest_counts_and_wrong_handedness_costs_one():
    group = parse_group("o2")
    poses = torch.stack([group.find(0, False), group.find(180, False)])
    found = torch.stack([group.find(170, False), group.find(60, False)]).float()
    expected = 1 - (math.cos(math.radians(10)) + math.cos(math.radians(60))) / 2
    assert rotation_loss(found, poses).item() == pytest.approx(expected, abs=1e-6)
    assert rotation_loss(group.find(25, True).float()[None], poses).item() == pytest.approx(1, abs=1e-6)


@given(st.integers(0, 100), st.sampled_from(["c4", "d4", "c8", "d3"]), st.data())
@settings(deadline=None, max_examples=30)
def test_scores_that_turn_with_the_image_have_no_artifacts_and_others_have(seed, name, data):
    group = parse_group(name)
    h = data.draw(st.integers(1, group.order - 1))
    scores = 2 * torch.randn(3, group.order, generator=torch.Generator().manual_seed(seed))
    turned = torch.empty_like(scores)
    turned[:, multiply(group, h, torch.arange(group.order))] = scores
    pose = Pose(scores.argmax(1), scores)
    assert artifact_loss(group, pose, Pose(turned.argmax(1), turned), h).item() == pytest.approx(0, abs=1e-6)
    other = turned + torch.randn(scores.shape, generator=torch.Generator().manual_seed(seed + 1))
    assert artifact_loss(group, pose, Pose(other.argmax(1), other), h) > 1e-3


def test_the_artifact_loss_is_the_divergence_of_what_was_found_from_what_the_untouched_image_says():
    group = parse_group("c3")
    p, q = torch.tensor([[0.7, 0.2, 0.1]]), torch.tensor([[0.1, 0.6, 0.3]])
    # h = r120 takes p to (0.1, 0.7, 0.2).
    expected = 0.1 * math.log(0.1 / 0.1) + 0.7 * math.log(0.7 / 0.6) + 0.2 * math.log(0.2 / 0.3)
    given_, found = p.log().requires_grad_(), q.log().requires_grad_()
    loss = artifact_loss(group, Pose(given_.argmax(1), given_), Pose(found.argmax(1), found), 1)
    loss.backward()
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    assert given_.grad is None and found.grad.abs().max() > 0


@pytest.mark.parametrize("group", ["so2", "o2", "so3", "so2z"])
def test_rotations_that_turn_with_the_image_have_no_artifacts_and_others_one_minus_the_cosine(group):
    group, element = parse_group(group), rotations(0, 4, group)
    h = group.find(70, group.reflections)
    turned = multiply(group, h, element)
    assert artifact_loss(group, Pose(element), Pose(turned), h).item() == pytest.approx(0, abs=1e-6)
    off = group.compose(group.find(20, False).float(), turned)
    expected = 1 - math.cos(math.radians(20))
    assert artifact_loss(group, Pose(element), Pose(off), h).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("group", ["c2", "c4", "d4", "c8"])
@pytest.mark.parametrize("padding", ["edge", "zeros"])
def test_straight_through_shows_the_chosen_view_bit_for_bit_and_the_gradient_of_the_weighted_sum(group, padding):
    group, x = parse_group(group), noise(3, 12)
    scores = torch.randn(3, group.order, generator=torch.Generator().manual_seed(1)).requires_grad_()
    pose = Pose(scores.argmax(dim=1), scores)
    shown = straight_through(group, pose, x, padding)
    assert torch.equal(shown, act(group, group.inverse(pose.element), x, padding=padding))

    p = scores.softmax(dim=1)
    choice = nn.functional.one_hot(pose.element, group.order) + p - p.detach()
    weighted = (choice[:, :, None, None, None] * views(group, x, padding=padding)).sum(dim=1)
    weights = torch.randn(shown.shape, generator=torch.Generator().manual_seed(2))
    found, expected = (torch.autograd.grad((value * weights).sum(), scores)[0] for value in (shown, weighted))
    assert expected.abs().max() > 1e-2
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_gradients_pass_straight_through_to_the_canonicalization_network():
    module, x = conv_canonicalizer("c4").train(), noise(4, 17)
    straight_through(module.group, module(x), x, "edge").square()[..., 0, :].mean().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_the_gradient_of_a_rotation_reaches_the_vector_that_it_comes_from():
    group, x = parse_group("so2"), smooth(33).double().expand(4, -1, -1, -1)
    axis = torch.arange(-16, 17, dtype=torch.float64)
    weights = torch.exp(-(axis[:, None] ** 2 + axis**2) / 60) * axis  # no edge of the image moves what is summed
    # No pixel comes to lie on another, where bilinear interpolation has a kink.
    vectors = torch.tensor([[2.0, 0.6137], [-0.4123, 0.9], [-1.0, -0.3071], [0.5, -0.4219]], dtype=torch.float64)

    def loss(vectors):
        cos, sin = nn.functional.normalize(vectors, dim=1).unbind(dim=1)
        element = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
        shown = straight_through(group, Pose(element), x, "edge")
        assert torch.equal(shown, act(group, group.inverse(element), x))
        return (shown * weights).sum((1, 2, 3))

    gradient = torch.autograd.functional.jacobian(lambda v: loss(v).sum(), vectors)
    step = 1e-5
    for away in torch.eye(2, dtype=torch.float64) * step:
        slopes = (loss(vectors + away) - loss(vectors - away)) / (2 * step)
        assert slopes.abs().min() > 0.1
        torch.testing.assert_close((gradient * away).sum(1) / step, slopes, rtol=1e-4, atol=1e-4)
