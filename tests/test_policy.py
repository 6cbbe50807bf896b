"""One, Mean and Gate: how the network is asked, in the adapted model and in training alike."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from equicli.canonicalization.canonicalizer import Pose, posterior
from equicli.groups import parse_group
from equicli.groups.action import act
from equicli.policy import Gate, Mean, One, average_outputs, policy_of
from equicli.settings import PolicySettings
from equicli.training.objective import TaskLoss
from tests.canonicalization.examples import adapt, conv_canonicalizer, create, noise, pictures

C4 = parse_group("c4")
POLICIES = [One(), Mean("probabilities"), Mean("logits")]


class Told:
    """Views of which it is known what the network says, by pose: a list with a tensor (b, k) for each."""

    group = C4

    def __init__(self, outputs):
        self.outputs, self.asked = outputs, []

    def at(self, element):
        self.asked.append(element)
        if isinstance(element, torch.Tensor):
            return torch.stack([self.outputs[g][i] for i, g in enumerate(element.tolist())])
        return self.outputs[element or 0]

    def take(self, rows):
        part = Told([output[rows] for output in self.outputs])
        part.asked = self.asked
        return part


def classifier():
    torch.manual_seed(3)
    return nn.Sequential(nn.AdaptiveAvgPool2d(5), nn.Flatten(), nn.Linear(75, 4)).requires_grad_(False)


def scores(b, order, seed=0):
    return 2 * torch.randn(b, order, generator=torch.Generator().manual_seed(seed))


def test_one_asks_once_at_the_pose_that_was_found_or_of_the_input_as_it_is():
    views, pose = Told([scores(2, 3, g) for g in range(4)]), Pose(torch.tensor([1, 2]))
    One().answer(views, pose)
    One().answer(views, None)
    assert views.asked[0] is pose.element and views.asked[1] is None
    assert One().passes(C4, pose) == 1 and One().chooses


def test_mean_asks_once_about_each_pose_and_chooses_none():
    views = Told([torch.zeros(2, 3)] * 4)
    Mean().answer(views, None)
    assert views.asked == [0, 1, 2, 3]
    assert Mean().passes(C4, None) == 4 and Mean().passes(parse_group("d4"), None) == 8 and not Mean().chooses


@pytest.mark.parametrize("of", ["probabilities", "logits"])
@pytest.mark.parametrize("found", [True, False])
def test_the_mean_is_the_sum_of_outputs_weighted_by_how_probable_each_pose_is(of, found):
    outputs, s = [scores(3, 5, seed) for seed in range(4)], scores(3, 4, 9)
    weights = s.double().softmax(1) if found else torch.full((3, 4), 0.25, dtype=torch.float64)
    values = [out.double().softmax(1) if of == "probabilities" else out.double() for out in outputs]
    expected = sum(weights[:, g, None] * value for g, value in enumerate(values))
    expected = expected.log() if of == "probabilities" else expected
    mean = Mean(of).answer(Told(outputs), Pose(s.argmax(1), s) if found else None)
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
    assert policy_of(PolicySettings(kind="one")) == policy_of(PolicySettings(kind="gate")) == One()
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
    assert pose is not None and not model.chooses_pose and model.passes(pose) == 8
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


SURE = torch.tensor([[9.0, 0, 0, 0], [0, 1, 2, 0], [0, 0, 0, 9], [1, 0.5, 0, 0]])


def test_a_gate_asks_once_where_the_canonicalizer_is_sure_and_about_the_likeliest_poses_elsewhere():
    outputs = [scores(4, 5, seed) for seed in range(4)]
    views, pose, gate = Told(outputs), Pose(SURE.argmax(1), SURE), Gate(0.9, 2)
    answer = gate.answer(views, pose)
    assert [element.tolist() for element in views.asked] == [[0, 2, 3, 0], [1, 1]]
    assert torch.equal(answer[[0, 2]], torch.stack([outputs[0][0], outputs[3][2]]))
    p = SURE[1].double().softmax(0)
    mixed = (p[2] * outputs[2][1].double().softmax(0) + p[1] * outputs[1][1].double().softmax(0)) / (p[1] + p[2])
    torch.testing.assert_close(answer[1].softmax(0), mixed.float())
    assert gate.passes(C4, pose) == 1.5


@pytest.mark.parametrize(("evidence", "sees"), [("logsumexp", [8.0, 8.0, 8.0]), ("confidence", [0.0, 30.0, 0.0])])
def test_the_networks_own_evidence_counts_for_a_pose_as_much_as_its_weight_says(evidence, sees):
    outputs = [torch.zeros(1, 3) for _ in range(4)]
    outputs[1] = torch.tensor([sees])
    s = torch.tensor([[2.0, 1.0, 0.0, 0.0]])
    without, with_it = Gate(1.0, 2, combine="best"), Gate(1.0, 2, 1.0, 2.0, evidence, "best")
    assert torch.equal(without.answer(Told(outputs), Pose(s.argmax(1), s)), outputs[0])
    assert torch.equal(with_it.answer(Told(outputs), Pose(s.argmax(1), s)), outputs[1])


def test_the_best_of_outputs_in_parts_is_taken_whole():
    gate, p = Gate(1.0, 2, combine="best"), torch.tensor([[0.6, 0.4], [0.3, 0.5]])
    outputs = [
        {"boxes": [torch.full((n, 4), float(rank)) for n in (1, 2)], "label": torch.tensor([rank, rank])}
        for rank in (0, 1)
    ]
    chosen = gate.combined(outputs, p)
    assert chosen["label"].tolist() == [0, 1]
    assert [boxes.shape[0] for boxes in chosen["boxes"]] == [1, 2] and [float(b.mean()) for b in chosen["boxes"]] == [
        0,
        1,
    ]


def test_a_rounding_at_the_threshold_or_at_the_last_place_is_a_tie():
    s = torch.tensor([[1.0, 0, 0, 0], [1, 0.5, 0.2, 0], [3, 1, 0, 0], [1, 0.5, 0.5, 0]])
    p = s.softmax(1)[:, 0]
    assert Gate(float(p[2]), 2).ties(Pose(s.argmax(1), s)).tolist() == [True, False, True, True]
    assert Gate(0.0, 2).ties(Pose(s.argmax(1), s)).tolist() == [False] * 4


GATES = [Gate(0, 2, 0.1), Gate(0, 3, 0.1, 0.5, "logsumexp", "mean"), Gate(0, 4, 0.1, 1.0, "confidence", "best")]


@pytest.mark.parametrize("gate", GATES, ids=str)
@pytest.mark.parametrize("group", ["c4", "d4"])
@torch.inference_mode()
def test_a_gated_model_says_the_same_bit_for_bit_however_pictures_come_turned(group, gate):
    model = adapt(conv_canonicalizer(group), classifier(), policy=gate)
    shown = pictures(*[(20, 33), (31, 24), (17, 17), (40, 40)] * 8)
    p, _ = posterior(model.predict(shown).pose.scores, gate.temperature)
    model.policy = replace(gate, threshold=float(p[:, 0].median()) + 1e-4)
    output, pose = model.predict(shown)
    assert 1 < model.passes(pose) < gate.most  # both ways of the gate are gone
    clear = ~model.policy.ties(pose)
    assert clear.sum() > len(clear) / 2
    for h in range(parse_group(group).order):
        turned, found = model.predict([act(parse_group(group), h, picture) for picture in shown])
        assert torch.equal(turned[clear], output[clear])
        assert model.passes(found) == model.passes(pose)


def test_what_a_gate_cannot_do_is_said():
    assert "infinitely many" in Gate(0.5, 2).refusal(parse_group("so2"), "logits")
    assert "of 4" in Gate(0.5, 5).refusal(C4, "logits")
    assert "only of logits" in Gate(0.5, 2).refusal(C4, "boxes")
