"""A recipe to write."""

from pathlib import Path

import pytest


@pytest.fixture
def recipe(tmp_path: Path):
    """Write a recipe file and return its name."""

    def write(text: str | bytes) -> str:
        path = tmp_path / "mine.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write
