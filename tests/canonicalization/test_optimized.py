import math

import pytest
import torch
from torch import nn

from equicli.canonicalization.losses import contrast_loss, set_loss
from equicli.data.normalization import HALF, IMAGENET
from equicli.data.small_view import shrink
from equicli.groups import PlanarGroup, parse_group
from equicli.groups.action import act, views
from tests.canonicalization.examples import canonicalizer, conv_canonicalizer, find, noise, timm_canonicalizer
from tests.laws import assert_equivariant

ATOL = 1e-3  # of scores, which are cosines divided by a temperature of 0.1


@pytest.mark.parametrize("group", ["c1", "c2", "c4", "d1", "d2", "d4"])
@pytest.mark.parametrize("side", [10, 13, 16, 17, 40, 41])
@pytest.mark.parametrize("size", [16, 17])
@torch.inference_mode()
def test_a_random_conv_makes_an_exactly_equivariant_canonicalizer(group, side, size):
    assert_equivariant(conv_canonicalizer(group, size=size), parse_group(group), noise(6, side), atol=ATOL)


@pytest.mark.parametrize("group", ["c2", "c4"])
@pytest.mark.parametrize(("side", "size"), [(32, 32), (33, 33), (48, 33), (31, 32)])
@torch.inference_mode()
def test_any_timm_network_makes_an_exactly_equivariant_canonicalizer(group, side, size):
    assert_equivariant(timm_canonicalizer(group, size=size), parse_group(group), noise(4, side), atol=ATOL)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.inference_mode()
def test_half_precision_images_are_scored_in_float32_and_canonicalized_exactly(dtype):
    module, x = conv_canonicalizer("c4"), noise(6, 20, dtype)
    pose = find(module, x)
    assert pose.scores.dtype == pose.vectors.dtype == torch.float32
    assert torch.equal(pose.scores, find(module, x.float()).scores)
    assert_equivariant(module, PlanarGroup(4), x, atol=ATOL)


@pytest.mark.parametrize(("group", "steps"), [("c8", "c4"), ("d8", "d4"), ("c6", "c2")])
@pytest.mark.parametrize(("side", "size"), [(16, 16), (17, 17), (24, 17), (11, 16)])
@torch.inference_mode()
def test_a_larger_group_is_equivariant_on_its_quarter_turns(group, steps, side, size):
    assert_equivariant(conv_canonicalizer(group, size=size), parse_group(steps), noise(6, side), atol=ATOL)


@pytest.mark.parametrize("group", ["c1", "c4", "d4"])
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_a_pose_has_an_element_scores_and_unit_vectors_for_each_image(group, batch):
    module = conv_canonicalizer(group)
    order = module.group.order
    pose = find(module, noise(batch, 20))
    assert (pose.element.dtype, pose.element.shape) == (torch.int64, (batch,))
    assert (pose.scores.dtype, pose.scores.shape) == (torch.float32, (batch, order))
    assert pose.vectors.shape == (batch, order, 16)
    torch.testing.assert_close(pose.vectors.norm(dim=-1), torch.ones(batch, order))
    assert torch.equal(pose.element, pose.scores.argmax(dim=1))


def test_scores_are_cosines_with_the_unit_reference_over_the_temperature():
    module = canonicalizer("c4", nn.Sequential(nn.Flatten(), nn.Linear(3 * 17 * 17, 16)), temperature=0.25)
    x = noise(2, 17)
    vectors = module.network(views(PlanarGroup(4), x).flatten(0, 1)).unflatten(0, (2, 4))
    cosines = nn.functional.cosine_similarity(vectors, module.reference, dim=-1)
    assert module.reference.norm().item() == pytest.approx(1)
    torch.testing.assert_close(module(x).scores, cosines / 0.25)


@pytest.mark.parametrize(("learned", "used"), [(1e-6, 0.02), (0.02, 0.02), (0.3, 0.3), (1.0, 1.0), (50.0, 1.0)])
def test_the_temperature_is_clamped_to_its_range(learned, used):
    module, x = conv_canonicalizer("c4"), noise(2, 17)
    with torch.no_grad():
        module.log_temperature.fill_(math.log(learned))
    pose = module(x)
    torch.testing.assert_close(pose.scores * used, pose.vectors @ module.reference)


@pytest.mark.parametrize("normalization", [HALF, IMAGENET])
def test_the_network_sees_images_in_its_own_normalization(normalization):
    module = canonicalizer("c1", nn.Flatten(), vector_size=3 * 9 * 9, size=9, normalization=normalization)
    image = torch.rand(2, 3, 9, 9)
    expected = nn.functional.normalize(normalization(image).flatten(1), dim=1)
    torch.testing.assert_close(find(module, HALF(image)).vectors[:, 0], expected)


@pytest.mark.parametrize("build", [conv_canonicalizer, timm_canonicalizer])
def test_gradients_reach_every_parameter(build):
    module = build("c4").train()
    pose = module(noise(4, 33))
    (set_loss(pose.scores, [0]) + 0.1 * contrast_loss(pose.vectors)).backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("learned", [1e-3, 0.02, 1.0, 10.0])
def test_a_temperature_at_or_beyond_an_end_of_its_range_still_learns(learned):
    module = conv_canonicalizer("c4").train()
    with torch.no_grad():
        module.log_temperature.fill_(math.log(learned))
    set_loss(module(noise(4, 17)).scores, [0]).backward()
    assert module.log_temperature.grad.abs() > 0


def test_scores_stay_float32_when_training_in_mixed_precision():
    module = conv_canonicalizer("c4").train()
    with torch.autocast("cpu", torch.bfloat16):
        pose = module(noise(4, 17))
    assert (pose.scores.dtype, pose.vectors.dtype) == (torch.float32, torch.float32)


@torch.inference_mode()
def test_a_pose_does_not_depend_on_earlier_calls_or_on_other_images_of_the_batch():
    module, x = conv_canonicalizer("c4"), noise(5, 17)
    together = module(x)
    find(module, noise(2, 24))
    assert torch.equal(module(x).scores, together.scores)
    torch.testing.assert_close(torch.cat([module(one[None]).scores for one in x]), together.scores, atol=1e-4, rtol=0)


def test_only_what_is_learned_or_drawn_is_stored():
    module = conv_canonicalizer("c4")
    own = {key for key in module.state_dict() if not key.startswith("network.")}
    assert own == {"log_temperature", "reference"}


@pytest.mark.parametrize("side", [8, 16, 20, 31, 32, 64, 65])
@pytest.mark.parametrize("size", [16, 17])
def test_shrinking_commutes_with_quarter_turns_to_within_a_rounding(side, size):
    x, group = noise(2, side), PlanarGroup(4, True)
    small = shrink(x, size)
    assert (small.shape, small.dtype) == ((2, 3, size, size), torch.float32)
    for g in group.elements():
        torch.testing.assert_close(shrink(act(group, g, x), size), act(group, g, small), atol=1.2e-7, rtol=0)


def test_an_image_of_the_right_size_is_not_touched_by_shrinking():
    x = noise(1, 16)
    assert torch.equal(shrink(x, 16), x)
