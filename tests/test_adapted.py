import copy
import pickle
import re

import numpy as np
import pytest
import timm
import torch
from torch import nn

import equicli
from equicli.devices import arithmetic
from equicli.errors import UsageError
from equicli.groups import PlanarGroup, parse_group
from equicli.groups.action import act, views
from tests.canonicalization.examples import adapt, canonicalizer, conv_canonicalizer, create, find, noise, pictures

C4 = PlanarGroup(4)


@pytest.fixture
def model():
    return adapted("c4")


def adapted(group):
    torch.manual_seed(1)
    return adapt(conv_canonicalizer(group), timm.create_model("test_resnet", num_classes=7))


def answer(model, x):
    return model.answer(model.tensors(x))


class Upright(nn.Module):
    """A prediction network that returns what it sees."""

    def forward(self, x):
        return x


def modes(module):
    return {child.training for child in module.modules()}


def test_the_prediction_network_is_frozen_in_eval_mode_also_under_train(model):
    assert modes(model) == {False}
    assert model.train() is model
    assert modes(model.prediction_network) == {False}
    assert modes(model.canonicalizer) == {True}
    assert not any(parameter.requires_grad for parameter in model.prediction_network.parameters())
    assert all(parameter.requires_grad for parameter in model.canonicalizer.parameters())
    assert modes(model.eval()) == {False}


def test_training_through_the_whole_model_moves_no_weight_and_no_buffer_of_the_prediction_network(model):
    before = copy.deepcopy(model.state_dict())
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    for _ in range(3):
        output, pose = answer(model, noise(4, 32))
        (output.square().mean() + pose.scores.logsumexp(1).mean()).backward()
        optimizer.step()
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert "canonicalizer.log_temperature" in changed
    assert not any(key.startswith("prediction_network.") for key in changed)


@pytest.mark.parametrize("group", ["c1", "c2", "c4", "d4"])
@pytest.mark.parametrize("side", [32, 33])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@torch.inference_mode()
def test_every_turned_image_has_the_same_canonical_form_bit_for_bit(group, side, dtype):
    model, x = adapt(conv_canonicalizer(group), Upright()), noise(5, side, dtype)
    canonical = model.canonicalize(x)
    assert canonical.dtype == dtype
    for g in parse_group(group).elements():
        turned = act(parse_group(group), g, x)
        assert torch.equal(model.canonicalize(turned), canonical)
        assert torch.equal(model(turned), canonical)


@pytest.mark.parametrize("group", ["c2", "c4", "d4", "c8"])
@torch.inference_mode()
def test_every_canonical_form_lies_in_memory_alike_so_that_a_network_sums_it_in_the_same_order(group):
    model, x = adapt(conv_canonicalizer(group), Upright()), noise(3, 32)
    for g in parse_group(group).elements():
        turned = act(parse_group(group), g, x)
        assert model.canonicalize(turned).stride() == model.canonicalize(x).stride() == x.stride()


@torch.inference_mode()
def test_the_output_is_the_networks_at_the_canonical_form_and_comes_with_the_pose(model):
    x = noise(5, 32)
    output, pose = answer(model, x)
    assert torch.equal(act(C4, pose.element, model.canonicalize(x)), x)
    assert torch.equal(output, model.prediction_network(model.canonicalize(x)))
    assert torch.equal(model(x), output)


@torch.inference_mode()
@pytest.mark.parametrize("group", ["c4", "c8"])
def test_without_a_canonicalizer_the_network_sees_the_input_itself(group):
    x = noise(2, 16)
    assert adapt(create("none", group), Upright())(x) is x


def test_poses_are_found_in_float32_also_where_the_network_runs_in_half_precision(model):
    x = noise(5, 32)
    with arithmetic(torch.device("cpu"), "bf16"):
        output, pose = answer(model, x)
    assert output.dtype == torch.bfloat16
    assert torch.equal(pose.scores, answer(model, x).pose.scores)


class Telling(nn.Module):
    """Two numbers an image, and what the process let torch round while they were computed."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        convolutions = torch.backends.cudnn.conv.fp32_precision if hasattr(torch.backends.cudnn, "conv") else "ieee"
        self.seen.append([torch.get_float32_matmul_precision(), torch.is_autocast_enabled("cpu"), convolutions])
        return x.flatten(2).mean(dim=2)[:, :2]


@pytest.mark.parametrize(
    "how", [lambda m, x: m(x), lambda m, x: m.predict(pictures((20, 20))), lambda m, x: m.canonicalize(x)]
)
def test_whoever_calls_poses_are_decided_in_float32_and_the_network_runs_as_it_was_asked(how):
    looks, answers = Telling(), Telling()
    model, before = adapt(canonicalizer("c4", looks, vector_size=2), answers), torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", torch.bfloat16):
            how(model, noise(1, 17))
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert looks.seen == [["highest", False, "ieee"]]
    assert all(flags[:2] == ["medium", True] for flags in answers.seen)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", None), ("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_a_precision_names_the_arithmetic_of_networks(precision, dtype):
    with arithmetic(torch.device("cpu"), precision):
        assert nn.Linear(4, 4)(torch.zeros(1, 4)).dtype == (dtype or torch.float32)


def test_images_that_are_not_square_are_refused_with_the_reason(model):
    with pytest.raises(ValueError, match="square"):
        model(torch.zeros(2, 3, 32, 40))


def pickled(model):
    return pickle.loads(pickle.dumps(model))


def compiled(model):
    return torch.compile(model, backend="eager", fullgraph=True)


@pytest.mark.parametrize(
    ("group", "copied"),
    [("c4", copy.deepcopy), ("d4", pickled), pytest.param("c8", compiled, marks=pytest.mark.slow)],
)
@torch.inference_mode()
def test_a_copied_or_compiled_model_gives_the_same_output(group, copied):
    model, x = adapted(group), noise(3, 32)
    assert torch.equal(copied(model)(x), model(x))


@torch.inference_mode()
def test_a_pickled_model_gives_the_same_output_in_another_process(model, tmp_path, run_code):
    x = noise(3, 32)
    with (tmp_path / "model.pkl").open("wb") as file:
        pickle.dump((model, x, model(x)), file)
    code = (
        "import pickle, sys, torch\n"
        "model, x, output = pickle.load(open(sys.argv[1], 'rb'))\n"
        "torch.testing.assert_close(model(x), output, atol=1e-5, rtol=0)\n"
    )
    done = run_code(code, tmp_path / "model.pkl")
    assert done.returncode == 0, done.stderr


def test_a_copy_shares_nothing_with_the_model(model):
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    assert all(parameter.abs().max() > 0 for parameter in model.canonicalizer.network[0].parameters())


@pytest.mark.slow
@pytest.mark.parametrize("group", ["c8"])
def test_an_exported_program_gives_the_same_output(group):
    model, x = adapted(group), noise(3, 32)
    program = torch.export.export(model, (x,)).module()
    with torch.inference_mode():
        for turned in views(C4, x).unbind(dim=1):
            torch.testing.assert_close(program(turned.contiguous()), model(turned), atol=1e-6, rtol=0)


@pytest.mark.slow
def test_an_exported_program_takes_any_number_of_images(model):
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(model, (noise(3, 32),), dynamic_shapes=({0: batch},)).module()
    with torch.inference_mode():
        torch.testing.assert_close(program(noise(6, 32)), model(noise(6, 32)), atol=1e-6, rtol=0)


@torch.inference_mode()
def test_a_model_keeps_no_state_between_calls(model):
    x = noise(3, 32)
    before, keys = model(x), vars(model).keys() | vars(model.canonicalizer).keys()
    model(noise(4, 48))
    assert torch.equal(model(x), before)
    assert vars(model).keys() | vars(model.canonicalizer).keys() == keys


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_another_dtype_is_the_prediction_networks_and_poses_are_still_found_in_float32(dtype):
    model = adapt(conv_canonicalizer("c4"), nn.Sequential(nn.Flatten(), nn.Linear(3 * 17 * 17, 5)))
    before = {k: v.clone() for k, v in model.canonicalizer.state_dict().items()}
    model.to(dtype)
    x = noise(2, 17, dtype)
    assert model(x).dtype == dtype
    assert torch.equal(model(x.float()), model(x))
    assert all(torch.equal(v, before[k]) for k, v in model.canonicalizer.state_dict().items())


def test_padding_is_what_turned_images_show_from_outside():
    x = noise(6, 32) + 3
    for padding in ("edge", "zeros", "reflect"):
        model = adapt(conv_canonicalizer("c8"), Upright(), padding=padding)
        element = find(model.canonicalizer, x).element
        assert (element % 2).any()
        expected = act(parse_group("c8"), parse_group("c8").inverse(element), x, padding=padding)
        assert torch.equal(model.canonicalize(x), expected)


def energetic(group):
    torch.manual_seed(1)
    network = timm.create_model("test_resnet", num_classes=7).eval()
    return adapt(create("energy", group), network)


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
@torch.inference_mode()
def test_a_copy_of_an_energy_model_asks_its_own_network(copied):
    model, x = energetic("c4"), noise(3, 32)
    other = copied(model)
    assert torch.equal(other(x), model(x))
    scores = answer(model, x).pose.scores
    other.prediction_network.fc.weight.mul_(3)
    assert not torch.equal(answer(other, x).pose.scores, scores)
    assert torch.equal(answer(model, x).pose.scores, scores)


@pytest.mark.parametrize("group", ["c4", "d4"])
@torch.inference_mode()
def test_an_energy_model_is_exactly_equivariant_and_finds_the_pose_of_lowest_energy(group):
    model, x, group = energetic(group), noise(4, 32), parse_group(group)
    canonical = model.canonicalize(x)
    energies = torch.stack([-model.prediction_network(v).logsumexp(1) for v in views(group, x).unbind(1)], 1)
    torch.testing.assert_close(answer(model, x).pose.scores, -energies)
    assert model.passes(answer(model, x).pose) == group.order + 1
    for g in group.elements():
        assert torch.equal(model.canonicalize(act(group, g, x)), canonical)


def test_an_energy_model_runs_in_half_precision():
    model = energetic("c4").bfloat16()
    output, pose = answer(model, noise(2, 32).bfloat16())
    assert (output.dtype, pose.scores.dtype) == (torch.bfloat16, torch.float32)


@pytest.mark.parametrize(
    ("kind", "group", "copied"),
    [
        ("equivariant", "c4", copy.deepcopy),
        ("steerable", "so2", pickled),
        ("steerable", "o2", copy.deepcopy),
        pytest.param("steerable", "o2", compiled, marks=pytest.mark.slow),
    ],
)
@torch.inference_mode()
def test_a_shipped_model_of_any_kind_survives_copying_and_compiling(kind, group, copied):
    model, x = adapt(create(kind, group, size=17, width=4).ship(), Upright()), noise(3, 32)
    torch.testing.assert_close(copied(model)(x), model(x), atol=1e-5, rtol=0)


def test_one_image_that_is_no_batch_is_refused_with_the_remedy():
    model = adapt(conv_canonicalizer("c4"), Upright())
    with pytest.raises(UsageError, match=r"images of shape \(3, 32, 32\): give a batch .*image\[None\]"):
        model(torch.zeros(3, 32, 32))


def test_a_pose_is_printed_in_one_short_line():
    _, pose = adapt(conv_canonicalizer("c4"), Upright()).predict([np.zeros((20, 30, 3), np.uint8)] * 2)
    assert re.fullmatch(r"Pose\(element=\[\d, \d\], scores=…(, vectors=…)?\)", repr(pose))


def test_lazy_names_are_listed():
    assert {"load", "open_image", "read_config"} <= set(dir(equicli))
