"""SAM and SAM 2: prompts and masks in the frame of the picture as it came, and one look for many prompts."""

import copy
import pickle
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from equicli.adapted import AdaptedModel
from equicli.data.normalization import HALF, Normalization
from equicli.data.preprocess import Preprocess
from equicli.errors import EquicliError, UsageError
from equicli.groups import PlanarGroup
from equicli.groups.action import act
from equicli.groups.coordinates import boxes_around
from equicli.groups.transport import frames_after
from equicli.prediction.load import load_network, rebuild_network
from equicli.prediction.network import NetworkSpec
from equicli.tasks.instances.prompted import Prompted, grid, inner_points
from tests.canonicalization.examples import conv_canonicalizer
from tests.prediction.small_sam import SAMS, random_network
from tests.tasks.test_instances import scenery, truth

C4, D4 = PlanarGroup(4), PlanarGroup(4, reflections=True)
KINDS = {"points": "keypoints", "boxes": "boxes", "masks": "mask"}
PREPROCESS = Preprocess(None, None, "bilinear", HALF)
EVERY = pytest.mark.parametrize("network", SAMS, indirect=True)


@pytest.fixture
def network(request):
    return random_network(request.param)


def adapted(network: Any, group: str = "c4") -> AdaptedModel:
    return AdaptedModel(conv_canonicalizer(group), network, PREPROCESS, signature=Prompted.signature)


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def prompts_in(height: int, width: int) -> list[dict[str, Tensor]]:
    """Of every kind, some at the border and in the corners, and of one pixel."""
    corners = torch.tensor([[0.5, 0.5], [width - 0.5, 0.5], [0.5, height - 0.5], [width - 0.5, height - 0.5]])
    boxes = torch.tensor([[0.0, 0, width, height], [0, 0, 1, 1], [width - 1, height - 1, width, height], [3, 2, 9, 20]])
    masks = torch.zeros(4, height, width, dtype=torch.bool)
    masks[0, :5, :7] = masks[1, -1, -1] = masks[2, 3:] = True  # and an empty one
    pairs = torch.stack([corners, corners.flip(0) + 2], dim=1)
    return [
        {"points": corners[:, None]},
        {"points": pairs, "point_labels": torch.tensor([[1, 0]] * 4)},
        {"boxes": boxes},
        {"masks": masks},
        {"points": pairs, "boxes": boxes, "masks": masks},
    ]


def moved(group: PlanarGroup, h: int, prompts: dict[str, Tensor], frame: tuple[int, int]) -> dict[str, Tensor]:
    return {key: act(group, h, v, KINDS[key], frame) if key in KINDS else v for key, v in prompts.items()}


@EVERY
@pytest.mark.parametrize("frame", [(40, 61), (33, 33)])
def test_prompts_at_every_angle_give_the_masks_of_the_upright_picture_to_the_pixel(network, frame) -> None:
    model, upright, varied = adapted(network), picture(*frame), 0
    encoded = model.encode(upright)
    for prompts in prompts_in(*frame):
        expected = model.decode(encoded, **prompts)
        assert expected["masks"].shape == (4, 1, *frame) and expected["masks"].dtype == torch.bool
        assert torch.equal(expected["boxes"], boxes_around(expected["masks"][:, 0]))
        varied += int(0 < expected["masks"].double().mean() < 1)
        for h in range(1, 4):
            turned = model.encode(act(C4, h, upright))
            assert turned.pose.element == C4.compose(h, int(encoded.pose.element))
            answer = model.decode(turned, **moved(C4, h, prompts, frame))
            assert torch.equal(answer["masks"], act(C4, h, expected["masks"], "mask"))
            assert torch.equal(answer["boxes"], act(C4, h, expected["boxes"], "boxes", frame))
            assert torch.equal(answer["scores"], expected["scores"])
            (whole,) = model.predict([act(C4, h, upright)], [moved(C4, h, prompts, frame)]).output
            assert all(torch.equal(whole[key], answer[key]) for key in answer)
    assert varied > 2  # masks that say something


@EVERY
def test_the_network_looks_once_for_a_hundred_prompts(network) -> None:
    calls = []
    handle = network.vision_encoder.register_forward_hook(lambda *_: calls.append(1))
    try:
        model = adapted(network)
        encoded = model.encode(picture(40, 60))
        for i in range(50):
            model.decode(encoded, points=[[[i + 0.5, 20.5]]])
        assert model.decode(encoded, points=torch.rand(50, 1, 2) * 40)["masks"].shape == (50, 1, 40, 60)
        assert len(calls) == 1
    finally:
        handle.remove()


def test_what_is_asked_in_pixels_that_span_the_picture_is_what_transformers_asks_by_their_centres() -> None:
    """Of a picture that the network need not resize both count the same pixels."""
    network, image = random_network("SamModel"), picture(48, 64)
    processor = transformers.SamImageProcessor(
        size={"longest_edge": 64}, pad_size={"height": 64, "width": 64}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    shown = processor(images=[image], return_tensors="pt")
    x, y = torch.tensor([0, 63, 17]), torch.tensor([0, 47, 30])  # columns and rows, the last ones among them
    centres = torch.stack([x, y], dim=1)
    with torch.inference_mode():
        answer = super(type(network).__bases__[0], network).forward(
            pixel_values=shown["pixel_values"], input_points=centres[None, :, None].float(), multimask_output=True
        )
    (masks,) = processor.post_process_masks(
        [answer.pred_masks[0]], shown["original_sizes"], shown["reshaped_input_sizes"]
    )
    best = answer.iou_scores[0].argmax(dim=1)
    model = adapted(network)
    ours = network.decode(network.encode(HALF(image)), {"points": centres[:, None] + 0.5})
    assert torch.equal(ours["masks"][:, 0], masks[torch.arange(3), best])
    assert torch.allclose(ours["scores"], answer.iou_scores[0].gather(1, best[:, None])[:, 0], atol=1e-5)
    # A box that spans the picture reaches from the first edge to the last.
    corners = network._places(torch.tensor([[0.0, 0.0], [64.0, 48.0]]), (48, 64)) + 0.5
    assert corners.tolist() == [[0, 0], [64, 48]]
    assert model.decode(model.encode(image), boxes=[[0, 0, 64, 48]])["masks"].shape == (1, 1, 48, 64)


@EVERY
def test_networks_that_resize_show_nearly_what_transformers_own_processor_does(network) -> None:
    name = "SamImageProcessor" if type(network).__name__ == "SamModel" else "Sam2ImageProcessor"
    sizes = {"size": {"longest_edge": 64}, "pad_size": {"height": 64, "width": 64}}
    sizes = sizes if name == "SamImageProcessor" else {"size": {"height": 64, "width": 64}}
    processor = getattr(transformers, name)(image_mean=[0.5] * 3, image_std=[0.5] * 3, **sizes)
    image = picture(80, 104)
    seen = []
    handle = network.vision_encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        with torch.inference_mode():
            network.encode(HALF(image))
    finally:
        handle.remove()
    theirs = processor(images=[image], return_tensors="pt")["pixel_values"]
    assert (seen[0] - theirs).abs().max() < 1.1 / 127.5  # they round to whole grey levels in between


@EVERY
def test_they_are_loaded_by_folder_and_rebuilt_copied_and_pickled(network, tmp_path) -> None:
    kind = type(network).__name__
    plain = getattr(transformers, kind)(network.config)
    plain.load_state_dict(network.state_dict())
    plain.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.2, 0.3]}')
    found = load_network(str(tmp_path))
    assert found.preprocess.normalization == Normalization((0.4, 0.5, 0.6), (0.2, 0.2, 0.3)) and not found.remarks
    assert found.spec == NetworkSpec("transformers", kind, found.spec.arguments) and Prompted.is_for(str(tmp_path))
    assert not found.preprocess.resizes and found.class_names is None
    rebuilt = rebuild_network(found.spec)
    rebuilt.load_state_dict(found.network.state_dict())
    image, prompts = HALF(picture(30, 50)), {"boxes": torch.tensor([[3.0, 4, 20, 20]])}
    with torch.inference_mode():
        expected = network.decode(network.encode(image), prompts)
        for other in (found.network, rebuilt, copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
            assert torch.equal(other([{"image": image, **prompts}])[0]["masks"], expected["masks"])
    for flags in ({"image_size": 512}, {"arguments": {"depth": 3}}):
        with pytest.raises(UsageError, match=r"--image-size: SAM|--model-arg: Sam"):
            load_network(str(tmp_path), **flags)


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        ({}, "nothing is pointed at; give points, boxes or masks"),
        ({"box": [[0, 0, 1, 1]]}, "'box' is none of points"),
        ({"boxes": [[0, 0, 1]]}, r"boxes of shape \(1, 3\); of 1 prompts in this picture it is \(1, 4\)"),
        ({"points": [[1.0, 2.0]]}, r"points of shape \(1, 2\); of 1 prompts in this picture it is \(n, k, 2\)"),
        ({"points": [[[1.0, float("nan")]]]}, "points that are not finite"),
        ({"boxes": [[0, 0, 1, 1]], "point_labels": [[1]]}, "point_labels"),
        ({"boxes": [[0, 0, 1, 1]], "points": [[[1, 1]], [[2, 2]]]}, "of shape"),
        ({"masks": torch.zeros(1, 9, 9)}, r"masks of shape \(1, 9, 9\); of 1 prompts in this picture it is \(1, 30"),
        ({"boxes": "here"}, "boxes are no numbers"),
    ],
)
def test_what_is_no_prompt_is_told_in_one_line(prompts, said) -> None:
    model = adapted(random_network("SamModel"))
    with pytest.raises(UsageError, match=said) as error:
        model.decode(model.encode(picture(30, 40)), **prompts)
    assert "\n" not in str(error.value)


def test_other_networks_and_other_tasks_say_what_fits() -> None:
    model = AdaptedModel(conv_canonicalizer("c4"), torch.nn.Flatten(), PREPROCESS)
    with pytest.raises(UsageError, match="Flatten answers no prompts"):
        model.encode(picture(20, 20))
    with pytest.raises(UsageError, match=r"2 mappings of 1 pictures"):
        adapted(random_network("SamModel")).predict([picture(20, 20)], [{}, {}])
    with pytest.raises(UsageError, match=r"answers prompts: .*model\.decode"):
        adapted(random_network("SamModel")).predict([picture(20, 20)])
    with pytest.raises(EquicliError, match=r"has no '?.*Sam9Model"):
        rebuild_network(NetworkSpec("transformers", "Sam9Model", {}))


def test_points_lie_inside_their_objects_and_in_the_corners_of_a_grid() -> None:
    _, said = scenery((20, 30), 3, 0)
    for (x, y), mask in zip(inner_points(truth(said)).tolist(), said["masks"][:, 0] > 0.5, strict=True):
        assert mask[int(y), int(x)] and (x % 1, y % 1) == (0.5, 0.5)
    points = grid((3, 50))["points"]
    assert points.shape == (16, 1, 2) and (points % 1 == 0.5).all()
    assert points.amin(dim=(0, 1)).tolist() == [6.5, 0.5] and points.amax(dim=(0, 1)).tolist() == [43.5, 2.5]


def test_off_the_grid_prompts_go_onto_the_grown_canvas_and_masks_come_back_whole() -> None:
    model = adapted(random_network("SamModel"), "c8")
    for seed in range(3):
        encoded = model.encode(picture(30, 44, seed))
        (seen,) = frames_after(model.canonicalizer.group, encoded.pose.element, [(30, 44)], "grow")
        assert encoded.embedding.frame in (seen, seen[::-1])
        answer = model.decode(encoded, points=[[[0.5, 0.5]], [[20.5, 10.5]]])
        assert answer["masks"].shape == (2, 1, 30, 44)
