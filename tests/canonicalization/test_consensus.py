import pytest
import torch
from torch import nn

from equicli.canonicalization.consensus import ConsensusCanonicalizer, ConsensusSpec
from equicli.canonicalization.losses import set_loss
from equicli.data.normalization import HALF
from equicli.groups import parse_group
from equicli.groups.action import act
from equicli.prediction.network import NetworkSpec
from tests.canonicalization.examples import context, create, noise

SIZE = 17


class WhereIsTheBrightDot(nn.Module):
    """Logits (b, |G|): 1 for the pose of a picture with one bright dot, which is at the top of upright ones."""

    def __init__(self, group):
        super().__init__()
        upright = torch.zeros(1, 3, SIZE, SIZE)
        upright[..., 0, 4] = 1  # left of the middle, so that its mirror image is another
        self.templates = torch.cat([act(parse_group(group), g, upright) for g in parse_group(group).elements()])

    def forward(self, x):
        return torch.einsum("bchw,gchw->bg", x.clamp(min=0), self.templates) / 3


def consensus(group, network, poses=None):
    order = parse_group(poses or group).order
    spec = ConsensusSpec(NetworkSpec("python", "test"), HALF, SIZE, order, poses or group)
    module = ConsensusCanonicalizer(spec, context(group), network).eval()
    nn.init.eye_(module.pose_logits.weight)  # the network's own logits
    nn.init.zeros_(module.pose_logits.bias)
    return module


@pytest.mark.parametrize("group", ["c2", "c4", "d1", "d2", "d4"])
def test_what_all_views_say_of_themselves_adds_up_to_the_pose(group):
    network = WhereIsTheBrightDot(group)
    pose = consensus(group, network)(network.templates)
    order = len(network.templates)
    assert pose.element.tolist() == list(range(order))
    assert torch.equal(pose.scores, order * torch.eye(order))  # each view is right of itself


@pytest.mark.parametrize("group", ["c4", "d2", "d4"])
@torch.inference_mode()
def test_the_scores_of_a_turned_image_are_the_same_numbers_in_another_order(group):
    module, elements = create("consensus", group, size=SIZE, width=4), torch.arange(parse_group(group).order)
    x = noise(5, SIZE)
    for h in elements.tolist():
        turned = module(act(module.group, h, x)).scores
        assert torch.equal(turned[:, module.group.compose(h, elements)], module(x).scores)


@pytest.mark.parametrize(("trained", "group"), [("c4", "c2"), ("d4", "c4"), ("d4", "d1"), ("d4", "d2")])
def test_a_network_that_knows_more_poses_serves_a_smaller_group(trained, group):
    assert ConsensusCanonicalizer.serves(parse_group(trained), parse_group(group))
    assert not ConsensusCanonicalizer.serves(parse_group(group), parse_group(trained))
    network = WhereIsTheBrightDot(trained)
    smaller = parse_group(group)
    upright = network.templates[:1]
    turned = torch.cat([act(smaller, g, upright) for g in range(smaller.order)])
    assert consensus(group, network, trained)(turned).element.tolist() == list(range(smaller.order))
    with pytest.raises(ValueError, match="do not hold all"):
        consensus(trained, network, group)


def test_gradients_reach_every_parameter():
    module = create("consensus", "c4", size=33, width=4).train()
    set_loss(module(noise(4, 33)).scores, [0]).backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_only_what_is_learned_is_stored():
    stored = create("consensus", "c4", size=16, width=4).state_dict()
    own = {key for key in stored if not key.startswith("network.")}
    assert own == {"pose_logits.weight", "pose_logits.bias"}


@pytest.mark.parametrize(("group", "poses"), [("c4", "c4"), ("d2", "d4"), ("c4", "d4")])
def test_few_views_have_opinions_of_all_poses_which_add_up_to_those_of_all_views(group, poses):
    module = consensus(group, nn.Flatten(), poses)
    order = parse_group(poses).order
    module.pose_logits = nn.Linear(3 * SIZE * SIZE, order)
    x = noise(5, SIZE)
    scores = module(x).scores
    module.train()
    for count in (1, module.group.order - 1):
        module.training_views = count
        assert not torch.allclose(module(x).scores, scores)
        torch.manual_seed(0)
        mean = torch.stack([module(x).scores for _ in range(300)]).mean(dim=0) * module.group.order / count
        torch.testing.assert_close(mean, scores, atol=0.5 * scores.std().item(), rtol=0)
    module.training_views = module.group.order
    assert torch.equal(module(x).scores, scores)
    module.training_views = 1
    assert torch.equal(module.eval()(x).scores, scores)  # where it is used, all are asked
