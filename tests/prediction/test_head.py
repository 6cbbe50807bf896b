"""The last layer of networks from every library."""

from collections import OrderedDict
from collections.abc import Callable

import pytest
import timm
import torch
import torchvision.models as zoo
from torch import Tensor, nn

from equicli.errors import EquicliError
from equicli.prediction.head import find_head, head_inputs, replace_head, set_head
from tests.benchmarks.cifar_resnet import resnet20

OUTPUTS = 5
# Each with the name of its last layer.
NETWORKS: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "torchvision resnet18": ("fc", lambda: zoo.resnet18(num_classes=9)),
    "torchvision squeezenet1_1": ("classifier.1", lambda: zoo.squeezenet1_1(num_classes=9)),
    "torchvision mobilenet_v2": ("classifier.1", lambda: zoo.mobilenet_v2(num_classes=9, width_mult=0.25)),
    "torchvision mobilenet_v3": ("classifier.3", lambda: zoo.mobilenet_v3_small(num_classes=9, width_mult=0.25)),
    "torchvision alexnet": ("classifier.6", lambda: zoo.alexnet(num_classes=9)),
    "torchvision googlenet": ("fc", lambda: zoo.googlenet(num_classes=9, init_weights=False)),
    "torchvision shufflenet": ("fc", lambda: zoo.shufflenet_v2_x0_5(num_classes=9)),
    "torchvision vit": ("heads.head", lambda: zoo.VisionTransformer(64, 16, 1, 2, 32, 64, num_classes=9)),
    "timm resnet": ("fc", lambda: timm.create_model("test_resnet", num_classes=9)),
    "timm vit": ("head", lambda: timm.create_model("test_vit", num_classes=9, img_size=64)),
    "timm efficientnet": ("classifier", lambda: timm.create_model("test_efficientnet", num_classes=9)),
    "timm convnext": ("head.fc", lambda: timm.create_model("test_convnext", num_classes=9)),
    "timm nfnet": ("head.fc", lambda: timm.create_model("test_nfnet", num_classes=9)),
    "timm mambaout": ("head.fc", lambda: timm.create_model("test_mambaout", num_classes=9)),
    "timm convolution": ("head.fc", lambda: timm.create_model("resnetv2_18", num_classes=9)),
    "own": ("linear", resnet20),
    "own softmax": ("2", lambda: nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(12288, 9), nn.Softmax(dim=1))),
    "own named": ("out.last", lambda: nn.Sequential(OrderedDict(flat=nn.Flatten(), out=named_head()))),
}


def named_head() -> nn.Module:
    return nn.Sequential(OrderedDict(norm=nn.LayerNorm(12288), last=nn.Linear(12288, 9), act=nn.ReLU()))


@pytest.fixture(params=NETWORKS)
def network(request) -> tuple[str, nn.Module]:
    torch.manual_seed(0)
    name, make = NETWORKS[request.param]
    return name, make().eval()


def images() -> Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_a_fitted_head_gives_the_logits_that_were_fitted(network) -> None:
    name, net = network
    assert find_head(net) == find_head(net, images()[:1]) == name
    with head_inputs(net) as collected:
        net(images())
    (features,) = collected
    weight, bias = torch.randn(OUTPUTS, features.shape[1]), torch.randn(OUTPUTS)
    set_head(net, weight, bias)
    expected = features @ weight.T + bias
    torch.testing.assert_close(net(images()), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_replacing_the_head_leaves_every_other_weight_as_it_is(network) -> None:
    name, net = network
    before = {key: value.clone() for key, value in net.state_dict().items()}
    new = replace_head(net, OUTPUTS)
    assert new is net.get_submodule(find_head(net)) and new.weight.shape[0] == OUTPUTS
    after = net.state_dict()
    own = {key for key in after if key.startswith(f"{name}.")}
    assert own == {f"{name}.weight", f"{name}.bias"}
    assert all(torch.equal(after[key], before[key]) for key in after.keys() - own)


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "levit_128s"])
def test_a_network_with_two_heads_is_fitted_as_a_whole_or_refused(name: str) -> None:
    """Distilled transformers average the outputs of two heads."""
    net = timm.create_model(name, img_size=64, num_classes=9).eval()
    with torch.no_grad():
        try:
            with head_inputs(net) as collected:
                net(images())
            weight = torch.randn(OUTPUTS, collected[0].shape[1])
            set_head(net, weight, torch.zeros(OUTPUTS))
        except EquicliError:
            return
        torch.testing.assert_close(net(images()), collected[0] @ weight.T, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_head_without_a_bias_gets_one() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3, bias=False))
    set_head(net, torch.zeros(OUTPUTS, 12), torch.arange(5.0))
    assert torch.equal(net(torch.rand(1, 3, 2, 2)), torch.arange(5.0)[None])


def test_a_network_without_a_linear_layer_has_no_head() -> None:
    with pytest.raises(EquicliError, match="Sequential: no last linear layer"):
        find_head(nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()))


def test_features_are_collected_pass_by_pass_and_only_in_the_context() -> None:
    net = timm.create_model("test_resnet", num_classes=9).eval()
    with head_inputs(net) as collected:
        for _ in range(3):
            net(images())
    net(images())
    assert [tuple(features.shape) for features in collected] == [(2, 96)] * 3
    assert not any(features.requires_grad for features in collected)


def test_one_vector_for_every_patch_is_no_feature_and_the_network_is_left_as_it_was() -> None:
    net = timm.create_model("test_vit", img_size=64, num_classes=9, global_pool="").eval()
    with pytest.raises(EquicliError, match=r"last layer sees \(2, 17, 64\)"), head_inputs(net):
        net(images())
    net(images())  # nothing of the attempt is left to raise again


class Unordered(nn.Module):
    """Registers what makes its outputs first, and an auxiliary layer of as many outputs last."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(16, 9)
        self.hidden = nn.Linear(48, 16)
        self.auxiliary = nn.Linear(16, 9)

    def forward(self, x: Tensor) -> Tensor:
        features = self.hidden(nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)).relu()
        out = self.out(features)
        self.auxiliary(features)  # as where it only serves in training
        return out


def test_the_head_is_the_layer_that_makes_the_outputs_and_not_the_one_registered_last() -> None:
    net = Unordered().eval()
    assert find_head(net, images()[:1]) == "out"
    with head_inputs(net, "out") as collected:
        net(images())
    set_head(net, torch.zeros(OUTPUTS, 16), torch.arange(5.0), "out")
    assert collected[0].shape == (2, 16) and torch.equal(net(images()), torch.arange(5.0).expand(2, -1))


def test_outputs_that_several_layers_make_have_no_head() -> None:
    class Sum(Unordered):
        def forward(self, x: Tensor) -> Tensor:
            features = self.hidden(nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)).relu()
            return self.out(features) + self.auxiliary(features)

    with pytest.raises(EquicliError, match="Sum: no one linear layer makes its 9 outputs"):
        find_head(Sum().eval(), images()[:1])
