import copy
import math
import pickle

import pytest
import torch
from torch import nn

from equicli.canonicalization.layers import make_plain
from equicli.canonicalization.regular_fields import regular_network
from equicli.canonicalization.steerable_fields import SteerableConv, steerable_network
from equicli.groups import PlanarGroup
from equicli.groups.action import act
from equicli.groups.continuous import CONTINUOUS

GROUPS = ["so2", "o2"]
D4 = PlanarGroup(4, reflections=True)


def waves(b, side, seed=1):
    """Smooth images of a few waves of at most 3 periods: a function from a matrix R to R·x (b, 3, side, side), which
    interpolates nothing."""
    generator = torch.Generator().manual_seed(seed)
    periods, direction, phase = torch.rand(3, b, 3, 24, generator=generator, dtype=torch.float64)
    direction = direction * 2 * math.pi
    number = torch.stack([direction.cos(), direction.sin()], -1) * (periods * 6 * math.pi)[..., None]
    axis = (torch.arange(side, dtype=torch.float64) - (side - 1) / 2) / side
    y, x = torch.meshgrid(-axis, axis, indexing="ij")

    def image(rotation=None):
        rotation = torch.eye(2, dtype=torch.float64) if rotation is None else rotation
        points = torch.stack([x, y], -1) @ rotation  # R⁻¹p
        angle = torch.einsum("bcwi,sti->bcwst", number, points) + 2 * math.pi * phase[..., None, None]
        return angle.sin().mean(2).mul(3).float()

    return image


def settled(module, size):
    """The module in eval mode, with statistics of a few batches of images."""
    module.train()
    with torch.no_grad():
        for seed in range(2):
            module(waves(8, size, seed + 10)())
    return module.eval()


def network(name, *, width=32, size=33, seed=0):
    torch.manual_seed(seed)
    return settled(steerable_network(CONTINUOUS[name], width), size)


def rotation(angle, mirrored=False):
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    sign = -1 if mirrored else 1
    return torch.tensor([[sign * cos, -sin], [sign * sin, cos]], dtype=torch.float64)


def elements(name):
    return D4.elements() if CONTINUOUS[name].reflections else range(4)


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("size", [17, 33])
@torch.inference_mode()
def test_vectors_turn_exactly_with_quarter_turns_and_mirrorings(name, size):
    module, x = network(name), torch.rand(4, 3, size, size)
    vectors = module(x)
    assert vectors.shape == (4, 2 if name == "o2" else 1, 2)
    assert vectors.norm(dim=-1).min() > 1e-3
    for g in elements(name):
        expected = vectors @ torch.tensor(D4.rows(g)).T
        torch.testing.assert_close(module(act(D4, g, x)), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", GROUPS)
@torch.inference_mode()
def test_vectors_of_smooth_images_turn_by_any_angle_within_a_few_degrees(name):
    module, image = network(name), waves(32, 33)
    vectors = module(image())
    for angle in range(0, 360, 40):
        for mirrored in {False, CONTINUOUS[name].reflections}:
            turn = rotation(angle, mirrored)
            found, expected = module(image(turn)), vectors @ turn.T.float()
            error = torch.rad2deg(nn.functional.cosine_similarity(found, expected, dim=-1).clamp(-1, 1).acos())
            assert error.median() < 2 and error.mean() < 4, (angle, mirrored)


def test_one_network_for_rotations_only_does_not_follow_mirrorings():
    module, x = network("so2"), torch.rand(8, 3, 33, 33)
    expected = module(x) @ torch.tensor(D4.rows(4)).T
    assert (module(act(D4, 4, x)) - expected).norm() > 0.1 * expected.norm()


def trained(name):
    torch.manual_seed(0)
    module = steerable_network(CONTINUOUS[name], 16).train()
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        (module(torch.rand(8, 3, 17, 17)) - torch.eye(2)[: 2 if name == "o2" else 1]).square().mean().backward()
        optimizer.step()
    assert all(p.grad.abs().max() > 0 for p in module.parameters())
    return module


@pytest.mark.parametrize("name", GROUPS)
def test_a_trained_network_and_its_plain_copy_agree_and_have_the_state_dict_of_a_plain_build(name):
    module, x = trained(name).eval(), torch.rand(4, 3, 33, 33)
    plain = steerable_network(CONTINUOUS[name], 16, plain=True).eval()
    expected = module(x)
    make_plain(module)
    plain.load_state_dict(module.state_dict())
    assert not any(isinstance(part, SteerableConv) for part in plain.modules())
    torch.testing.assert_close(plain(x), expected, atol=1e-5, rtol=1e-5)
    for again in (copy.deepcopy(plain), pickle.loads(pickle.dumps(plain))):
        assert torch.equal(again(x), plain(x))


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("training", [True, False])
def test_a_stored_network_is_rebuilt_in_either_mode(name, training):
    module = network(name)
    again = network(name, seed=1)
    again.load_state_dict(module.train(training).state_dict())
    x = torch.rand(4, 3, 17, 17)
    assert torch.equal(again.train(training)(x), module(x))
    assert not any("basis" in key or "owner" in key for key in module.state_dict())


def test_stored_weights_mean_the_same_in_a_process_without_escnn(tmp_path, run_code):
    regular = regular_network(PlanarGroup(8, reflections=True), "gcnn", 16).eval()
    steerable, x = network("o2", width=16), torch.rand(2, 3, 17, 17)
    expected = [regular(x), steerable(x), steerable(x)]
    states = [regular.state_dict(), steerable.state_dict()]
    make_plain(steerable)
    states.append(steerable.state_dict())
    torch.save([x, expected, states], tmp_path / "stored.pt")
    code = """
import sys
sys.modules["escnn"] = None
import torch
from equicli.groups import PlanarGroup
from equicli.groups.continuous import CONTINUOUS
from equicli.canonicalization.layers import make_plain
from equicli.canonicalization.regular_fields import regular_network
from equicli.canonicalization.steerable_fields import steerable_network
x, expected, states = torch.load(sys.argv[1], weights_only=True)
networks = [
    regular_network(PlanarGroup(8, reflections=True), "gcnn", 16),
    steerable_network(CONTINUOUS["o2"], 16),
    steerable_network(CONTINUOUS["o2"], 16, plain=True),
]
for network, state, scores in zip(networks, states, expected, strict=True):
    network.load_state_dict(state)
    torch.testing.assert_close(network.eval()(x), scores, atol=1e-5, rtol=1e-5)
"""
    done = run_code(code, tmp_path / "stored.pt")
    assert done.returncode == 0, done.stderr
