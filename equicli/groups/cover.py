"""Finite covers of the groups of space: elements so many and so spread that each element has one near it."""

import itertools

import torch
from torch import Tensor

from equicli.groups.continuous import MatrixGroup, about_z
from equicli.groups.elements import matrix
from equicli.groups.planar import PlanarGroup

AROUND = 8  # of the turns about z


def cover(group: MatrixGroup) -> Tensor:
    """Return a subgroup of a group of space, the identity first: float64 (m, 3, 3).

    Of SO(3) the 24 rotations of the cube (the octahedral group): signed permutations of the axes, which round nothing;
    of SO(2) about z the turns by 45°.
    """
    if group.about_z:
        turns = PlanarGroup(AROUND)
        return about_z(matrix(turns, torch.arange(turns.order)))
    found = []
    for order, signs in itertools.product(itertools.permutations(range(3)), itertools.product((1.0, -1.0), repeat=3)):
        rows = torch.zeros(3, 3, dtype=torch.float64)
        rows[range(3), list(order)] = torch.tensor(signs, dtype=torch.float64)
        if torch.linalg.det(rows) > 0:
            found.append(rows)
    return torch.stack(found)
