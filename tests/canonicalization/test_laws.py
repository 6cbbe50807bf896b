"""Every canonicalizer keeps the laws, for every group, on every dtype, odd and even sizes, and batches of 0 and 1."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from equicli.canonicalization.canonicalizer import Pose
from equicli.groups import PlanarGroup, is_finite, parse_group
from equicli.groups.action import act, inscribed_disc
from equicli.groups.elements import inverse
from tests.canonicalization.examples import adapt, conv_canonicalizer, create, find, noise
from tests.laws import assert_equivariant, measure_equivariance

EXACT = ["c1", "c2", "c4", "d1", "d2", "d4"]
OFF_GRID = ["c3", "c8", "d8"]
QUARTERS = {"c3": "c1", "c8": "c4", "d8": "d4", "so2": "c4", "o2": "d4"}


class Confident(nn.Module):
    """Logits (b, 5) that no symmetry binds, for the energy of views."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 5, 5, stride=2), nn.Tanh(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(45, 5)
        )

    def forward(self, x):
        return 10 * self.layers(x.float())


def made(kind, group):
    if kind == "optimized":
        return create(kind, group, size=17, width=4, vector_size=16)
    return create(kind, group) if kind == "energy" else create(kind, group, size=17, width=8)


def confident():
    torch.manual_seed(1)
    return Confident().eval()


def smooth(b, side, seed=0):
    """Band-limited images (b, 3, side, side) of a few waves, in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    frequency = 8 * torch.rand(2, b, 3, 6, 1, 1, generator=generator) - 4
    phase = 6.3 * torch.rand(b, 3, 6, 1, 1, generator=generator)
    at = torch.linspace(-1, 1, side)
    return torch.sin(frequency[0] * at[:, None] + frequency[1] * at + phase).mean(dim=2)


finite = pytest.mark.parametrize("kind", ["optimized", "consensus", "equivariant", "energy"])


@finite
@pytest.mark.parametrize("group", EXACT)
@pytest.mark.parametrize("side", [16, 17])
@torch.inference_mode()
def test_exact_groups_keep_the_laws_bit_for_bit(kind, group, side):
    assert_equivariant(made(kind, group), parse_group(group), noise(5, side), network=confident())


@finite
@pytest.mark.parametrize("group", OFF_GRID)
@torch.inference_mode()
def test_the_quarter_turns_within_larger_groups_keep_the_laws_bit_for_bit(kind, group):
    steps = parse_group(QUARTERS[group])
    assert_equivariant(made(kind, group), steps, noise(5, 24), network=confident(), clear=1e-4)


@pytest.mark.parametrize("group", ["so2", "o2"])
@torch.inference_mode()
def test_a_steerable_canonicalizer_keeps_the_laws_at_quarter_turns(group):
    module = made("steerable", group)
    assert_equivariant(module, parse_group(QUARTERS[group]), noise(5, 24), pixels=1e-2, degrees=0.1)


# Scores of untrained networks differ by about 0.006 (energy: 0.3) between views.
@pytest.mark.parametrize(
    ("kind", "group", "atol", "clear"),
    [
        ("optimized", "c3", 1e-3, 0),
        ("optimized", "c8", 1e-3, 0),
        ("optimized", "d8", 1e-3, 0),
        ("consensus", "c8", 1e-3, 1e-4),  # which say even less
        ("equivariant", "c8", 5e-3, 3e-3),
        ("energy", "c8", 0.15, 0),
    ],
)
@torch.inference_mode()
def test_off_the_grid_the_laws_hold_closely_for_smooth_images(kind, group, atol, clear):
    module, x = made(kind, group), smooth(12, 64)
    assert_equivariant(module, parse_group(group), x, network=confident(), atol=atol, pixels=0.01, clear=clear)


@pytest.mark.parametrize(("group", "steps", "degrees", "share"), [("so2", "c8", 3, 0), ("o2", "d8", 8, 0.2)])
@torch.inference_mode()
def test_off_the_grid_a_steerable_canonicalizer_follows_smooth_images_within_degrees(group, steps, degrees, share):
    deviations = measure_equivariance(made("steerable", group), parse_group(steps), smooth(12, 64), degrees=degrees)
    assert max(d.poses for d in deviations) <= share


@given(
    kind=st.sampled_from(["optimized", "consensus", "equivariant", "energy"]),
    group=st.sampled_from(EXACT),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.uint8]),
    side=st.integers(10, 20),
    batch=st.integers(0, 3),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=60)
@torch.inference_mode()
def test_the_canonical_form_is_the_same_for_all_turned_images_and_turning_it_back_gives_the_image(
    kind, group, dtype, side, batch, seed
):
    module = made(kind, group)
    model = adapt(module, confident())
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 256, (batch, 3, side, side), generator=generator, dtype=torch.uint8)
    x = x if dtype == torch.uint8 else (x / 127.5 - 1).to(dtype)
    pose = model.find_pose(model.tensors(x))
    canonical = model.canonicalize(x)
    assert (canonical.shape, canonical.dtype) == (x.shape, dtype)
    assert torch.equal(act(module.group, pose.element, canonical), x)
    best = pose.scores.topk(min(2, module.group.order), dim=1).values
    clear = best[:, 0] - best[:, -1] >= (1e-4 if module.group.order > 1 else 0)
    for h in range(module.group.order):
        assert torch.equal(model.canonicalize(act(module.group, h, x))[clear], canonical[clear])


@pytest.mark.parametrize("group", ["c1", "c2", "d1", "d2"])
@torch.inference_mode()
def test_groups_without_quarter_turns_keep_the_laws_on_images_that_are_not_square(group):
    x = noise(4, 20)[..., :14, :]
    assert_equivariant(made("optimized", group), parse_group(group), x)


@pytest.mark.parametrize(
    ("kind", "group"), [("optimized", "c8"), ("equivariant", "d8"), ("steerable", "so2"), ("steerable", "o2")]
)
@torch.inference_mode()
def test_off_the_grid_turning_the_canonical_form_back_gives_nearly_the_image(kind, group):
    module, x = made(kind, group), smooth(6, 48)
    model, pose = adapt(module, confident()), find(module, x)
    back = act(module.group, pose.element, model.canonicalize(x))
    assert ((back - x) * inscribed_disc(48)).abs().max() < 0.05


@pytest.mark.parametrize("group", ["so2", "o2"])
@torch.inference_mode()
def test_every_pose_of_a_steerable_canonicalizer_is_orthogonal(group):
    element = made("steerable", group)(torch.cat([noise(32, 17), torch.zeros(1, 3, 17, 17)])).element
    torch.testing.assert_close(element @ element.mT, torch.eye(2).expand(33, 2, 2), atol=1e-5, rtol=0)
    assert group == "o2" or (torch.linalg.det(element) > 0).all()


@pytest.mark.parametrize(
    ("kind", "group"),
    [
        ("optimized", "c4"),
        ("optimized", "c8"),
        ("consensus", "d4"),
        ("equivariant", "d4"),
        ("energy", "c4"),
        ("steerable", "o2"),
    ],
)
@torch.inference_mode()
def test_canonicalizers_survive_copying_and_pickling_and_keep_nothing_between_calls(kind, group):
    module, x = made(kind, group), noise(3, 17)
    model = adapt(module, confident())
    before = set(vars(module))
    first = model(x)
    model(noise(2, 20))
    assert torch.equal(model(x), first)
    assert set(vars(module)) == before
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(again(x), first)


def test_a_canonicalizer_that_looks_at_one_view_only_breaks_the_laws_and_each_element_is_reported():
    class Lopsided(type(conv_canonicalizer("c4"))):
        def forward(self, x):
            pose = super().forward(x)
            return pose._replace(element=torch.zeros_like(pose.element))

    module = conv_canonicalizer("c4")
    module.__class__ = Lopsided
    with pytest.raises(AssertionError, match=r"h = r90: .*\nh = r180: .*\nh = r270: "):
        assert_equivariant(module, PlanarGroup(4), noise(6, 16))


def test_a_pose_that_does_not_turn_breaks_the_laws_of_a_continuous_group():
    module = made("steerable", "so2")
    module.forward = lambda x: Pose(torch.eye(2).expand(len(x), 2, 2))
    assert not is_finite(module.group)
    with pytest.raises(AssertionError, match="h = r90"):
        assert_equivariant(module, PlanarGroup(4), noise(4, 17), degrees=1, pixels=1)


@finite
@pytest.mark.parametrize("batch", [0, 1])
@torch.inference_mode()
def test_batches_of_none_and_one_have_poses(kind, batch):
    pose = find(made(kind, "c8"), noise(batch, 17), confident())
    assert (pose.element.shape, pose.scores.shape) == ((batch,), (batch, 8))
    assert inverse(parse_group("c8"), pose.element).shape == (batch,)
