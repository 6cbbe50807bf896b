"""Detectors: what they say of turned pictures comes back to the pixel, and is counted as COCO counts."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from equicli.canonicalization.prior import Prior
from equicli.data.folders import Dataset, Sample
from equicli.data.preprocess import AS_THEY_ARE
from equicli.errors import EquicliError, UsageError
from equicli.evaluation.evaluate import Evaluation, InputBatch, record_systems
from equicli.evaluation.metrics import metrics_document
from equicli.groups import PlanarGroup, parse_group
from equicli.groups.action import act
from equicli.groups.transport import frames_after, transport
from equicli.prediction.inputs import Pictures, Views
from equicli.prediction.network import NetworkSpec, PretrainedNetwork
from equicli.prediction.signature import asking
from equicli.tasks.annotations.objects import Objects, encode
from equicli.tasks.annotations.outputs import find_outputs
from equicli.tasks.instances.answers import PARTS
from equicli.tasks.instances.labels import count_outputs
from equicli.tasks.instances.task import Instances
from tests.evaluation.handmade import CPU, Motionless
from tests.told import Told

C4, D4 = PlanarGroup(4), PlanarGroup(4, reflections=True)


def found(masks: Tensor, labels: list[int], scores: list[float] | None = None) -> dict[str, Tensor]:
    """What a detector says, of masks (n, h, w): boxes around them, and masks as torchvision has them."""
    boxes = torch.zeros(len(masks), 4)
    for box, mask in zip(boxes, masks, strict=True):
        at = mask.nonzero()
        if len(at):
            box[:] = torch.tensor([at[:, 1].min(), at[:, 0].min(), at[:, 1].max() + 1, at[:, 0].max() + 1])
    surest = torch.linspace(0.9, 0.6, len(masks)) if scores is None else torch.tensor(scores)
    return {"boxes": boxes, "labels": torch.tensor(labels), "scores": surest, "masks": masks[:, None].float()}


def truth(said: dict[str, Tensor], crowds: tuple[int, ...] = ()) -> Objects:
    """The same as what is right."""
    masks = said["masks"][:, 0] > 0.5
    n = len(masks)
    flags = np.zeros(n, dtype=bool)
    flags[list(crowds)] = True
    areas = masks.sum(dim=(1, 2)).double().numpy()
    return Objects(said["boxes"].double().numpy(), said["labels"].numpy(), areas, np.ones(n), flags, encode(masks))


def scenery(frame: tuple[int, int], n: int, seed: int) -> tuple[Tensor, dict[str, Tensor]]:
    """A picture of noise with n rectangles in it: some a pixel wide, some at the border."""
    generator = torch.Generator().manual_seed(seed)
    picture = torch.randint(0, 256, (3, *frame), generator=generator, dtype=torch.uint8)
    masks = torch.zeros(n, *frame, dtype=torch.bool)
    for mask in masks:
        top, left = (int(torch.randint(side, (), generator=generator)) for side in frame)
        height, width = (int(torch.randint(1, side + 1, (), generator=generator)) for side in frame)
        mask[top : top + height, left : left + width] = True
    return picture, found(masks, [1 + i % 3 for i in range(n)])


class Knowing(nn.Module):
    """A detector that knows some pictures upright, and finds in others what it finds in all: nothing.

    Its answers are right, or what `spoil` makes of them.
    """

    def __init__(self, known: list[tuple[Tensor, dict[str, Tensor]]]) -> None:
        super().__init__()
        self.known = {(AS_THEY_ARE.normalization(picture)).numpy().tobytes(): said for picture, said in known}

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        return [
            self.known.get(image.numpy().tobytes(), found(torch.zeros(0, *image.shape[-2:], dtype=torch.bool), []))
            for image in images
        ]


SIDES = st.tuples(st.integers(1, 24), st.integers(1, 24))


@settings(max_examples=40)
@given(frame=SIDES, n=st.integers(0, 4), h=st.integers(0, 7), seed=st.integers(0, 10**6))
def test_what_is_said_of_a_turned_picture_comes_back_to_the_pixel(frame, n, h, seed) -> None:
    """The picture comes turned by h; a network that is shown it upright says what is there; that is turned by h, and
    carried back to the untouched frame by h⁻¹."""
    picture, said = scenery(frame, n, seed)
    said["boxes"] += 0.5 * (torch.arange(n)[:, None] % 2)  # half pixels, too
    said["masks"][3:] = 0  # and masks without a pixel
    inputs = Pictures([picture], AS_THEY_ARE, CPU, lists=True)
    turned = inputs.turned(D4, h)
    ask = asking(Knowing([(picture, said)]), Instances.signature)
    answer = Views(turned, D4, ask, PARTS).at(torch.tensor([h]))
    (came,) = turned.frames()
    assert answer[0]["masks"].shape == (n, 1, *came)
    (back,) = inputs.carried_back(D4, h, answer, PARTS)
    for key in PARTS:
        assert torch.equal(back[key], said[key]) and back[key].shape == said[key].shape


@settings(max_examples=25)
@given(frame=SIDES, h=st.integers(0, 7), boxes=st.lists(st.tuples(*[st.floats(0, 24, width=32)] * 4), max_size=4))
def test_boxes_anywhere_come_back_to_within_one_rounding_of_the_frame(frame, h, boxes) -> None:
    value = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    value = torch.cat([torch.minimum(value[:, :2], value[:, 2:]), torch.maximum(value[:, :2], value[:, 2:])], dim=1)
    (seen,) = frames_after(D4, h, [frame])
    there = transport(D4, h, [value], "boxes", frames=[frame])
    (back,) = transport(D4, D4.inverse(h), there, "boxes", frames=[seen])
    assert (back - value).abs().amax() <= 24 * 2**-23 if len(value) else back.shape == (0, 4)


@pytest.mark.parametrize(("name", "angle"), [("c8", 1), ("c8", 3), ("c16", 5), ("so2", 33.0)])
def test_off_the_grid_masks_come_back_from_a_canvas_that_grew_but_for_their_borders(name: str, angle: float) -> None:
    group = parse_group(name)
    radians = torch.tensor(angle).deg2rad().item()
    h: Any = int(angle)
    if name == "so2":
        h = torch.tensor([[np.cos(radians), -np.sin(radians)], [np.sin(radians), np.cos(radians)]]).double()
    inverse = group.inverse(h) if isinstance(h, int) else h.T
    masks = torch.zeros(2, 40, 60, dtype=torch.bool)
    masks[0, 10:30, 5:40], masks[1, 0:12, 45:60] = True, True  # one in the corner, which the same canvas would cut
    (grown,) = frames_after(group, h, [(40, 60)], "grow")
    there = act(group, h, masks, "mask", canvas=grown, padding="zeros")
    assert there.sum(dim=(1, 2)).tolist() == pytest.approx(masks.sum(dim=(1, 2)).tolist(), rel=0.05)  # nothing is cut
    back = act(group, inverse, there, "mask", canvas=(40, 60), padding="zeros")
    for mask, other in zip(masks, back, strict=True):
        assert float((mask & other).sum() / (mask | other).sum()) > 0.9


def evaluated(
    known: list[tuple[Tensor, dict[str, Tensor]]], targets: list[Objects] | None, group: PlanarGroup = D4
) -> Evaluation:
    from equicli.adapted import AdaptedModel

    model = AdaptedModel(Motionless(group), Knowing(known), AS_THEY_ARE, signature=Instances.signature)
    batches = [InputBatch(torch.tensor([i]), model.pictures([picture])) for i, (picture, _) in enumerate(known)]
    return record_systems(
        model, Instances(), batches, targets, group, prior=Prior(), systems=("vanilla", "adapted", "oracle"), device=CPU
    )


KNOWN = [
    scenery(frame, n, seed)
    for seed, (frame, n) in enumerate([((20, 30), 3), ((31, 17), 2), ((9, 9), 0), ((50, 40), 4)])
]
RIGHT = [truth(said, crowds=(1,) if i == 3 else ()) for i, (_, said) in enumerate(KNOWN)]


def test_the_precision_of_a_perfect_detector_is_1_at_every_angle_and_size_crowds_included() -> None:
    measured = Instances().measure(evaluated(KNOWN, RIGHT).records["oracle"], D4)
    for kind in ("boxes", "masks"):
        assert measured[kind]["per_element"] == [1.0] * 8
        numbers = {key: value for key, value in measured[kind].items() if isinstance(value, float)}
        assert set(numbers.values()) == {1.0}
    assert (measured["of"], measured["map"], measured["avg_map"], measured["worst_map"]) == ("masks", 1, 1, 1)
    assert measured["map_ci"] == measured["avg_map_ci"] == (1.0, 1.0)


def test_one_that_knows_upright_pictures_alone_finds_nothing_in_turned_ones() -> None:
    evaluation = evaluated(KNOWN, RIGHT)
    measured = Instances().measure(evaluation.records["vanilla"], D4)
    assert measured["map"] == 1 and [of["map"] for of in measured["per_element"][1:]] == [0.0] * 7
    assert measured["avg_map"] == 1 / 8 and measured["worst_map"] == 0
    assert evaluation.changed.any(dim=1).tolist() == [True, True, False, True]  # the third has no objects
    assert evaluation.records["vanilla"]["map"][2].tolist() == [1.0] * 8  # and nothing was found, as is right


def test_metrics_tell_classes_and_are_plain_numbers(tmp_path: Path) -> None:
    import json

    evaluation = evaluated(KNOWN, RIGHT)
    cost = {"relative_time": 0.1, "relative_time_range": [0.1, 0.1]}
    labels = {"one": 1, "two": 2, "three": 3, "absent": 9}
    document = metrics_document(
        evaluation,
        Instances(),
        labels=labels,
        rotate="file",
        split="test",
        prior=Prior(),
        cost=cost,
        unreadable=0,
        provenance={"model": "m"},
    )
    assert json.loads(json.dumps(document, allow_nan=False))["oracle"]["per_class"] == {
        name: {"map": 1.0, "avg_map": 1.0} for name in ("one", "two", "three")
    }
    groups = Instances().groups_of(evaluation.records["oracle"], labels)
    assert set(groups) == {"one", "two", "three"} and groups["three"].tolist() == [True, False, False, True]


def test_without_annotations_right_is_what_is_found_in_the_upright_picture() -> None:
    unsure = dict(KNOWN[0][1])
    unsure["scores"] = torch.tensor([0.9, 0.7, 0.2])
    evaluation = evaluated([(KNOWN[0][0], unsure)], None)
    assert evaluation.agreement
    measured = Instances().measure(evaluation.records["oracle"], D4)
    assert measured["avg_map"] == 1.0  # the unsure one is the last, and takes no precision from the others
    assert Instances().targets_of([unsure])[0].labels.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (torch.zeros(1, 5, 2), "it returns a?.*Tensor"),
        ([torch.zeros(3)], "it returns a list of 1, not a list with a mapping"),
        ([{"boxes": torch.zeros(0, 4)}], "mappings without labels"),
        (
            [{**found(torch.zeros(0, 4, 4), []), "keypoints": torch.zeros(0, 3)}],
            "with keypoints, which nothing is known of",
        ),
    ],
)
def test_what_is_no_detector_is_refused(answer: Any, fault: str) -> None:
    class Answer(nn.Module):
        def forward(self, images):
            return answer

    network = PretrainedNetwork(Answer(), NetworkSpec("python", "Answer"), AS_THEY_ARE, None, {"model": "Answer"})
    data = Dataset(Path("data"), (), (Sample(Path("a")),), None)
    with pytest.raises(EquicliError, match=fault):
        Instances().bind(network, data, torch.zeros(1, 3, 8, 8), lambda sample: None, Told())


def test_masks_need_no_second_axis_and_boxes_alone_are_enough() -> None:
    said, right = KNOWN[0][1], [RIGHT[0]]
    flat = {**said, "masks": said["masks"][:, 0] > 0.5}
    assert Instances().record([flat], right)["map"].tolist() == [1.0]
    boxes = {key: value for key, value in said.items() if key != "masks"}
    record = Instances().record([boxes], right)
    assert "masks" not in record and record["map"].tolist() == [1.0]


def test_answers_say_classes_by_their_names() -> None:
    said = found(torch.ones(2, 4, 4, dtype=torch.bool), [1, 3])
    (row,) = Instances().answers([said], ("__background__", "cat"))
    assert row["output"]["labels"] == ["cat", "3"] and row["output"]["boxes"] == [[0, 0, 4, 4]] * 2


def test_numbers_that_are_not_finite_are_refused() -> None:
    said = {**KNOWN[0][1], "scores": torch.tensor([0.5, float("nan"), 0.1])}
    with pytest.raises(EquicliError, match="not finite"):
        Instances().record([said], [RIGHT[0]])


def test_pictures_are_shown_to_own_detectors_as_they_are() -> None:
    from dataclasses import replace

    own = PretrainedNetwork(nn.Identity(), NetworkSpec("python", "Own"), AS_THEY_ARE, None, {"model": "Own"})
    shown = Instances().prepare(own, Dataset(Path("data"), (), (), None), Told()).preprocess
    assert (
        shown == AS_THEY_ARE
        and shown.normalization(torch.full((3, 1, 1), 255, dtype=torch.uint8)).tolist() == [[[1.0]]] * 3
    )
    with pytest.raises(UsageError, match="--image-size"):
        Instances().prepare(replace(own, preprocess=AS_THEY_ARE.resized(64)), Dataset(Path("d"), (), (), None), Told())


def network_of(outputs: int, names: tuple[tuple[str, ...], ...] | None = None) -> PretrainedNetwork:
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor

    network = nn.Module()
    network.box_predictor = FastRCNNPredictor(4, outputs)
    return PretrainedNetwork(network, NetworkSpec("python", "Own"), AS_THEY_ARE, names, {"model": "Own"})


@pytest.mark.parametrize(
    ("outputs", "names", "categories", "expected"),
    [
        (4, (("__background__",), ("person",), ("dog",), ("cat",)), {5: "Cat", 9: "dog"}, {"Cat": 3, "dog": 2}),
        (91, None, {3: "cat", 90: "dog"}, {"cat": 3, "dog": 90}),  # by their numbers, as COCO has gaps
        (3, None, {3: "cat", 90: "dog"}, {"cat": 1, "dog": 2}),  # no such outputs: in their order
        (3, None, {0: "cat", 1: "dog"}, {"cat": 1, "dog": 2}),  # 0 is the background
        (4, (("__background__",), ("person",), ("dog",), ("cat",)), {1: "horse", 2: "cow"}, {"horse": 1, "cow": 2}),
    ],
)
def test_classes_are_outputs_by_their_names_or_numbers(outputs, names, categories, expected) -> None:
    found_network = network_of(outputs, names)
    assert count_outputs(found_network.network) == outputs
    assert find_outputs(found_network, categories, outputs)[0] == expected


def test_more_classes_than_outputs_are_refused() -> None:
    with pytest.raises(EquicliError, match="knows 2 classes, and the data has 3"):
        find_outputs(network_of(3), {1: "a", 5: "b", 9: "c"}, 3)
    assert asdict(Instances.signature)["lists"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            torch.zeros(1, 10),
            "one of 10 classes of a whole picture; write --task classification",
        ),
        ({"out": torch.zeros(1, 2, 8, 8)}, "a network that says a class of every pixel; write --task semantic"),
    ],
)
def test_networks_of_other_tasks_are_told_which_fits(answer: Any, said: str) -> None:
    class Other(nn.Module):
        def forward(self, images: Tensor) -> Any:
            assert isinstance(images, Tensor)
            return answer

    other = PretrainedNetwork(Other(), NetworkSpec("python", "Other"), AS_THEY_ARE, None, {"model": "Other"})
    with pytest.raises(EquicliError, match=said):
        Instances().bind(other, Dataset(Path("data"), (), (), None), torch.zeros(1, 3, 8, 8), lambda _: None, Told())


def test_one_picture_alone_tells_no_interval() -> None:
    measured = Instances().measure(evaluated(KNOWN[:1], RIGHT[:1], C4).records["oracle"], C4)
    assert measured["map"] == 1 and measured["map_ci"] is measured["avg_map_ci"] is None
    assert {of["map_ci"] for of in measured["per_element"]} == {None}


class Coloured(nn.Module):
    """Finds what is red, green and blue, wherever and however it lies; `boxes` alone where it draws no masks."""

    def __init__(self, draws: bool = True) -> None:
        super().__init__()
        self.draws = draws

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        return [self.one(image) for image in images]

    def one(self, image: Tensor) -> dict[str, Tensor]:
        masks = torch.stack([(image[c] > 0.5) & (image.sum(dim=0) - image[c] < 1) for c in range(3)])
        labels = masks.flatten(1).any(dim=1).nonzero()[:, 0]
        said = found(masks[labels], (labels + 1).tolist())
        return said if self.draws else {key: value for key, value in said.items() if key != "masks"}


def coloured(draws: bool, group: PlanarGroup) -> dict[str, Any]:
    """What is measured of pictures with a coloured rectangle each in a corner, at a border and inside."""
    from equicli.adapted import AdaptedModel

    pictures, right = [], []
    for i, (height, width) in enumerate([(64, 96), (90, 70), (80, 80)]):
        picture = torch.full((3, height, width), 20, dtype=torch.uint8)
        masks = torch.zeros(3, height, width, dtype=torch.bool)
        masks[0, :20, -24:] = masks[1, 30:50, :22] = masks[2, 25 + i : 50, 34:60] = True
        for c in range(3):
            picture[c][masks[c]] = 230
        pictures.append(picture)
        right.append(truth(found(masks, [1, 2, 3])))
    model = AdaptedModel(Motionless(group), Coloured(draws), AS_THEY_ARE, signature=Instances.signature)
    batches = [InputBatch(torch.tensor([i]), model.pictures([picture])) for i, picture in enumerate(pictures)]
    systems = ("vanilla", "adapted", "oracle")
    records = record_systems(
        model, Instances(), batches, right, group, prior=Prior(), systems=systems, device=CPU
    ).records
    return {name: Instances().measure(of, group) for name, of in records.items()}


def test_off_the_grid_nothing_is_cut_and_boxes_are_those_around_the_masks() -> None:
    """Turned by 45° onto a grown canvas, and back: of the three only the borders of masks move, by a pixel."""
    group = PlanarGroup(8)
    drawn, boxed = coloured(True, group), coloured(False, group)
    for system in ("vanilla", "oracle"):
        for kind in ("boxes", "masks"):
            values = drawn[system][kind]["per_element"]
            assert values[::2] == [1.0] * 4  # by 90° to the pixel
            assert min(values) > 0.8 and drawn[system][kind]["avg_map50"] == 1
    # Of the upright box around a turned box twice as much is too large.
    assert boxed["vanilla"]["boxes"]["per_element"][1] < 0.2 < drawn["vanilla"]["boxes"]["per_element"][1]


class Drawer(nn.Module):
    """Draws what has the colour that a prompt points at: of a box, that of its middle."""

    def encode(self, image: Tensor) -> Tensor:
        return image

    def decode(self, image: Tensor, prompts: dict[str, Tensor]) -> dict[str, Tensor]:
        at = prompts["points"][:, 0] if "points" in prompts else prompts["boxes"].reshape(-1, 2, 2).mean(dim=1)
        masks = torch.stack([(image == image[:, int(y), int(x), None, None]).all(dim=0) for x, y in at.tolist()])
        labels = prompts.get("labels", torch.ones(len(at), dtype=torch.int64))
        return {**found(masks, labels.tolist()), "masks": masks[:, None]}

    def forward(self, inputs: list[Any]) -> list[dict[str, Tensor]]:
        return [self.decode(self.encode(one["image"]), one) for one in inputs]


@pytest.mark.parametrize("prompts", ["boxes", "points", None])
def test_prompts_made_of_the_annotations_turn_with_the_picture_and_masks_are_compared_one_by_one(prompts) -> None:
    from equicli.adapted import AdaptedModel
    from equicli.tasks.instances.prompted import Prompted

    picture = torch.full((3, 30, 44), 20, dtype=torch.uint8)
    masks = torch.zeros(3, 30, 44, dtype=torch.bool)
    masks[0, :7, :9] = masks[1, 10:17, 20:43] = masks[2, 20:29, 3:6] = True
    for i, mask in enumerate(masks):
        picture[:, mask] = 100 + 40 * i
    there = truth(found(masks, [4, 2, 4]), crowds=(2,))
    task = Prompted(Prompted.Settings(prompts=prompts or "boxes"))
    model = AdaptedModel(Motionless(D4), Drawer(), AS_THEY_ARE, signature=task.signature)
    inputs = task.prompted(model.pictures([picture]), [there] if prompts else None)
    (asked,) = inputs.at(D4, None)
    count = len(asked[prompts or "points"])
    assert count == (2 if prompts else 16)  # a crowd is not pointed at; where nothing is known, a grid is
    evaluation = record_systems(
        model,
        task,
        [InputBatch(torch.tensor([0]), inputs)],
        [there] if prompts else None,
        D4,
        prior=Prior(),
        systems=("vanilla", "adapted", "oracle"),
        device=CPU,
    )
    measured = task.measure(evaluation.records["vanilla"], D4)
    assert (measured["mask_iou"], measured["worst_mask_iou"], measured["avg_mask_iou"]) == (1, 1, 1)
    assert measured["worst_map"] == 1 and not evaluation.changed.any()
    assert {e["mask_iou"] for e in measured["per_element"]} == {1}
    facts = dict(task.facts(measured, prompts is None))
    assert list(facts) == ["prompts", "mask IoU", "AP of boxes", "AP of masks"]
    assert ("nothing is annotated" in facts["prompts"]) == (prompts is None)


def test_prompts_are_drawn_where_they_lie_in_each_turned_picture(tmp_path: Path, monkeypatch) -> None:
    from matplotlib.axes import Axes

    from equicli.adapted import AdaptedModel
    from equicli.tasks.instances.prompted import Prompted

    masks = torch.zeros(1, 12, 16, dtype=torch.bool)
    masks[0, 2:5, 3:9] = True
    Image.fromarray(np.where(masks[0].numpy(), 200, 20).astype(np.uint8)).save(tmp_path / "a.png")
    drawn: list[Any] = []
    plot = Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda self, *given, **more: drawn.append(given) or plot(self, *given, **more))
    model = AdaptedModel(Motionless(C4), Drawer(), AS_THEY_ARE, signature=Prompted.signature)
    right = {tmp_path / "a.png": truth(found(masks, [1]))}
    figure = Prompted().figure(model, C4, right, [], 10**6)
    assert figure is not None and figure.file == "overlays.png" and figure.png.startswith(b"\x89PNG")
    corners = [given for given in drawn if given[-1] == "w--"]
    assert len(corners) == 8  # the network alone and adapted, at four turns
    for h in range(4):
        left, top, right_, bottom = act(C4, h, torch.tensor([[3.0, 2, 9, 5]]), "boxes", (12, 16))[0].tolist()
        assert corners[2 * h][0][:2] == [left, right_] and corners[2 * h][1][1:3] == [top, bottom]
    assert Prompted().figure(model, C4, {}, [], 10**6) is None


def test_a_network_that_answers_prompts_and_its_task_belong_together(tmp_path: Path) -> None:
    from equicli.tasks.instances.prompted import Prompted
    from equicli.tasks.registry import task_of

    empty = Dataset(Path("data"), (), (), None)
    promptable, other = (
        PretrainedNetwork(network, NetworkSpec("python", "Own"), AS_THEY_ARE, None, {"model": "Own"})
        for network in (Drawer(), nn.Flatten())
    )
    example = torch.zeros(1, 3, 8, 8)
    with pytest.raises(EquicliError, match="Drawer answers prompts; write --task prompted"):
        Instances().bind(promptable, empty, example, lambda _: None, Told())
    with pytest.raises(EquicliError, match="Flatten answers no prompts"):
        Prompted().bind(other, empty, example, lambda _: None, Told())
    (tmp_path / "config.json").write_text('{"architectures": ["SamModel"]}')
    assert task_of(f"transformers:{tmp_path}") == "prompted"
    with pytest.raises(UsageError, match="--rotate input"):
        Prompted().prompted(object(), None)


class Trainable(nn.Module):
    """Tells a loss: how far the boxes' middles are from the top; a normalization layer and chance beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        if not self.training:
            return [found(torch.zeros(0, *image.shape[-2:], dtype=torch.bool), []) for image in images]
        assert targets is not None
        seen, self.masks = self.norm(images[0][None]), targets[0]["masks"]
        middle = targets[0]["boxes"][:, 1::2].mean() / seen.shape[-2]
        return {"top": middle, "chance": torch.rand(())}


def test_a_detectors_own_loss_is_known_in_every_pose_and_nothing_in_it_changes() -> None:
    picture, _ = scenery((20, 30), 2, 3)
    masks = torch.zeros(2, 20, 30, dtype=torch.bool)
    masks[0, 2:6, 4:9] = masks[1, 0:4, 20:30] = True
    there = truth(found(masks, [1, 1]), crowds=(1,))
    network = Trainable().eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    inputs = Pictures([picture, picture], AS_THEY_ARE, CPU, lists=True, grows=True)
    costs = Instances().pose_costs(network, inputs, C4, [there, there])
    assert torch.equal(costs[0], costs[1]) and costs.shape == (2, 4)
    # Turned back by 90° (clockwise) what is left comes to the top, and so on.
    middles = torch.tensor([4 / 20, 6.5 / 30, 16 / 20, 23.5 / 30])
    assert torch.allclose(costs[0] - costs[0, 0], middles - middles[0], atol=1e-6)
    assert network.masks.shape == (1, 30, 20) and network.masks.dtype == torch.uint8  # of the last pose, without crowds
    assert not network.training and all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    with pytest.raises(EquicliError, match="task_weight: the network tells no losses"):
        Instances().pose_costs(Coloured(), inputs, C4, [there, there])


def test_the_mean_cost_over_poses_is_what_a_canonicalizer_learns_from() -> None:
    from equicli.training.objective import Objective
    from tests.canonicalization.examples import conv_canonicalizer

    torch.manual_seed(0)
    canonicalizer = conv_canonicalizer("c4")
    objective = Objective(Prior(), {"task": 2.0}, "edge", None, costs=True)
    x, costs = torch.randn(3, 3, 17, 17), torch.rand(3, 4)
    pose, losses = objective.losses(canonicalizer, x, [None] * 3, poses=costs)
    assert pose is not None and pose.scores is not None and objective.small
    assert torch.allclose(losses["task"], (pose.scores.softmax(dim=1) * costs).sum() / 3)
    optimizer = torch.optim.Adam(canonicalizer.parameters(), 1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        objective.total(objective.losses(canonicalizer, x, [None] * 3, poses=costs)[1]).backward()
        optimizer.step()
    assert objective.losses(canonicalizer, x, [None] * 3, poses=costs)[1]["task"] < losses["task"] - 0.05
