"""EquiAdapt's network of escnn's layers keeps the laws of its groups, and is shipped without escnn."""

import copy
import pickle
import sys
from types import ModuleType

import pytest
import torch
from torch import nn

from equicli.canonicalization.escnn_fields import DROPOUT, EscnnLayers, escnn_network
from equicli.errors import UsageError
from equicli.groups import parse_group
from equicli.groups.action import act
from tests.canonicalization.examples import context, create, noise
from tests.canonicalization.test_laws import QUARTERS, smooth
from tests.canonicalization.test_regular_fields import permuted
from tests.laws import assert_equivariant

needs_escnn = pytest.mark.usefixtures("escnn")
GROUPS = ["c2", "c3", "c4", "c6", "c8", "d1", "d2"]


def made(group, *, width=8, seed=0, size=17):
    """In eval mode, with batch statistics that it has met."""
    module = create("equivariant", group, network="escnn", size=size, width=width, seed=seed)
    with torch.no_grad():
        module.train()(noise(8, size))
    return module.eval()


@needs_escnn
@pytest.mark.parametrize("shipped", [False, True])
@pytest.mark.parametrize("side", [16, 17])
@pytest.mark.parametrize("name", GROUPS)
@torch.inference_mode()
def test_quarter_turns_and_mirrorings_keep_the_laws_bit_for_bit(name, side, shipped):
    module = made(name)
    module = module.ship() if shipped else module
    assert_equivariant(module, parse_group(QUARTERS.get(name, "c2" if name == "c6" else name)), noise(5, side))


# Scores of untrained networks differ by about 0.1 between elements.
@needs_escnn
@pytest.mark.parametrize("name", ["c3", "c6", "c8"])
@torch.inference_mode()
def test_off_the_grid_the_laws_hold_closely_for_smooth_images(name):
    module = made(name, width=32).ship()
    assert_equivariant(module, parse_group(name), smooth(12, 64), atol=0.04, pixels=0.01, clear=0.02)


@needs_escnn
@pytest.mark.parametrize("name", GROUPS)
@torch.inference_mode()
def test_scores_are_in_our_order_and_our_sense_of_angles_in_float64(name):
    group = parse_group(name)
    torch.manual_seed(0)
    network = escnn_network(group, 8).double().eval()
    x = torch.rand(4, 3, 33, 33, dtype=torch.float64)
    scores = network(x)
    assert scores.shape == (4, group.order) and scores.std(1).mean() > 1e-3
    for h in group.elements():
        if group.angle(h) % 90 == 0:  # escnn samples its kernels in float32
            torch.testing.assert_close(permuted(group, h, network(act(group, h, x))), scores, atol=1e-6, rtol=0)


@needs_escnn
@pytest.mark.parametrize("name", GROUPS)
@torch.inference_mode()
def test_the_shipped_form_gives_the_scores_of_the_trained_and_is_the_plain_build(name):
    module, x = made(name), noise(4, 24)
    before = module(x).scores
    shipped = copy.deepcopy(module).ship()
    torch.testing.assert_close(shipped(x).scores, before, atol=1e-6, rtol=1e-5)
    assert torch.equal(module(x).scores, before)
    plain = type(module).rebuild(module.spec, context(name)).eval()
    plain.load_state_dict(shipped.state_dict())
    assert repr(plain) == repr(shipped)
    assert {type(part).__module__.split(".")[0] for part in plain.modules()} == {"torch", "equicli"}
    for again in (plain, copy.deepcopy(shipped), pickle.loads(pickle.dumps(shipped))):
        assert torch.equal(again(x).scores, shipped(x).scores)
    assert shipped(noise(0, 17)).scores.shape == (0, module.group.order)


@needs_escnn
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("stored_in_training", [True, False])
def test_what_is_trained_goes_on_from_a_stored_state_whatever_its_mode(training, stored_in_training):
    module, again, x = made("c4").train(stored_in_training), made("c4", seed=1).train(training), noise(4, 17)
    again.load_state_dict(module.state_dict())
    results = []
    for one in (module.train(), again.train()):
        torch.manual_seed(5)
        optimizer = torch.optim.AdamW(one.parameters(), 1e-2)
        for _ in range(2):
            optimizer.zero_grad()
            one(x).scores.logsumexp(1).mean().backward()
            optimizer.step()
        results.append(one.eval()(x).scores)
    assert torch.equal(*results)


@needs_escnn
@pytest.mark.parametrize("training", [True, False])
def test_the_trained_form_survives_copying_and_pickling_and_draws_no_random_numbers_for_it(training):
    module, x = made("c4").train(training), noise(3, 17)
    before = torch.get_rng_state()
    for again in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(torch.get_rng_state(), before)
        assert [m.training for m in again.modules()] == [m.training for m in module.modules()]
        assert all(parameter.requires_grad for parameter in again.parameters())
        assert torch.equal(again.eval()(x).scores, module.eval()(x).scores)
        module.train(training)


@needs_escnn
def test_dropout_acts_in_training_only_and_the_seed_decides_the_weights():
    first, second, other = made("c4"), made("c4"), made("c4", seed=1)
    x = noise(2, 17)
    assert torch.equal(first(x).scores, second(x).scores)
    assert not torch.equal(first(x).scores, other(x).scores)
    first.train()
    assert not torch.equal(first(x).scores, first(x).scores)
    assert [part.p for part in second.ship().modules() if isinstance(part, nn.Dropout)] == [DROPOUT, DROPOUT]


@needs_escnn
def test_training_in_half_precision_gives_finite_gradients():
    module = made("c8").train()
    with torch.autocast("cpu", torch.bfloat16):
        module(noise(4, 17)).scores.logsumexp(1).mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())


@needs_escnn
def test_two_networks_of_a_process_share_nothing():
    first, second = made("c4"), made("c4")
    first.double()
    assert all(value.dtype != torch.float64 for value in second.state_dict().values())


@pytest.mark.slow
@needs_escnn
def test_another_process_has_the_same_kernels_imports_escnn_late_and_warns_of_nothing(tmp_path, run_code):
    code = """
import sys, warnings
import torch
from equicli.canonicalization.registry import REGISTRY
from equicli.canonicalization.escnn_fields import EscnnLayers, escnn_network, import_escnn
from equicli.groups import parse_group
assert "escnn" not in sys.modules
escnn_network(parse_group("c4"), 8, plain=True)
assert "escnn" not in sys.modules
warnings.simplefilter("error", UserWarning)
escnn = import_escnn()
kernels = {}
for name in sys.argv[2:]:
    torch.manual_seed(0)
    kernels[name] = list(EscnnLayers(parse_group(name), 2).plain().state_dict().values())
torch.save(kernels, sys.argv[1])
"""
    done = run_code(code, tmp_path / "kernels.pt", "c3", "c4", "c8", "d1", "d2")
    assert done.returncode == 0, done.stderr
    for name, found in torch.load(tmp_path / "kernels.pt").items():
        torch.manual_seed(0)
        own = EscnnLayers(parse_group(name), 2).plain().state_dict().values()
        torch.testing.assert_close(found, list(own), atol=1e-6, rtol=0, msg=lambda m, name=name: f"{name}: {m}")


@needs_escnn
@pytest.mark.parametrize(("name", "width", "fields"), [("c4", 128, 32), ("c4", 16, 4), ("c16", 8, 2)])
def test_the_width_is_in_channels_with_at_least_two_fields(name, width, fields):
    group = parse_group(name)
    (layers,) = (part for part in escnn_network(group, width).modules() if isinstance(part, EscnnLayers))
    assert layers.plain()[0].weight.shape == (fields * group.order, 3, 5, 5)


@pytest.mark.parametrize("name", ["d3", "d4", "d8"])
def test_groups_whose_kernels_escnn_gets_wrong_are_refused_with_those_that_it_gets_right(name):
    with pytest.raises(UsageError, match=rf"c2, c3, …, d1 and d2, not for --group {name}: .*scikit-learn; take gcnn"):
        create("equivariant", name, network="escnn")


@pytest.mark.parametrize("found", [None, ModuleType("escnn")], ids=["nothing", "without what it needs itself"])
def test_where_escnn_is_missing_the_extra_is_named(monkeypatch, found):
    monkeypatch.setitem(sys.modules, "escnn", found)
    monkeypatch.delitem(sys.modules, "escnn.nn", raising=False)
    with pytest.raises(UsageError, match=r"--canonicalizer-network escnn: .*pip install 'equicli\[escnn\]'"):
        create("equivariant", "c4", network="escnn")
