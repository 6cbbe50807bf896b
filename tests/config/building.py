"""Configurations of little more than a model and data."""

from typing import Any

import pytest

from equicli.config import AdaptConfig, build_config
from equicli.errors import UsageError

NEEDED = {"data": "photos", "model": "test_resnet"}


def build(*settings: str, recipe: str | None = None, **flags: Any) -> AdaptConfig:
    return build_config(NEEDED | flags, list(settings), recipe)


def error_of(*settings: str, recipe: str | None = None, flags: dict[str, Any] = NEEDED) -> str:
    with pytest.raises(UsageError) as caught:
        build_config(flags, list(settings), recipe)
    assert "\n" not in str(caught.value)
    return str(caught.value)
