"""Elements, images and centred coordinates that the laws are tested on."""

import functools
import inspect
import itertools

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


def every(**values):
    """Run a test's body for every combination of these arguments, as one test.

    Where a body takes a millisecond, to collect and to report it as a test of its own takes several times as long.
    pytest shows the arguments that it failed for.
    """

    def decorate(test):
        signature = inspect.signature(test)
        left = [parameter for name, parameter in signature.parameters.items() if name not in values]

        @functools.wraps(test)
        def run(**given):
            for chosen in itertools.product(*values.values()):
                test(**given, **dict(zip(values, chosen, strict=True)))

        run.__signature__ = signature.replace(parameters=left)
        return run

    return decorate


any_dtype = every(dtype=[torch.uint8, torch.float32, torch.float16, torch.bfloat16])
square = every(side=[6, 5])


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
