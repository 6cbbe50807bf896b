import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equicli.canonicalization.canonicalizer import Pose
from equicli.canonicalization.losses import distribution_loss, rotation_loss, set_loss
from equicli.canonicalization.prior import SAME_POSE_DEGREES, Prior, same_pose
from equicli.groups import parse_group
from equicli.groups.action import act
from tests.canonicalization.examples import noise

GROUPS = [parse_group(name) for name in ("c2", "c4", "d1", "d2", "d4", "c8", "d8", "c6")]


@st.composite
def priors(draw, distribution=None):
    """A finite group and a set of its poses, or a distribution over them."""
    group = draw(st.sampled_from(GROUPS))
    poses = draw(st.lists(st.sampled_from(range(group.order)), min_size=1, unique=True))
    labels = tuple(group.label(g) for g in poses)
    if not (draw(st.booleans()) if distribution is None else distribution):
        return group, Prior(labels)
    numbers = [draw(st.sampled_from([1, 2, 3])) for _ in labels]
    return group, Prior(labels, tuple(number / sum(numbers) for number in numbers))


def test_a_prior_is_read_from_poses_or_from_shares_and_poses_without_a_share_are_left_out():
    assert Prior.of(["r0", "r180"], parse_group("c4")) == Prior(("r0", "r180"))
    assert Prior.of({"r0": 0.75, "r90": 0.0, "r180": 0.25}, parse_group("c4")) == Prior(("r0", "r180"), (0.75, 0.25))


def test_a_prior_is_written_as_poses_or_with_shares():
    assert str(Prior(("r0", "r0m"))) == "r0 or r0m"
    assert str(Prior(("r0", "r90"), (0.75, 0.25))) == "r0 75.0%, r90 25.0%"


@given(priors(distribution=False))
def test_the_main_pose_of_a_set_is_its_first(drawn):
    group, prior = drawn
    assert group.find(*prior.main) == prior.elements(group)[0]


@given(priors(distribution=True))
def test_the_main_pose_of_a_distribution_is_its_most_frequent(drawn):
    group, prior = drawn
    share = prior.distribution(group)
    assert share[group.find(*prior.main)] == share.max()
    assert share.sum().item() == pytest.approx(1)


def test_shares_are_put_in_the_order_of_the_group():
    assert Prior(("r270", "r0"), (0.75, 0.25)).distribution(parse_group("c4")).tolist() == [0.25, 0, 0, 0.75]
    assert Prior(("r0m", "r90"), (0.75, 0.25)).distribution(parse_group("d4")).tolist() == [
        0,
        0.25,
        0,
        0,
        0.75,
        0,
        0,
        0,
    ]


@given(priors())
def test_a_finite_prior_contains_its_poses_and_no_other(drawn):
    group, prior = drawn
    contained = prior.contains(group, torch.arange(group.order))
    assert contained.tolist() == [group.label(g) in prior.poses for g in range(group.order)]


@pytest.mark.parametrize(("group", "labels"), [("so2", ("r90",)), ("o2", ("r0", "r0m")), ("o2", ("r200m",))])
def test_a_continuous_prior_contains_what_is_within_a_few_degrees_of_a_pose_and_as_handed(group, labels):
    group, prior = parse_group(group), Prior(labels)
    for angle, mirrored in [(float(label.strip("rm")), "m" in label) for label in labels]:
        for off in (0, 0.9, -0.9, 1.1, -1.1, 5):
            element = group.find(angle + off * SAME_POSE_DEGREES, mirrored).float()[None]
            assert prior.contains(group, element).tolist() == [abs(off) < 1], (angle, off)
    if group.reflections and len(labels) == 1:
        assert not any(prior.contains(group, group.find(angle, False)[None]) for angle in range(0, 360, 5))


def test_poses_are_the_same_one_by_one_or_to_a_single_one():
    elements = torch.tensor([0, 3, 2])
    assert same_pose(parse_group("c4"), elements, torch.tensor([0, 1, 2])).tolist() == [True, False, True]
    assert same_pose(parse_group("c4"), elements, 3).tolist() == [False, True, False]
    group = parse_group("so2")
    turns = torch.stack([group.find(angle, False) for angle in (0, 5, 40)])
    assert same_pose(group, turns, turns.roll(1, 0)).tolist() == [False, True, False]


@pytest.mark.parametrize(("angle", "same"), [(0, True), (22, True), (23, False), (60, False), (180, False)])
def test_rotations_of_space_are_the_same_pose_within_a_few_degrees_about_any_axis(angle, same):
    group = parse_group("so3")
    poses = group.sample(9, torch.Generator().manual_seed(0))
    axes = group.sample(9, torch.Generator().manual_seed(1))
    turn = group.compose(group.compose(axes, group.find(angle, False)), group.inverse(axes))
    assert same_pose(group, group.compose(turn, poses).float(), poses).tolist() == [same] * 9
    assert Prior(("r0",)).contains(group, turn.float()).tolist() == [same] * 9


def mirrored_poses(group, prior):
    """The poses of mirrored images of the prior, found by looking: as many of each as there are in 360 images."""
    upright = noise(1, 9)
    shares = prior.shares or (1 / len(prior.poses),) * len(prior.poses)
    found = torch.zeros(group.order)
    for g, share in zip(prior.elements(group), shares, strict=True):
        image = act(group, g, upright).flip(-1)
        # A photo's mirror image is as good a photo, unless the group tells them apart.
        candidates = [upright] if group.find(0, True) is not None else [upright, upright.flip(-1)]
        poses = [h for h in range(group.order) for u in candidates if torch.equal(act(group, h, u), image)]
        assert len(poses) == 1
        found[poses[0]] += share
    return found


@given(priors())
def test_images_may_be_mirrored_just_where_mirrored_images_have_the_poses_of_the_prior(drawn):
    group, prior = drawn
    if not group.exact:
        return
    shares = torch.zeros(group.order)
    shares[prior.elements(group)] = torch.tensor(prior.shares or (1 / len(prior.poses),) * len(prior.poses))
    same = torch.allclose(mirrored_poses(group, prior), shares, atol=1e-6)
    assert prior.survives_mirroring(group) == same


@pytest.mark.parametrize(
    ("group", "poses", "survives"),
    [
        ("c4", ("r0",), True),
        ("c4", ("r0", "r180"), True),
        ("c4", ("r90",), False),
        ("c4", ("r90", "r270"), True),
        ("d4", ("r0", "r0m"), True),
        ("d4", ("r0",), False),
        ("d1", ("r0",), False),
        ("d4", ("r90", "r270m"), True),
        ("d4", ("r90", "r90m"), False),
        ("c8", ("r45", "r315"), True),
        ("so2", ("r0",), True),
        ("so2", ("r30",), False),
        ("so2", ("r30", "r330"), True),
        ("o2", ("r0", "r0m"), True),
        ("o2", ("r0",), False),
    ],
)
def test_mirroring_keeps_a_symmetric_prior(group, poses, survives):
    assert Prior(poses).survives_mirroring(parse_group(group)) == survives


def test_mirroring_keeps_a_distribution_only_with_its_shares():
    assert Prior(("r0", "r90", "r270"), (0.5, 0.25, 0.25)).survives_mirroring(parse_group("c4"))
    assert not Prior(("r90", "r270"), (0.75, 0.25)).survives_mirroring(parse_group("c4"))


def test_the_loss_is_that_of_a_set_of_a_distribution_or_of_rotations():
    group, scores = parse_group("c4"), torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    pose = Pose(scores.argmax(1), scores)
    assert torch.equal(Prior(("r90", "r180")).loss(group, pose), set_loss(scores, [1, 2]))
    shares = torch.tensor([0.25, 0, 0.75, 0])
    assert torch.equal(Prior(("r180", "r0"), (0.75, 0.25)).loss(group, pose), distribution_loss(scores, shares))
    group = parse_group("so2")
    element = group.sample(5, torch.Generator().manual_seed(0)).float()
    wanted = torch.stack([group.find(90, False), group.find(30, False)])
    assert torch.equal(Prior(("r90", "r30")).loss(group, Pose(element)), rotation_loss(element, wanted))
    assert Prior(("r90",)).loss(group, Pose(wanted[1:])).item() == pytest.approx(1 - math.cos(math.radians(60)))
