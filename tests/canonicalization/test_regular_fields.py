import copy
import pickle

import pytest
import torch
from torch import nn

from equicli.canonicalization.layers import make_plain
from equicli.canonicalization.regular_fields import RegularConv, regular_network
from equicli.canonicalization.sizes import nearest_size
from equicli.groups import parse_group
from equicli.groups.action import act
from tests.canonicalization.test_steerable_fields import settled, waves

ARCHITECTURES = ["gcnn", "gwrn"]
GROUPS = ["c1", "c2", "c3", "c4", "c6", "c8", "d1", "d2", "d3", "d4", "d8"]
# Of the scores at angles off the grid, relative to their spread over the group, for networks with random weights.
OFF_GRID = {"gcnn": 0.3, "gwrn": 0.6}


def network(group, architecture="gcnn", *, width=16, seed=0):
    torch.manual_seed(seed)
    return settled(regular_network(parse_group(group), architecture, width), 33)


def permuted(group, h, scores):
    """s(hg | ·) at g."""
    return scores[:, group.compose(torch.full((group.order,), h), torch.arange(group.order))]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", GROUPS)
@torch.inference_mode()
def test_scores_follow_quarter_turns_and_mirrorings_exactly(name, architecture):
    group, module = parse_group(name), network(name, architecture)
    x = torch.rand(4, 3, 33, 33)
    scores = module(x)
    assert scores.shape == (4, group.order)
    assert group.order == 1 or scores.std(1).mean() > 3e-4
    for h in group.elements():
        if group.angle(h) % 90 == 0:
            found = permuted(group, h, module(act(group, h, x)))
            torch.testing.assert_close(found, scores, atol=1e-5, rtol=0, msg=lambda m, h=h: f"{group.label(h)}: {m}")


@pytest.mark.parametrize(
    ("name", "architecture"), [("c3", "gcnn"), ("c8", "gwrn"), ("d3", "gwrn"), ("d8", "gcnn"), ("c6", "gcnn")]
)
@torch.inference_mode()
def test_scores_of_smooth_images_follow_other_elements_nearly(name, architecture):
    group, module = parse_group(name), network(name, architecture, width=32)
    image = waves(16, 33)
    scores = module(image())
    centred = scores - scores.mean(1, keepdim=True)
    for h in group.elements():
        found = permuted(group, h, module(image(torch.tensor(group.rows(h), dtype=torch.float64))))
        difference = found - found.mean(1, keepdim=True) - centred
        assert difference.norm() < OFF_GRID[architecture] * centred.norm(), group.label(h)


@pytest.mark.parametrize(("size", "nearest"), [(1, 17), (17, 17), (32, 33), (33, 33), (38, 41), (64, 65), (224, 225)])
def test_the_nearest_size_is_odd_at_every_stage(size, nearest):
    assert nearest_size(size) == nearest


def test_a_stride_on_an_even_size_breaks_the_law_and_on_an_odd_size_it_does_not():
    group = parse_group("c4")
    conv = nn.Sequential(RegularConv(group, 3, 1, 5, stride=2, images=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def error(size):
        x = torch.rand(2, 3, size, size)
        return (permuted(group, 1, conv(act(group, 1, x))) - conv(x)).abs().max() / conv(x).std()

    assert error(33) < 1e-4
    assert error(32) > 1e-2


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", ["c1", "c4", "c8", "d4", "d8"])
def test_a_trained_network_and_its_plain_copy_agree_and_have_the_state_dict_of_a_plain_build(name, architecture):
    group = parse_group(name)
    torch.manual_seed(0)
    module = regular_network(group, architecture, 16).train()
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        scores = module(torch.rand(8, 3, 17, 17))
        (scores.logsumexp(1) - scores[:, 0]).mean().backward()
        optimizer.step()
    x = torch.rand(4, 3, 33, 33)
    expected = module.eval()(x)
    plain = regular_network(group, architecture, 16, plain=True).eval()
    make_plain(module)
    plain.load_state_dict(module.state_dict())
    assert not any(isinstance(part, RegularConv) for part in plain.modules())
    torch.testing.assert_close(plain(x), expected, atol=1e-5, rtol=1e-5)
    for again in (copy.deepcopy(plain), pickle.loads(pickle.dumps(plain))):
        assert torch.equal(again(x), plain(x))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_network_learns_the_pose_that_it_is_trained_for(architecture):
    group = parse_group("c4")
    torch.manual_seed(0)
    module = regular_network(group, architecture, 16).train()
    x = torch.rand(16, 3, 17, 17) + torch.linspace(0, 1, 17)[:, None]  # brighter below
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    for _ in range(20):
        optimizer.zero_grad()
        scores = module(x)
        (scores.logsumexp(1) - scores[:, 0]).mean().backward()
        optimizer.step()
    assert all(p.grad.abs().max() > 0 for p in module.parameters())
    turned = act(group, 3, torch.rand(16, 3, 17, 17) + torch.linspace(0, 1, 17)[:, None])
    assert (module.eval()(turned).argmax(1) == 3).all()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("stored_in_training", [True, False])
def test_a_stored_network_is_rebuilt_whatever_its_mode(training, stored_in_training):
    state = network("d4").train(stored_in_training).state_dict()
    module = network("d4").train(training)
    again = network("d4", seed=1).train(training)
    again.load_state_dict(state)
    x = torch.rand(4, 3, 17, 17)
    assert torch.equal(again(x), module(x))


def test_only_weights_and_statistics_are_stored():
    module = network("c8")
    assert {key.rpartition(".")[-1] for key in module.state_dict()} == {
        "weight", "bias", "running_mean", "running_var", "num_batches_tracked",
    }  # fmt: skip


@pytest.mark.parametrize(("name", "width", "fields"), [("c4", 16, 4), ("c8", 16, 2), ("c16", 8, 2), ("d8", 32, 2)])
def test_the_width_is_in_channels_of_the_first_stage_with_at_least_two_fields(name, width, fields):
    group = parse_group(name)
    first = next(part for part in regular_network(group, "gcnn", width) if isinstance(part, RegularConv))
    assert first.kernel().shape == (fields * group.order, 3, 5, 5)


@pytest.mark.parametrize("n", [1, 2, 4, 6, 8])
@pytest.mark.parametrize("images", [True, False])
def test_kernels_span_the_space_of_those_of_escnn(escnn, n, images):
    space = escnn.gspaces.rot2dOnR2(n)
    regular = escnn.nn.FieldType(space, [space.regular_repr])
    before = escnn.nn.FieldType(space, [space.trivial_repr]) if images else regular
    expansion = escnn.nn.R2Conv(before, regular, 5, initialize=False).basisexpansion
    theirs = torch.stack([expansion(one).flatten() for one in torch.eye(expansion.dimension())])
    conv = RegularConv(parse_group(f"c{n}"), 1, 1, 5, images=images)
    ours = torch.autograd.functional.jacobian(
        lambda weight: torch.func.functional_call(Kernel(conv), {"conv.weight": weight}).flatten(), conv.weight.detach()
    ).flatten(1)
    ranks = [
        torch.linalg.matrix_rank(part.double(), rtol=1e-4) for part in (theirs, ours.T, torch.cat([theirs, ours.T]))
    ]
    assert ranks[0] == ranks[1] == ranks[2] == conv.weight.numel()


class Kernel(nn.Module):
    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self):
        return self.conv.kernel()
