import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from equicli.adapted import AdaptedModel
from equicli.canonicalization.losses import artifact_loss, contrast_loss, set_loss, straight_through
from equicli.canonicalization.prior import Prior
from equicli.data.normalization import HALF
from equicli.data.preprocess import Preprocess
from equicli.groups import parse_group
from equicli.groups.action import act
from equicli.policy import Mean, One
from equicli.prediction.inputs import Tensors
from equicli.prediction.signature import Signature
from equicli.settings import TrainingSettings
from equicli.tasks.classification.task import Classification
from equicli.training.objective import Objective, TaskLoss, draw_off_grid
from tests.canonicalization.examples import conv_canonicalizer, create, noise
from tests.evaluation.handmade import Motionless

TARGETS = [0, 1, 2, 0]
NAMES = ("prior", "contrast", "artifact", "task")


def classifier():
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 17 * 17, 3)).requires_grad_(False)


def objective(weights, network=None, prior=Prior(("r0",)), padding="edge"):  # noqa: B008
    task = None if network is None else TaskLoss(network, HALF, One(), Classification().loss)
    return Objective(prior, weights, padding, task)


def views(module, count=4):
    return noise(count, module.view.size)


@given(st.lists(st.sampled_from(NAMES), unique=True, min_size=1), st.integers(0, 50))
@settings(max_examples=15)
def test_just_the_losses_with_a_weight_are_computed_and_the_total_is_their_weighted_sum(names, seed):
    weights = {name: 0.5 + index + seed / 10 for index, name in enumerate(names)}
    wanted = objective(weights, classifier() if "task" in names else None)
    module = conv_canonicalizer("c8")
    x = noise(4, 17) if "task" in names else views(module)
    _, losses = wanted.losses(module, x, TARGETS, torch.Generator().manual_seed(0))
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
        module, seen = conv_canonicalizer("c8"), []
        module.register_forward_hook(lambda *_, seen=seen: seen.append(None))
        objective(dict.fromkeys(names, 1.0)).losses(module, views(module), TARGETS, None)
        assert len(seen) == calls


def test_a_canonicalizer_without_vectors_needs_no_contrast():
    module = create("equivariant", "c4", size=17, width=4)
    pose, losses = objective({"prior": 1.0}).losses(module, views(module), TARGETS)
    assert pose.vectors is None and losses["prior"] == set_loss(pose.scores, [0])


@pytest.mark.parametrize("padding", ["edge", "zeros"])
def test_each_loss_is_the_one_of_its_name(padding):
    module, x, network = conv_canonicalizer("c8"), noise(4, 17), classifier()
    wanted = objective(dict.fromkeys(NAMES, 1.0), network, Prior(("r0", "r45")), padding)
    pose, losses = wanted.losses(module, x, TARGETS, torch.Generator().manual_seed(5))
    h = draw_off_grid(module.group, torch.Generator().manual_seed(5))
    assert torch.equal(losses["prior"], set_loss(pose.scores, [0, 1]))
    assert torch.equal(losses["contrast"], contrast_loss(pose.vectors))
    turned = module.find(Tensors(act(module.group, h, x, padding=padding), HALF), network)
    assert torch.equal(losses["artifact"], artifact_loss(module.group, pose, turned, h))
    logits = network(straight_through(module.group, pose, x, padding))
    assert torch.equal(losses["task"], nn.functional.cross_entropy(logits, torch.tensor(TARGETS)))


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

    x, targets = noise(4, 17), [0, 1, 1, 0]
    _, losses = objective({"task": 1.0}, Sum()).losses(Motionless(parse_group("c4")), x, targets)
    expected = nn.functional.cross_entropy(Sum()(x), torch.tensor(targets))
    assert losses["task"].item() == pytest.approx(expected.item(), rel=1e-5)


class Corner(nn.Module):
    """Keypoints (b, 1, 2): the same pixel of every image, which is no symmetry's."""

    def forward(self, x):
        return x.new_tensor([3.0, 5.0]).expand(len(x), 1, 2) + 0 * x.sum()


@pytest.mark.parametrize("group", ["c4", "d4", "c8"])
@pytest.mark.parametrize(
    ("policy", "outputs"),
    [(One(), "logits"), (Mean("logits"), "logits"), (Mean(), "logits"), (One(), "keypoints")],
    ids=str,
)
def test_the_task_is_asked_as_the_adapted_model_asks(group, policy, outputs):
    module, x = conv_canonicalizer(group), noise(4, 17)
    network = classifier() if outputs == "logits" else Corner()
    preprocess, seen = Preprocess(None, None, "bilinear", HALF), []

    def loss(output, targets):
        seen.append(output)
        return output.sum()

    task = TaskLoss(network, HALF, policy, loss, outputs)
    Objective(Prior(), {"task": 1.0}, "zeros", task).losses(module, x, TARGETS)
    model = AdaptedModel(
        module, network, preprocess, padding="zeros", policy=policy, signature=Signature("image", outputs)
    )
    torch.testing.assert_close(seen[0], model(x), atol=1e-5, rtol=1e-5)


def test_the_task_loss_moves_the_canonicalizer_through_the_choice_of_the_pose():
    module = conv_canonicalizer("c4")
    _, losses = objective({"task": 1.0}, classifier()).losses(module, noise(4, 17), TARGETS)
    losses["task"].backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in module.network.parameters() if parameter.ndim > 1)


def test_images_are_normalized_for_whoever_sees_them():
    module = conv_canonicalizer("c4")
    assert objective({"prior": 1.0}).normalization(module) == module.view.normalization
    task = objective({"prior": 1.0, "task": 1.0}, classifier())
    assert task.normalization(module) == HALF and not task.small and objective({"prior": 1.0}).small
