import pytest
import torch

from equicli.evaluation.cache import OutputCache
from equicli.evaluation.turned import symmetrize, turn
from equicli.groups import PlanarGroup, parse_group
from equicli.groups.action import act
from tests.evaluation.handmade import ConvNetwork, noise

C4, D4, C8 = (parse_group(name) for name in ("c4", "d4", "c8"))


def test_turns_are_carried_out_one_after_the_other():
    x = noise(3).float()
    assert turn(x, []) is x
    chain = [(C8, 3), (C4, 1), (D4, 4)]
    assert torch.equal(turn(x, chain, "zeros"), act(D4, 4, act(C4, 1, act(C8, 3, x, padding="zeros"))))
    assert not torch.equal(turn(x, [(C8, 3)], "zeros"), turn(x, [(C8, 3)]))


@pytest.mark.parametrize("chain", [[(C4, 0)], [(C4, 1), (C4, 3)], [(D4, 5), (D4, 5)], [(C8, 6), (C4, 1)]], ids=str)
def test_exact_chains_that_compose_to_the_same_element_give_the_same_bits(chain):
    x = noise(2).float()
    assert torch.equal(turn(x, chain), x)


def test_turns_off_the_grid_are_not_composed_before_acting():
    x = noise(2).float()
    assert (turn(x, [(C8, 1), (C8, 7)]) - x).abs().max() > 1e-3


@pytest.mark.parametrize("turns", [[], [(C4, 1)], [(C8, 1)]], ids=str)
@pytest.mark.parametrize("group", [PlanarGroup(1), C4, D4], ids=lambda g: g.name)
def test_symmetrization_is_the_mean_of_the_probabilities_at_every_inverse(turns, group):
    network, x = ConvNetwork(), noise(3).float() / 255
    image = turn(x, turns)
    expected = torch.stack([network(act(group, group.inverse(g), image)).softmax(-1) for g in group.elements()])
    found = symmetrize(network, x, turns, group).exp()
    torch.testing.assert_close(found, expected.mean(0))
    torch.testing.assert_close(found.sum(1), torch.ones(3))


@pytest.mark.parametrize(
    ("elements", "group", "passes"), [("c4", "c4", 4), ("c4", "d4", 8), ("c2", "c4", 4), ("c1", "c1", 1)]
)
def test_symmetrization_of_every_exact_turn_costs_as_many_passes_as_there_are_views(elements, group, passes):
    seen = []
    network = torch.nn.Flatten()
    network.forward = lambda x: seen.append(len(x)) or x.flatten(1)[:, :5]
    elements, group, x = parse_group(elements), parse_group(group), noise(2).float()
    with OutputCache().in_front_of(network):
        for element in elements.elements():
            network(turn(x, [(elements, element)]))
            symmetrize(network, x, [(elements, element)], group)
    assert sum(seen) == 2 * passes
