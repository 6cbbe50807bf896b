"""Elements, images and centred coordinates that the laws are tested on."""

import pytest
import torch

from equicli.groups import PlanarGroup, is_finite, parse_group

EXACT = [parse_group(name) for name in ("c1", "c2", "c4", "d1", "d2", "d4")]
OFF_GRID = [parse_group(name) for name in ("c3", "d3", "c8", "d8")]
CONTINUOUS = [parse_group(name) for name in ("so2", "o2")]
SPACE = [parse_group(name) for name in ("so3", "so2z")]
PLANAR = EXACT + OFF_GRID + CONTINUOUS
QUARTERS = PlanarGroup(4, reflections=True)


def each(groups):
    return pytest.mark.parametrize("group", groups, ids=lambda group: group.name)


any_dtype = pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16, torch.bfloat16])
square = pytest.mark.parametrize("side", [6, 5])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(group, count, seed=0):
    """Elements of any group, one for each value of a batch."""
    if is_finite(group):
        return torch.randint(group.order, (count,), generator=seeded(seed))
    return group.sample(count, seeded(seed))


def singles(group, seed=0):
    """A few elements of any group, one at a time."""
    elements = draw(group, 4, seed)
    return elements.tolist() if is_finite(group) else list(elements)


def identity(group):
    return 0 if is_finite(group) else torch.eye(group.dimension, dtype=torch.float64)


def noise(*shape, dtype=torch.float32):
    values = torch.randint(0, 256, shape, generator=seeded(sum(shape)), dtype=torch.uint8)
    return values if dtype == torch.uint8 else (values.float() / 255).to(dtype)


def smooth(height, width=None):
    """An image of long waves, (1, 1, height, width), in [0, 1]: the same picture at every size."""
    y = torch.linspace(-1, 1, height)[:, None]
    x = torch.linspace(-1, 1, width or height)
    return (0.5 + 0.3 * torch.sin(2 * x + y) + 0.2 * torch.cos(3 * y - x))[None, None]
