"""Where networks run, in which precision and layout."""

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from equicli import devices
from equicli.canonicalization.canonicalizer import Context
from equicli.canonicalization.sharp_views import sharp_views
from equicli.canonicalization.untrained import FrameCanonicalizer, FrameSpec
from equicli.config import build_config
from equicli.data.normalization import IMAGENET
from equicli.data.small_view import shrink
from equicli.devices import _flags, arithmetic, find_device, find_precision, full_float32, place
from equicli.errors import UsageError
from equicli.groups import parse_group, parse_planar_group
from equicli.groups.action import act
from equicli.groups.coordinates import turn_keypoints
from equicli.groups.elements import distance


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_named_precision_is_taken_on_any_device(precision: str) -> None:
    for device in ("cpu", "cuda"):
        assert find_precision(precision, torch.device(device)) == precision


@pytest.mark.parametrize(("supported", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_bf16_only_where_cuda_has_it(monkeypatch, supported: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: supported)
    assert find_precision("auto", torch.device("cuda")) == expected
    assert find_precision("auto", torch.device("cpu")) == "fp32"


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_networks_compute_in_the_precision(precision: str, dtype: torch.dtype) -> None:
    with arithmetic(torch.device("cpu"), precision):
        assert nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == dtype


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_weights_that_changed_are_computed_with(precision: str) -> None:
    layer, device = nn.Linear(2, 1), torch.device("cpu")
    found = []
    with full_float32(device):  # as a whole epoch of training is
        for _ in range(2):
            with arithmetic(device, precision):
                found.append(layer(torch.ones(1, 2)).item())
            with torch.no_grad():
                layer.weight += 1
    assert found[1] - found[0] == pytest.approx(2, abs=0.02)


def test_cuda_is_refused_where_there_is_none(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="use --device cpu"):
        find_device("cuda")
    assert find_device("auto").type == "cpu"


def test_placing_changes_the_layout_of_weights_and_no_number() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv3d(1, 2, 3), nn.Flatten(), nn.Linear(4, 2))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    place(network, torch.device("cpu"))
    assert network[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def told() -> list[object]:
    """What the process says of each flag; "mixed" where torch refuses to tell."""
    found: list[object] = []
    for flag in _flags():
        try:
            found.append(flag.get())
        except RuntimeError:
            found.append("mixed")
    return found


@pytest.fixture
def flags() -> Iterator[None]:
    """Every flag as it is when a process starts; afterwards, too."""
    before = told()
    assert "mixed" not in before
    yield
    for flag, value in zip(_flags(), before, strict=True):
        flag.set(value)
    assert told() == before


def allow_old() -> None:
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("medium")


def allow_new() -> None:
    if not hasattr(torch.backends.cudnn, "conv"):
        pytest.skip("torch before 2.9 has only the old flags")
    torch.backends.cudnn.conv.fp32_precision = "tf32"
    torch.backends.mkldnn.conv.fp32_precision = "bf16"
    torch.backends.cuda.matmul.fp32_precision = "tf32"


def allow_mixed() -> None:
    allow_new()
    torch.backends.cudnn.rnn.fp32_precision = "ieee"  # `cudnn.allow_tf32` raises from now on


@pytest.mark.parametrize("allow", [lambda: None, allow_old, allow_new, allow_mixed])
def test_float32_is_float32_whatever_the_process_allows_and_flags_are_restored(flags: None, allow) -> None:
    allow()
    before = told()
    with pytest.raises(KeyError), torch.autocast("cpu", torch.bfloat16):
        with full_float32(torch.device("cpu")):
            inside = zip(told(), _flags(), strict=True)
            assert all(value == flag.off for value, flag in inside if value != "mixed")
            assert nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == torch.float32
            with arithmetic(torch.device("cpu"), "fp32"):
                pass
            assert told()[-1] == _flags()[-1].off  # what is inside restores nothing
        assert torch.is_autocast_enabled("cpu") and told() == before
        with full_float32(torch.device("cpu")):
            raise KeyError
    assert told() == before


def test_the_last_of_several_threads_restores_the_flags(flags: None) -> None:
    allow_old()
    before, inside, leave = told(), threading.Event(), threading.Event()

    def work() -> None:
        with full_float32(torch.device("cpu")):
            inside.set()
            leave.wait(10)

    other = threading.Thread(target=work)
    with full_float32(torch.device("cpu")):
        other.start()
        assert inside.wait(10)
    assert told()[0] is False  # the other thread still computes
    leave.set()
    other.join()
    assert told() == before


def test_finding_a_device_changes_no_flag(flags: None) -> None:
    allow_old()
    before = told()
    find_device("cpu")
    assert told() == before


@pytest.mark.parametrize("name", ["", "CUDA", "gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "mps:0", "tpu", "cuda 1"])
def test_what_names_no_device_is_refused_wherever_it_stands(name: str) -> None:
    with pytest.raises(UsageError, match=r"no such device; it is auto, cpu, cuda, cuda:N .* or mps"):
        find_device(name)
    with pytest.raises(UsageError, match="device"):
        build_config({"data": "x", "model": "test_resnet", "device": name}, [], None)


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda", "cuda:1", "mps"])
def test_a_configuration_may_name_a_device_that_is_not_here(name: str) -> None:
    assert build_config({"data": "x", "model": "test_resnet", "device": name}, [], None).device == name


def test_devices_that_are_not_here_are_told(monkeypatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UsageError, match="--device mps: no Metal device"):
        find_device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="--device cuda:1: no CUDA device"):
        find_device("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert find_device("cuda:1") == torch.device("cuda", 1)
    assert find_device("cuda:0") == torch.device("cuda", 0)
    with pytest.raises(UsageError, match=r"--device cuda:2: .*only cuda:0, cuda:1"):
        find_device("cuda:2")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert find_device("mps") == torch.device("mps")


class _NoFloat64(TorchDispatchMode):
    """A device without float64: asking for it is an error there."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for value in made if isinstance(made, tuple | list) else [made]:
            if isinstance(value, Tensor):
                assert value.device.type != "cuda" or value.dtype != torch.float64, func
        return made


@pytest.mark.parametrize(
    "compute",
    [
        lambda x, elements: shrink(x, 16),
        lambda x, elements: sharp_views(parse_planar_group("c8"), x, torch.ones(32, 32, device=x.device)),
        lambda x, elements: FrameCanonicalizer(FrameSpec(None), Context(parse_planar_group("c4"), IMAGENET))(x).scores,
        lambda x, elements: act(parse_planar_group("c8"), 1, x),
        lambda x, elements: act(parse_planar_group("c8"), elements, x),
        lambda x, elements: act(parse_planar_group("c8"), 1, x, interpolation="nearest"),
        lambda x, elements: act(parse_planar_group("c4"), elements % 4, x),
        lambda x, elements: distance(parse_planar_group("c8"), elements, 1).float().to(x.device),
        lambda x, elements: turn_keypoints(parse_planar_group("c8"), elements, x[:, 0, :, :2], (32, 32)),
        lambda x, elements: act(parse_group("so2"), x[:, 0, :2, :2], x),
    ],
    ids="shrink sharp-views frame turn turn-each nearest permute-each distance keypoints so2".split(),
)
def test_float64_is_computed_on_the_cpu_for_a_device_that_has_none(monkeypatch, compute) -> None:
    """On tensors without numbers, of a device that need not be here."""
    monkeypatch.setattr(devices, "_WITHOUT_FLOAT64", ("cuda",))
    with FakeTensorMode(), _NoFloat64():
        images = torch.empty(2, 3, 32, 32, device="cuda")
        elements = torch.zeros(2, dtype=torch.int64, device="cuda")
        assert compute(images, elements).device.type == "cuda"


def test_a_network_in_float64_is_placed_in_float32_where_there_is_no_other(monkeypatch) -> None:
    monkeypatch.setattr(devices, "_WITHOUT_FLOAT64", ("meta",))
    network = nn.Sequential(nn.Linear(2, 2).double(), nn.Linear(2, 2).half())
    place(network, torch.device("meta"))
    assert [p.dtype for p in network.parameters()] == [torch.float32] * 2 + [torch.float16] * 2
