"""A first look at few pixels: what it is sure of is not looked at again, and the laws hold through both."""

import pytest
import torch

from equicli.canonicalization import view_network
from equicli.canonicalization.look import Look
from equicli.canonicalization.prior import Prior
from equicli.config import build_config
from equicli.data.source import Resident
from equicli.groups import parse_group
from equicli.progress import Silent
from equicli.training.loop import fit
from equicli.training.objective import Objective
from tests.canonicalization.examples import create, noise
from tests.laws import assert_equivariant

SIZE, GLANCE = 24, 16


@pytest.fixture
def half_sure(monkeypatch):
    """Makes a canonicalizer whose first look is sure of half of these images, of which `noise` gives no two alike."""

    def make(kind, group, x):
        module = create(kind, group, size=SIZE, width=8, network="conv", glance=GLANCE)
        first = create(kind, group, size=GLANCE, width=8, network="conv")
        first.load_state_dict(module.state_dict(), strict=False)
        sure = first(view_network.shrink(x, GLANCE if module.group.exact else 2 * GLANCE)).scores.softmax(1).amax(1)
        monkeypatch.setattr(view_network, "SURE", float(sure.median()) + 1e-7)
        return module, first, sure <= sure.median()

    return make


def view(module, count=9):
    return noise(count, module if isinstance(module, int) else module.view.size)


@pytest.mark.parametrize("kind", ["consensus", "optimized"])
@pytest.mark.parametrize("group", ["c4", "d4", "c8"])
@torch.inference_mode()
def test_only_what_a_glance_leaves_unsure_is_looked_at_again(half_sure, kind, group):
    x = view(SIZE if group != "c8" else 2 * SIZE)
    module, first, unsure = half_sure(kind, group, x)
    seen = []
    module.network.register_forward_hook(lambda _, inputs, __: seen.append(tuple(inputs[0].shape)))
    scores, order = module(x).scores, module.group.order
    assert 0 < unsure.sum() < len(x)
    assert seen == [(len(x) * order, 3, GLANCE, GLANCE), (int(unsure.sum()) * order, 3, SIZE, SIZE)]
    shrunk = view_network.shrink(x, GLANCE if module.group.exact else 2 * GLANCE)
    assert torch.equal(scores[~unsure], first(shrunk).scores[~unsure])
    assert torch.equal(scores[unsure], module.judge(x[unsure]).scores)


@pytest.mark.parametrize("kind", ["consensus", "optimized"])
@pytest.mark.parametrize(("group", "steps"), [("c4", "c4"), ("d4", "d4"), ("c8", "c4")])
@torch.inference_mode()
def test_two_looks_keep_the_laws(half_sure, kind, group, steps):
    x = noise(9, 48)
    seen = create(kind, group, size=SIZE, width=8, network="conv").view.of_picture((x + 1) * 127.5)
    module, _, _ = half_sure(kind, group, seen)
    assert_equivariant(module, parse_group(steps), x, clear=1e-4)


@torch.inference_mode()
def test_nothing_is_looked_at_again_where_all_are_sure_and_a_batch_may_be_empty(monkeypatch):
    monkeypatch.setattr(view_network, "SURE", 0.0)
    module = create("consensus", "c4", size=SIZE, width=8, network="conv", glance=GLANCE)
    module.judge = lambda x, judge=module.judge: judge(x) if x.shape[-1] == GLANCE else pytest.fail("looked again")
    assert module(view(module)).element.shape == (9,)
    assert module(view(module, 0)).element.shape == (0,)


def test_training_shows_half_of_the_steps_the_smaller_view():
    module = create("consensus", "c4", size=SIZE, width=8, network="conv", glance=GLANCE)
    images, seen = Resident(torch.zeros(64, 3, SIZE, SIZE, dtype=torch.uint8), torch.ones(64), [None] * 64), []
    module.network.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[-1]))
    config = build_config({"data": "d", "model": "m", "epochs": 1, "batch_size": 2, "crop_size": 0.75}, [], None)
    objective = Objective.of(config.training, Prior(("r0",)), "edge", None)
    fit(module, images, images, objective, config.training, 0, state=None, log=lambda _: None, progress=Silent())
    steps = seen[:32]
    assert set(steps) == {18, 12} and 8 < steps.count(12) < 24


def test_training_looks_once():
    module = create("consensus", "c4", size=SIZE, width=8, network="conv", glance=GLANCE).train()
    torch.manual_seed(0)
    x = view(module)
    assert torch.equal(module(x).scores, module.judge(x).scores)


@torch.inference_mode()
def test_a_program_says_the_same_without_a_shape_that_depends_on_it(half_sure):
    x = view(SIZE)
    module, _, _ = half_sure("consensus", "c4", x)
    program = torch.export.export(module, (x,), dynamic_shapes=({0: torch.export.Dim("b", min=2)},)).module()
    torch.testing.assert_close(program(x)[1], module(x).scores, atol=1e-6, rtol=0)
    assert len(program(x[:5])[0]) == 5


@pytest.mark.parametrize("glance", [4, 24, 32])
def test_a_glance_is_smaller_than_the_look(glance):
    with pytest.raises(ValueError, match=rf"canonicalizer\.glance = {glance}: must be from 8 to 23"):
        Look(24, glance)
