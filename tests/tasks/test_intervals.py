import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from equicli.tasks.intervals import clustered, paired_difference, wilson


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [
        (5, 10, 0.2366, 0.7634),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (1, 1, 0.2065, 1.0),
        (0, 1, 0.0, 0.7935),
        (81, 263, 0.2553, 0.3662),
        (500, 1000, 0.4691, 0.5309),
    ],
)
def test_wilson_intervals_are_those_of_published_tables(correct, n, low, high):
    assert wilson(correct, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_wilson_interval_lies_in_the_unit_interval_and_around_the_share(case):
    correct, n = case
    low, high = wilson(correct, n)
    assert 0 <= low <= correct / n + 1e-12
    assert correct / n - 1e-12 <= high <= 1


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(deadline=None, max_examples=30)
def test_a_wilson_interval_is_that_of_scipy(case):
    correct, n = case
    expected = binomtest(correct, n).proportion_ci(method="wilson")
    assert wilson(correct, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


@given(st.integers(1, 60), st.integers(1, 8), st.floats(0, 1), st.integers(0, 100))
@settings(deadline=None, max_examples=50)
def test_an_interval_over_images_contains_the_mean_and_is_never_empty(n, elements, share, seed):
    correct = np.random.default_rng(seed).random((n, elements)) < share
    low, high = clustered(correct)
    assert 0 <= low <= correct.mean() <= high <= 1
    assert high - low > 1 / (n * elements + 2)


def test_turned_copies_of_an_image_are_no_independent_trials():
    once = np.arange(40)[:, None] % 4 == 0
    assert clustered(once.repeat(8, axis=1)) == clustered(once) == pytest.approx(wilson(10, 40), abs=1e-9)
    shuffled = np.random.default_rng(0).permuted(once.repeat(8, axis=1))
    low, high = clustered(shuffled)
    assert high - low < 0.6 * (wilson(10, 40)[1] - wilson(10, 40)[0])


@pytest.mark.parametrize("n", [1, 9, 1000])
def test_what_is_always_right_or_never_is_as_uncertain_as_that_many_images(n):
    assert clustered(np.ones((n, 4), dtype=bool)) == pytest.approx(wilson(n, n), abs=1e-9)
    assert clustered(np.zeros((n, 4), dtype=bool)) == pytest.approx(wilson(0, n), abs=1e-9)


def drawn(generator, share, alike, shape):
    """Right or wrong at each turn (n, |R|); `alike` is the correlation of an image's turns."""
    n = shape[0]
    if alike == 1:
        return np.broadcast_to(generator.random((n, 1)) < share, shape)
    of_image = np.full(n, share) if alike == 0 else generator.beta(share, 1 - share, n)
    return generator.random(shape) < of_image[:, None]


@pytest.mark.parametrize("n", [9, 30, 300])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.98])
@pytest.mark.parametrize("alike", [0, 0.5, 1])
def test_intervals_over_images_cover_the_truth_in_19_of_20_cases(n, share, alike):
    generator = np.random.default_rng(0)
    covered = [
        low <= share <= high for low, high in (clustered(drawn(generator, share, alike, (n, 4))) for _ in range(500))
    ]
    assert np.mean(covered) > 0.91  # Wilson's own coverage swings so far with the share


def trained(generator, seeds, varying, ease):
    """Shares of turns (seeds, n) of systems that are equal in the long run; `varying`: how much trainings do."""
    shifted = ease + generator.normal(0, varying, (seeds, 1))
    return (generator.random((seeds, len(ease))) < 1 / (1 + np.exp(-shifted))).astype(float)


@pytest.mark.parametrize(
    ("seeds", "varying", "least"), [((1, 1), 0, 0.03), ((1, 3), 0, 0.01), ((3, 3), 0.5, 0.02), ((2, 2), 0.5, 0.02)]
)
def test_of_equal_systems_about_one_in_twenty_seems_different(seeds, varying, least):
    generator = np.random.default_rng(0)
    found = []
    for _ in range(1000):
        ease = generator.normal(1, 1.5, 400)  # what is hard for one is hard for the other
        _, (low, high) = paired_difference(*(trained(generator, k, varying, ease) for k in seeds))
        found.append(low > 0 or high < 0)
    assert least < np.mean(found) < 0.07


def test_a_difference_is_paired_and_of_a_system_to_itself_nearly_nothing():
    a = np.random.default_rng(0).random((1, 1000))
    value, (low, high) = paired_difference(a, a)
    assert value == 0 and low == pytest.approx(-high) and 0.002 < high < 0.004
    assert paired_difference(a, a * 0.9)[1] == pytest.approx((a.mean() * 0.1 - high, a.mean() * 0.1 + high), abs=0.002)


def test_two_systems_that_are_all_right_on_few_images_may_differ():
    value, (low, high) = paired_difference(np.ones((1, 9)), np.ones((3, 9)))
    assert value == 0 and low < -0.2 and high > 0.2
    value, (low, high) = paired_difference(np.ones((1, 9)), np.zeros((1, 9)))
    assert value == high == 1 and 0.3 < low < 0.7
