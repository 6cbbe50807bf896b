"""Image classification: counting outputs, matching labels, fitting a head, what is right and what is counted."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from equicli.data.folders import Dataset, Sample
from equicli.data.normalization import IMAGENET
from equicli.data.preprocess import Preprocess
from equicli.errors import EquicliError, UsageError
from equicli.prediction.network import NetworkSpec, PretrainedNetwork
from equicli.tasks.classification.head import fit_head
from equicli.tasks.classification.labels import match_labels, refuse_labels
from equicli.tasks.classification.task import Classification, calibration_error
from tests.evaluation.handmade import C4
from tests.prediction.tiny import weights
from tests.told import Told

IMAGES = torch.zeros(2, 3, 32, 48)
TASK = Classification()
PLAIN = Preprocess(None, None, "bilinear", IMAGENET)


def not_shown(sample: Sample) -> torch.Tensor:
    raise AssertionError(f"{sample} is shown to the network, though nothing is to be decided")


def told_by(network: nn.Module) -> list[str]:
    told = Told()
    found = PretrainedNetwork(network, NetworkSpec("python", "Answer"), PLAIN, None, {"model": "python"})
    TASK.bind(found, Dataset(Path(), (), (), None), IMAGES[:1], not_shown, told)
    return told.lines


def test_a_network_that_ends_in_a_softmax_is_told() -> None:
    logits = torch.randn(1, 4, generator=torch.Generator().manual_seed(0))
    (line, _) = told_by(Answer(logits.softmax(dim=1)))
    assert "probabilities" in line and "softmax should be left out" in line
    assert len(told_by(Answer(logits))) == len(told_by(Answer(logits.log_softmax(dim=1)))) == 1


def right(logits: Tensor, targets: Tensor) -> Tensor:
    return TASK.record(logits, targets.tolist())["acc"]


class Answer(nn.Module):
    """A network that answers the same to everything, or raises it."""

    def __init__(self, answer: object) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, _: Tensor) -> object:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def named(*class_names: str | None) -> PretrainedNetwork:
    """A network whose checkpoint names its classes, or with None does not."""
    names = None if None in class_names else tuple((name,) for name in class_names)
    spec, preprocess = NetworkSpec("python", "Answer"), Preprocess(None, None, "bilinear", IMAGENET)
    return PretrainedNetwork(Answer(None), spec, preprocess, names, {"model": "python"})


def test_the_outputs_of_a_classifier_are_counted() -> None:
    from equicli.prediction.timm_source import create

    network = create("test_resnet", {"num_classes": 4}).eval()
    network.load_state_dict(weights())
    assert TASK.count_outputs(network, IMAGES) == 4


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (torch.zeros(2, 4, 8, 8), "a tensor of shape (2, 4, 8, 8)"),
        (torch.zeros(2), "a tensor of shape (2,)"),
        ({"logits": torch.zeros(2, 4)}, "dict"),
        ((torch.zeros(2, 4),), "tuple"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_classifier_is_told_with_what_it_returns(answer: object, words: str) -> None:
    with pytest.raises(EquicliError, match="not a classifier") as caught:
        TASK.count_outputs(Answer(answer), IMAGES)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied\nsecond line"),
        AssertionError("Input height (32) doesn't match model (160)."),
        AssertionError(),
        ValueError(""),
        IndexError("tuple index out of range"),
        TypeError("forward() missing 1 required positional argument"),
    ],
    ids=repr,
)
def test_a_network_that_fails_on_these_images_names_their_size_and_the_options(error: Exception) -> None:
    with pytest.raises(EquicliError) as caught:
        TASK.count_outputs(Answer(error), IMAGES)
    for word in ("48x32", "--image-size", "--preprocess", str(error).partition("\n")[0]):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("class_names", "outputs", "folders", "labels", "words"),
    [
        (("ant", "Bee", "cat"), 3, ("bee", "cat"), {"bee": 1, "cat": 2}, "match the checkpoint's 3 classes"),
        (("ant", "bee"), 2, ("ant", "wasp"), None, "not classes of the checkpoint (2 outputs)"),
        (("a", "b", "c"), 3, ("0", "1", "2"), {"0": 0, "1": 1, "2": 2}, "are the numbers of 3 outputs"),
        (("a", "b", "c"), 3, ("0", "1"), None, "not classes of the checkpoint"),
        (("caf\u00e9", "b"), 2, ("cafe\u0301",), {"cafe\u0301": 0}, "match"),
        ((None,), 2, ("ant", "bee"), {"ant": 0, "bee": 1}, "sorted folders (ant = 0 … bee = 1)"),
        ((None,), 3, ("ant", "bee"), None, "3 outputs, the data 2 class folders"),
    ],
    ids=["names", "other names", "numbers of outputs", "some numbers", "accents", "as many", "neither"],
)
def test_labels_are_matched_by_name_then_by_number_and_it_is_said_how(
    class_names, outputs, folders, labels, words
) -> None:
    matched = match_labels(named(*class_names), outputs, folders)
    assert matched.outputs == labels
    line = matched.reason
    assert line.startswith("labels: ") and words in line and "\n" not in line


def test_labels_that_do_not_match_are_refused_with_the_remedy() -> None:
    refused = refuse_labels("labels: 3 outputs, 2 class folders")
    assert isinstance(refused, UsageError)
    assert "3 outputs" in str(refused) and "--head auto" in str(refused)


def clusters(classes: int, each: int, seed: int) -> tuple[Tensor, Tensor]:
    """Well separated features (n, 6), far from the origin and of very different scales."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat_interleave(each)
    centres = torch.eye(6)[labels] * 8
    features = centres + torch.randn(len(labels), 6, generator=generator)
    return features * torch.tensor([1.0, 100.0, 0.01, 1.0, 1.0, 1.0]) + 50, labels


@pytest.mark.parametrize("classes", [2, 3, 6])
def test_a_head_separates_what_is_separable(classes: int) -> None:
    weight, bias, accuracy = fit_head(*clusters(classes, 40, seed=0), *clusters(classes, 20, seed=1))
    assert weight.shape == (classes, 6) and bias.shape == (classes,)
    assert weight.dtype == bias.dtype == torch.float32
    features, labels = clusters(classes, 50, seed=2)
    assert right(features @ weight.T + bias, labels).float().mean() > 0.99
    assert accuracy > 0.99


def test_the_reported_accuracy_is_that_of_the_returned_head() -> None:
    train, train_labels = clusters(3, 10, seed=0)
    noisy, noisy_labels = clusters(3, 30, seed=1)
    noisy_labels = noisy_labels[torch.randperm(90, generator=torch.Generator().manual_seed(0))]
    weight, bias, accuracy = fit_head(train, train_labels, noisy, noisy_labels)
    share = right(noisy @ weight.T + bias, noisy_labels).double().mean()
    assert accuracy == pytest.approx(float(share))


def test_a_feature_that_never_changes_does_no_harm() -> None:
    features, labels = clusters(3, 40, seed=0)
    features[:, 4] = 7.0
    weight, bias, accuracy = fit_head(features, labels, features, labels)
    assert torch.isfinite(weight).all() and torch.isfinite(bias).all()
    assert accuracy > 0.99


def test_the_same_features_give_the_same_head() -> None:
    data = *clusters(3, 40, seed=0), *clusters(3, 20, seed=1)
    first, again = fit_head(*data), fit_head(*data)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])


def test_one_class_needs_no_head() -> None:
    features = torch.randn(8, 6)
    with pytest.raises(EquicliError, match="two classes"):
        fit_head(features, torch.zeros(8, dtype=torch.int64), features, torch.zeros(8, dtype=torch.int64))


def test_a_prediction_is_the_largest_logit() -> None:
    records = TASK.record(torch.tensor([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0]]), [1, 2])
    assert records["acc"].tolist() == [True, False]
    assert records["prediction"].tolist() == [1, 0] and records["target"].tolist() == [1, 2]
    assert records["top5"].tolist() == [True, True]  # of three
    assert records["confidence"][0] == pytest.approx(float(torch.tensor([0.0, 2.0, 1.0]).softmax(0)[1]))


def test_top_five_are_five() -> None:
    logits = torch.arange(7.0).flip(0)[None].expand(7, -1)
    assert TASK.record(logits, list(range(7)))["top5"].tolist() == [True] * 5 + [False] * 2


def test_logits_in_half_precision_are_counted_in_full() -> None:
    records = TASK.record(torch.tensor([[1.0, 2.0]]).bfloat16(), [1])
    assert records["confidence"].dtype == torch.float32


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_outputs_that_are_no_numbers_are_refused_with_what_to_check(value: float) -> None:
    with pytest.raises(EquicliError, match=r"not finite.*--mean.*--precision"):
        TASK.record(torch.tensor([[0.0, value]]), [0])


def test_without_labels_right_is_what_the_network_predicts() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    assert TASK.targets_of(logits) == [1, 0]
    assert TASK.record(logits, TASK.targets_of(logits))["acc"].all()


def test_another_class_is_a_change_and_other_logits_alone_are_only_told() -> None:
    before = torch.tensor([[0.0, 2.0], [3.0, 2.0], [1.0, 0.0]])
    after = torch.tensor([[0.0, 2.5], [1.0, 2.0], [1.0, 0.0]])
    changed, delta = TASK.changes(after, before)
    assert changed.tolist() == [False, True, False] and delta == 2


def folder(*targets: int, classes: tuple[str, ...] = ("ant", "bee")) -> Dataset:
    samples = tuple(Sample(Path(f"{i}.png"), target, target) for i, target in enumerate(targets))
    return Dataset(Path("data"), classes, samples, None)


def test_targets_are_outputs_and_not_the_order_of_folders() -> None:
    data = folder(0, 1, 1)
    assert TASK.targets(data.samples, data, {"bee": 0, "ant": 7}) == [7, 0, 0]


def test_there_are_no_targets_without_class_folders_or_where_the_model_was_adapted_without() -> None:
    data = folder(0, 1)
    assert TASK.targets(data.samples, data, {}) is None
    bare = folder(classes=())
    assert TASK.targets(bare.samples, bare, {"ant": 0}) is None


def test_a_class_folder_that_the_model_does_not_know_is_named() -> None:
    data = folder(0, 1, classes=("ant", "wasp"))
    with pytest.raises(EquicliError, match=r"'wasp' \(1 such\) is none of the 2 classes"):
        TASK.targets(data.samples, data, {"ant": 0, "bee": 1})


def bind(found: PretrainedNetwork, data: Dataset, **settings: object):
    told = Told()
    return Classification(TASK.Settings(**settings)).bind(found, data, IMAGES[:1], not_shown, told), told.lines


def answering(answer: object, *class_names: str | None) -> PretrainedNetwork:
    from dataclasses import replace

    return replace(named(*class_names), network=Answer(answer))


def test_a_network_whose_classes_do_not_fit_gets_a_head_unless_that_is_forbidden() -> None:
    found = answering(torch.zeros(1, 3), None)
    binding, (reason, line) = bind(found, folder(0, 1))
    assert binding.head_needed and binding.labels == {} and "2 class folders" in reason
    assert "fitting a linear head" in line
    with pytest.raises(UsageError, match="--head none"):
        bind(found, folder(0, 1), head="none")


def test_a_network_whose_classes_fit_keeps_its_own_head() -> None:
    binding, (line,) = bind(answering(torch.zeros(1, 3), "cat", "bee", "ant"), folder(0, 1))
    assert not binding.head_needed and binding.labels == {"ant": 2, "bee": 1} and "match" in line


def test_images_without_classes_are_bound_to_agreement() -> None:
    binding, (line,) = bind(answering(torch.zeros(1, 3), None), folder(classes=()))
    assert not binding.head_needed and binding.labels == {} and "agreement" in line


def records() -> dict[str, Tensor]:
    """Of four images at four turns: the first two are of class 0, the last two of class 1."""
    acc = torch.tensor([[1, 1, 1, 1], [0, 1, 0, 1], [1, 0, 0, 0], [1, 1, 1, 0]]).bool()
    target = torch.tensor([0, 0, 1, 1])[:, None].expand(-1, 4)
    return {
        "acc": acc,
        "top5": torch.ones(4, 4, dtype=torch.bool),
        "confidence": torch.full((4, 4), 0.75),
        "prediction": torch.where(acc, target, 1 - target),
        "target": target,
    }


def test_metrics_are_of_untouched_images_and_of_all_turns() -> None:
    measured = TASK.measure(records(), C4)
    assert (measured["acc"], measured["avg_acc"], measured["worst_acc"]) == (3 / 4, 10 / 16, 2 / 4)
    assert [entry["correct"] for entry in measured["per_element"]] == [3, 3, 2, 2]
    assert measured["top5_acc"] == measured["avg_top5_acc"] == 1
    assert measured["ece"] == pytest.approx(0, abs=1e-6) and measured["avg_ece"] == pytest.approx(0.75 - 10 / 16)


def test_classes_are_told_on_their_own_where_they_have_images() -> None:
    groups = TASK.groups_of(records(), {"bee": 1, "ant": 0, "cat": 2})
    assert {name: rows.tolist() for name, rows in groups.items()} == {
        "bee": [False, False, True, True],
        "ant": [True, True, False, False],
    }


def test_calibration_is_the_gap_between_confidence_and_accuracy():
    right = torch.tensor([True, True, True, False])
    assert calibration_error(torch.full((4,), 0.75), right) == pytest.approx(0, abs=1e-6)
    assert calibration_error(torch.full((4,), 0.95), right) == pytest.approx(0.2)
    # Bins are weighed by their images: 1/4 · |1 − 0.55| + 3/4 · |2/3 − 0.95|.
    assert calibration_error(torch.tensor([0.55, 0.95, 0.95, 0.95]), right) == pytest.approx(
        0.25 * 0.45 + 0.75 * (0.95 - 2 / 3)
    )
