import numpy as np
import pytest

from equicli.data.decode import Decoder, read_picture
from equicli.data.value_range import AS_USUAL, Seen, ValueRange, ValueRanges, find_ranges, read_bounds, scale
from equicli.errors import EquicliError


def found(kind, *bounds):
    return find_ranges([Seen(kind, low, high) for low, high in bounds]).of(kind)


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ([(0, 255)], (0, 255)),
        ([(0, 256)], (0, 1023)),
        ([(3, 40), (0, 1024)], (0, 4095)),
        ([(7, 4096)], (0, 16383)),
        ([(0, 16384), (0, 2)], (0, 65535)),
        ([(0, 1)], (0, 1)),
        ([(-1, 1)], (-1, 1)),
    ],
)
def test_the_smallest_usual_range_that_holds_all_pictures_is_taken(bounds, expected):
    assert found("integers", *bounds) == ValueRange(*expected)


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [([(0, 0.9), (0.1, 1)], (0, 1)), ([(0, 1.0005)], (0, 1)), ([(-0.9, 0.5)], (-1, 1)), ([(0.5, 254.7)], (0, 255))],
)
def test_floats_may_overshoot_by_their_rounding(bounds, expected):
    assert found("floats", *bounds) == ValueRange(*expected)


@pytest.mark.parametrize("bounds", [(0, 1.3), (-2, 1), (0, 70000), (-1000, 3000)])
def test_what_would_be_a_guess_is_refused_with_the_option(bounds):
    with pytest.raises(EquicliError, match="--value-range LOW:HIGH"):
        found("floats", bounds)


def test_integers_and_floats_have_a_range_each_and_others_none():
    ranges = find_ranges([Seen("floats", 0, 1), Seen("integers", 0, 900), Seen("integers", 0, 3000)])
    assert ranges == ValueRanges(ValueRange(0, 4095), ValueRange(0, 1))
    assert find_ranges([]) == AS_USUAL


def test_values_are_scaled_alike_whatever_holds_them():
    values = np.arange(0, 4096, 7)
    expected = (values / 4095 * 255).round()
    twelve = ValueRange(0, 4095)
    for dtype in (np.uint16, np.int16, np.int32, np.int64, np.float32, np.float64, ">u2"):
        assert np.array_equal(twelve.to_bytes(values.astype(dtype)), expected)
    many = np.tile(values, 4000).astype(np.int32)  # more than are scaled at a time
    assert np.array_equal(twelve.to_bytes(many), np.tile(expected, 4000))


def test_a_range_that_somebody_chose_counts_before_what_a_file_says_and_cuts():
    window = ValueRanges.chosen(-200, 300)
    assert scale(np.array([-1000, -200, 50, 300, 900]), window, ValueRange(0, 65535)).tolist() == [0, 0, 128, 255, 255]


def test_arrays_are_read_by_the_same_ranges():
    decoder = Decoder(ValueRanges(integers=ValueRange(0, 4095), floats=ValueRange(-1, 1)))
    assert read_picture(np.array([[0, 4095]], np.uint16), decoder)[0].tolist() == [[0, 255]]
    assert read_picture(np.array([[-1.0, 1.0]]), decoder)[0].tolist() == [[0, 255]]
    assert read_picture(np.array([[0, 255]], np.uint8), decoder)[0].tolist() == [[0, 255]]
    assert read_picture(np.array([[0, 65535]], np.uint16))[0].tolist() == [[0, 255]]
    assert read_picture(np.array([[0, 255]]))[0].tolist() == [[0, 255]]


@pytest.mark.parametrize("text", ["", "1", "a:b", "1:0", "0:0", "0:inf", "nan:1", "0:1:2", -61, None, [1]])
def test_what_is_no_range_is_refused(text):
    with pytest.raises(ValueError, match="LOW:HIGH"):
        read_bounds(text)


def test_a_range_is_written_as_text_or_as_two_numbers():
    assert read_bounds("-1:1") == read_bounds([-1, 1]) == (-1.0, 1.0)
