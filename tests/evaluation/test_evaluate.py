"""Every system on the same inputs at every turn: counts made by hand, tensors and pictures, tasks of one's own."""

import json
from dataclasses import replace

import pytest
import torch

from equicli.canonicalization.canonicalizer import Context, Pose, posterior
from equicli.canonicalization.energy import EnergyCanonicalizer
from equicli.canonicalization.prior import Prior
from equicli.canonicalization.untrained import NoCanonicalizer
from equicli.data.normalization import HALF
from equicli.data.preprocess import Preprocess
from equicli.data.reencode import Encoding
from equicli.evaluation.cache import OutputCache
from equicli.evaluation.evaluate import InputBatch, record_systems
from equicli.evaluation.metrics import metrics_document
from equicli.evaluation.systems import SYSTEMS
from equicli.groups import PlanarGroup, parse_group
from equicli.groups.action import act
from equicli.policy import Gate, Mean
from equicli.prediction.inputs import Tensors
from tests.evaluation.handmade import (
    BOTTOM,
    C4,
    CLASSIFICATION,
    CPU,
    FRAMES,
    LEFT,
    RIGHT,
    SIDE,
    TOP,
    UPRIGHT,
    ClosenessTask,
    Compass,
    ConvNetwork,
    EdgeNetwork,
    HeadingNetwork,
    Motionless,
    PointNetwork,
    PointTask,
    adapted,
    batches,
    bright,
    finding_top,
    framed,
    noise,
    pictures,
    random_model,
    spots,
)

C8 = PlanarGroup(8)


def run(model, batches, targets, elements=C4, *, prior=UPRIGHT, task=CLASSIFICATION, systems=SYSTEMS, **options):
    return record_systems(model, task, batches, targets, elements, prior=prior, systems=systems, device=CPU, **options)


def hits(evaluation, system):
    return evaluation.records[system]["acc"]


def counts(evaluation, system):
    return hits(evaluation, system).sum(dim=0).tolist()


def predictions(evaluation):
    return evaluation.records["adapted"]["prediction"]


def document(evaluation, task=CLASSIFICATION, **options):
    fixed = {"rotate": "file", "split": "test", "unreadable": 0, "provenance": {}, "prior": UPRIGHT}
    fixed["cost"] = {"relative_time": 0.1}
    return metrics_document(evaluation, task, **{**fixed, **options})


def test_counts_are_those_made_by_hand():
    images = bright(TOP, TOP, TOP, LEFT, BOTTOM, TOP)
    result = run(finding_top(EdgeNetwork()), batches(images), [TOP] * 6)
    assert counts(result, "vanilla") == [4, 0, 1, 1]
    assert counts(result, "adapted") == [6, 6, 6, 6]
    assert counts(result, "oracle") == [4, 4, 4, 4]
    assert result.found.poses.tolist() == [0, 0, 0, 1, 2, 0]
    assert result.found.expected.tolist() == [[pose == 0] * 4 for pose in result.found.poses]
    assert result.found.consistent.all()
    assert predictions(result).unique().tolist() == [TOP]
    assert result.max_delta.tolist() == [0, 0, 0, 0]
    assert not result.found.ties.any()
    assert not result.agreement


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
    targets = [i % 5 for i in range(11)]
    result = run(model, batches(images), targets, elements)
    right, logits = brute_force(model, images, targets, elements)
    for name in SYSTEMS:
        assert torch.equal(hits(result, name), right[name]), name
    assert torch.equal(predictions(result), logits.argmax(dim=-1))
    torch.testing.assert_close(result.max_delta, (logits - logits[:, :1]).abs().amax((0, 2)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [1, 3, 10])
def test_results_do_not_depend_on_the_batch_size(size):
    model, images, targets = random_model(), noise(10), [i % 5 for i in range(10)]
    whole, parts = run(model, batches(images, 10), targets), run(model, batches(images, size), targets)
    assert all(torch.equal(hits(whole, name), hits(parts, name)) for name in SYSTEMS)
    assert torch.equal(whole.found.poses, parts.found.poses)


def test_without_labels_right_means_agreement_with_the_upright_vanilla_prediction():
    result = run(random_model(), batches(noise(9)), None)
    upright = ConvNetwork()(HALF(noise(9))).argmax(dim=1)
    assert result.agreement
    assert counts(result, "vanilla")[0] == 9
    assert torch.equal(hits(result, "adapted"), predictions(result) == upright[:, None])


def test_targets_are_taken_by_the_indices_of_the_batches():
    images = bright(TOP, LEFT, RIGHT)
    kept = torch.tensor([0, 2, 5])
    targets = [TOP, None, LEFT, None, None, RIGHT]  # those between could not be read
    result = run(finding_top(EdgeNetwork()), [InputBatch(kept, Tensors(HALF(images), HALF))], targets)
    assert counts(result, "vanilla")[0] == 3


def test_pictures_that_are_taken_as_they_are_give_what_their_tensors_give():
    model, images, targets = random_model(), noise(6), [i % 5 for i in range(6)]
    tensors, files = (run(model, of, targets) for of in (batches(images, 6), pictures(list(images))))
    assert all(torch.equal(hits(tensors, name), hits(files, name)) for name in SYSTEMS)
    assert torch.equal(tensors.found.poses, files.found.poses)


MIXED = (TOP, TOP, LEFT, BOTTOM, RIGHT, TOP, LEFT, TOP)


def test_pictures_of_several_sizes_are_counted_alike_at_every_quarter_turn():
    result = run(finding_top(EdgeNetwork()), pictures(framed(*MIXED)), [TOP] * 8)
    assert counts(result, "vanilla") == [4, 1, 1, 2]
    assert counts(result, "adapted") == [8, 8, 8, 8]
    assert counts(result, "oracle") == [4, 4, 4, 4]
    assert len(set(counts(result, "symmetrized"))) == 1
    assert result.max_delta.tolist() == [0, 0, 0, 0] and not result.changed.any()
    assert result.found.poses.tolist() == list(MIXED) and result.found.consistent.all()
    assert result.frames == (FRAMES * 2)


def test_pictures_of_several_sizes_leave_no_residual_whatever_network_crops_and_resizes_them():
    preprocess = Preprocess(SIDE, SIDE + 3, "bicubic", HALF)
    generator = torch.Generator().manual_seed(5)
    images = [torch.randint(0, 256, (3, *frame), generator=generator, dtype=torch.uint8) for frame in FRAMES * 3]
    model = random_model("d4", preprocess=preprocess)
    result = run(model, pictures(images, preprocess), [0] * 12, PlanarGroup(4, reflections=True))
    assert not result.found.ties.any()
    assert result.max_delta.tolist() == [0] * 8 and not result.changed.any()
    assert result.found.consistent.all() and len(result.found.poses.unique()) > 1
    alone = result.records["vanilla"]["prediction"]
    assert (alone != alone[:, :1]).any()


HARSH = Encoding("jpeg", 10)


@pytest.mark.parametrize("elements", ["c4", "c8"])
@torch.inference_mode()
def test_what_is_compressed_again_after_each_turn_equals_a_brute_force_loop(elements):
    model, images, elements = random_model(), list(noise(7)), parse_group(elements)
    turns = [[HARSH(act(elements, h, image)) for image in images] for h in elements.elements()]
    result = run(model, pictures(images), [0] * 7, elements, reencode=HARSH)
    group, network = model.canonicalizer.group, model.prediction_network
    for h, seen in enumerate(turns):
        said = model.predict(seen)
        x = HALF(torch.stack(seen))
        symmetrized = torch.stack([network(act(group, g, x)).softmax(-1) for g in group.elements()]).mean(0)
        wanted = {
            "vanilla": network(x),
            "adapted": said.output,
            "symmetrized": symmetrized,
            "oracle": network(HALF(torch.stack([act(elements, elements.inverse(h), image) for image in seen]))),
        }
        for name, output in wanted.items():
            assert torch.equal(result.records[name]["prediction"][:, h], output.argmax(dim=1)), (name, h)
        if h == 0:
            reference = said.output
            assert torch.equal(result.found.poses, said.pose.element)
        assert torch.equal(result.changed[:, h], said.output.argmax(dim=1) != reference.argmax(dim=1))
    assert result.max_delta[0] == 0 and (result.max_delta[1:] > 0).all()


def test_without_labels_what_is_compressed_again_is_held_against_the_picture_as_it_was():
    result = run(random_model(), pictures(list(noise(9))), None, reencode=HARSH)
    upright = ConvNetwork()(HALF(noise(9))).argmax(dim=1)
    alone = result.records["vanilla"]["prediction"]
    assert torch.equal(hits(result, "vanilla"), alone == upright[:, None])
    assert counts(result, "vanilla")[0] < 9


def test_the_identity_rate_is_told_by_shape_where_shapes_differ():
    made = document(run(finding_top(EdgeNetwork()), pictures(framed(*MIXED)), [TOP] * 8))
    assert made["adapted"]["identity_rate"] == 4 / 8
    assert made["adapted"]["identity_rate_by_shape"] == {
        "landscape": {"n": 2, "identity_rate": 1.0},
        "portrait": {"n": 4, "identity_rate": 1 / 4},
        "square": {"n": 2, "identity_rate": 1 / 2},
    }
    alike = document(run(finding_top(EdgeNetwork()), batches(bright(TOP, LEFT)), [TOP] * 2))
    assert alike["adapted"]["identity_rate_by_shape"] is None


def test_symmetric_images_are_ties_and_each_is_counted_once():
    result = run(finding_top(EdgeNetwork()), batches(bright(TOP, None, LEFT, None)), [0] * 4)
    assert result.found.ties.tolist() == [False, True, False, True]


def test_a_tie_for_one_element_is_a_tie():
    class TiedWhenTopEqualsBottom(Motionless):
        def forward(self, x):
            top, bottom = (x[..., row, :].mean(dim=(1, 2)) for row in (0, -1))
            scores = torch.stack([top, bottom, top - 9, top - 9], dim=1)
            return Pose(scores.argmax(dim=1), scores, scores[..., None])

    model = adapted(TiedWhenTopEqualsBottom(C4), EdgeNetwork())
    assert run(model, batches(bright(TOP)), [TOP]).found.ties.tolist() == [True]
    assert run(model, batches(bright(TOP)), [TOP], PlanarGroup(2)).found.ties.tolist() == [False]


def test_a_model_that_is_not_invariant_is_found_out():
    model = adapted(Motionless(C4), EdgeNetwork())
    result = run(model, batches(bright(TOP, None)), [TOP, TOP])
    assert predictions(result).tolist() == [[TOP, LEFT, BOTTOM, RIGHT], [0, 0, 0, 0]]
    assert hits(result, "adapted").equal(hits(result, "vanilla"))
    # The bright edge, when a dark one takes its place; at 90° and 270° that shares a corner with the bright one.
    assert result.max_delta.tolist() == pytest.approx([0, 175 / 255, 200 / 255, 175 / 255], abs=1e-6)
    assert result.found.consistent.tolist() == result.found.expected.tolist() == [[True, False, False, False]] * 2


def test_for_the_group_of_quarter_turns_an_adapted_model_is_exactly_invariant():
    result = run(random_model(), batches(noise(12)), [0] * 12)
    assert result.max_delta.tolist() == [0, 0, 0, 0]
    assert torch.equal(predictions(result), predictions(result)[:, :1].expand(-1, 4))
    assert result.found.consistent.all()


def test_quarter_turns_within_a_larger_group_leave_the_prediction():
    result = run(random_model("c8"), batches(noise(12)), [0] * 12)
    assert torch.equal(predictions(result), predictions(result)[:, :1].expand(-1, 4))
    assert result.max_delta.max() < 1e-3


@pytest.mark.parametrize(("elements", "least", "most"), [("c4", 4 + 4, 4 + 4), ("c8", 8 + 4 + 4 + 4, 8 + 4 + 4 * 4)])
def test_baselines_see_each_view_of_an_image_once_and_the_adapted_model_is_asked_at_every_turn(elements, least, most):
    network = EdgeNetwork()
    run(finding_top(network, "c4"), batches(noise(6), 3), [0] * 6, parse_group(elements))
    # Of c4 all turns and true poses are among 4 views. Of a turn by 45° more, some the same but for roundings.
    assert 6 * least <= network.seen <= 6 * most


def test_with_a_cache_all_see_each_view_once_and_count_the_same():
    images, targets, network = noise(6), [0] * 6, EdgeNetwork()
    alone = run(finding_top(network), batches(images, 3), targets)
    network.seen, cache = 0, OutputCache()
    for _ in range(2):
        shared = run(finding_top(network), batches(images, 3), targets, cache=cache)
        for name in SYSTEMS:
            assert torch.equal(hits(alone, name), hits(shared, name))
    assert network.seen == 6 * 4


def test_a_network_that_answers_differently_each_time_is_not_called_invariant():
    class Fickle(EdgeNetwork):
        def forward(self, x):
            return super().forward(x) + self.passes

    result = run(finding_top(Fickle()), batches(noise(4)), [0] * 4)
    assert (result.max_delta[1:] > 0).all()


def test_half_precision_networks_are_evaluated_to_the_same_counts_of_clear_cases():
    images = bright(TOP, LEFT, BOTTOM)
    result = run(finding_top(EdgeNetwork()), batches(images), [0] * 3, precision="bf16")
    assert counts(result, "vanilla") == [1, 0, 1, 1]
    assert counts(result, "adapted") == [3, 3, 3, 3]


def test_evaluating_leaves_the_network_as_it_was():
    model = random_model()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    run(model, batches(noise(4)), [0] * 4)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_the_prior_decides_what_the_oracle_turns_back_and_which_poses_are_expected():
    images = bright(LEFT, LEFT, TOP, BOTTOM)
    result = run(finding_top(EdgeNetwork()), batches(images), [TOP] * 4, prior=Prior(("r90",)))
    assert counts(result, "vanilla") == [1, 0, 1, 2]
    assert counts(result, "adapted") == [4, 4, 4, 4]
    assert counts(result, "oracle") == [2, 2, 2, 2]
    assert result.found.poses.tolist() == [1, 1, 0, 2]
    assert result.found.expected.tolist() == [[True] * 4, [True] * 4, [False] * 4, [False] * 4]


def test_any_pose_of_a_set_is_expected_and_the_oracle_takes_the_first():
    images = bright(TOP, LEFT, BOTTOM, RIGHT)
    result = run(finding_top(EdgeNetwork()), batches(images), [TOP] * 4, prior=Prior(("r180", "r0")))
    assert result.found.expected[:, 0].tolist() == [True, False, True, False]
    assert torch.nonzero(hits(result, "oracle")[:, 0]).flatten().tolist() == [2]


def test_without_labels_right_is_the_vanilla_prediction_in_the_pose_of_the_prior():
    result = run(finding_top(EdgeNetwork()), batches(bright(LEFT, TOP)), None, prior=Prior(("r90",)))
    # Turned back by 90°, the network sees TOP and RIGHT, and without that LEFT and TOP.
    assert hits(result, "vanilla").tolist() == [[False, False, False, True]] * 2
    assert hits(result, "oracle").all()


@pytest.mark.parametrize(
    ("group", "elements", "shared"),
    [("c8", "c4", (0, 1, 2, 3)), ("c4", "c8", (0, 2, 4, 6)), ("d4", "c4", (0, 1, 2, 3)), ("c4", "c3", (0,))],
)
def test_poses_are_judged_at_the_elements_that_the_adapted_group_has_too(group, elements, shared):
    result = run(random_model(group), batches(noise(3)), [0] * 3, parse_group(elements))
    assert result.found.shared == shared
    assert result.found.expected.shape == result.found.consistent.shape == (3, len(shared))


@pytest.mark.parametrize("elements", ["c4", "c8"])
def test_a_canonicalizer_of_so2_that_knows_the_angle_is_right_at_every_angle(elements):
    model, images = adapted(Compass(), HeadingNetwork()), spots(TOP, TOP, LEFT)
    result = run(model, batches(images), [TOP] * 3, parse_group(elements))
    assert hits(result, "adapted").all() and result.found.consistent.all()
    assert result.found.expected.tolist() == [[True] * len(result.found.shared)] * 2 + [
        [False] * len(result.found.shared)
    ]
    assert result.found.poses is None and not result.found.ties.any()
    assert len(result.found.shared) == parse_group(elements).order
    assert counts(result, "vanilla")[0] == 2 and hits(result, "oracle").sum() == 2 * len(result.found.shared)
    assert result.max_delta.max() < 0.1


def test_a_pose_of_so2_is_expected_within_a_few_degrees():
    model = adapted(Compass(), HeadingNetwork())
    images = spots(TOP, LEFT)
    for label, expected in [("r90", [False, True]), ("r85", [False, True]), ("r60", [False, False])]:
        result = run(model, batches(images), [TOP] * 2, prior=Prior((label,)))
        assert result.found.expected[:, 0].tolist() == expected, label


def test_energy_takes_a_pass_for_each_element_and_one_more():
    network = EdgeNetwork()
    model = adapted(EnergyCanonicalizer(Context(C4, HALF)), network)
    model(HALF(bright(TOP, LEFT)))
    assert network.passes == 5
    result = run(model, batches(bright(TOP, LEFT)), [TOP] * 2)
    assert result.passes == {"vanilla": 1, "adapted": 5, "symmetrized": 4, "oracle": 1}


def test_a_network_that_is_as_sure_of_every_pose_leaves_energy_undecided():
    network = EdgeNetwork()
    model = adapted(EnergyCanonicalizer(Context(C4, HALF)), network)
    result = run(model, batches(bright(TOP, LEFT)), [TOP] * 2)
    assert result.found.ties.all()


@pytest.mark.parametrize("of", ["logits", "probabilities"])
@pytest.mark.parametrize("elements", [C4, C8], ids=str)
def test_a_mean_is_counted_as_the_model_itself_predicts(of, elements):
    model, images = random_model(policy=Mean(of)), noise(6)
    result = run(model, batches(images), [0] * 6, elements, systems=("adapted",))
    with torch.inference_mode():
        direct = [model(act(elements, g, HALF(images))).argmax(dim=1) for g in elements.elements()]
    assert torch.equal(predictions(result), torch.stack(direct, dim=1))
    assert result.records.keys() == result.passes.keys() == {"adapted"}


def test_a_mean_sees_each_view_at_every_turn():
    network = EdgeNetwork()
    result = run(
        random_model(network=network, policy=Mean("logits")), batches(noise(5), 5), [0] * 5, systems=("adapted",)
    )
    assert network.seen == 5 * 4 * 4
    assert result.passes == {"adapted": 4}


def test_of_a_mean_no_poses_are_told_though_it_weighs_them():
    result = run(random_model(policy=Mean()), batches(noise(5)), [0] * 5)
    told = document(result)["adapted"]
    assert result.found is None
    assert [told[name] for name in ("identity_rate", "pose_accuracy", "pose_consistency", "poses")] == [None] * 4
    assert (told["passes"], told["ties"]) == (4, 0)


def test_of_a_network_alone_no_poses_are_told_and_its_changes_are():
    result = run(adapted(NoCanonicalizer(Context(C4, HALF)), EdgeNetwork()), batches(bright(TOP)), [TOP])
    told = document(result)["adapted"]
    assert told["identity_rate"] is None and told["poses"] is None
    assert (told["passes"], told["invariance_residual"]) == (1, 1)
    assert counts(result, "adapted") == counts(result, "vanilla")


def test_only_the_systems_that_are_asked_for_are_counted():
    result = run(finding_top(EdgeNetwork()), batches(bright(TOP)), [TOP], systems=("oracle", "adapted"))
    assert list(result.records) == ["adapted", "oracle"]
    assert not {"vanilla", "symmetrized"} & document(result).keys()


def test_top_five_and_confidence_are_counted_for_every_system_and_turn():
    result = run(finding_top(EdgeNetwork()), batches(bright(TOP, LEFT)), [TOP, TOP])
    for name in SYSTEMS:
        records = result.records[name]
        assert records["top5"].all()  # of four outputs any is among the first five
        assert records["confidence"].shape == (2, 4)
        assert ((records["confidence"] > 0.24) & (records["confidence"] <= 1)).all()
        assert records["target"].tolist() == [[TOP] * 4] * 2


# A task of one's own: a white spot in a picture with one bright edge. The network sees it in the upper half only.


def spotted(*edges):
    """The pictures, and where each one's spot is: left of the middle, just below the edge when that is on top."""
    images, points = [], []
    for edge, image in zip(edges, framed(*edges), strict=True):
        upright = torch.rot90(image, -edge, (-2, -1)).clone()
        upright[:, 2, 1] = 255
        height, width = upright.shape[-2:]
        images.append(torch.rot90(upright, edge, (-2, -1)).contiguous())
        point = torch.tensor([[1.5, 2.5]])
        points.append(act(C4, edge, point, "keypoints", (height, width)))
    return images, points


def run_points(task, targets=True, edges=MIXED, **options):
    images, points = spotted(*edges)
    model = finding_top(PointNetwork(), signature=task.signature)
    options = {"systems": ("adapted", *task.baselines), **options}
    return run(model, pictures(images), points if targets else None, task=task, **options)


def test_keypoints_come_back_to_the_untouched_picture_at_every_turn():
    result = run_points(PointTask())
    assert result.records["adapted"]["hit"].all()
    assert result.records["adapted"]["distance"].eq(0).all()
    assert result.max_delta.tolist() == [0, 0, 0, 0] and not result.changed.any()
    # The network alone finds it where the edge's half is up: a spot at the left comes up by 270°, too.
    alone = result.records["vanilla"]["hit"]
    assert alone.tolist() == [[edge in ((-h) % 4, (-h + 3) % 4) for h in range(4)] for edge in MIXED]
    assert result.records["oracle"]["hit"].tolist() == [[edge in (TOP, RIGHT)] * 4 for edge in MIXED]


def test_a_task_is_told_by_its_own_score_beside_its_own_baselines():
    made = json.loads(json.dumps(document(run_points(PointTask()), PointTask())))
    assert (made["task"], made["score"]) == ("points", {"name": "hit", "title": "Hits", "words": "Hits"})
    assert "symmetrized" not in made
    assert (made["adapted"]["hit"], made["adapted"]["avg_hit"], made["adapted"]["worst_hit"]) == (1, 1, 1)
    assert [entry["correct"] for entry in made["adapted"]["per_element"]] == [8] * 4
    assert made["vanilla"]["avg_hit"] == 1 / 2
    assert "acc" not in made["adapted"] and "top5_acc" not in made["adapted"]


def test_without_targets_right_is_what_the_network_says_of_the_upright_picture():
    result = run_points(PointTask(), targets=False)
    assert result.agreement
    assert result.records["vanilla"]["hit"][:, 0].all() and result.records["oracle"]["hit"].all()
    # Of pictures that lie on their side or head the network alone says something else than when they stand.
    seen = [edge in (TOP, RIGHT) for edge in MIXED]
    assert result.records["adapted"]["hit"].tolist() == [[same] * 4 for same in seen]


def test_a_score_between_0_and_1_is_averaged_and_nothing_is_counted_as_correct():
    result = run_points(ClosenessTask())
    made = document(result, ClosenessTask())
    scores = result.records["vanilla"]["closeness"].double()
    assert 0 < float(scores.min()) < 1
    assert made["vanilla"]["closeness"] == pytest.approx(float(scores[:, 0].mean()))
    assert made["vanilla"]["avg_closeness"] == pytest.approx(float(scores.mean()))
    low, high = made["vanilla"]["closeness_ci"]
    assert 0 <= low < made["vanilla"]["closeness"] < high <= 1
    for entry in made["vanilla"]["per_element"]:
        assert "correct" not in entry and entry["closeness_ci"][0] <= entry["closeness"] <= entry["closeness_ci"][1]
    assert made["adapted"]["closeness"] == made["adapted"]["worst_closeness"] == 1


def test_how_far_an_answer_moves_is_told_in_its_own_unit():
    class Upright(Motionless):
        finds_poses = False

    images, points = spotted(TOP)
    model = adapted(Upright(C4), PointNetwork(), signature=PointTask.signature)
    result = run(model, pictures(images), points, task=PointTask(), systems=("adapted",))
    assert result.changed.tolist() == [[False, True, True, False]]
    assert result.max_delta[0] == result.max_delta[3] == 0 and result.max_delta[1:3].min() >= 1


def test_under_a_gate_passes_are_the_mean_over_inputs_and_poses_are_told():
    images, gate = noise(20), Gate(0.0, 3, 0.1)
    with torch.inference_mode():
        p, _ = posterior(random_model().find_pose(random_model().tensors(HALF(images))).scores, gate.temperature)
    threshold = float(p[:, 0].sort().values[7:9].mean())
    network = EdgeNetwork()
    model = random_model(network=network, policy=replace(gate, threshold=threshold))
    result = run(model, batches(images), [0] * 20, systems=("adapted",))
    assert result.passes == {"adapted": pytest.approx(1 + 2 * 8 / 20)}
    assert network.seen == 4 * (20 + 2 * 8)
    told = document(result)["adapted"]
    assert told["identity_rate"] is not None and told["invariance_residual"] == 0
