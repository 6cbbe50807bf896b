import pytest
import torch

from equicli.adapted import AdaptedModel
from equicli.canonicalization.canonicalizer import Context, Pose
from equicli.canonicalization.energy import EnergyCanonicalizer
from equicli.canonicalization.prior import Prior
from equicli.data.loading import Batch
from equicli.data.normalization import HALF
from equicli.evaluation.cache import OutputCache
from equicli.evaluation.evaluate import SYSTEMS, evaluate
from equicli.evaluation.metrics import metrics_document
from equicli.groups import PlanarGroup, parse_group
from equicli.groups.action import act, views
from tests.canonicalization.examples import conv_canonicalizer
from tests.evaluation.handmade import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    UPRIGHT,
    Compass,
    ConvNetwork,
    EdgeNetwork,
    HeadingNetwork,
    Motionless,
    batches,
    bright,
    finding_top,
    noise,
    spots,
)

CPU = torch.device("cpu")
C4, C8 = PlanarGroup(4), PlanarGroup(8)


def run(model, batches, targets, elements=C4, *, prior=UPRIGHT, **options):
    return evaluate(model, batches, targets, HALF, elements, prior=prior, device=CPU, **options)


def counts(evaluation, system):
    return evaluation.correct[system].sum(dim=0).tolist()


def random_model(group="c4"):
    return AdaptedModel(conv_canonicalizer(group, size=8), ConvNetwork())


def test_counts_are_those_made_by_hand():
    images = bright(TOP, TOP, TOP, LEFT, BOTTOM, TOP)
    found = run(finding_top(EdgeNetwork()), batches(images), torch.full((6,), TOP))
    assert counts(found, "vanilla") == [4, 0, 1, 1]
    assert counts(found, "adapted") == [6, 6, 6, 6]
    assert counts(found, "oracle") == [4, 4, 4, 4]
    assert found.poses.tolist() == [0, 0, 0, 1, 2, 0]
    assert found.expected.tolist() == [[pose == 0] * 4 for pose in found.poses]
    assert found.consistent.all()
    assert found.predictions.unique().tolist() == [TOP]
    assert found.max_logit_delta.tolist() == [0, 0, 0, 0]
    assert not found.ties.any()
    assert not found.agreement


def brute_force(model, images, targets, elements):
    """Every system, image by image and element by element, in plain words of the definitions."""
    group, network = model.canonicalizer.group, model.prediction_network
    right = {name: torch.zeros(len(images), elements.order, dtype=torch.bool) for name in SYSTEMS}
    logits = torch.zeros(len(images), elements.order, 5)
    for i, image in enumerate(images):
        for g in elements.elements():
            turned = act(elements, g, HALF(image[None]))
            symmetrized = [network(act(group, group.inverse(h), turned)).softmax(-1) for h in group.elements()]
            outputs = {
                "vanilla": network(turned),
                "adapted": model(turned),
                "symmetrized": torch.stack(symmetrized).mean(0),
                "oracle": network(act(elements, elements.inverse(g), turned)),
            }
            logits[i, g] = outputs["adapted"][0]
            for name, output in outputs.items():
                right[name][i, g] = output[0].argmax() == targets[i]
    return right, logits


@pytest.mark.parametrize(("group", "elements"), [("c4", "c4"), ("c4", "c8"), ("d4", "c4"), ("c8", "c8"), ("c2", "c4")])
@torch.inference_mode()
def test_every_system_equals_a_brute_force_loop(group, elements):
    model, images, elements = random_model(group), noise(11), parse_group(elements)
    targets = torch.arange(11) % 5
    found = run(model, batches(images), targets, elements)
    right, logits = brute_force(model, images, targets, elements)
    for name in SYSTEMS:
        assert torch.equal(found.correct[name], right[name]), name
    assert torch.equal(found.predictions, logits.argmax(dim=-1))
    torch.testing.assert_close(found.max_logit_delta, (logits - logits[:, :1]).abs().amax((0, 2)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [1, 3, 10])
def test_results_do_not_depend_on_the_batch_size(size):
    model, images, targets = random_model(), noise(10), torch.arange(10) % 5
    whole, parts = run(model, batches(images, 10), targets), run(model, batches(images, size), targets)
    assert all(torch.equal(whole.correct[name], parts.correct[name]) for name in SYSTEMS)
    assert torch.equal(whole.poses, parts.poses)


def test_without_labels_right_means_agreement_with_the_upright_vanilla_prediction():
    found = run(random_model(), batches(noise(9)), torch.full((9,), -1))
    upright = ConvNetwork()(HALF(noise(9))).argmax(dim=1)
    assert found.agreement
    assert counts(found, "vanilla")[0] == 9
    assert torch.equal(found.correct["adapted"], found.predictions == upright[:, None])


def test_targets_are_taken_by_the_indices_of_the_batches():
    images = bright(TOP, LEFT, RIGHT)
    kept = torch.tensor([0, 2, 5])
    targets = torch.tensor([TOP, -1, LEFT, -1, -1, RIGHT])
    found = run(finding_top(EdgeNetwork()), [Batch(kept, images[:, None])], targets)
    assert counts(found, "vanilla")[0] == 3


def test_images_turned_as_files_give_what_images_turned_here_give():
    model, images, targets = random_model(), noise(6), torch.arange(6) % 5
    files = views(C4, images)[:, [0, 3, 2, 1]]  # g·x in place of g⁻¹·x
    here = run(model, batches(images), targets)
    there = run(model, [Batch(torch.arange(6), files)], targets, turned=True)
    assert all(torch.equal(here.correct[name], there.correct[name]) for name in SYSTEMS)
    assert torch.equal(here.poses, there.poses)


def test_symmetric_images_are_ties_and_each_is_counted_once():
    found = run(finding_top(EdgeNetwork()), batches(bright(TOP, None, LEFT, None)), torch.zeros(4, dtype=torch.int64))
    assert found.ties.tolist() == [False, True, False, True]


def test_a_tie_for_one_element_is_a_tie():
    class TiedWhenTopEqualsBottom(Motionless):
        def forward(self, x):
            top, bottom = (x[..., row, :].mean(dim=(1, 2)) for row in (0, -1))
            scores = torch.stack([top, bottom, top - 9, top - 9], dim=1)
            return Pose(scores.argmax(dim=1), scores, scores[..., None])

    model = AdaptedModel(TiedWhenTopEqualsBottom(C4), EdgeNetwork())
    assert run(model, batches(bright(TOP)), torch.tensor([TOP])).ties.tolist() == [True]
    assert run(model, batches(bright(TOP)), torch.tensor([TOP]), PlanarGroup(2)).ties.tolist() == [False]


def test_a_model_that_is_not_invariant_is_found_out():
    model = AdaptedModel(Motionless(C4), EdgeNetwork())
    found = run(model, batches(bright(TOP, None)), torch.tensor([TOP, TOP]))
    assert found.predictions.tolist() == [[TOP, LEFT, BOTTOM, RIGHT], [0, 0, 0, 0]]
    assert found.correct["adapted"].equal(found.correct["vanilla"])
    # The bright edge, when a dark one takes its place; at 90° and 270° that shares a corner with the bright one.
    assert found.max_logit_delta.tolist() == pytest.approx([0, 175 / 255, 200 / 255, 175 / 255], abs=1e-6)
    assert found.consistent.tolist() == found.expected.tolist() == [[True, False, False, False]] * 2


def test_for_the_group_of_quarter_turns_an_adapted_model_is_exactly_invariant():
    found = run(random_model(), batches(noise(12)), torch.zeros(12, dtype=torch.int64))
    assert found.max_logit_delta.tolist() == [0, 0, 0, 0]
    assert torch.equal(found.predictions, found.predictions[:, :1].expand(-1, 4))
    assert found.consistent.all()


def test_quarter_turns_within_a_larger_group_leave_the_prediction():
    found = run(random_model("c8"), batches(noise(12)), torch.zeros(12, dtype=torch.int64))
    assert torch.equal(found.predictions, found.predictions[:, :1].expand(-1, 4))
    assert found.max_logit_delta.max() < 1e-3


@pytest.mark.parametrize(("elements", "least", "most"), [("c4", 4 + 4, 4 + 4), ("c8", 8 + 4 + 4 + 4, 8 + 4 + 4 * 4)])
def test_baselines_see_each_view_of_an_image_once_and_the_adapted_model_is_asked_at_every_turn(elements, least, most):
    network = EdgeNetwork()
    run(finding_top(network, "c4"), batches(noise(6), 3), torch.zeros(6, dtype=torch.int64), parse_group(elements))
    # Of c4 all turns and true poses are among 4 views. Of a turn by 45° more, some the same but for roundings.
    assert 6 * least <= network.seen <= 6 * most


def test_with_a_cache_all_see_each_view_once_and_count_the_same():
    images, targets, network = noise(6), torch.zeros(6, dtype=torch.int64), EdgeNetwork()
    alone = run(finding_top(network), batches(images, 3), targets)
    network.seen, cache = 0, OutputCache()
    for _ in range(2):
        shared = run(finding_top(network), batches(images, 3), targets, cache=cache)
        for name in SYSTEMS:
            assert torch.equal(alone.correct[name], shared.correct[name])
    assert network.seen == 6 * 4


def test_a_network_that_answers_differently_each_time_is_not_called_invariant():
    class Fickle(EdgeNetwork):
        def forward(self, x):
            return super().forward(x) + self.passes

    found = run(finding_top(Fickle()), batches(noise(4)), torch.zeros(4, dtype=torch.int64))
    assert (found.max_logit_delta[1:] > 0).all()


def test_half_precision_networks_are_evaluated_to_the_same_counts_of_clear_cases():
    images = bright(TOP, LEFT, BOTTOM)
    found = run(finding_top(EdgeNetwork()), batches(images), torch.zeros(3, dtype=torch.int64), precision="bf16")
    assert counts(found, "vanilla") == [1, 0, 1, 1]
    assert counts(found, "adapted") == [3, 3, 3, 3]


def test_evaluating_leaves_the_network_as_it_was():
    model = random_model()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    run(model, batches(noise(4)), torch.zeros(4, dtype=torch.int64))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_the_prior_decides_what_the_oracle_turns_back_and_which_poses_are_expected():
    images = bright(LEFT, LEFT, TOP, BOTTOM)
    found = run(finding_top(EdgeNetwork()), batches(images), torch.full((4,), TOP), prior=Prior(("r90",)))
    assert counts(found, "vanilla") == [1, 0, 1, 2]
    assert counts(found, "adapted") == [4, 4, 4, 4]
    assert counts(found, "oracle") == [2, 2, 2, 2]
    assert found.poses.tolist() == [1, 1, 0, 2]
    assert found.expected.tolist() == [[True] * 4, [True] * 4, [False] * 4, [False] * 4]


def test_any_pose_of_a_set_is_expected_and_the_oracle_takes_the_first():
    images = bright(TOP, LEFT, BOTTOM, RIGHT)
    found = run(finding_top(EdgeNetwork()), batches(images), torch.full((4,), TOP), prior=Prior(("r180", "r0")))
    assert found.expected[:, 0].tolist() == [True, False, True, False]
    assert torch.nonzero(found.correct["oracle"][:, 0]).flatten().tolist() == [2]


def test_without_labels_right_is_the_vanilla_prediction_in_the_pose_of_the_prior():
    found = run(finding_top(EdgeNetwork()), batches(bright(LEFT, TOP)), torch.full((2,), -1), prior=Prior(("r90",)))
    # Turned back by 90°, the network sees TOP and RIGHT, and without that LEFT and TOP.
    assert found.correct["vanilla"].tolist() == [[False, False, False, True]] * 2
    assert found.correct["oracle"].all()


@pytest.mark.parametrize(
    ("group", "elements", "shared"),
    [("c8", "c4", (0, 1, 2, 3)), ("c4", "c8", (0, 2, 4, 6)), ("d4", "c4", (0, 1, 2, 3)), ("c4", "c3", (0,))],
)
def test_poses_are_judged_at_the_elements_that_the_adapted_group_has_too(group, elements, shared):
    model = AdaptedModel(conv_canonicalizer(group, size=8), ConvNetwork())
    found = run(model, batches(noise(3)), torch.zeros(3, dtype=torch.int64), parse_group(elements))
    assert found.shared == shared
    assert found.expected.shape == found.consistent.shape == (3, len(shared))


@pytest.mark.parametrize("elements", ["c4", "c8"])
def test_a_canonicalizer_of_so2_that_knows_the_angle_is_right_at_every_angle(elements):
    model, images = AdaptedModel(Compass(), HeadingNetwork()), spots(TOP, TOP, LEFT)
    found = run(model, batches(images), torch.full((3,), TOP), parse_group(elements))
    assert found.correct["adapted"].all() and found.consistent.all()
    assert found.expected.tolist() == [[True] * len(found.shared)] * 2 + [[False] * len(found.shared)]
    assert found.poses is None and not found.ties.any()
    assert len(found.shared) == parse_group(elements).order
    assert counts(found, "vanilla")[0] == 2 and found.correct["oracle"].sum() == 2 * len(found.shared)
    assert found.max_logit_delta.max() < 0.1


def test_a_pose_of_so2_is_expected_within_a_few_degrees():
    model = AdaptedModel(Compass(), HeadingNetwork())
    images = spots(TOP, LEFT)
    for label, expected in [("r90", [False, True]), ("r85", [False, True]), ("r60", [False, False])]:
        found = run(model, batches(images), torch.full((2,), TOP), prior=Prior((label,)))
        assert found.expected[:, 0].tolist() == expected, label


def test_energy_takes_a_pass_for_each_element_and_one_more():
    network = EdgeNetwork()
    model = AdaptedModel(EnergyCanonicalizer(Context(C4, network, HALF)), network)
    model(HALF(bright(TOP, LEFT)))
    assert network.passes == 5
    found = run(model, batches(bright(TOP, LEFT)), torch.full((2,), TOP))
    arguments = {"rotate": "input", "split": "test", "unreadable": 0, "cost": {}, "provenance": {}, "prior": UPRIGHT}
    document = metrics_document(found, passes=model.passes, **arguments)
    assert {name: document[name]["passes"] for name in SYSTEMS} == {
        "vanilla": 1,
        "adapted": 5,
        "symmetrized": 4,
        "oracle": 1,
    }


def test_a_network_that_is_as_sure_of_every_pose_leaves_energy_undecided():
    network = EdgeNetwork()
    model = AdaptedModel(EnergyCanonicalizer(Context(C4, network, HALF)), network)
    found = run(model, batches(bright(TOP, LEFT)), torch.full((2,), TOP))
    assert found.ties.all()


@pytest.mark.parametrize("average", ["logits", "probabilities"])
@pytest.mark.parametrize("elements", [C4, C8], ids=str)
def test_an_average_is_counted_as_the_model_itself_predicts(average, elements):
    plain = random_model()
    model = AdaptedModel(plain.canonicalizer, plain.prediction_network, average=average)
    images = noise(6)
    found = run(model, batches(images), torch.zeros(6, dtype=torch.int64), elements, systems=("adapted",))
    with torch.inference_mode():
        direct = [model(act(elements, g, HALF(images))).argmax(dim=1) for g in elements.elements()]
    assert torch.equal(found.predictions, torch.stack(direct, dim=1))
    assert found.correct.keys() == {"adapted"}


def test_an_average_sees_each_view_at_every_turn():
    network = EdgeNetwork()
    model = AdaptedModel(conv_canonicalizer("c4", size=8), network, average="logits")
    run(model, batches(noise(5), 5), torch.zeros(5, dtype=torch.int64), systems=("adapted",))
    assert network.seen == 5 * 4 * 4


def test_top_five_and_confidence_are_counted_for_every_system_and_turn():
    images = bright(TOP, LEFT)
    found = run(finding_top(EdgeNetwork()), batches(images), torch.tensor([TOP, TOP]))
    for name in SYSTEMS:
        assert found.correct_top[name].all()  # of four outputs any is among the first five
        assert found.confidence[name].shape == (2, 4)
        assert ((found.confidence[name] > 0.24) & (found.confidence[name] <= 1)).all()
    assert found.targets.tolist() == [TOP, TOP]
