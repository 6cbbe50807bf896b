"""Whatever a network takes or returns goes there and back: lists, tuples and mappings of any sizes."""

from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from equicli.groups import is_finite, parse_group
from equicli.groups.action import act, act_on_frame, inscribed_disc
from equicli.groups.elements import singles
from equicli.groups.transport import frames_after, transport
from tests.groups.examples import SPACE, draw, each, identity, noise, seeded, smooth

PLANE = [parse_group(name) for name in ("c4", "d4", "c8", "so2", "o2")]
QUARTERLY = [parse_group(name) for name in ("c4", "d4")]
FRAMES = [(4, 7), (9, 6), (5, 5), (1, 3)]  # of a mixed list of pictures
KINDS = {
    "image": "image",
    "target": {"boxes": "boxes", "masks": "mask", "places": ("keypoints", "points")},
    "name": "invariant",
}

nested = st.recursive(
    st.sampled_from(["image", "mask", "keypoints", "boxes", "points", "logits", "invariant"]),
    lambda kinds: st.lists(kinds, max_size=3).map(tuple) | st.dictionaries(st.text(max_size=3), kinds, max_size=3),
    max_leaves=6,
)


def sample(frame, dtype=torch.float32):
    """A picture and what is in it, of KINDS, with all coordinates in half pixels."""
    height, width = frame
    ends = torch.stack([torch.randint(2 * side + 1, (6,), generator=seeded(side)) / 2 for side in (width, height)], -1)
    return {
        "image": noise(3, *frame, dtype=dtype),
        "target": {
            "boxes": torch.cat([torch.minimum(ends[:3], ends[3:]), torch.maximum(ends[:3], ends[3:])], -1),
            "masks": noise(2, *frame) > 0.5,
            "places": (ends, torch.rand(4, 3, generator=seeded())),
        },
        "name": f"{width}x{height}",
    }


def leaf(kind, frame):
    return {
        "image": noise(3, *frame),
        "mask": noise(*frame) > 0.5,
        "keypoints": torch.rand(2, 2, generator=seeded()) * 5,
        "boxes": torch.tensor([[0.0, 1, 2, 3]]),
        "points": torch.rand(5, 3, generator=seeded()),
        "logits": torch.rand(4),
        "invariant": "cat",
    }[kind]


def fill(kinds, frame):
    """A value of some kinds."""
    if isinstance(kinds, str):
        return leaf(kinds, frame)
    if isinstance(kinds, tuple):
        return tuple(fill(kind, frame) for kind in kinds)
    return {name: fill(kind, frame) for name, kind in kinds.items()}


def compare(value, other, same=torch.equal):
    """Assert that two values have one structure and the same in it."""
    assert type(value) is type(other)
    if isinstance(value, torch.Tensor):
        assert value.shape == other.shape and value.dtype == other.dtype
        assert same(value, other)
    elif isinstance(value, dict):
        assert list(value) == list(other)
        for name in value:
            compare(value[name], other[name], same)
    elif isinstance(value, list | tuple):
        for one, another in zip(value, other, strict=True):
            compare(one, another, same)
    else:
        assert value == other


def close(atol):
    return lambda a, b: torch.allclose(a.double(), b.double(), atol=atol, rtol=0)


def inverse(group, element):
    return group.inverse(element)


def quarters(group):
    """A batch of multiples of 90° and mirrorings, each of them in turn."""
    steps = [group.find(90 * k, m) for k in range(4) for m in (False, True)]
    steps = [step for step in steps if step is not None]
    steps = (steps * 4)[: 4 * len(steps) if len(steps) < 8 else 32]
    return torch.tensor(steps) if is_finite(group) else torch.stack(steps)


@each(PLANE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.float16])
def test_quarter_turns_and_mirrorings_of_pictures_of_mixed_sizes_come_back_bit_for_bit(group, dtype):
    elements = quarters(group)
    value = [sample(FRAMES[i % len(FRAMES)], dtype) for i in range(len(elements))]
    there = transport(group, elements, value, KINDS)
    compare(transport(group, inverse(group, elements), there, KINDS), value)
    for entry in there:
        assert entry["image"].shape[-2:] == entry["target"]["masks"].shape[-2:]


@each(PLANE)
def test_the_identity_leaves_everything_as_it_is(group):
    value = [sample(frame) for frame in FRAMES]
    compare(transport(group, identity(group), value, KINDS), value)


@each(QUARTERLY)
def test_acting_by_h_and_then_by_g_is_acting_by_gh_on_a_list_of_mixed_sizes(group):
    value = [sample(FRAMES[i % len(FRAMES)]) for i in range(24)]
    g, h = draw(group, 24, 1), draw(group, 24, 2)
    twice = transport(group, g, transport(group, h, value, KINDS), KINDS)
    compare(twice, transport(group, group.compose(g, h), value, KINDS))


@each(PLANE)
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_any_nesting_is_each_of_its_tensors_acted_on_alone(group, data):
    kinds = data.draw(nested)
    chosen = data.draw(st.lists(st.sampled_from(FRAMES), min_size=1, max_size=3))
    elements = draw(group, len(chosen), data.draw(st.integers(0, 99)))

    def alone(element, value, kinds, frame):
        if isinstance(kinds, str):
            return value if kinds == "invariant" else act(group, element, value, kinds, frame)
        if isinstance(kinds, tuple):
            return tuple(alone(element, part, kind, frame) for part, kind in zip(value, kinds, strict=True))
        return {name: alone(element, value[name], kind, frame) for name, kind in kinds.items()}

    value = [fill(kinds, frame) for frame in chosen]
    each_one = zip(singles(group, elements, len(chosen)), value, chosen, strict=True)
    expected = [alone(element, entry, kinds, frame) for element, entry, frame in each_one]
    compare(transport(group, elements, value, kinds, frames=chosen), expected)


@each(PLANE)
def test_lists_of_parts_and_a_list_of_samples_are_turned_alike(group):
    value = [sample(frame) for frame in FRAMES]
    elements = draw(group, 4)
    columns = {
        "image": [entry["image"] for entry in value],
        "target": {"boxes": [entry["target"]["boxes"] for entry in value]},
        "name": ["anything"],
    }
    turned, expected = transport(group, elements, columns, KINDS), transport(group, elements, value, KINDS)
    compare(turned["image"], [entry["image"] for entry in expected])
    compare(turned["target"], {"boxes": [entry["target"]["boxes"] for entry in expected]})
    assert turned["name"] is columns["name"]


@each(PLANE)
def test_tensors_of_square_pictures_are_turned_as_lists_of_them(group):
    value = [sample((6, 6)) for _ in range(5)]
    elements = draw(group, 5)
    together = {
        "image": torch.stack([v["image"] for v in value]),
        "boxes": torch.stack([v["target"]["boxes"] for v in value]),
    }
    kinds = {"image": "image", "boxes": "boxes"}
    turned, listed = transport(group, elements, together, kinds), transport(group, elements, value, KINDS)
    assert torch.equal(turned["image"], torch.stack([v["image"] for v in listed]))
    assert torch.equal(turned["boxes"], torch.stack([v["target"]["boxes"] for v in listed]))


@each([*PLANE, *SPACE])
def test_points_obey_the_laws(group):
    g, h = draw(group, 3, 1), draw(group, 3, 2)
    clouds = [torch.rand(count, 3, generator=seeded(), dtype=torch.float64) for count in (4, 7, 1)]
    value, kinds = (clouds, {"normals": torch.stack([c[:1] for c in clouds])}), ("points", {"normals": "points"})
    there = transport(group, h, value, kinds)
    compare(transport(group, inverse(group, h), there, kinds), value, close(1e-12))
    compare(transport(group, g, there, kinds), transport(group, group.compose(g, h), value, kinds), close(1e-12))
    compare(transport(group, identity(group), value, kinds), value)


@each(PLANE)
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 999), frame=st.tuples(st.integers(20, 40), st.integers(20, 40)))
def test_on_a_grown_canvas_no_corner_is_lost_on_the_way_there_and_back(group, seed, frame):
    height, width = frame
    corners = torch.zeros(frame, dtype=torch.bool)
    for rows in (slice(None, 4), slice(-4, None)):
        for columns in (slice(None, 4), slice(-4, None)):
            corners[rows, columns] = True
    places = torch.tensor([[0.0, 0], [width, 0], [0, height], [width, height]])
    value, kinds = [(smooth(height, width)[0], corners, places)], ("image", "mask", "keypoints")
    g = draw(group, 1, seed)
    grown = transport(group, g, value, kinds, canvas="grow", padding="zeros")
    after = frames_after(group, g, [frame], "grow")
    assert grown[0][0].shape[-2:] == grown[0][1].shape == after[0]
    limits = torch.tensor([after[0][1], after[0][0]])
    assert (grown[0][2] >= -1e-3).all() and (grown[0][2] <= limits + 1e-3).all()
    image, mask, back = transport(group, inverse(group, g), grown, kinds, canvas=[frame], padding="zeros")[0]
    torch.testing.assert_close(back, places, atol=1e-4, rtol=0)
    assert mask.shape == frame
    for y in (1, height - 3):
        for x in (1, width - 3):  # but for the outermost pixels
            assert mask[y : y + 2, x : x + 2].all()
    inner = (slice(None), slice(2, -2), slice(2, -2))
    torch.testing.assert_close(image[inner], value[0][0][inner], atol=0.02, rtol=0)


@each(PLANE)
def test_a_turned_picture_comes_back_into_its_own_frame_at_any_angle(group):
    elements = draw(group, 8)
    chosen = [FRAMES[i % 3] for i in range(8)]
    images = [smooth(8 * h, 8 * w)[0] for h, w in chosen]
    frames = [(8 * h, 8 * w) for h, w in chosen]
    there = transport(group, elements, images, "image")
    assert [image.shape[-2:] for image in there] == frames_after(group, elements, frames)
    back = transport(group, inverse(group, elements), there, "image", canvas=frames)
    for image, expected in zip(back, images, strict=True):
        disc = inscribed_disc(image.shape[-2:])
        torch.testing.assert_close(image[:, disc], expected[:, disc], atol=0.02, rtol=0)


@each(PLANE)
def test_frames_after_are_those_of_the_turned_pictures(group):
    elements = draw(group, 4)
    for canvas in ("same", "grow", FRAMES, (3, 8)):
        there = transport(group, elements, [noise(*frame) for frame in FRAMES], "image", canvas=canvas)
        assert [tuple(image.shape) for image in there] == frames_after(group, elements, FRAMES, canvas)
    one = singles(group, elements, 4)[0]
    assert frames_after(group, one, (4, 7)) == [act_on_frame(group, one, (4, 7))]
    assert len(frames_after(group, elements, (4, 7))) == len(frames_after(group, one, FRAMES)) == 4


@each(PLANE)
def test_coordinates_go_with_the_pictures_that_lie_beside_them(group):
    elements, kinds = draw(group, 4), {"mask": "mask", "places": "keypoints"}
    masks = [noise(*frame) > 0.5 for frame in FRAMES]
    places = torch.rand(4, 5, 2, generator=seeded()) * 4
    turned = transport(group, elements, {"mask": masks, "places": places}, kinds)
    alone = transport(group, elements, places, "keypoints", frames=FRAMES)
    assert torch.equal(turned["places"], alone)
    compare(list(alone), transport(group, elements, list(places), "keypoints", frames=FRAMES))
    inner = transport(group, elements, (masks, {"places": places}), ("mask", {"places": "keypoints"}))
    assert torch.equal(inner[1]["places"], alone)
    # Another frame that is asked for wins.
    low = transport(group, elements, {"mask": masks, "places": places}, kinds, frames=(20, 20))
    assert torch.equal(low["places"], act(group, elements, places, "keypoints", (20, 20)))


@pytest.mark.parametrize("name", ["so2", "o2", "c3"])
def test_where_a_tensor_of_rectangles_keeps_its_canvas_so_do_the_coordinates(name):
    group = parse_group(name)
    elements, images, places = draw(group, 6), noise(6, 3, 4, 7), torch.rand(6, 5, 2, generator=seeded())
    kinds = ("image", "keypoints")
    expected = act(group, elements, places, "keypoints", (4, 7), canvas=(4, 7))
    for frames in (None, (4, 7), [(4, 7)] * 6):
        for form in (places, list(places)):
            turned = transport(group, elements, (images, form), kinds, frames=frames)
            assert torch.equal(turned[0], act(group, elements, images))
            torch.testing.assert_close(torch.stack(list(turned[1])), expected)


@each(PLANE)
def test_a_tensor_of_rectangles_takes_a_canvas_that_fits_all(group):
    elements, images = draw(group, 3), noise(3, 2, 4, 7)
    turned = transport(group, elements, images, "image", canvas=(8, 9))
    assert torch.equal(turned, torch.stack(transport(group, elements, list(images), "image", canvas=(8, 9))))
    assert torch.equal(turned, transport(group, elements, images, "image", canvas=[(8, 9)] * 3))


def test_one_element_for_all_turns_a_tensor_of_rectangles():
    group, images = parse_group("c4"), noise(3, 2, 4, 7)
    assert torch.equal(transport(group, 1, images, "image"), images.rot90(1, (-2, -1)))
    boxes = torch.tensor([[[0.0, 0, 2, 1]]] * 3)
    turned = transport(group, 1, (images, boxes), ("image", "boxes"))
    assert torch.equal(turned[1], act(group, 1, boxes, "boxes", (4, 7)))
    assert transport(group, 1, images, "image", canvas="grow").shape == (3, 2, 7, 4)


def test_parts_that_are_not_there_are_skipped_and_named_tuples_stay_so():
    class Prompts(NamedTuple):
        boxes: object
        labels: object

    group, box = parse_group("c4"), torch.tensor([[[0.0, 0, 2, 1]]])
    value = {"prompts": Prompts(box, None)}
    kinds = {"image": "image", "prompts": ("boxes", "invariant")}
    turned = transport(group, torch.tensor([1]), value, kinds, frames=(4, 7))
    assert turned["prompts"] == Prompts(turned["prompts"].boxes, None)
    assert turned["prompts"].boxes.tolist() == [[[0, 5, 1, 7]]]
    assert transport(group, torch.tensor([1, 0]), [None, box[0]], "boxes", frames=(4, 7))[0] is None


@each([*PLANE, *SPACE])
def test_a_batch_of_none_stays_a_batch_of_none(group):
    kinds = {"logits": "logits", "points": "points"} | ({"boxes": "boxes"} if group in PLANE else {})
    value = {"logits": torch.zeros(0, 3), "points": torch.zeros(0, 5, 3)}
    if group in PLANE:
        value["boxes"] = torch.zeros(0, 2, 4)
    compare(transport(group, draw(group, 0), value, kinds, frames=[]), value)
    assert transport(group, draw(group, 0), [], "points") == []


@pytest.mark.parametrize(
    ("value", "kinds", "options", "words"),
    [
        ({"box": 1}, {"boxes": "boxes", "image": "image"}, {}, "'box' has no kind; only boxes, image have one"),
        ((1, 2), ("logits",), {}, "those of a tuple of 1 parts, not of a tuple of 2"),
        (torch.zeros(2, 3), {"a": "logits"}, {}, "those of a mapping of a, not of a Tensor"),
        ({"a": 1}, "image", {}, "the kind 'image' is that of a tensor or a list of them, not of a dict"),
        ([[torch.zeros(3)]] * 2, "points", {}, "a list has one entry a sample"),
        ([torch.zeros(3)], "points", {}, "2 elements of c4 cannot act on a batch of 1"),
        (torch.zeros(3, 3), "points", {}, "2 elements of c4 cannot act on a batch of 3"),
        (torch.zeros(2, 4), "boxes", {}, "'boxes' needs the frame"),
        (torch.zeros(2, 4), "box", {}, "kind 'box' is none of image"),
        (torch.zeros(2, 4), "boxes", {"frames": [(4, 7)]}, "1 frames do not fit 2 samples"),
        (torch.zeros(2, 4, 7), "image", {}, "7x4 pixels cannot be turned one by one by c4"),
        (torch.zeros(2, 4, 7), "image", {"canvas": "grow"}, "7x4 pixels would grow to different sizes"),
        (torch.zeros(2, 4, 7), "image", {"canvas": [(4, 7), (7, 4)]}, "would get different shapes"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(value, kinds, options, words):
    with pytest.raises(ValueError, match=words):
        transport(parse_group("c4"), torch.tensor([0, 1]), value, kinds, **options)


def test_gradients_reach_the_matrices_through_lists():
    group = parse_group("so2")
    elements = group.sample(2, seeded()).requires_grad_()
    images = transport(group, elements, [smooth(8, 12)[0], smooth(9)[0]], "image")
    sum(image[..., 3:5, 3:5].square().sum() for image in images).backward()
    assert elements.grad.abs().amax((1, 2)).min() > 0
