"""Where networks run, in which precision and layout."""

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from equicli.devices import _flags, arithmetic, find_device, find_precision, full_float32, place
from equicli.errors import UsageError


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
