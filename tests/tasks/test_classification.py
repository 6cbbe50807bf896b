"""Image classification: counting outputs, matching labels, fitting a head."""

import pytest
import torch
from torch import Tensor, nn

from equicli.data.normalization import IMAGENET
from equicli.data.preprocess import Preprocess
from equicli.errors import EquicliError, UsageError
from equicli.prediction.network import NetworkSpec, PretrainedNetwork
from equicli.tasks.classification import correct, count_outputs, fit_head, match_labels, refuse_labels
from tests.prediction.tiny import weights

IMAGES = torch.zeros(2, 3, 32, 48)


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
    assert count_outputs(network, IMAGES) == 4


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
        count_outputs(Answer(answer), IMAGES)
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
        count_outputs(Answer(error), IMAGES)
    for word in ("48x32", "--image-size", "--preprocess", str(error).partition("\n")[0]):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("class_names", "outputs", "folders", "labels", "words"),
    [
        (("ant", "Bee", "cat"), 3, ("bee", "cat"), {"bee": 1, "cat": 2}, "match the checkpoint's 3 classes"),
        (("ant", "bee"), 2, ("ant", "wasp"), None, "not classes of the checkpoint (2 outputs)"),
        ((None,), 2, ("ant", "bee"), {"ant": 0, "bee": 1}, "sorted folders (ant = 0 … bee = 1)"),
        ((None,), 3, ("ant", "bee"), None, "3 outputs, the data 2 class folders"),
    ],
    ids=["names", "other names", "numbers", "neither"],
)
def test_labels_are_matched_by_name_then_by_number_and_it_is_said_how(
    class_names, outputs, folders, labels, words
) -> None:
    found, line = match_labels(named(*class_names), outputs, folders)
    assert found == labels
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
    assert correct(features @ weight.T + bias, labels).float().mean() > 0.99
    assert accuracy > 0.99


def test_the_reported_accuracy_is_that_of_the_returned_head() -> None:
    train, train_labels = clusters(3, 10, seed=0)
    noisy, noisy_labels = clusters(3, 30, seed=1)
    noisy_labels = noisy_labels[torch.randperm(90, generator=torch.Generator().manual_seed(0))]
    weight, bias, accuracy = fit_head(train, train_labels, noisy, noisy_labels)
    share = correct(noisy @ weight.T + bias, noisy_labels).double().mean()
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
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    assert correct(logits, torch.tensor([1, 2])).tolist() == [True, False]
    assert correct(logits, torch.tensor([-1, -1])).tolist() == [False, False]  # no label is never right
