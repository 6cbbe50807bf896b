"""Where networks run, in which precision and layout."""

import pytest
import torch
from torch import nn

from equicli.devices import arithmetic, find_device, find_precision, place
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
