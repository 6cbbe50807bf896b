import json

import pytest
import torch
from PIL import Image

from equicli.data.decode import UnreadableImageError
from equicli.data.folders import Sample
from equicli.data.loading import Loader, Preloaded
from equicli.evaluation.cost import added_parameters, relative_time
from equicli.evaluation.run import evaluate_images
from equicli.groups import parse_group
from equicli.progress import Silent
from tests.evaluation.handmade import BOTTOM, LEFT, TOP, EdgeNetwork, bright, config, finding_top

CPU = torch.device("cpu")
EDGES = (TOP, TOP, LEFT, BOTTOM, TOP)


class Told(Silent):
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


@pytest.fixture
def samples(tmp_path):
    paths = [tmp_path / f"{index}.png" for index in range(len(EDGES))]
    for path, image in zip(paths, bright(*EDGES), strict=True):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return [Sample(path, TOP) for path in paths]


def from_files(samples, progress, elements="c4", rotate="input", strict=False):
    group = parse_group(elements)
    loader = Loader(samples, config().preprocess, 2, strict=strict, rotations=group if rotate == "file" else None)
    targets = torch.full((len(samples),), TOP)
    options = {"split": "test", "seed": 3, "device": CPU, "precision": "fp32", "progress": progress}
    return evaluate_images(finding_top(EdgeNetwork()), config(), loader, targets, group, **options)


def counts(metrics, system):
    return [entry["correct"] for entry in metrics[system]["per_element"]]


@pytest.mark.parametrize("rotate", ["input", "file"])
def test_files_are_counted_as_by_hand_whether_tensors_or_pictures_are_turned(samples, rotate):
    metrics = json.loads(json.dumps(from_files(samples, Silent(), rotate=rotate)))
    assert (metrics["n"], metrics["rotate"], metrics["split"], metrics["unreadable"]) == (5, rotate, "test", 0)
    assert counts(metrics, "vanilla") == [3, 0, 1, 1]
    assert counts(metrics, "adapted") == [5, 5, 5, 5]
    assert counts(metrics, "oracle") == [3, 3, 3, 3]
    assert metrics["adapted"]["identity_rate"] == metrics["adapted"]["pose_accuracy"] == 3 / 5
    assert metrics["adapted"]["invariance_residual"] == 0


def test_unreadable_files_are_told_counted_and_left_out(samples):
    samples[2].path.write_text("no image")
    told = Told()
    metrics = from_files(samples, told)
    assert (metrics["n"], metrics["unreadable"]) == (4, 1)
    assert counts(metrics, "vanilla") == [3, 0, 1, 0]
    assert told.lines == [f"skipped {samples[2].path}: not an image"]


def test_an_unreadable_file_stops_a_strict_evaluation(samples):
    samples[2].path.write_text("no image")
    with pytest.raises(UnreadableImageError):
        from_files(samples, Silent(), strict=True)


def test_the_provenance_tells_network_command_seed_and_versions(samples):
    provenance = from_files(samples, Silent())["provenance"]
    assert (provenance["model"], provenance["sha256"], provenance["revision"]) == ("python", "0" * 64, None)
    assert (provenance["seed"], provenance["device"]) == (3, "cpu")
    assert provenance["command"]
    assert provenance["versions"].keys() >= {"equicli", "python", "torch", "torchvision", "timm"}


def test_validation_images_in_memory_give_what_their_files_give(samples):
    options = {"split": "validation", "seed": 0, "device": CPU, "precision": "fp32", "progress": Silent()}
    targets = torch.full((len(EDGES),), TOP)
    model, images = finding_top(EdgeNetwork()), bright(*EDGES)
    metrics = evaluate_images(model, config(), Preloaded(images, 2), targets, parse_group("c4"), **options)
    assert (metrics["split"], metrics["rotate"], metrics["n"]) == ("validation", "input", 5)
    files = from_files(samples, Silent())
    for system in ("vanilla", "adapted", "symmetrized", "oracle"):
        assert metrics[system] == files[system]


def test_the_cost_counts_the_canonicalizers_parameters_and_times_it_against_the_network():
    class Slow(EdgeNetwork):
        def forward(self, x):
            for _ in range(40):
                torch.linalg.svd(torch.ones(30, 30))
            return super().forward(x)

    model = finding_top(Slow())
    model.prediction_network.weight = torch.nn.Parameter(torch.zeros(100))
    assert added_parameters(model) == 1  # the temperature: the handmade network has none
    x = torch.zeros(2, 3, 8, 8)
    assert 0 < relative_time(model, x, "fp32") < relative_time(finding_top(EdgeNetwork()), x, "fp32")
