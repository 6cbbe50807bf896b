"""One and Mean: how the network is asked, in the adapted model and in training alike."""

import pytest
import torch
from torch import nn

from equicli.canonicalization.canonicalizer import Pose
from equicli.groups import parse_group
from equicli.groups.action import act
from equicli.policy import Mean, One, average_outputs, policy_of
from equicli.settings import PolicySettings
from equicli.training.objective import TaskLoss
from tests.canonicalization.examples import adapt, conv_canonicalizer, create, noise, pictures

C4 = parse_group("c4")
POLICIES = [One(), Mean("probabilities"), Mean("logits")]


def classifier():
    torch.manual_seed(3)
    return nn.Sequential(nn.AdaptiveAvgPool2d(5), nn.Flatten(), nn.Linear(75, 4)).requires_grad_(False)


def scores(b, order, seed=0):
    return 2 * torch.randn(b, order, generator=torch.Generator().manual_seed(seed))


def test_one_asks_once_at_the_pose_that_was_found_or_of_the_input_as_it_is():
    asked, pose = [], Pose(torch.tensor([1, 2]))
    One().answer(asked.append, C4, pose)
    One().answer(asked.append, C4, None)
    assert asked[0] is pose.element and asked[1] is None
    assert One().passes(C4) == 1 and One().chooses


def test_mean_asks_once_about_each_pose_and_chooses_none():
    asked = []

    def at(element):
        asked.append(element)
        return torch.zeros(2, 3)

    Mean().answer(at, C4, None)
    assert asked == [0, 1, 2, 3]
    assert Mean().passes(C4) == 4 and Mean().passes(parse_group("d4")) == 8 and not Mean().chooses


@pytest.mark.parametrize("of", ["probabilities", "logits"])
@pytest.mark.parametrize("found", [True, False])
def test_the_mean_is_the_sum_of_outputs_weighted_by_how_probable_each_pose_is(of, found):
    outputs, s = [scores(3, 5, seed) for seed in range(4)], scores(3, 4, 9)
    weights = s.double().softmax(1) if found else torch.full((3, 4), 0.25, dtype=torch.float64)
    values = [out.double().softmax(1) if of == "probabilities" else out.double() for out in outputs]
    expected = sum(weights[:, g, None] * value for g, value in enumerate(values))
    expected = expected.log() if of == "probabilities" else expected
    mean = Mean(of).answer(lambda g: outputs[g], C4, Pose(s.argmax(1), s) if found else None)
    torch.testing.assert_close(mean, expected.float())
    torch.testing.assert_close(average_outputs(s if found else None, iter(outputs), of), mean)


def test_a_mean_with_all_weight_on_one_pose_is_the_output_there():
    outputs, s = [scores(3, 5, seed) for seed in range(4)], torch.zeros(3, 4)
    s[range(3), [2, 0, 3]] = 200.0
    chosen = torch.stack([outputs[2][0], outputs[0][1], outputs[3][2]])
    torch.testing.assert_close(average_outputs(s, outputs, "logits"), chosen)
    torch.testing.assert_close(average_outputs(s, outputs, "probabilities"), chosen.log_softmax(1))


def test_a_mean_of_half_precision_outputs_is_taken_in_float32():
    assert average_outputs(None, [torch.zeros(1, 2, dtype=torch.bfloat16)] * 4, "logits").dtype == torch.float32


def test_a_configuration_names_the_policy():
    assert policy_of(PolicySettings()) == One()
    assert policy_of(PolicySettings(kind="mean", of="logits")) == Mean("logits")


@pytest.mark.parametrize("policy", POLICIES, ids=str)
@pytest.mark.parametrize("group", ["c4", "d4", "c8"])
def test_training_and_serving_get_the_same_output_from_the_same_policy(group, policy):
    model = adapt(conv_canonicalizer(group), classifier(), policy=policy)
    x = noise(5, 20)
    output, pose = model.answer(model.tensors(x))
    trained = TaskLoss(model.prediction_network, model.preprocess.normalization, policy, lambda output, targets: output)
    predicted = trained.predict(model.canonicalizer.group, pose, x, model.padding)
    assert torch.equal(predicted, output)
    assert predicted.requires_grad


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_without_poses_training_and_serving_get_the_same_output_too(policy):
    model, x = adapt(create("none", "c4"), classifier(), policy=policy), noise(5, 20)
    output, pose = model.answer(model.tensors(x))
    trained = TaskLoss(model.prediction_network, model.preprocess.normalization, policy, lambda output, targets: output)
    assert pose is None
    assert torch.equal(trained.predict(C4, None, x, "edge"), output)


@pytest.mark.parametrize("policy", POLICIES[1:], ids=str)
@torch.inference_mode()
def test_an_adapted_model_that_averages_says_the_same_of_tensors_and_of_turned_pictures(policy):
    model, shown = adapt(conv_canonicalizer("d4"), classifier(), policy=policy), pictures((20, 33), (31, 24), (17, 17))
    output, pose = model.predict(shown)
    assert pose is not None and not model.chooses_pose and model.passes == 8
    for index, picture in enumerate(shown):
        asked = [
            model.prediction_network(model.preprocess.normalization(act(parse_group("d4"), g, picture))[None])
            for g in (parse_group("d4").inverse(g) for g in range(8))
        ]
        expected = average_outputs(pose.scores[index : index + 1], asked, policy.of)
        torch.testing.assert_close(output[index : index + 1], expected)
    for h in range(8):
        turned = model.predict([act(parse_group("d4"), h, picture) for picture in shown]).output
        torch.testing.assert_close(turned, output, atol=1e-5, rtol=1e-5)
