"""Vanilla, adapted, symmetrized and oracle: what each shows the network of a turned input, and what comes back."""

import pytest
import torch
from torch import nn

from equicli.canonicalization.prior import Prior
from equicli.data.normalization import HALF
from equicli.evaluation.cache import OutputCache
from equicli.evaluation.systems import SYSTEMS, Adapted, Oracle, Symmetrized, Turned, Vanilla, systems_of
from equicli.groups import PlanarGroup, parse_group
from equicli.groups.action import act
from equicli.policy import Mean
from equicli.prediction.inputs import Pictures, Tensors
from equicli.prediction.signature import Signature
from tests.evaluation.handmade import (
    AS_THEY_ARE,
    CPU,
    UPRIGHT,
    Compass,
    ConvNetwork,
    EdgeNetwork,
    adapted,
    finding_top,
    framed,
    noise,
    random_model,
)

C4, D4, C8 = (parse_group(name) for name in ("c4", "d4", "c8"))


def tensors(x, padding="edge"):
    return Tensors(x, HALF, padding=padding)


def turned(inputs, elements):
    """The inputs at every turn."""
    return [Turned(inputs if h == 0 else inputs.turned(elements, h), elements, h) for h in elements.elements()]


def answers_of(system, batch, ask):
    """What a system says of a batch at every turn."""
    memory = {}
    return [system.answer(turn, ask, memory) for turn in batch]


def shown(images):
    """Answers with what it was shown, as if that were logits."""
    return images.flatten(1) if not isinstance(images, list) else images


def seen_by(system, inputs, elements):
    """What the network is shown at every turn."""
    return [
        prediction.output.view_as(inputs.value) for prediction in answers_of(system, turned(inputs, elements), shown)
    ]


@pytest.mark.parametrize("elements", [C4, D4, PlanarGroup(2)], ids=lambda g: g.name)
def test_the_oracle_shows_untouched_pixels_whatever_the_turn_by_quarters_and_mirroring(elements):
    x = noise(2).float()
    for seen in seen_by(Oracle(random_model("d4"), UPRIGHT), tensors(x), elements):
        assert torch.equal(seen, x)


def test_the_quarters_within_a_larger_group_permute_pixels_too():
    x = noise(2).float()
    seen = seen_by(Oracle(random_model("c8"), UPRIGHT), tensors(x), C8)
    assert all(torch.equal(seen[h], x) for h in (0, 2, 4, 6))


def test_turns_off_the_grid_are_not_undone_before_they_are_made():
    """The oracle pays the interpolations that an adapted model pays."""
    x = noise(2).float()
    seen = seen_by(Oracle(random_model("c8"), UPRIGHT), tensors(x), C8)
    assert all((seen[h] - x).abs().max() > 1e-3 for h in (1, 3, 5, 7))
    assert torch.equal(seen[1], act(C8, 7, act(C8, 1, x)))


@pytest.mark.parametrize("padding", ["zeros", "reflect"])
def test_what_turned_images_show_from_outside_is_as_the_inputs_say(padding):
    x = noise(2).float()
    seen = seen_by(Vanilla(random_model()), tensors(x, padding), C8)
    assert torch.equal(seen[3], act(C8, 3, x, padding=padding))
    assert not torch.equal(seen[3], act(C8, 3, x))


def test_the_oracle_turns_to_the_pose_of_the_prior_and_a_set_to_its_first():
    x = noise(2).float()
    for prior, pose in (
        (Prior(("r90",)), 1),
        (Prior(("r180", "r0")), 2),
        (Prior(("r0", "r270"), (0.4, 0.6)), 3),
    ):
        oracle = Oracle(random_model(), prior)
        wanted = act(C4, C4.inverse(pose), x)
        assert all(torch.equal(seen, wanted) for seen in seen_by(oracle, tensors(x), C4))
        assert torch.equal(oracle.upright(tensors(x), C4, shown).view_as(x), wanted)


def test_a_pose_between_the_turns_is_undone_in_one_interpolation():
    """Of SO(2) the prior may name any angle; with R = C4 both are elements of a finer group."""
    x = noise(2).float()
    model = adapted(Compass(), ConvNetwork())
    (upright, *_) = seen_by(Oracle(model, Prior(("r30",))), tensors(x), C4)
    torch.testing.assert_close(upright, act(PlanarGroup(12), 11, x))


@pytest.mark.parametrize("elements", [PlanarGroup(1), C4, C8, D4], ids=lambda g: g.name)
@pytest.mark.parametrize("group", [PlanarGroup(1), C4, D4], ids=lambda g: g.name)
@torch.inference_mode()
def test_symmetrization_is_the_mean_of_the_probabilities_at_every_inverse(elements, group):
    network, x = ConvNetwork(), noise(3).float() / 255
    answers = answers_of(Symmetrized(random_model(), group), turned(tensors(x), elements), network)
    for h, answer in enumerate(answers):
        image = act(elements, h, x)
        wanted = torch.stack([network(act(group, group.inverse(g), image)).softmax(-1) for g in group.elements()])
        torch.testing.assert_close(answer.output.exp(), wanted.mean(0))
        torch.testing.assert_close(answer.output.exp().sum(1), torch.ones(3))
        assert answer.pose is None


@pytest.mark.parametrize(
    ("elements", "group", "passes"), [("c4", "c4", 4), ("c4", "d4", 8), ("c2", "c4", 4), ("c1", "c1", 1)]
)
def test_symmetrization_of_every_exact_turn_costs_as_many_passes_as_there_are_views(elements, group, passes):
    network, elements, group = EdgeNetwork(), parse_group(elements), parse_group(group)
    ask, batch = OutputCache().before(network), turned(tensors(noise(2).float()), elements)
    answers_of(Vanilla(random_model()), batch, ask)
    answers_of(Symmetrized(random_model(), group), batch, ask)
    assert network.seen == 2 * passes


def test_off_the_grid_turns_that_differ_by_an_element_of_the_group_share_their_passes():
    network = EdgeNetwork()
    answers_of(Symmetrized(random_model(), C4), turned(tensors(noise(2).float()), C8), network)
    assert network.passes == 2 * 4  # at 0° and 45°


def test_turns_that_the_group_lacks_are_not_left_out():
    network, batch = EdgeNetwork(), turned(tensors(noise(2).float()), C4)
    outputs = [answer.output for answer in answers_of(Symmetrized(random_model(), PlanarGroup(2)), batch, network)]
    assert torch.equal(outputs[0], outputs[2]) and not torch.allclose(outputs[0], outputs[1])


def test_an_adapted_model_asks_anew_at_every_turn_unless_equal_inputs_are_known_to_have_equal_outputs():
    network = EdgeNetwork()
    batch = turned(tensors(HALF(noise(3))), C4)
    ask = OutputCache().before(network)
    plain = answers_of(Adapted(finding_top(network)), batch, ask)
    assert network.seen == 3 * 4
    network.seen = 0
    cached = answers_of(Adapted(finding_top(network), cached=True), batch, ask)
    assert network.seen == 3  # all turns are shown to it in one pose
    assert all(torch.equal(a.output, b.output) for a, b in zip(plain, cached, strict=True))
    assert all(torch.equal(a.pose.element, b.pose.element) for a, b in zip(plain, cached, strict=True))


def test_keypoints_of_pictures_come_back_into_the_frame_of_the_turned_picture():
    """All but symmetrization, of which there is no mean, answer in the frame of h·x."""

    class Corner(nn.Module):
        def forward(self, x):
            return x.new_tensor([[0.5, 1.5]]).expand(len(x), 1, 2)

    network, images = Corner(), framed(0, 0, 0, 0)
    model = finding_top(network, signature=Signature("image", "keypoints"))
    inputs = Pictures(images, AS_THEY_ARE, CPU)
    frames = [tuple(image.shape[-2:]) for image in images]
    for system in (Adapted(model), Oracle(model, UPRIGHT)):
        for h, answer in enumerate(
            answers_of(system, turned(inputs, C4), lambda images: torch.cat([network(i[None]) for i in images]))
        ):
            wanted = [act(C4, h, torch.tensor([[0.5, 1.5]]), "keypoints", frame) for frame in frames]
            assert torch.equal(answer.output, torch.stack(wanted)), (system.name, h)


def test_systems_come_in_the_order_of_tables_and_only_those_that_are_named():
    model = random_model()
    assert [s.name for s in systems_of(model, UPRIGHT, C4, [*reversed(SYSTEMS)], cached=False)] == list(SYSTEMS)
    assert [s.name for s in systems_of(model, UPRIGHT, C4, ["oracle"], cached=False)] == ["oracle"]
    assert [s.cached for s in systems_of(model, UPRIGHT, C4, ["adapted"], cached=True)] == [True]


@pytest.mark.parametrize(
    ("model", "elements", "passes"),
    [
        (lambda: random_model("d4"), C4, [1, 1, 8, 1]),
        (lambda: random_model("d4", policy=Mean()), C4, [1, 8, 8, 1]),
        (lambda: adapted(Compass(), ConvNetwork()), C8, [1, 1, 8, 1]),
    ],
    ids=["of the adapted group", "of a mean", "of a continuous group, over the turns"],
)
def test_the_passes_of_each_system_are_told(model, elements, passes):
    assert [s.passes(None) for s in systems_of(model(), UPRIGHT, elements, SYSTEMS, cached=False)] == passes
