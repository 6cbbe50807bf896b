"""Networks from a user's own code: `python:module:factory`."""

import sys
from itertools import count
from pathlib import Path

import pytest
import torch

from equicli.data.normalization import IMAGENET
from equicli.errors import EquicliError, UsageError
from equicli.inspection import inspect_model
from equicli.prediction.load import load_network
from equicli.prediction.network import NetworkSpec
from equicli.settings import NetworkSettings
from tests.prediction.tiny import pickled, same

NUMBERS = count()
NET = """
import torch

def make(outputs=2):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(outputs)).train()

class Net(torch.nn.Linear):
    def __init__(self):
        super().__init__(2, 2)

number = 3
def text(): return "a network"
def nothing(): pass
def broken(): raise ValueError("no such file: data.csv\\nsecond line")
def assertive(): assert False
def wrong(): return 1 + "a"
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch) -> str:
    """The name of a module in the working directory."""
    name = f"own_network_{next(NUMBERS)}"  # Python imports a name once
    (tmp_path / f"{name}.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return name


def test_a_module_in_the_working_directory_is_found_and_its_factory_called(module: str) -> None:
    found = load_network(f"python:{module}:make", arguments={"outputs": 5})
    assert found.network(torch.zeros(1, 3, 4, 4)).shape == (1, 5)
    assert not found.network.training
    assert found.spec == NetworkSpec("python", "Sequential")
    assert found.class_names is None


def test_a_class_is_a_factory(module: str) -> None:
    assert type(load_network(f"python:{module}:Net").network).__name__ == "Net"


def test_what_is_recorded_names_no_import_path(module: str, tmp_path: Path) -> None:
    (tmp_path / "own.pth").write_bytes(pickled(torch.nn.Linear(2, 2).state_dict()))
    found = load_network(f"python:{module}:Net", checkpoint="own.pth")
    assert module not in repr((found.spec, found.provenance))
    assert found.provenance["checkpoint"] == "own.pth"


def test_images_are_taken_as_they_are_or_in_the_size_that_is_asked_for(module: str) -> None:
    as_they_are = load_network(f"python:{module}:Net").preprocess
    assert (as_they_are.size, as_they_are.resize, as_they_are.normalization) == (None, None, IMAGENET)
    resized = load_network(f"python:{module}:Net", image_size=48).preprocess
    assert (resized.size, resized.resize) == (48, 48)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere_at_all:make", ["nowhere_at_all", "PYTHONPATH"]),
        ("{}.deeper:make", ["{}.deeper"]),
        ("{}:made", ["module {} has no 'made'"]),
        ("{}", ["python:package.module:factory"]),
        ("{}:", ["python:package.module:factory"]),
        (":make", ["python:package.module:factory"]),
        ("", ["python:package.module:factory"]),
        (".{}:make", [".{}:make"]),
    ],
)
def test_a_module_or_factory_that_is_not_there_is_a_wrong_command_line(module: str, name: str, words) -> None:
    name = name.format(module)
    with pytest.raises(UsageError) as caught:
        load_network(f"python:{name}")
    for word in [f"--model python:{name}", *words]:
        assert word.format(module) in str(caught.value)


def test_a_wrong_argument_of_the_factory_is_named(module: str) -> None:
    with pytest.raises(UsageError, match=r"outpts.*--model-arg"):
        load_network(f"python:{module}:make", arguments={"outpts": 5})


@pytest.mark.parametrize(("factory", "found"), [("text", "str"), ("nothing", "NoneType")])
def test_a_factory_that_makes_no_network_is_told(module: str, factory: str, found: str) -> None:
    with pytest.raises(EquicliError, match=rf"python:{module}:{factory}.*{found}, not a torch.nn.Module"):
        load_network(f"python:{module}:{factory}")


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("broken", "no such file: data.csv"),
        ("assertive", "AssertionError"),
        ("wrong", "unsupported operand"),
        ("number", "callable"),
    ],
)
def test_a_factory_that_fails_is_one_line_with_its_own_words(module: str, factory: str, words: str) -> None:
    with pytest.raises(EquicliError) as caught:
        load_network(f"python:{module}:{factory}")
    assert f"python:{module}:{factory}" in str(caught.value) and words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import torch\ntorch.no_such_thing", "no_such_thing"),
        ("def make(:", "invalid syntax"),
        ("raise ValueError('not today')", "not today"),
        ("import no_such_module", "no_such_module"),
    ],
)
def test_a_module_that_fails_on_import_is_one_line_with_the_reason(module: str, code: str, words: str) -> None:
    Path(f"{module}.py").write_text(code)
    with pytest.raises(EquicliError) as caught:
        load_network(f"python:{module}:make")
    assert f"python:{module}:make" in str(caught.value) and words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_own_code_has_no_revision(module: str) -> None:
    with pytest.raises(UsageError, match="--revision v1"):
        load_network(f"python:{module}:make", revision="v1")


# What factories return.
RETURNED = """
import sys, torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(12, 2)
    def forward(self, x):
        return self.fc(x.flatten(1))

def a_class(): return Net
def a_pair(): return Net(), lambda image: image
def a_state(): return Net().state_dict()
def scripted(): return torch.jit.script(Net())
def traced(): return torch.jit.trace(Net(), torch.zeros(1, 3, 2, 2))
def exported(): return torch.export.export(Net(), (torch.zeros(1, 3, 2, 2),)).module()
def on_meta(): return Net().to("meta")
def quantized(): return torch.ao.nn.quantized.Linear(12, 2)
def stubborn():
    class Stubborn(Net):
        def train(self, mode=True):
            raise RuntimeError("always in training")
    return Stubborn()
def leaves(): sys.exit("no data here")
def compiled(): return torch.compile(Net())
def parallel(): return nn.DataParallel(Net())
def averaged(): return torch.optim.swa_utils.AveragedModel(torch.compile(Net()))
def half(): return Net().half()
def lazy(): return nn.Sequential(nn.Flatten(), nn.LazyLinear(2))
def chatty():
    print("building")
    return Net()
"""


@pytest.fixture
def returned(module: str) -> str:
    Path(f"{module}.py").write_text(RETURNED)
    return module


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("a_class", "the class Net. Return an instance"),
        ("a_pair", "a tuple with the network in it. Return the network alone"),
        ("a_state", "a state dict. Return the network"),
        ("scripted", "a scripted network"),
        ("traced", "a scripted network"),
        ("exported", "Return"),
        ("on_meta", "'fc.weight' is on the device meta"),
        ("quantized", "quantized. Return the one that it was made from"),
        ("stubborn", "eval mode (always in training)"),
        ("leaves", "it ends the program, no data here"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # torch deprecates some of these
def test_what_is_no_network_to_work_with_is_told(returned: str, factory: str, words: str) -> None:
    with pytest.raises(EquicliError) as refused:
        load_network(f"python:{returned}:{factory}")
    message = str(refused.value)
    assert f"python:{returned}:{factory}" in message and words in message and "\n" not in message


@pytest.mark.parametrize(
    ("factory", "wrappers"),
    [
        ("compiled", ["OptimizedModule"]),
        ("parallel", ["DataParallel"]),
        ("averaged", ["AveragedModel", "OptimizedModule"]),
    ],
)
def test_a_wrapped_network_is_taken_out_of_its_wrapper_and_loads_its_weights(
    returned: str, factory: str, wrappers
) -> None:
    state = {"fc.weight": torch.ones(2, 12), "fc.bias": torch.zeros(2)}
    Path("own.pth").write_bytes(pickled({f"module._orig_mod.{key}": value for key, value in state.items()}))
    found = load_network(f"python:{returned}:{factory}", checkpoint="own.pth")
    assert type(found.network).__name__ == "Net" and same(found.network, state)
    assert [wrapper in " ".join(found.remarks) for wrapper in wrappers] == [True] * len(wrappers)


def test_half_precision_is_said_and_kept(returned: str) -> None:
    found = load_network(f"python:{returned}:half")
    assert found.network.fc.weight.dtype == torch.float16 and "float16" in " ".join(found.remarks)


def test_lazy_layers_need_weights_of_a_checkpoint(returned: str) -> None:
    with pytest.raises(EquicliError, match=r"'1.weight' has no weights yet .*lazy"):
        inspect_model(NetworkSettings(model=f"python:{returned}:lazy"))
    state = {"1.weight": torch.ones(2, 12), "1.bias": torch.zeros(2)}
    Path("own.pth").write_bytes(pickled(state))
    assert same(load_network(f"python:{returned}:lazy", checkpoint="own.pth").network, state)
    described = inspect_model(NetworkSettings(model=f"python:{returned}:lazy", checkpoint="own.pth"))
    assert described["prediction_network"]["parameters"] == 26


def test_what_a_factory_prints_is_not_among_the_results(returned: str, capsys) -> None:
    load_network(f"python:{returned}:chatty")
    printed = capsys.readouterr()
    assert printed.out == "" and "building" in printed.err
