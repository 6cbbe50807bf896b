"""What a task of one's own has without writing it: only `record` must be written."""

from pathlib import Path

import pytest
import torch
from torch import nn

from equicli.data.folders import Dataset, Sample
from equicli.data.normalization import HALF
from equicli.data.preprocess import Preprocess
from equicli.errors import EquicliError, said_of
from equicli.groups import PlanarGroup
from equicli.prediction.network import NetworkSpec, PretrainedNetwork
from equicli.prediction.signature import Signature
from equicli.tasks.intervals import clustered, wilson
from equicli.tasks.task import SAME, Binding, Task
from tests.evaluation.handmade import C4
from tests.told import Told

IMAGES = torch.zeros(1, 3, 32, 48)


class Boxes(Task):
    name = "boxes"
    signature = Signature("image", {"boxes": "boxes", "label": "invariant"}, lists=True)
    score = "found"

    def record(self, output, targets):
        pairs = zip(output, targets, strict=True)
        return {"found": torch.tensor([row["boxes"].shape == target["boxes"].shape for row, target in pairs])}


class Logits(Task):
    name = "logits"


class Answer(nn.Module):
    """Keeps what it was asked, and answers the same to everything, or raises it."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, asked):
        self.asked = asked
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def loaded(answer) -> PretrainedNetwork:
    preprocess = Preprocess(None, None, "bilinear", HALF)
    return PretrainedNetwork(Answer(answer), NetworkSpec("python", "Answer"), preprocess, None, {"model": "python"})


def bind(task, answer):
    told, found = Told(), loaded(answer)
    data = Dataset(Path("data"), (), (), None)
    return task.bind(found, data, IMAGES, lambda sample: IMAGES, told), told.lines, found.network


def test_class_folders_mean_nothing_to_it(tmp_path):
    from PIL import Image

    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "0.png")
    data = Boxes().open(tmp_path)
    assert data.classes == () and len(data.samples) == 2
    assert Boxes().targets(data.samples, data, {}) is None


def test_targets_are_those_of_the_samples_where_each_has_one():
    task, data = Boxes(), Dataset(Path("data"), (), (), None)
    samples = [Sample(Path("a"), 3), Sample(Path("b"), 0)]
    assert task.targets(samples, data, {}) == [3, 0]
    assert task.targets([Sample(Path("c"))], data, {}) is None
    with pytest.raises(EquicliError, match="c: has no label, as 1 of 3 images"):
        task.targets([*samples, Sample(Path("c"))], data, {})


def test_a_network_is_bound_that_answers_and_asked_as_its_signature_says():
    binding, (line,), network = bind(Boxes(), [{"boxes": torch.zeros(2, 4), "label": torch.zeros(2)}])
    assert binding == Binding({}) and "upright" in line
    assert isinstance(network.asked, list) and network.asked[0].shape == (3, 32, 48)
    _, _, network = bind(Logits(), torch.zeros(1, 5))
    assert network.asked.shape == (1, 3, 32, 48)


def test_a_network_that_answers_nothing_or_fails_is_refused_in_one_line():
    with pytest.raises(EquicliError, match="--model: returns NoneType, which is no answer to the task boxes"):
        bind(Boxes(), None)
    with pytest.raises(EquicliError, match=r"fails on images of 48x32 \(first\).*--image-size"):
        bind(Boxes(), ValueError("first\nsecond"))


def box(*corners, label=0.0):
    return {"boxes": torch.tensor(corners).reshape(-1, 4), "label": torch.tensor([label])}


def test_an_answer_that_moved_or_has_another_shape_is_a_change_and_a_rounding_is_none():
    reference = [box(0.0, 0, 4, 4)] * 4
    output = [
        box(0.0, 0, 4, 4),
        box(0.0, 0, 4 + SAME / 2, 4),
        box(0.0, 2, 4, 4, label=1.0),
        box(0.0, 0, 4, 4, 0, 0, 2, 2),
    ]
    changed, delta = Boxes().changes(output, reference)
    assert changed.tolist() == [False, False, True, True]
    assert delta == 2  # of what can be compared


def test_of_tensors_the_largest_change_is_told():
    changed, delta = Logits().changes(torch.tensor([[1.0, 2.0], [3.0, 4.5]]), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert (changed.tolist(), delta) == ([False, True], 0.5)
    assert Logits().changes((torch.ones(2, 3), torch.zeros(2)), (torch.ones(2, 3), torch.ones(2)))[0].all()


def test_answers_without_any_number_are_the_same():
    changed, delta = Boxes().changes([box()], [box()])
    assert (changed.tolist(), delta) == ([False], 0)


@pytest.mark.parametrize("output", [torch.arange(6.0).view(2, 3), (torch.arange(2), torch.arange(4).view(2, 2))])
def test_what_the_network_says_upright_is_taken_for_right_sample_by_sample(output):
    targets = Logits().targets_of(output)
    assert len(targets) == 2
    changed, _ = Logits().changes(output, output)
    assert not changed.any()


def test_shares_of_right_answers_are_counts_with_wilson_intervals():
    hits = torch.tensor([[1, 0, 0, 1], [1, 1, 0, 0], [0, 0, 0, 1]]).bool()
    measured = Boxes().measure({"found": hits}, C4)
    assert (measured["found"], measured["avg_found"], measured["worst_found"]) == (2 / 3, 5 / 12, 0)
    assert [entry["correct"] for entry in measured["per_element"]] == [2, 1, 0, 2]
    assert measured["found_ci"] == wilson(2, 3) == measured["per_element"][0]["found_ci"]
    assert measured["avg_found_ci"] == clustered(hits.numpy())


def test_scores_that_are_no_counts_get_the_intervals_of_resampled_images():
    values = torch.tensor([[0.5, 0.25], [1.0, 0.75], [0.0, 0.5]])
    measured = Boxes().measure({"found": values}, PlanarGroup(2))
    assert (measured["found"], measured["avg_found"], measured["worst_found"]) == (0.5, 0.5, 0.5)
    assert measured["found_ci"] == clustered(values[:, :1].double().numpy())
    assert not any("correct" in entry for entry in measured["per_element"])


def test_it_tells_nothing_on_its_own_and_warns_of_nothing():
    records = {"found": torch.ones(3, 4, dtype=torch.bool)}
    assert Boxes().groups_of(records, {"ant": 0}) == {} and Boxes().warnings(records, C4, {}) == []


def test_a_text_about_images_is_said_of_other_things_and_its_flags_stay() -> None:
    assert said_of("clouds", "an image of images (--image-size)") == "a cloud of clouds (--image-size)"
    assert said_of("images", "an image") == "an image"
