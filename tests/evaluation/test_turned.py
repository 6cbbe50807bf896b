import pytest
import torch

from equicli.evaluation.turned import TurnedBatch
from equicli.groups import PlanarGroup, parse_group
from equicli.groups.action import act
from tests.evaluation.handmade import ConvNetwork, EdgeNetwork, noise

C4, D4, C8 = (parse_group(name) for name in ("c4", "d4", "c8"))
CHAINS = [
    [],
    [(C4, 3)],
    [(C4, 1), (C4, 2), (C4, 3)],
    [(D4, 5), (C4, 1)],
    [(C8, 2), (D4, 6)],
    [(C8, 1)],
    [(C8, 1), (C8, 7)],
    [(C8, 3), (C4, 1), (D4, 4)],
]


def carry_out(turns, image):
    for group, element in turns:
        image = act(group, element, image)
    return image


@pytest.mark.parametrize("turns", CHAINS, ids=str)
def test_logits_are_those_of_the_images_turned_one_turn_after_the_other(turns):
    network, x = ConvNetwork(), noise(3).float()
    turned = TurnedBatch(network, [x, x + 1])
    for variant, untouched in enumerate((x, x + 1)):
        image = carry_out(turns, untouched)
        assert torch.equal(turned.images(variant, turns), image)
        assert torch.equal(turned.logits(variant, turns), network(image))


def test_exact_chains_that_compose_to_the_same_element_cost_one_pass():
    network = EdgeNetwork()
    turned = TurnedBatch(network, [noise(2).float()])
    chains = [[], [(C4, 0)], [(C4, 1), (C4, 3)], [(D4, 5), (D4, 5)], [(C8, 6), (C4, 1)]]
    outputs = [turned.logits(0, chain) for chain in chains]
    assert network.passes == 1
    assert all(torch.equal(output, outputs[0]) for output in outputs)


@pytest.mark.parametrize(
    ("elements", "group", "passes"), [("c4", "c4", 4), ("c4", "d4", 8), ("c2", "c4", 4), ("c1", "c1", 1)]
)
def test_every_exact_turn_of_an_evaluation_costs_one_pass(elements, group, passes):
    network, elements, group = EdgeNetwork(), parse_group(elements), parse_group(group)
    turned = TurnedBatch(network, [noise(2).float()])
    for element in elements.elements():
        turned.logits(0, [(elements, element)])
        turned.mean_probabilities(0, [(elements, element)], group)
        turned.logits(0, [(elements, element), (elements, elements.inverse(element))])
    assert network.passes == passes


def test_turns_off_the_grid_are_not_composed_before_acting():
    turned = TurnedBatch(ConvNetwork(), [noise(2).float()])
    there_and_back = turned.logits(0, [(C8, 1), (C8, 7)])
    assert (there_and_back - turned.logits(0, [])).abs().max() > 1e-3


def test_another_variant_is_another_picture():
    turned = TurnedBatch(EdgeNetwork(), [noise(2).float(), noise(2).float() + 50])
    assert not torch.equal(turned.logits(0, []), turned.logits(1, []))


@pytest.mark.parametrize("turns", [[], [(C4, 1)], [(C8, 1)]], ids=str)
@pytest.mark.parametrize("group", [PlanarGroup(1), C4, D4], ids=lambda g: g.name)
def test_symmetrization_is_the_mean_of_the_probabilities_at_every_inverse(turns, group):
    network, x = ConvNetwork(), noise(3).float() / 255
    image = carry_out(turns, x)
    expected = torch.stack([network(act(group, group.inverse(g), image)).softmax(-1) for g in group.elements()])
    found = TurnedBatch(network, [x]).mean_probabilities(0, turns, group)
    torch.testing.assert_close(found, expected.mean(0))
    torch.testing.assert_close(found.sum(1), torch.ones(3))


def test_logits_are_float32_whatever_the_network_computes_in():
    turned = TurnedBatch(torch.nn.Sequential(torch.nn.Flatten()).bfloat16(), [noise(1).bfloat16()])
    assert turned.logits(0, []).dtype == torch.float32
