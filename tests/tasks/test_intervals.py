import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equicli.tasks.intervals import bootstrap, bootstrap_difference, wilson


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


@given(st.integers(2, 60), st.integers(1, 8), st.floats(0, 1), st.integers(0, 100))
@settings(deadline=None, max_examples=30)
def test_a_bootstrap_interval_contains_the_mean_and_is_the_same_on_every_call(n, elements, share, seed):
    correct = np.random.default_rng(seed).random((n, elements)) < share
    low, high = bootstrap(correct)
    assert (low, high) == bootstrap(correct)
    assert 0 <= low <= correct.mean() <= high <= 1


def test_turned_copies_of_an_image_are_no_independent_trials():
    once = np.arange(40)[:, None] % 2 == 0
    assert bootstrap(once.repeat(8, axis=1)) == bootstrap(once)
    low, high = bootstrap(once)
    assert high - low == pytest.approx(2 * 1.96 * 0.5 / 40**0.5, rel=0.15)


def test_what_is_always_right_has_no_uncertainty_under_resampling():
    assert bootstrap(np.ones((5, 4), dtype=bool)) == (1, 1)


def test_the_difference_of_a_system_to_itself_is_nothing_and_to_another_is_paired():
    a = np.random.default_rng(0).random((1, 200))
    assert bootstrap_difference(a, a) == (0, 0)
    low, high = bootstrap_difference(a, a - 0.1)  # the same images are drawn for both
    assert (low, high) == (pytest.approx(0.1), pytest.approx(0.1))
