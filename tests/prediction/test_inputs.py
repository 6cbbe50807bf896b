"""Inputs of both kinds are looked at, turned, shown and carried back alike: tensors, nested ones, and pictures."""

import pytest
import torch

from equicli.data.normalization import HALF, IMAGENET
from equicli.data.preprocess import Preprocess
from equicli.data.small_view import SmallView, shrink
from equicli.groups import parse_group
from equicli.groups.action import act
from equicli.groups.elements import inverse
from equicli.groups.transport import transport
from equicli.prediction.inputs import Pictures, Tensors
from tests.canonicalization.examples import AS_THEY_ARE, conv_canonicalizer, create, find, noise, pictures
from tests.laws import assert_equivariant

CPU = torch.device("cpu")
C4, D4, C8, SO2 = (parse_group(name) for name in ("c4", "d4", "c8", "so2"))
QUARTERS = {"c4": "c4", "d4": "d4", "c8": "c4"}
FRAMES = [(30, 47), (52, 31), (33, 33), (40, 40), (21, 64), (47, 30)]
# Odd margins to the right and below, as each library splits them.
PREPROCESS = {
    "as it is": AS_THEY_ARE,
    "torchvision's": Preprocess(24, 27, "bilinear", HALF),
    "timm's": Preprocess(24, 27, "bicubic", IMAGENET),
    "timm's, squashed": Preprocess(24, 27, "bicubic", HALF, squash=True),
    "transformers'": Preprocess(24, 27, "bilinear", HALF, floor=True),
    "padded": Preprocess(24, 15, "lanczos", HALF),
}
every_preprocess = pytest.mark.parametrize("preprocess", PREPROCESS.values(), ids=PREPROCESS)
KINDS = {"image": "image", "prompt": ("keypoints", "boxes"), "name": "invariant"}


def shown(preprocess=AS_THEY_ARE, frames=FRAMES, seed=0, **options):
    return Pictures(pictures(*frames, seed=seed), preprocess, CPU, **options)


def prompted(frame, seed=0):
    """One sample of KINDS."""
    generator = torch.Generator().manual_seed(seed)
    height, width = frame
    points = (torch.rand(3, 2, generator=generator) * torch.tensor([width, height])).round()
    box = torch.tensor([[1.0, 2.0, width - 3.0, height - 4.0]])
    return {"image": torch.rand(3, *frame, generator=generator), "prompt": (points, box), "name": "cat"}


@every_preprocess
@pytest.mark.parametrize("group", ["c4", "d4", "c8"])
@torch.inference_mode()
def test_pictures_of_all_shapes_in_one_batch_keep_the_laws_bit_for_bit(group, preprocess):
    assert_equivariant(conv_canonicalizer(group), parse_group(QUARTERS[group]), shown(preprocess), atol=1e-6)


@pytest.mark.parametrize(("kind", "keys"), [("equivariant", {"size": 17, "width": 8}), ("frame", {})])
@torch.inference_mode()
def test_pictures_keep_the_laws_with_other_canonicalizers(kind, keys):
    assert_equivariant(create(kind, "c4", **keys), C4, shown(PREPROCESS["timm's"]), atol=1e-6)


@torch.inference_mode()
def test_pictures_keep_the_laws_of_continuous_groups_at_quarter_turns():
    module = create("steerable", "so2", size=17, width=8)
    # Pixels next to an edge that is padded differ by more.
    assert_equivariant(module, C4, shown(), pixels=0.1, degrees=0.1)


@pytest.mark.parametrize("group", ["c4", "d4"])
@torch.inference_mode()
def test_scores_of_sixty_turned_pictures_differ_by_nothing_at_all(group):
    group, module = parse_group(group), conv_canonicalizer(group, size=32)
    sides = torch.randint(20, 120, (60, 2), generator=torch.Generator().manual_seed(1)).tolist()
    inputs = shown(frames=[tuple(sides_) for sides_ in sides])
    scores = find(module, inputs).scores
    for h in group.elements():
        hg = [group.compose(h, g) for g in group.elements()]
        assert (find(module, inputs.turned(group, h)).scores[:, hg] - scores).abs().max() == 0, group.label(h)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("size", [16, 17])
def test_a_small_view_turns_with_its_picture_bit_for_bit(size, whole):
    view = SmallView(size, HALF, whole)
    inputs = shown(frames=[*FRAMES, (9, 40), (size, size)])
    small = inputs.small(view)
    assert (small.shape, small.dtype) == ((8, 3, size, size), torch.float32)
    for h in D4.elements():
        assert torch.equal(inputs.turned(D4, h).small(view), act(D4, h, small)), D4.label(h)


def test_a_small_view_is_of_the_picture_whatever_the_network_crops_and_of_the_same_numbers_as_of_a_tensor():
    view, inputs = SmallView(16, IMAGENET, True), shown(PREPROCESS["timm's"])
    assert torch.equal(inputs.small(view), shown().small(view))
    expected = torch.stack([IMAGENET(shrink(picture, 16) / 255) for picture in inputs.pictures])
    torch.testing.assert_close(inputs.small(view), expected)
    tensors = Tensors([HALF(picture) for picture in inputs.pictures], HALF)
    torch.testing.assert_close(tensors.small(view), expected, atol=1e-5, rtol=0)


@every_preprocess
def test_the_network_is_shown_the_turned_picture_preprocessed_and_normalized(preprocess):
    inputs = shown(preprocess)
    elements = torch.tensor([0, 1, 2, 3, 1, 0])
    found = inputs.at(C4, elements)
    for index, (picture, g) in enumerate(zip(inputs.pictures, elements.tolist(), strict=True)):
        turned = act(C4, C4.inverse(g), picture)
        assert torch.equal(found[index], preprocess.normalization(preprocess(turned)))
    untouched = inputs.at(C4, None)
    for index, picture in enumerate(inputs.pictures):
        assert torch.equal(untouched[index], preprocess.normalization(preprocess(picture)))


def test_inputs_of_one_size_are_one_tensor_and_of_several_a_list_as_for_a_network_that_takes_lists():
    alike = [(20, 30), (20, 30)]
    assert shown(frames=alike).at(C4, None).shape == (2, 3, 20, 30)
    assert shown(frames=[(20, 30), (30, 20)]).at(C4, torch.tensor([0, 1])).shape == (2, 3, 20, 30)
    assert isinstance(shown(frames=alike).at(C4, torch.tensor([0, 1])), list)
    assert isinstance(shown(frames=alike, lists=True).at(C4, None), list)
    assert isinstance(shown(PREPROCESS["timm's"], lists=True).at(C4, None), list)


def test_outputs_of_a_network_that_returns_lists_stay_lists():
    kinds, boxes = {"boxes": "boxes"}, torch.tensor([[1.0, 2, 3, 4]])
    inputs = shown(frames=[(20, 30), (20, 30)], lists=True)
    for element in (None, 0, torch.tensor([0, 1])):
        found = inputs.back(C4, element, [{"boxes": boxes}, {"boxes": boxes}], kinds)
        assert [list(one) for one in found] == [["boxes"], ["boxes"]]
    assert [list(one) for one in inputs.carried_back(C4, 1, found, kinds)] == [["boxes"], ["boxes"]]


@pytest.mark.parametrize("group", [C4, D4, C8, SO2], ids=lambda group: group.name)
def test_turned_pictures_are_pictures_that_come_so(group):
    inputs, h = shown(padding="zeros"), group.find(90, False)
    turned = inputs.turned(group, h)
    assert turned.frames() == [(w, h) for h, w in inputs.frames()]
    for one, picture in zip(turned.pictures, inputs.pictures, strict=True):
        assert torch.equal(one, act(group, h, picture)) and one.dtype == torch.uint8


@pytest.mark.parametrize("name", ["c4", "d4", "c8"])
def test_what_is_said_of_turned_inputs_is_carried_back_to_their_frame(name):
    group, kinds = parse_group(name), {"boxes": "boxes", "mask": "mask", "logits": "logits"}
    inputs = shown()
    said = [
        {"boxes": torch.tensor([[1.0, 2, 13, 15]]), "mask": picture[0] > 99, "logits": torch.rand(3)}
        for picture in inputs.pictures
    ]
    for h in range(0, group.order, 2 if name == "c8" else 1):
        output = transport(group, h, said, kinds, frames=inputs.frames())
        found = inputs.carried_back(group, h, output, kinds)
        for one, expected in zip(found, said, strict=True):
            assert all(torch.equal(one[key], expected[key]) for key in kinds)


@pytest.mark.parametrize("group", ["c4", "d4"])
@torch.inference_mode()
def test_prompts_beside_images_are_carried_in_by_the_same_element_and_looked_past_by_the_canonicalizer(group):
    group, module = parse_group(group), conv_canonicalizer(group)
    value = [prompted(frame, seed) for seed, frame in enumerate(FRAMES)]
    inputs = Tensors(value, HALF, KINDS)
    assert len(inputs) == len(FRAMES) and inputs.frames() == FRAMES
    pose = find(module, inputs)
    assert torch.equal(pose.scores, find(module, Tensors([one["image"] for one in value], HALF)).scores)
    canonical = inputs.at(group, pose.element)
    for one, given, g in zip(canonical, value, pose.element.tolist(), strict=True):
        frame = tuple(given["image"].shape[-2:])
        back = group.inverse(g)
        assert torch.equal(one["image"], act(group, back, given["image"]))
        assert torch.equal(one["prompt"][0], act(group, back, given["prompt"][0], "keypoints", frame))
        assert torch.equal(one["prompt"][1], act(group, back, given["prompt"][1], "boxes", frame))
        assert one["name"] == "cat"
    for h in group.elements():
        turned = inputs.turned(group, h)
        again = turned.at(group, find(module, turned).element)
        for one, expected in zip(again, canonical, strict=True):
            assert torch.equal(one["image"], expected["image"])
            assert torch.equal(one["prompt"][0], expected["prompt"][0])
            assert torch.equal(one["prompt"][1], expected["prompt"][1])


@torch.inference_mode()
def test_prompts_beside_images_in_one_tensor_are_carried_in_too():
    x, points = noise(4, 20), torch.arange(16.0).reshape(4, 2, 2)
    inputs = Tensors((x, points), HALF, ("image", "keypoints"))
    pose = find(conv_canonicalizer("c4"), inputs)
    assert pose.element.unique().numel() > 1
    image, found = inputs.at(C4, pose.element)
    assert torch.equal(image, act(C4, inverse(C4, pose.element), x))
    assert torch.equal(found, act(C4, inverse(C4, pose.element), points, "keypoints", (20, 20)))
    assert torch.equal(inputs.back(C4, pose.element, found, "keypoints"), points)


def test_inputs_without_an_image_are_refused_with_their_kinds():
    with pytest.raises(ValueError, match="no image among inputs of the kinds"):
        len(Tensors(torch.zeros(2, 4), HALF, "boxes"))
