"""The gate that is fitted is the one that scores best at the passes allowed."""

from dataclasses import replace

import pytest
import torch

from equicli.canonicalization.canonicalizer import Pose, posterior
from equicli.canonicalization.prior import Prior
from equicli.groups import parse_group
from equicli.policy import Gate
from equicli.tasks.registry import TASKS
from equicli.training.gate import Answers, fit_gate, fit_temperature

C4, CLASSES = parse_group("c4"), 10


def task():
    return TASKS["classification"]()


def made(n, *, right=0.8, second=0.9, seed=0):
    """Answers about n pictures: a share of poses is right, of the wrong ones the second is in a share of cases.

    Where the pose is wrong, scores are close together; the network is right and sure when it sees the upright view.
    """
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, CLASSES, (n,), generator=generator)
    scores = torch.randn(n, 4, generator=generator) * 0.3
    draw = torch.rand(n, generator=generator)
    scores[:, 0] += torch.where(draw < right, 6.0, 2.8)
    wrong = (draw >= right).nonzero()[:, 0]
    scores[wrong, 1] += 4.0
    lost = wrong[torch.rand(len(wrong), generator=generator) >= second]
    scores[lost, 0] = -9.0
    outputs = torch.randn(4, n, CLASSES, generator=generator)
    outputs[0, torch.arange(n), targets] += 9.0
    _, poses = posterior(scores)
    ranked = [outputs[poses[:, rank], torch.arange(n)] for rank in range(4)]
    return Answers(Pose(scores.argmax(1), scores), ranked, targets.tolist())


def test_the_gate_asks_further_about_unsure_pictures_and_gains_what_their_second_pose_knows():
    fitted = fit_gate(made(400), C4, Prior(), task(), passes=1.25)
    assert isinstance(fitted.policy, Gate)
    assert fitted.alone == pytest.approx(0.82, abs=0.04)
    assert fitted.score > 0.95 and 1.1 < fitted.passes <= 1.25


def gained(fitted, answers):
    """What a gate scores on pictures, and at how many passes."""
    gate, right = fitted.policy, torch.tensor(answers.targets)
    p, _ = posterior(answers.pose.scores, gate.temperature)
    opened = p[:, :1] < gate.threshold
    said = torch.where(opened, gate.combined(answers.outputs[: gate.most], p[:, : gate.most]), answers.outputs[0])
    return float((said.argmax(1) == right).double().mean()), gate.passes(C4, answers.pose)


def test_on_new_pictures_it_scores_what_it_says():
    fitted = fit_gate(made(400), C4, Prior(), task(), passes=1.25)
    score, passes = gained(fitted, made(2000, seed=1))
    assert score == pytest.approx(fitted.score, abs=0.02) and passes == pytest.approx(fitted.passes, abs=0.03)


def test_fewer_passes_are_kept_to_and_gain_less():
    few, more = (fit_gate(made(400), C4, Prior(), task(), passes=passes) for passes in (1.05, 1.5))
    assert few.passes <= 1.05 and few.alone < few.score < more.score


def test_where_nobody_says_it_takes_as_few_passes_as_give_most_of_the_gain():
    best, chosen = fit_gate(made(400), C4, Prior(), task(), 1.25), fit_gate(made(400), C4, Prior(), task(), None)
    assert chosen.passes <= best.passes
    assert chosen.score - chosen.alone >= 0.9 * (best.score - best.alone)


def test_where_further_poses_know_nothing_one_pass_stays():
    answers = made(400, right=1.0)
    assert fit_gate(answers, C4, Prior(), task(), 1.5).policy.kind == "one"


@pytest.mark.parametrize("seed", range(5))
def test_where_further_poses_know_nothing_luck_fits_no_gate(seed):
    """The network is as often right from any pose, so that the best of many gates gains where it is fitted."""
    answers, generator = made(300, seed=seed), torch.Generator().manual_seed(seed)
    outputs = [torch.randn(300, CLASSES, generator=generator) for _ in range(4)]
    lucky = fit_gate(replace(answers, outputs=outputs), C4, Prior(), task(), 1.25)
    assert lucky.policy.kind == "one" and lucky.passes == 1


def knowing_much_of_any_pose(n, seed):
    """Few poses are wrong, and of most pictures the network knows the class as they are turned: few become right."""
    answers, generator = made(n, right=0.93, second=1.0, seed=seed), torch.Generator().manual_seed(seed + 100)
    views = torch.randn(4, n, CLASSES, generator=generator)
    views[:, torch.arange(n), answers.targets] += 3.0
    views[0, torch.arange(n), answers.targets] += 1.5
    _, poses = posterior(answers.pose.scores)
    return replace(answers, outputs=[views[poses[:, rank], torch.arange(n)] for rank in range(4)])


def test_what_is_too_little_to_be_counted_is_seen_in_the_loss():
    answers, others = knowing_much_of_any_pose(200, 1), knowing_much_of_any_pose(4000, 99)
    fitted = fit_gate(answers, C4, Prior(), task(), 1.2)
    # Of fewer than four more right images the mean is less than two of its standard errors.
    assert 0 < 200 * (fitted.score - fitted.alone) < 3.5
    alone = (others.outputs[0].argmax(1) == torch.tensor(others.targets)).double().mean()
    assert gained(fitted, others)[0] > float(alone) + 0.004


def test_the_temperature_makes_probabilities_true():
    """Scores that say p too sharply by a factor are divided by it."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20_000, 4, generator=generator, dtype=torch.float64) * 2
    truth = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    # Turned so that the true pose is the identity.
    relative = (torch.arange(4)[None] + truth[:, None]) % 4
    scores = logits.gather(1, relative) * 3
    assert fit_temperature(C4, Prior(), Pose(scores.argmax(1), scores)) == pytest.approx(3, rel=0.05)


@pytest.mark.parametrize("right, least, most", [(0, 0.3, 1), (1, 1, 3)])
def test_of_few_pictures_that_are_all_right_or_all_wrong_no_temperature_is_extreme(right, least, most):
    scores = torch.tensor([[3.0, 1.0, 0.0, 0.0]]).roll(right, dims=1).expand(2, 4)
    assert least < fit_temperature(C4, Prior(), Pose(scores.argmax(1), scores)) < most


def parts(n, name, much, little, seed=0):
    """What is said that cannot be averaged: much, and what is right, from one of the two likeliest poses."""
    generator = torch.Generator().manual_seed(seed)
    knows = torch.randint(0, 2, (n,), generator=generator).tolist()
    said = [
        [{name: much if rank == of else little, "score": torch.tensor(float(rank == of))} for of in knows]
        for rank in range(4)
    ]
    return replace(made(n, seed=seed), outputs=said)


@pytest.mark.parametrize(
    ("task", "evidence", "said"),
    [
        ("instances", "surest", ("scores", torch.full((10,), 0.99), torch.full((30,), 0.1))),
        ("semantic", "information", ("information", torch.tensor(0.3), torch.tensor(0.05))),
    ],
)
def test_of_answers_that_cannot_be_averaged_the_best_is_chosen_by_what_was_found(task, evidence, said):
    fitted = fit_gate(parts(200, *said), C4, Prior(), TASKS[task](), 1.5)
    assert (fitted.policy.combine, fitted.policy.evidence) == ("best", evidence)
    assert fitted.score > fitted.alone + 0.1 and fitted.passes <= 1.5
    assert fitted.policy.refusal(C4, TASKS[task].signature.outputs) is None


def test_a_gate_refuses_outputs_of_which_nothing_says_how_sure_the_network_is():
    gate = Gate(0.5, 2, evidence="surest", combine="best")
    assert gate.refusal(C4, {"scores": "invariant"}) is None
    assert "only logits can be averaged" in replace(gate, combine="mean").refusal(C4, {"scores": "invariant"})
    assert "use policy=one" in gate.refusal(C4, "mask")
