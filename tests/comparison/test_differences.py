"""Whether one system beats another."""

import pytest
import torch

from equicli.comparison.differences import difference


def test_a_difference_of_every_image_is_clear_and_has_its_sign() -> None:
    a, b = torch.full((200,), 0.75, dtype=torch.float64), torch.full((200,), 0.5, dtype=torch.float64)
    found = difference(a, b)
    assert found.value == 0.25 == found.low == found.high
    assert difference(b, a).value == -0.25


def test_systems_that_are_right_equally_often_are_not_clearly_apart() -> None:
    a, b = torch.tensor([1.0, 0.0] * 100), torch.tensor([0.0, 1.0] * 100)
    found = difference(a, b)
    assert found.value == 0 and found.low < 0 < found.high


def test_pairing_finds_what_two_intervals_would_not() -> None:
    """Where images are hard or easy for both, only the few that tell them apart count."""
    generator = torch.Generator().manual_seed(0)
    b = (torch.rand(1000, generator=generator) < 0.6).double()
    a = b.clone()
    a[torch.where(b == 0)[0][:12]] = 1.0
    found = difference(a, b)
    assert found.value == pytest.approx(0.012) and found.low > 0
    # Of 12 independent events in 1,000 the standard deviation is about √12 / 1000.
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * 12**0.5 / 1000, rel=0.15)
