import pytest
import torch

from equicli.adapted import AdaptedModel
from equicli.canonicalization.canonicalizer import Pose
from equicli.data.loading import Batch
from equicli.data.normalization import HALF
from equicli.evaluation.evaluate import SYSTEMS, evaluate
from equicli.groups import PlanarGroup, parse_group
from equicli.groups.action import act, views
from tests.canonicalization.examples import conv_canonicalizer
from tests.evaluation.handmade import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    ConvNetwork,
    EdgeNetwork,
    Motionless,
    batches,
    bright,
    finding_top,
    noise,
)

CPU = torch.device("cpu")
C4, C8 = PlanarGroup(4), PlanarGroup(8)


def run(model, batches, targets, elements=C4, **options):
    return evaluate(model, batches, targets, HALF, elements, device=CPU, **options)


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
    assert found.poses.tolist()[3:5] == [[1, 2, 3, 0], [2, 3, 0, 1]]
    assert found.predictions.unique().tolist() == [TOP]
    assert found.max_logit_delta == 0
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
    assert found.max_logit_delta == pytest.approx((logits - logits[:, :1]).abs().max().item(), abs=1e-5)


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
    there = run(model, [Batch(torch.arange(6), files)], targets)
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
    assert found.max_logit_delta == pytest.approx(
        200 / 255, abs=1e-6
    )  # the dark edge, when the bright one takes its place


def test_for_the_group_of_quarter_turns_an_adapted_model_is_exactly_invariant():
    found = run(random_model(), batches(noise(12)), torch.zeros(12, dtype=torch.int64))
    assert found.max_logit_delta == 0
    assert torch.equal(found.predictions, found.predictions[:, :1].expand(-1, 4))
    assert torch.equal(found.poses, (found.poses[:, :1] + torch.arange(4)) % 4)


def test_quarter_turns_within_a_larger_group_leave_the_prediction():
    found = run(random_model("c8"), batches(noise(12)), torch.zeros(12, dtype=torch.int64))
    assert torch.equal(found.predictions, found.predictions[:, :1].expand(-1, 4))
    assert found.max_logit_delta < 1e-3


@pytest.mark.parametrize("group", ["c4", "c8"])
def test_each_exact_turn_is_computed_once_beside_the_adapted_models_own_passes(group):
    network = EdgeNetwork()
    run(finding_top(network, "c4"), batches(noise(6), 3), torch.zeros(6, dtype=torch.int64), parse_group(group))
    # 4 adapted and 4 exact; with c8 moreover 4 adapted, 4·|C4| symmetrized (a quarter of them vanilla) and 4 oracle.
    assert network.passes == 2 * {"c4": 4 + 4, "c8": 4 + 4 + 4 + 4 * 4 + 4}[group]


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
