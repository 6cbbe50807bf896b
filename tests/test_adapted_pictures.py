"""An adapted model on pictures: they are turned before anything crops them, and outputs come back in their frames."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from equicli.data.decode import to_image
from equicli.data.normalization import HALF
from equicli.data.preprocess import Preprocess
from equicli.errors import UsageError
from equicli.groups import parse_group
from equicli.groups.action import act
from equicli.groups.elements import multiply
from equicli.groups.transport import transport
from equicli.prediction.signature import Signature
from tests.canonicalization.examples import adapt, conv_canonicalizer, create, pictures
from tests.prediction.test_inputs import FRAMES, PREPROCESS, every_preprocess

KINDS = {"points": "keypoints", "boxes": "boxes", "mask": "mask", "logits": "logits"}
FOUND = Signature(outputs=KINDS)


class Classifier(nn.Module):
    """Logits that depend on how the picture stands."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 5, stride=2), nn.GELU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(72, 6)
        )

    def forward(self, x):
        return self.layers(x)


class Finder(nn.Module):
    """Where the bright part of each picture is, in pixels of what it sees: its outputs turn with the picture."""

    def forward(self, x):
        mask = x.mean(1) > 0.2
        boxes = []
        for one in mask:
            rows, columns = one.any(1).nonzero(), one.any(0).nonzero()
            boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        boxes = torch.tensor(boxes, dtype=torch.float32)[:, None]
        points = torch.stack([boxes[..., :2], boxes[..., 2:]], -2).mean(-2)
        return {
            "points": points,
            "boxes": boxes,
            "mask": mask,
            "logits": mask.float().mean((1, 2), keepdim=True)[..., 0],
        }


class Lists(nn.Module):
    """The same, of a list and as one, with a box or two by the picture's size."""

    def forward(self, images):
        assert isinstance(images, list)
        found = [Finder()(image[None]) for image in images]
        return [
            {**{key: value[0] for key, value in one.items()}, "boxes": one["boxes"][0].repeat(count(image.shape), 1)}
            for image, one in zip(images, found, strict=True)
        ]


def count(shape):
    """How many boxes it finds in a picture, however that is turned."""
    return 1 + min(shape[-2:]) % 3


def turned(group, h, shown):
    return [act(group, h, picture) for picture in shown]


def marked(frame, box, seed=0):
    """A dark picture with one bright box, in a corner of its own."""
    picture = pictures(frame, seed=seed)[0] // 8
    left, top, right, bottom = box
    picture[:, top:bottom, left:right] += 200
    return picture


# (height, width), and the box that is bright.
MARKED = [
    ((40, 60), (4, 6, 20, 14)),
    ((60, 40), (22, 30, 34, 50)),
    ((40, 40), (10, 12, 16, 36)),
    ((80, 40), (8, 26, 12, 52)),
]


def marked_pictures():
    return [marked(frame, box, seed) for seed, (frame, box) in enumerate(MARKED)]


@every_preprocess
@pytest.mark.parametrize("group", ["c4", "d4", "c8"])
def test_turned_pictures_get_the_same_logits_bit_for_bit_and_poses_that_turn_with_them(group, preprocess):
    steps = parse_group("c4" if group == "c8" else group)
    group = parse_group(group)
    model, shown = adapt(conv_canonicalizer(group.name), Classifier(), preprocess=preprocess), pictures(*FRAMES)
    output, pose = model.predict(shown)
    assert output.std(0).min() > 0 and pose.element.unique().numel() > 1
    for step in steps.elements():
        h = group.find(steps.angle(step), steps.mirrored(step))
        found = model.predict(turned(group, h, shown))
        assert (found.output - output).abs().max() == 0, steps.label(step)
        assert torch.equal(found.pose.element, multiply(group, h, pose.element))


@pytest.mark.parametrize("name", ["torchvision's", "timm's, squashed", "transformers'"])
def test_each_picture_gets_the_same_logits_whichever_way_the_others_lie(name):
    model, shown = adapt(conv_canonicalizer("d4"), Classifier(), preprocess=PREPROCESS[name]), pictures(*FRAMES)
    output, group = model.predict(shown).output, parse_group("d4")
    mixed = [act(group, h, picture) for h, picture in zip((3, 5, 0, 7, 2, 1), shown, strict=True)]
    assert torch.equal(model.predict(mixed).output, output)


@pytest.mark.parametrize("kind", ["energy", "frame"])
def test_baselines_that_find_poses_say_the_same_of_turned_pictures(kind):
    model = adapt(create(kind, "c4"), Classifier(), preprocess=PREPROCESS["timm's"])
    shown, group = pictures(*FRAMES), parse_group("c4")
    output = model.predict(shown).output
    for h in group.elements():
        assert torch.equal(model.predict(turned(group, h, shown)).output, output)


def test_without_a_canonicalizer_the_network_is_shown_each_picture_as_it_comes():
    preprocess = PREPROCESS["timm's"]
    model, shown = adapt(create("none", "c4"), Classifier(), preprocess=preprocess), pictures(*FRAMES)
    output, pose = model.predict(shown)
    asked = torch.stack([preprocess.normalization(preprocess(picture)) for picture in shown])
    assert pose is None and not model.chooses_pose and model.passes(pose) == 1
    assert torch.equal(output, model.prediction_network(asked))


def check_truth(output, pixels):
    for index, (frame, box) in enumerate(MARKED):
        left, top, right, bottom = box
        centre = torch.tensor([[(left + right) / 2, (top + bottom) / 2]])
        expected = torch.zeros(frame, dtype=torch.bool)
        expected[top:bottom, left:right] = True
        assert (output["boxes"][index] - torch.tensor([box])).abs().max() <= pixels, index
        assert (output["points"][index] - centre).abs().max() <= pixels, index
        mask = output["mask"][index]
        assert mask.dtype == torch.bool and mask.shape == frame
        # A band around the box, as wide as it may be off.
        around = nn.functional.max_pool2d(expected[None].float(), 1 + 2 * pixels, 1, pixels)[0] > 0
        within = -nn.functional.max_pool2d(-expected[None].float(), 1 + 2 * pixels, 1, pixels)[0] > 0
        assert not (mask & ~around).any() and not (within & ~mask).any(), index


@pytest.mark.parametrize("group", ["c4", "d4"])
def test_outputs_come_back_in_the_frame_of_the_picture_to_the_pixel(group):
    model, shown = adapt(conv_canonicalizer(group), Finder(), signature=FOUND), marked_pictures()
    output, pose = model.predict(shown)
    assert pose.element.unique().numel() > 1
    check_truth(output, 0)
    group = parse_group(group)
    frames = [frame for frame, _ in MARKED]
    said = [{key: output[key][i] for key in KINDS} for i in range(4)]
    for h in group.elements():
        found = model.predict(turned(group, h, shown)).output
        for i, expected in enumerate(transport(group, h, said, KINDS, frames=frames)):
            assert all(torch.equal(found[key][i], expected[key]) for key in KINDS), group.label(h)


# The network sees all of a squashed picture, and of a cropped one the centre, where the box is.
RESIZING = {
    "squashed": Preprocess(40, 40, "bilinear", HALF, squash=True),
    "cropped": Preprocess(60, 80, "bilinear", HALF),
}


CENTRAL = [
    ((40, 60), (22, 12, 36, 26)),
    ((60, 40), (10, 22, 22, 38)),
    ((40, 40), (10, 12, 24, 30)),
    ((80, 40), (8, 32, 22, 48)),
]


@pytest.mark.parametrize("group", ["c4", "d4"])
@pytest.mark.parametrize("preprocess", RESIZING.values(), ids=RESIZING)
def test_outputs_of_a_resized_picture_come_back_in_its_frame_and_turn_with_it(preprocess, group):
    model = adapt(conv_canonicalizer(group), Finder(), signature=FOUND, preprocess=preprocess)
    shown = [marked(frame, box, seed) for seed, (frame, box) in enumerate(CENTRAL)]
    output, pose = model.predict(shown)
    assert pose.element.unique().numel() > 1
    for i, (frame, box) in enumerate(CENTRAL):
        assert (output["boxes"][i] - torch.tensor([box])).abs().max() <= 1.5
        assert output["mask"][i].shape == frame
        truth = torch.zeros(frame, dtype=torch.bool)
        truth[box[1] : box[3], box[0] : box[2]] = True
        assert (output["mask"][i] & truth).sum() / (output["mask"][i] | truth).sum() > 0.8
    group, frames = parse_group(group), [frame for frame, _ in CENTRAL]
    said = [{key: output[key][i] for key in KINDS} for i in range(4)]
    for h in group.elements():
        found = model.predict(turned(group, h, shown)).output
        for i, expected in enumerate(transport(group, h, said, KINDS, frames=frames)):
            assert torch.equal(found["mask"][i], expected["mask"]) and torch.equal(
                found["logits"][i], expected["logits"]
            )
            torch.testing.assert_close(found["boxes"][i], expected["boxes"], atol=1e-4, rtol=0)
            torch.testing.assert_close(found["points"][i], expected["points"], atol=1e-4, rtol=0)


def test_without_a_canonicalizer_outputs_of_a_resized_picture_come_back_in_its_frame_too():
    model = adapt(create("none", "c4"), Finder(), signature=FOUND, preprocess=RESIZING["squashed"])
    check_truth(model.predict(marked_pictures()).output, 2)


@pytest.mark.parametrize("frames", [slice(None), slice(0, 1)], ids=["several sizes", "one"])
def test_a_network_of_lists_says_something_of_each_picture_in_its_frame(frames):
    signature = Signature(outputs=KINDS, lists=True)
    model, shown = adapt(conv_canonicalizer("c4"), Lists(), signature=signature), marked_pictures()[frames]
    output, _ = model.predict(shown)
    assert isinstance(output, list) and len(output) == len(shown)
    for one, (frame, box) in zip(output, MARKED[frames], strict=True):
        assert one["boxes"].tolist() == [list(map(float, box))] * count(frame)
        assert one["mask"].shape == frame
    tensors = [HALF(picture) for picture in shown]
    for one, other in zip(model(tensors), output, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in KINDS)


def test_off_the_grid_outputs_come_back_in_the_frame_to_within_the_interpolation():
    model, shown = adapt(conv_canonicalizer("c8"), Finder(), signature=FOUND), marked_pictures()
    output, pose = model.predict(shown)
    assert (pose.element % 2).any()
    for i, (frame, box) in enumerate(MARKED):
        centre = torch.tensor([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
        assert output["mask"][i].shape == frame
        assert (output["points"][i, 0] - centre).abs().max() < 3


class Prompted(nn.Module):
    """Returns the points that it was asked about, and the brightness of the picture under each."""

    def forward(self, asked):
        found = []
        for one in asked:
            column, row = one["points"].long().unbind(-1)
            found.append({"points": one["points"], "values": one["image"][:, row, column]})
        return found


def test_prompts_go_in_and_come_back_so_that_the_network_is_asked_about_the_same_place():
    generator = torch.Generator().manual_seed(0)
    asked = [
        {"image": torch.rand(3, *frame, generator=generator), "points": torch.tensor([[3.5, 7.5], [12.5, 20.5]])}
        for frame in FRAMES
    ]
    kinds = {"image": "image", "points": "keypoints"}, {"points": "keypoints", "values": "invariant"}
    signature = Signature(*kinds, lists=True)
    model = adapt(conv_canonicalizer("d4"), Prompted(), signature=signature)
    output, pose = model.answer(model.tensors(asked))
    assert pose.element.unique().numel() > 1
    for one, said in zip(asked, output, strict=True):
        assert torch.equal(said["points"], one["points"])
        assert torch.equal(said["values"], one["image"][:, [7, 20], [3, 12]])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_network_in_another_precision_is_asked_in_it_about_pictures_at_the_poses_of_single_precision(dtype):
    model, shown = adapt(conv_canonicalizer("c4"), Classifier()), pictures(*FRAMES)
    output, pose = model.predict(shown)
    found = model.to(dtype).predict(shown)
    assert found.output.dtype == dtype and torch.equal(found.pose.scores, pose.scores)
    torch.testing.assert_close(found.output.float(), output, atol=0.03, rtol=0.03)
    for h in range(4):
        assert torch.equal(model.predict(turned(parse_group("c4"), h, shown)).output, found.output)


def test_files_images_arrays_and_tensors_are_the_same_picture(tmp_path):
    model, pixels = adapt(conv_canonicalizer("c4"), Classifier()), pictures((30, 41))[0]
    image = to_image(pixels)
    image.save(tmp_path / "picture.png")
    kinds = [tmp_path / "picture.png", str(tmp_path / "picture.png"), image, np.asarray(image), pixels, [pixels]]
    outputs = [model.predict(kind).output for kind in kinds]
    assert all(torch.equal(output, outputs[0]) for output in outputs)
    assert isinstance(image, Image.Image) and outputs[0].shape == (1, 6)
    with pytest.raises(UsageError, match="uint8"):
        model.predict([torch.rand(3, 30, 41)])
    with pytest.raises(UsageError, match="at least one"):
        model.predict([])


def test_a_prediction_passes_no_gradient():
    output, pose = adapt(conv_canonicalizer("c4"), Classifier()).predict(pictures((20, 20)))
    assert not output.requires_grad and not pose.scores.requires_grad
