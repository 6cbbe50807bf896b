import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from equicli.canonicalization.losses import artifact_loss, contrast_loss, set_loss, straight_through
from equicli.canonicalization.prior import Prior
from equicli.groups import parse_group
from equicli.groups.action import act
from equicli.settings import TrainingSettings
from equicli.tasks import classification
from equicli.training.objective import Objective, Task, draw_off_grid
from tests.canonicalization.examples import conv_canonicalizer, create, noise
from tests.evaluation.handmade import Motionless

TARGETS = torch.tensor([0, 1, 2, 0])
NAMES = ("prior", "contrast", "artifact", "task")


class Raises(nn.Module):
    def forward(self, x):
        raise AssertionError("this network was not to be used")


class Counting(nn.Module):
    """Any canonicalizer, with the number of its calls."""

    def __init__(self, module):
        super().__init__()
        self.module, self.group, self.calls = module, module.group, 0

    def forward(self, x):
        self.calls += 1
        return self.module(x)


def classifier():
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 17 * 17, 3)).requires_grad_(False)


def objective(weights, network=None, prior=Prior(("r0",)), padding="edge"):  # noqa: B008
    return Objective(prior, weights, padding, Task(network or Raises(), classification.loss))


@given(st.lists(st.sampled_from(NAMES), unique=True, min_size=1), st.integers(0, 50))
@settings(max_examples=15)
def test_just_the_losses_with_a_weight_are_computed_and_the_total_is_their_weighted_sum(names, seed):
    weights = {name: 0.5 + index + seed / 10 for index, name in enumerate(names)}
    wanted = objective(weights, classifier() if "task" in names else None)
    _, losses = wanted.losses(conv_canonicalizer("c8"), noise(4, 17), TARGETS, torch.Generator().manual_seed(0))
    assert losses.keys() == set(names)
    total = sum(weights[name] * losses[name].item() for name in names)
    assert wanted.total(losses).item() == pytest.approx(total, rel=1e-5)


def test_a_weight_of_zero_is_none_at_all():
    weights = {"prior_weight": 2, "contrast_weight": 0, "artifact_weight": 0.5, "task_weight": 0}
    made = Objective.of(TrainingSettings(**weights, crop="zoom", learning_rate=1), Prior(), "zeros", None)
    assert made.weights == {"prior": 2, "artifact": 0.5}
    assert made.only("prior", "task").weights == {"prior": 2}
    assert made.padding == "zeros"


def test_without_artifact_loss_the_canonicalizer_is_called_once():
    for names, calls in ((("prior", "contrast"), 1), (("prior", "artifact"), 2)):
        module = Counting(conv_canonicalizer("c8"))
        objective(dict.fromkeys(names, 1.0)).losses(module, noise(4, 17), TARGETS, None)
        assert module.calls == calls


def test_a_canonicalizer_without_vectors_needs_no_contrast():
    module = create("equivariant", "c4", size=17, width=4)
    pose, losses = objective({"prior": 1.0}).losses(module, noise(4, 17), TARGETS)
    assert pose.vectors is None and losses["prior"] == set_loss(pose.scores, [0])


@pytest.mark.parametrize("padding", ["edge", "zeros"])
def test_each_loss_is_the_one_of_its_name(padding):
    module, x, network = conv_canonicalizer("c8"), noise(4, 17), classifier()
    wanted = objective(dict.fromkeys(NAMES, 1.0), network, Prior(("r0", "r45")), padding)
    pose, losses = wanted.losses(module, x, TARGETS, torch.Generator().manual_seed(5))
    h = draw_off_grid(module.group, torch.Generator().manual_seed(5))
    assert torch.equal(losses["prior"], set_loss(pose.scores, [0, 1]))
    assert torch.equal(losses["contrast"], contrast_loss(pose.vectors))
    turned = module(act(module.group, h, x, padding=padding))
    assert torch.equal(losses["artifact"], artifact_loss(module.group, pose, turned, h))
    logits = network(straight_through(module.group, pose, x, padding))
    assert torch.equal(losses["task"], nn.functional.cross_entropy(logits, TARGETS))


@pytest.mark.parametrize("group", ["c3", "c6", "c8", "d8", "c12", "d5"])
def test_elements_are_drawn_off_the_grid_and_all_of_them(group):
    group, generator = parse_group(group), torch.Generator().manual_seed(0)
    drawn = {draw_off_grid(group, generator) for _ in range(400)}
    assert drawn == {g for g in range(group.order) if group.angle(g) % 90 != 0}


@pytest.mark.parametrize("group", ["so2", "o2"])
def test_of_a_continuous_group_any_angle_is_drawn(group):
    group, generator = parse_group(group), torch.Generator().manual_seed(0)
    drawn = torch.stack([draw_off_grid(group, generator) for _ in range(100)])
    angles = torch.rad2deg(torch.atan2(drawn[:, 1, 0], drawn[:, 1, 1])) % 360
    assert ((angles % 90) > 1e-6).all()
    assert all(((angles >= low) & (angles < low + 45)).any() for low in range(0, 360, 45))


def test_the_task_is_judged_in_the_pose_that_was_found():
    class Sum(nn.Module):
        def forward(self, x):
            return torch.stack([x[..., 0, :].sum((1, 2)), x[..., -1, :].sum((1, 2))], 1)

    x = noise(4, 17)
    _, losses = objective({"task": 1.0}, Sum()).losses(Motionless(parse_group("c4")), x, TARGETS.clamp(max=1))
    assert losses["task"].item() == pytest.approx(
        nn.functional.cross_entropy(Sum()(x), TARGETS.clamp(max=1)).item(), rel=1e-5
    )
