"""Seeded random rotations of clouds, and the finite covers of the groups of space."""

import torch

from equicli.groups import Rotations, parse_group
from equicli.groups.cover import cover
from equicli.groups.elements import distance

SO3, SO2Z = parse_group("so3"), parse_group("so2z")
CLOUDS = torch.arange(40)


def test_every_cloud_has_rotations_of_its_own_that_neither_batches_nor_order_change():
    turns = Rotations(SO3, 3)
    assert [turns.label(h) for h in turns.elements()] == ["r0", "so2z-1", "so2z-2", "so2z-3", "so3-1", "so3-2", "so3-3"]
    every = torch.stack([turns.matrices(h, CLOUDS) for h in turns.elements()])
    assert torch.equal(every[0], torch.eye(3, dtype=torch.float64).expand(40, 3, 3))
    assert torch.equal(turns.matrices(4, torch.tensor([7, 3])), every[4][[7, 3]])
    assert len({tuple(matrix.flatten().tolist()) for matrix in every[1:].flatten(0, 1)}) == 6 * 40
    assert not torch.equal(Rotations(SO3, 3, seed=1).matrices(4, CLOUDS), every[4])


def test_they_are_rotations_and_those_of_the_scenario_z_are_about_z():
    turns = Rotations(SO3, 3)
    for h in turns.elements():
        matrices = turns.matrices(h, CLOUDS)
        assert torch.allclose(matrices @ matrices.mT, torch.eye(3, dtype=torch.float64), atol=1e-12)
        assert torch.allclose(torch.linalg.det(matrices), torch.ones(40, dtype=torch.float64))
        assert bool((matrices[:, 2, 2] == 1).all()) == (h in (0, *turns.scenarios["so2z"]))
    assert Rotations(SO2Z, 2).scenarios == {"so2z": range(1, 3)}


def test_a_cover_is_a_subgroup_without_roundings_and_near_to_every_rotation():
    cube = cover(SO3)
    assert cube.shape == (24, 3, 3) and torch.equal(cube[0], torch.eye(3, dtype=torch.float64))
    assert set(cube.unique().tolist()) == {-1, 0, 1}
    known = {tuple(matrix.flatten().tolist()) for matrix in cube}
    products = (cube[:, None, :, :, None] * cube[None, :, None, :, :]).sum(-2)
    assert len(known) == 24 and {tuple(m.flatten().tolist()) for m in products.flatten(0, 1)} == known
    some = SO3.sample(500, torch.Generator().manual_seed(0))
    nearest = distance(SO3, some[:, None], cube[None]).amin(dim=1)
    assert 45 < nearest.max() <= 62.8  # the covering radius of the rotations of the cube
    assert distance(SO2Z, SO2Z.sample(100)[:, None], cover(SO2Z)[None]).amin(dim=1).max() <= 22.5
