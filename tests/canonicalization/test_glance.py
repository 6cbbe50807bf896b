"""A first look at few pixels: what it is sure of is not looked at again, and the laws hold through both."""

import pytest
import torch

from equicli.canonicalization import view_network
from equicli.canonicalization.canonicalizer import posterior
from equicli.canonicalization.prior import TIE
from equicli.canonicalization.view_network import Look, ViewSettings
from equicli.errors import UsageError
from equicli.groups import parse_group
from tests.canonicalization.examples import create, noise
from tests.laws import assert_equivariant

SIZE, GLANCE, COUNT = 24, 16, 9


def glancing(kind="consensus", group="c4"):
    """An untrained one, made less alike in how sure it is of images."""
    sharp = {"temperature": 0.02} if kind == "optimized" else {}
    module = create(kind, group, size=SIZE, width=8, network="conv", glance=GLANCE, **sharp)
    if kind == "consensus":
        torch.nn.init.normal_(module.pose_logits.weight, std=10)
    return module


def smaller(module, x):
    return view_network.shrink(x, GLANCE if module.group.exact else 2 * GLANCE)


@torch.inference_mode()
def be_sure_of_some(monkeypatch, module, x):
    """Put SURE into the widest gap between what a first look says of these images; return which are unsure."""
    p = posterior(module.judge(smaller(module, x)).scores)[0][:, 0]
    ordered = p.sort().values
    widest = int(ordered.diff().argmax())
    assert ordered.diff()[widest] > 3 * TIE
    monkeypatch.setattr(view_network, "SURE", float(ordered[widest : widest + 2].mean()))
    return p <= ordered[widest]


@pytest.fixture
def sizes():
    """Notes what networks are shown: (views, side)."""
    seen = []

    def note(module):
        module.network.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[::3]))
        return seen

    return note


@pytest.mark.parametrize("kind", ["consensus", "optimized"])
@pytest.mark.parametrize("group", ["c4", "d4", "c8"])
@torch.inference_mode()
def test_only_what_a_glance_leaves_unsure_is_looked_at_again(monkeypatch, sizes, kind, group):
    module = glancing(kind, group)
    x, order = noise(COUNT, module.view.size), module.group.order
    unsure = be_sure_of_some(monkeypatch, module, x)
    seen = sizes(module)
    scores = module(x).scores
    assert seen == [(COUNT * order, GLANCE), (int(unsure.sum()) * order, SIZE)]
    assert torch.equal(scores[~unsure], module.judge(smaller(module, x)).scores[~unsure])
    assert torch.equal(scores[unsure], module.judge(x[unsure]).scores)


@pytest.mark.parametrize("kind", ["consensus", "optimized"])
@pytest.mark.parametrize(("group", "steps"), [("c4", "c4"), ("d4", "d4"), ("c8", "c4")])
@torch.inference_mode()
def test_two_looks_keep_the_laws(monkeypatch, kind, group, steps):
    module, x = glancing(kind, group), noise(COUNT, 48)
    be_sure_of_some(monkeypatch, module, module.view.of_picture((x + 1) * 127.5))
    assert_equivariant(module, parse_group(steps), x, clear=1e-4)


@torch.inference_mode()
def test_where_a_rounding_may_decide_whether_to_look_again_there_is_a_tie(monkeypatch):
    module, x = glancing(), noise(COUNT, SIZE)
    p = posterior(module.judge(smaller(module, x)).scores)[0][:, 0]
    monkeypatch.setattr(view_network, "SURE", float(p[3]))
    assert module(x).tied.tolist() == [number == 3 for number in range(COUNT)]
    assert create("consensus", "c4", size=SIZE, width=8, network="conv")(x).tied is None


@torch.inference_mode()
def test_nothing_is_looked_at_again_where_all_are_sure_and_a_batch_may_be_empty(monkeypatch, sizes):
    monkeypatch.setattr(view_network, "SURE", 0.0)
    module = glancing()
    seen = sizes(module)
    assert module(noise(COUNT, SIZE)).element.shape == (COUNT,)
    assert module(noise(0, SIZE)).element.shape == (0,)
    assert {side for _, side in seen} == {GLANCE}


def test_training_looks_once(sizes):
    module = glancing().train()
    seen = sizes(module)
    module(noise(2, 18))
    assert [side for _, side in seen] == [18]


@torch.inference_mode()
def test_a_program_says_the_same_without_a_shape_that_depends_on_it(monkeypatch):
    module, x = glancing(), noise(COUNT, SIZE)
    be_sure_of_some(monkeypatch, module, x)
    program = torch.export.export(module, (x,), dynamic_shapes=({0: torch.export.Dim("b", min=2)},)).module()
    torch.testing.assert_close(program(x).scores, module(x).scores, atol=1e-4, rtol=0)
    assert len(program(x[:5]).element) == 5


@pytest.mark.parametrize("glance", [4, 24, 32])
def test_a_glance_is_smaller_than_the_look(glance):
    with pytest.raises(ValueError, match=rf"canonicalizer\.glance = {glance}: must be from 8 to 23"):
        Look(24, glance)


def test_a_glance_that_does_not_fit_what_was_chosen_is_refused():
    with pytest.raises(ValueError, match="glance = 64: must be from 8 to 63"):
        ViewSettings(kind="consensus", network="conv", glance=64)
    with pytest.raises(UsageError, match=r"glance = 64: must be from 8 to 63, or 0 for none\.$"):
        ViewSettings(kind="consensus", budget=1e-6, glance=64).load(3)  # which leaves `conv`


def test_no_first_look_is_needed():
    for settings in (
        ViewSettings(kind="consensus", network="conv", glance=0),
        ViewSettings(kind="consensus", budget=1e-6),
    ):
        assert settings.load(3)[1] == Look(64)
