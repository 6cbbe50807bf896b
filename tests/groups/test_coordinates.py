"""Keypoints, boxes and points."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from equicli.groups import PlanarGroup, parse_group
from equicli.groups.action import act, act_on_frame, matrix
from tests.groups.examples import (
    CONTINUOUS,
    EXACT,
    OFF_GRID,
    PLANAR,
    QUARTERS,
    SPACE,
    draw,
    each,
    every,
    identity,
    seeded,
    singles,
)

FRAME = (30, 47)  # height, width
float_dtypes = every(dtype=[torch.float16, torch.bfloat16, torch.float32, torch.float64])


def keypoints(*shape, frame=FRAME, dtype=torch.float64):
    """Half pixels within a frame, (..., 2)."""
    height, width = frame
    points = [torch.randint(2 * side + 1, shape, generator=seeded(side)) / 2 for side in (width, height)]
    return torch.stack(points, dim=-1).to(dtype)


def boxes(*shape, frame=FRAME, dtype=torch.float64):
    """Whole pixels within a frame, (..., 4)."""
    ends = keypoints(*shape, 2, frame=frame).floor()
    return torch.cat([ends.amin(-2), ends.amax(-2)], dim=-1).to(dtype)


def values(kind, *shape, frame=FRAME, dtype=torch.float64):
    return (boxes if kind == "boxes" else keypoints)(*shape, frame=frame, dtype=dtype)


in_images = every(kind=["keypoints", "boxes"])


@each(EXACT)
@in_images
@every(frame=[(8, 8), (5, 5), (4, 7), (480, 641)])
@float_dtypes
def test_coordinates_obey_the_laws_bit_for_bit_at_quarter_turns(group, kind, frame, dtype):
    # bfloat16 tells half pixels apart up to 128.
    value = values(kind, 3, 5, frame=frame, dtype=dtype if max(frame) < 100 else torch.float64)
    assert torch.equal(act(group, 0, value, kind, frame), value)
    for g in group.elements():
        there = act(group, g, value, kind, frame)
        assert there.dtype == value.dtype
        assert torch.equal(act(group, group.inverse(g), there, kind, act_on_frame(group, g, frame)), value)
        for h in group.elements():
            twice = act(group, g, act(group, h, value, kind, frame), kind, act_on_frame(group, h, frame))
            assert torch.equal(twice, act(group, group.compose(g, h), value, kind, frame))


@each([*OFF_GRID, *CONTINUOUS])
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-11), (torch.float32, 1e-4)], ids=str)
def test_keypoints_obey_the_laws_about_the_centre_at_any_angle(group, dtype, atol):
    kind, value = "keypoints", keypoints(4, 5, dtype=dtype)

    def centred(points, frame):
        return points - torch.tensor([frame[1] / 2, frame[0] / 2], dtype=dtype)

    assert torch.equal(act(group, identity(group), value, kind, FRAME), value)
    for g, h in zip(singles(group, 1), singles(group, 2), strict=True):
        frame_h = act_on_frame(group, h, FRAME)
        once = act(group, h, value, kind, FRAME)
        twice = centred(act(group, g, once, kind, frame_h), act_on_frame(group, g, frame_h))
        gh = group.compose(g, h)
        expected = centred(act(group, gh, value, kind, FRAME), act_on_frame(group, gh, FRAME))
        torch.testing.assert_close(twice, expected, atol=atol, rtol=0)
        back = act(group, group.inverse(h), once, kind, frame_h, canvas=FRAME)
        torch.testing.assert_close(back, value, atol=atol, rtol=0)


@each(PLANAR)
@in_images
@every(batch=[0, 1, 9])
def test_one_element_for_each_value_acts_as_each_element_alone(group, kind, batch):
    frame = (20, 20)
    value, elements = values(kind, batch, 3, frame=frame), draw(group, batch)
    turned = act(group, elements, value, kind, frame)
    assert turned.shape == value.shape
    for element, one, expected in zip(elements, value, turned, strict=True):
        assert torch.equal(act(group, element, one, kind, frame), expected)
        assert torch.equal(act(group, element, one[0], kind, frame), expected[0])


@given(
    st.integers(1, 2000),
    st.integers(1, 2000),
    st.integers(0, 7),
    st.tuples(*[st.integers(-100, 2100)] * 4),
)
@settings(deadline=None)
def test_any_whole_box_turns_exactly_in_float32(height, width, element, numbers):
    x1, x2 = sorted(numbers[:2])
    y1, y2 = sorted(numbers[2:])
    expected = [x1, y1, x2, y2]
    if QUARTERS.mirrored(element):
        expected = [width - x2, y1, width - x1, y2]
    w, h = width, height
    for _ in range(element % 4):  # 90° counter-clockwise: (x, y) goes to (y, w - x)
        x1, y1, x2, y2 = expected
        expected, (w, h) = [y1, w - x2, y2, w - x1], (h, w)
    box = torch.tensor([min(numbers[:2]), min(numbers[2:]), max(numbers[:2]), max(numbers[2:])], dtype=torch.float32)
    turned = act(QUARTERS, element, box, "boxes", (height, width))
    assert turned.tolist() == expected
    assert act_on_frame(QUARTERS, element, (height, width)) == (h, w)
    whole = act(QUARTERS, element, box.long(), "boxes", (height, width))
    assert whole.dtype == torch.int64 and whole.tolist() == expected


@each([*OFF_GRID, *CONTINUOUS])
def test_a_turned_box_is_the_smallest_upright_box_around_its_turned_corners(group):
    value = boxes(50, frame=(20, 20))
    for g in singles(group):
        low, high = act(group, g, value, "boxes", (20, 20)).split(2, dim=-1)
        corners = torch.stack([value[:, [x, y]] for x in (0, 2) for y in (1, 3)], dim=1)
        corners = act(group, g, corners, "keypoints", (20, 20))
        torch.testing.assert_close(low, corners.amin(1))
        torch.testing.assert_close(high, corners.amax(1))


@each([*OFF_GRID, *CONTINUOUS])
def test_boxes_that_are_turned_twice_contain_the_box_that_is_turned_once(group):
    value, frame = boxes(50, frame=(20, 20)), (20, 20)
    for g, h in zip(singles(group, 1), singles(group, 2), strict=True):
        twice = act(group, g, act(group, h, value, "boxes", frame), "boxes", frame)
        once = act(group, group.compose(g, h), value, "boxes", frame)
        assert (twice[:, :2] <= once[:, :2] + 1e-9).all() and (twice[:, 2:] >= once[:, 2:] - 1e-9).all()


def test_an_element_acts_on_the_axes_as_documented():
    corner = torch.tensor([0.0, 0.0])  # left top of an image of 7 x 4 pixels
    places = [act(QUARTERS, g, corner, "keypoints", (4, 7)).tolist() for g in QUARTERS.elements()]
    #          r0      r90     r180    r270    mirrored: right top, then turned
    assert places == [[0, 0], [0, 7], [7, 4], [4, 0], [7, 0], [0, 0], [0, 4], [4, 7]]


@pytest.mark.parametrize(
    ("name", "element", "expected"),
    [
        ("c4", 1, (7, 4)),
        ("c4", 2, (4, 7)),
        ("d4", 7, (7, 4)),
        ("d4", 4, (4, 7)),
        ("c8", 1, (4, 7)),
        ("c8", 2, (7, 4)),
        ("c8", 3, (7, 4)),  # 90° and 45°
        ("c8", 7, (7, 4)),  # 270° and 45°
        ("d8", 8 + 3, (7, 4)),
        ("c3", 1, (7, 4)),
        ("c3", torch.tensor([1, 2]), (4, 7)),
        ("c2", torch.tensor([0, 1]), (4, 7)),
        ("c4", torch.tensor(1), (7, 4)),
        ("so2", matrix(QUARTERS, 1), (7, 4)),
        ("so2", matrix(PlanarGroup(8), 1).float(), (4, 7)),
        ("so2", matrix(PlanarGroup(8), 3).float(), (7, 4)),
        ("so2", matrix(PlanarGroup(360), 46), (7, 4)),
        ("o2", matrix(QUARTERS, torch.arange(8)), (4, 7)),
    ],
)
def test_a_frame_is_the_shape_of_the_image_that_was_acted_on(name, element, expected):
    group, frame = parse_group(name), (4, 7)
    assert act_on_frame(group, element, frame) == expected
    batch = element.shape[0] if isinstance(element, torch.Tensor) and element.shape else 1
    assert act(group, element, torch.zeros(batch, 2, *frame)).shape[-2:] == expected


def test_frames_of_a_batch_that_would_differ_are_refused():
    with pytest.raises(ValueError, match="7x4 pixels cannot be turned one by one by c4"):
        act(PlanarGroup(4), torch.tensor([0, 1]), torch.zeros(2, 4), "boxes", (4, 7))


@in_images
def test_coordinates_in_an_image_need_its_frame(kind):
    with pytest.raises(ValueError, match=f"'{kind}' needs the frame"):
        act(PlanarGroup(4), 1, torch.zeros(2, 4), kind)


def test_an_unknown_kind_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"kind 'box' is none of image, mask, .*boxes"):
        act(PlanarGroup(4), 1, torch.zeros(2, 4), "box")


@each([*PLANAR, *SPACE])
@every(kind=["logits", "invariant"])
def test_what_is_invariant_is_returned_as_it_is(group, kind):
    value = torch.zeros(3)
    assert act(group, draw(group, 5), value, kind) is value


@each([*PLANAR, *SPACE])
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-8), (torch.float32, 1e-6)], ids=str)
def test_points_obey_the_laws(group, dtype, atol):
    kind = "points"
    g, h = draw(group, 10, 1), draw(group, 10, 2)
    points = torch.rand(10, 6, 3, generator=seeded(), dtype=torch.float64).sub(0.5).to(dtype)
    assert torch.equal(act(group, identity(group), points, kind), points)
    there = act(group, h, points, kind)
    assert there.dtype == dtype
    torch.testing.assert_close(
        act(group, g, there, kind), act(group, group.compose(g, h), points, kind), atol=atol, rtol=0
    )
    torch.testing.assert_close(act(group, group.inverse(h), there, kind), points, atol=atol, rtol=0)
    torch.testing.assert_close(there.norm(dim=-1), points.norm(dim=-1), atol=atol, rtol=0)
    for element, cloud, expected in zip(h, points, there, strict=True):
        assert torch.equal(act(group, element, cloud, kind), expected)


@each(SPACE)
def test_points_are_multiplied_by_their_matrix(group):
    element, points = draw(group, 1)[0], torch.rand(5, 3, generator=seeded(), dtype=torch.float64)
    torch.testing.assert_close(act(group, element, points, "points"), points @ element.T)


@each(EXACT)
def test_groups_of_the_image_turn_points_about_z_and_exactly(group):
    points = torch.rand(5, 3, generator=seeded())
    for g in group.elements():
        turned = act(group, g, points, "points")
        assert torch.equal(turned[:, 2], points[:, 2])
        assert torch.equal(act(group, group.inverse(g), turned, "points"), points)
    assert act(QUARTERS, 1, torch.tensor([1.0, 0, 5]), "points").tolist() == [0, 1, 5]
    assert act(QUARTERS, 4, torch.tensor([1.0, 2, 5]), "points").tolist() == [-1, 2, 5]


@each([*PLANAR, *SPACE])
def test_mixed_precision_and_half_precision_do_not_round_the_matrix(group):
    points, elements = torch.rand(4, 6, 3, generator=seeded()), draw(group, 4)
    expected = act(group, elements, points, "points")
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(act(group, elements, points, "points"), expected)
    half = act(group, elements, points.half(), "points")
    assert half.dtype == torch.float16
    assert torch.equal(half, act(group, elements, points.half().float(), "points").half())
