"""From files to a metrics document, and what it costs."""

import json
import sys
import time

import pytest
import torch
from PIL import Image

from equicli.data.decode import UnreadableImageError
from equicli.data.fingerprint import fingerprint
from equicli.data.folders import Sample
from equicli.data.reencode import Encoding
from equicli.evaluation import cost
from equicli.evaluation.cost import added_parameters, relative_cost, relative_time
from equicli.evaluation.images import Batches
from equicli.evaluation.run import COST_BATCH, evaluate_images, record_images
from equicli.groups import parse_group
from equicli.policy import Mean, One
from equicli.progress import Silent
from tests.evaluation.handmade import (
    BOTTOM,
    CLASSIFICATION,
    CPU,
    LEFT,
    SIDE,
    TOP,
    EdgeNetwork,
    PointNetwork,
    PointTask,
    bright,
    config,
    finding_top,
    framed,
    random_model,
)
from tests.told import Told

EDGES = (TOP, TOP, LEFT, BOTTOM, TOP)


@pytest.fixture
def samples(tmp_path):
    return saved(tmp_path, bright(*EDGES))


def saved(folder, images):
    paths = [folder / f"{index}.png" for index in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return [Sample(path, TOP) for path in paths]


def from_files(
    samples,
    progress,
    elements="c4",
    rotate="input",
    reencode=None,
    strict=False,
    task=CLASSIFICATION,
    model=None,
    **others,
):
    group, model = parse_group(elements), model or finding_top(EdgeNetwork())
    loader = Batches(model, samples, 2, rotate, reencode=reencode, strict=strict)
    targets = [sample.target for sample in samples]
    options = {"split": "test", "seed": 3, "device": CPU, "precision": "fp32", "progress": progress, **others}
    return evaluate_images(model, config(), task, loader, targets, group, **options)


def test_images_that_training_saw_are_counted_by_their_content_whatever_they_are_called(samples, tmp_path):
    seen = {fingerprint(samples[2].path), fingerprint(samples[3].path), b"another."}
    assert from_files(samples, Silent())["seen_in_training"] is None  # nothing says
    for index, sample in enumerate(samples):
        sample.path.rename(tmp_path / f"moved-{index}.png")
    samples = [Sample(tmp_path / f"moved-{index}.png", TOP) for index in range(len(samples))]
    samples[3].path.write_text("no image")  # which is not counted
    metrics = from_files(samples, Silent(), seen=seen)
    assert (metrics["seen_in_training"], metrics["n"]) == (1, 4)
    assert metrics["warnings"][0].startswith("1 of 4 images were trained on")


def test_the_command_names_the_run_that_latest_meant(samples, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["/bin/equicli", "evaluate", "--rotations", "4"])
    for latest, command in (
        ("runs/a", "equicli evaluate runs/a --rotations 4"),
        (None, "equicli evaluate --rotations 4"),
    ):
        metrics = from_files(samples, Silent(), latest=latest and tmp_path / latest)
        assert metrics["provenance"]["command"] == command


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


def test_files_that_are_compressed_again_are_counted_so_and_the_document_says_it(samples):
    plain, harsh = (from_files(samples, Silent(), rotate="file", reencode=e) for e in (None, Encoding("jpeg", 50)))
    assert (plain["reencode"], harsh["reencode"]) == ("none", "jpeg:50")
    assert plain["adapted"]["max_logit_delta"] == 0 < harsh["adapted"]["max_logit_delta"]


def test_unreadable_files_are_told_counted_and_left_out(samples):
    samples[2].path.write_text("no image")
    told = Told()
    metrics = from_files(samples, told)
    assert (metrics["n"], metrics["unreadable"]) == (4, 1)
    assert counts(metrics, "vanilla") == [3, 0, 1, 0]
    assert told.lines[0] == f"skipped {samples[2].path}: not an image"
    assert told.lines[1].startswith("1 unreadable image skipped")


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


def test_files_of_several_sizes_are_counted_alike_at_every_turn(tmp_path):
    metrics = from_files(saved(tmp_path, framed(*EDGES)), Silent(), rotate="file")
    assert metrics["n"] == 5
    assert counts(metrics, "vanilla") == [3, 0, 1, 1]
    assert counts(metrics, "adapted") == [5, 5, 5, 5]
    assert (metrics["adapted"]["invariance_residual"], metrics["adapted"]["max_logit_delta"]) == (0, 0)
    assert sum(of["n"] for of in metrics["adapted"]["identity_rate_by_shape"].values()) == 5


def test_the_whole_of_a_task_of_ones_own_is_evaluated_and_costed(tmp_path):
    images = framed(TOP, TOP, TOP, TOP)
    for image in images:
        image[:, 2, 1] = 255
    samples = [Sample(sample.path, torch.tensor([[1.5, 2.5]])) for sample in saved(tmp_path, images)]
    model = finding_top(PointNetwork(), signature=PointTask.signature)
    metrics = json.loads(json.dumps(from_files(samples, Silent(), rotate="file", task=PointTask(), model=model)))
    assert metrics["adapted"]["avg_hit"] == metrics["oracle"]["avg_hit"] == 1 > metrics["vanilla"]["avg_hit"]
    assert "symmetrized" not in metrics and metrics["cost"]["relative_time"] > 0


@pytest.mark.parametrize(
    ("rotate", "shape"), [("file", (COST_BATCH, 3, SIDE, SIDE)), ("input", (COST_BATCH, 3, SIDE, SIDE))]
)
def test_the_cost_is_measured_on_a_few_inputs_as_the_network_takes_them(tmp_path, rotate, shape):
    model = finding_top(EdgeNetwork())
    batches = Batches(model, saved(tmp_path, bright(*[TOP] * 20)), 20, rotate)
    _, sample = record_images(
        model, config(), CLASSIFICATION, batches, None, parse_group("c4"), systems=("adapted",),
        device=CPU, precision="fp32", progress=Silent(),
    )  # fmt: skip
    assert tuple(sample.value.shape) == shape
    assert sample.value.min() < 0  # normalized


@pytest.mark.parametrize("size", [1, 3, 4])
def test_the_cost_is_measured_on_inputs_from_all_over(tmp_path, size):
    shades = [torch.full((3, SIDE, SIDE), 4 * shade, dtype=torch.uint8) for shade in range(50)]
    batches = Batches(finding_top(EdgeNetwork()), saved(tmp_path, shades), size, "file")
    _, sample = record_images(
        batches.model, config(), CLASSIFICATION, batches, None, parse_group("c4"), systems=("adapted",),
        device=CPU, precision="fp32", progress=Silent(),
    )  # fmt: skip
    shown = sample.value.flatten(1).mean(dim=1)
    assert len(shown) == COST_BATCH and len(shown.unique()) == COST_BATCH
    found = ((shown - shown[0]) / (shades[1].float().mean() / 127.5)).round()  # which, counted from the first
    assert found[0] == 0 and found[-1] >= 45


def test_the_cost_counts_the_canonicalizers_parameters_and_times_it_against_the_network():
    class Slow(EdgeNetwork):
        def forward(self, x):
            for _ in range(40):
                torch.linalg.svd(torch.ones(30, 30))
            return super().forward(x)

    model = finding_top(Slow())
    model.prediction_network.weight = torch.nn.Parameter(torch.zeros(100))
    assert added_parameters(model) == 1  # the temperature: the handmade network has none
    few, slow = (m.tensors(torch.zeros(2, 3, 8, 8)) for m in (finding_top(EdgeNetwork()), model))
    assert 0 < relative_time(model, slow, "fp32").value < relative_time(finding_top(EdgeNetwork()), few, "fp32").value


def test_the_cost_of_a_mean_is_that_of_all_its_passes(monkeypatch):
    network = EdgeNetwork()

    def passes(function, device):
        before = network.passes
        function()
        return network.passes - before

    monkeypatch.setattr(cost, "_seconds", passes)  # as if nothing else took time
    monkeypatch.setattr(cost, "SECONDS", 0)
    one, mean = (random_model(network=network, policy=policy) for policy in (One(), Mean()))
    x = one.tensors(torch.zeros(2, 3, 8, 8))
    assert (relative_cost(one, x, "fp32"), relative_cost(mean, x, "fp32")) == ((1, 1, 1), (4, 4, 4))


def test_time_that_others_have_the_processor_does_not_count(monkeypatch):
    class Waiting(EdgeNetwork):
        def forward(self, x):
            time.sleep(0.05)
            return super().forward(x)

    monkeypatch.setattr(cost, "SECONDS", 0)
    model = finding_top(Waiting())
    assert cost._seconds(lambda: model.prediction_network(torch.zeros(2, 3, 8, 8)), CPU) < 0.02


def test_the_spread_of_a_time_is_what_single_series_of_repeats_say(monkeypatch):
    model = finding_top(EdgeNetwork())
    # Pairs of own time and the network's: a busy moment in the first, fourth, … makes one series differ.
    times = iter([8, 2, 1, 2, 1, 2] * 2)
    monkeypatch.setattr(cost, "_seconds", lambda function, device: next(times))
    monkeypatch.setattr(cost, "REPEATS", 6)
    monkeypatch.setattr(cost, "SERIES", 3)
    assert relative_time(model, model.tensors(torch.zeros(2, 3, 8, 8)), "fp32") == (0.5, 0.5, 4)


def test_operations_are_counted_for_each_input_whatever_the_clock_says(operations, monkeypatch):
    monkeypatch.setattr(cost, "_operations", operations)

    class Linear(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.last = torch.nn.Linear(3 * 8 * 8, 5)

        def forward(self, x):
            return self.last(x.flatten(1))

    for policy, passes in ((One(), 1), (Mean(), 4)):
        model = random_model(network=Linear(), policy=policy)
        for n in (1, 3):
            inputs = model.tensors(torch.zeros(n, 3, 8, 8))
            found = cost.count_operations(model, inputs)
            assert found.network == 2 * 192 * 5 and found.canonicalizer > 0
            whole = found.canonicalizer + passes * found.network
            assert cost.relative_operations(model, inputs) == whole / found.network


def test_a_disturbed_clock_is_told_and_the_operations_stand_beside_the_time(tmp_path, monkeypatch):
    times = iter(range(1, 10_000))
    monkeypatch.setattr(cost, "_seconds", lambda function, device: next(times))
    monkeypatch.setattr(cost, "REPEATS", 6)
    monkeypatch.setattr(cost, "SERIES", 3)
    metrics = from_files(saved(tmp_path, bright(TOP, LEFT)), Silent())
    low, high = metrics["cost"]["relative_time_range"]
    assert low <= metrics["cost"]["relative_time"] <= high
    (line,) = (line for line in metrics["warnings"] if line.startswith("relative time"))
    assert "go by the operations" in line
