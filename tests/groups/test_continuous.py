import pytest
import torch

from equicli.groups import parse_group
from equicli.groups.action import matrix
from tests.groups.examples import CONTINUOUS, QUARTERS, SPACE, draw, each, identity, seeded

all_continuous = each([*CONTINUOUS, *SPACE])


@all_continuous
def test_matrices_obey_the_group_laws(group):
    a, b, c = (draw(group, 20, seed) for seed in range(3))
    left, right = group.compose(group.compose(a, b), c), group.compose(a, group.compose(b, c))
    torch.testing.assert_close(left, right, atol=1e-14, rtol=0)
    one = identity(group)
    assert torch.equal(group.compose(a, one), a) and torch.equal(group.compose(one, a), a)
    for product in (group.compose(a, group.inverse(a)), group.compose(group.inverse(a), a)):
        torch.testing.assert_close(product, one.expand_as(a), atol=1e-14, rtol=0)
    # h acts first.
    torch.testing.assert_close(group.compose(a, b), a @ b)


@all_continuous
def test_drawn_elements_are_in_the_group(group):
    elements = draw(group, 200)
    assert (elements.dtype, elements.shape) == (torch.float64, (200, group.dimension, group.dimension))
    torch.testing.assert_close(elements @ elements.mT, identity(group).expand_as(elements), atol=1e-14, rtol=0)
    handedness = set(torch.linalg.det(elements).round().tolist())
    assert handedness == ({-1, 1} if group.name == "o2" else {1})
    if group.name == "so2z":
        assert (elements[:, 2] == torch.tensor([0, 0, 1])).all() and (elements[:, :, 2] == elements[0, :, 2]).all()


@all_continuous
def test_elements_are_drawn_uniformly(group):
    elements = group.sample(20_000, seeded())
    turned = group.compose(draw(group, 1, seed=5), elements)
    for moment in (elements, turned):
        d = 2 if group.name == "so2z" else group.dimension
        block = moment[:, :d, :d]
        torch.testing.assert_close(block.mean(0), torch.zeros(d, d, dtype=torch.float64), atol=0.02, rtol=0)
        torch.testing.assert_close(
            block.square().mean(0), torch.full((d, d), 1 / d, dtype=torch.float64), atol=0.02, rtol=0
        )


@all_continuous
@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_seed_gives_the_same_elements_again(group, count):
    drawn = group.sample(count, seeded(7))
    assert len(drawn) == count and torch.equal(drawn, group.sample(count, seeded(7)))


@each(CONTINUOUS)
def test_quarter_turns_compose_exactly(group):
    steps = range(8 if group.reflections else 4)
    for g in steps:
        for h in steps:
            composed = group.compose(matrix(QUARTERS, g), matrix(QUARTERS, h))
            assert torch.equal(composed, matrix(QUARTERS, QUARTERS.compose(g, h)))


@all_continuous
def test_mixed_precision_does_not_round_elements(group):
    a, b = draw(group, 5).float(), draw(group, 5, seed=1).float()
    with torch.autocast("cpu", torch.bfloat16):
        product = group.compose(a, group.inverse(b))
    assert torch.equal(product, group.compose(a, group.inverse(b)))


def test_so2_about_z_is_so2_of_the_first_two_axes():
    plane, space = parse_group("so2"), parse_group("so2z")
    assert torch.equal(space.sample(5, seeded())[:, :2, :2], plane.sample(5, seeded()))
