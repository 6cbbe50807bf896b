"""Many architectures, one a family: each is adapted, saved and loaded, and stays what it was, bit for bit."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import timm
import torch
import torchvision
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import equicli
from equicli.canonicalization.canonicalizer import Context
from equicli.canonicalization.registry import REGISTRY
from equicli.claims import new_run
from equicli.config import build_config
from equicli.groups import parse_group
from equicli.progress import Silent, T
from equicli.training.adapt import train_canonicalizer
from tests.prediction import tiny

SIDE = 32
CLASSES = ("ant", "bee", "cow")


class Case(NamedTuple):
    """`model` as `--model` takes it, after `transformers:` the class; `arguments` shrink it."""

    family: str
    model: str
    arguments: dict[str, Any]


_THIN = {"img_size": SIDE, "embed_dim": 24, "depth": 2, "num_heads": 2}
_SWIN = {"img_size": SIDE, "embed_dim": 24, "window_size": 4}
_VIT = {"image_size": SIDE, "patch_size": 8, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
_FOUR_STAGES = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
_LEVIT = {"image_size": SIDE, "hidden_sizes": [16, 32, 48], "num_attention_heads": [2, 2, 2], "depths": [1, 1, 1]}

CASES = (
    Case("CoAtNet", "test_coatnet", {"img_size": SIDE}),
    Case("ConvNeXt", "test_convnext", {}),
    Case("DeiT with two heads", "deit_tiny_distilled_patch16_224", _THIN),
    Case("EfficientNet", "test_efficientnet", {}),
    Case("MaxViT", "test_maxvit", {"img_size": SIDE}),
    Case("MobileNetV2", "mobilenetv2_035", {}),
    Case("MobileNetV3", "mobilenetv3_small_050", {}),
    Case("ResNet", "test_resnet", {}),
    Case("Swin", "swin_tiny_patch4_window7_224", _SWIN),
    Case("VGG", "vgg11", {"mlp_ratio": 0.01}),
    Case("ViT", "test_vit", {"img_size": SIDE}),
    Case("GoogLeNet", "torchvision:googlenet", {"transform_input": True, "init_weights": False}),
    Case("MobileNetV2", "torchvision:mobilenet_v2", {"width_mult": 0.25}),
    Case("SqueezeNet", "torchvision:squeezenet1_1", {}),
    Case("ConvNeXtV2", "transformers:ConvNextV2ForImageClassification", _FOUR_STAGES),
    Case("DeiT with two heads", "transformers:DeiTForImageClassificationWithTeacher", _VIT),
    Case(
        "FocalNet",
        "transformers:FocalNetForImageClassification",
        {"image_size": SIDE, "embed_dim": 8, "depths": [1, 1, 1, 1]},
    ),
    Case("LeViT with two heads", "transformers:LevitForImageClassificationWithTeacher", {**_LEVIT, "key_dim": [8] * 3}),
    Case("SigLIP", "transformers:SiglipForImageClassification", {"vision_config": _VIT}),
    Case(
        "Swin v2",
        "transformers:Swinv2ForImageClassification",
        {"image_size": SIDE, "embed_dim": 24, "depths": [1, 1, 1, 1]},
    ),
)
# Of what the others have; they take as long again.
FURTHER = (
    Case("DeiT", "deit3_small_patch16_224", _THIN),
    Case("EVA", "eva02_tiny_patch14_224", {**_THIN, "patch_size": 8}),
    Case("Hiera", "hiera_tiny_224", {"img_size": SIDE, "embed_dim": 24}),
    Case("MLP-Mixer", "mixer_s32_224", {"img_size": SIDE, "mlp_ratio": 0.25}),
    Case("NFNet", "test_nfnet", {}),
    Case("XCiT", "xcit_nano_12_p16_224", _THIN),
    Case("ShuffleNet", "torchvision:shufflenet_v2_x0_5", {}),
    Case("SegFormer", "transformers:SegformerForImageClassification", {"hidden_sizes": [8, 16, 40, 64]}),
    Case("DINOv2 with registers", "transformers:Dinov2WithRegistersForImageClassification", _VIT),
    Case("BEiT", "beit_base_patch16_224", _THIN),
    Case("ByobNet", "test_byobnet", {}),
    Case("CaiT", "cait_xxs24_224", _THIN),
    Case("DenseNet", "densenet121", {"growth_rate": 4}),
    Case("EdgeNeXt", "edgenext_xx_small", {}),
    Case("EfficientFormer", "efficientformerv2_s0", {"img_size": SIDE}),
    Case("EfficientViT", "efficientvit_b0", {}),
    Case("FastViT", "fastvit_t8", {}),
    Case("GhostNet", "ghostnet_050", {}),
    Case("InceptionNeXt", "inception_next_atto", {}),
    Case("MambaOut", "test_mambaout", {}),
    Case("MobileNetV4", "mobilenetv4_conv_small_035", {}),
    Case("PVT", "pvt_v2_b0", {}),
    Case("RegNet", "regnety_002", {}),
    Case("RepVGG", "repvgg_a0", {}),
    Case("ResMLP", "resmlp_12_224", {"img_size": SIDE}),
    Case("StarNet", "starnet_s050", {}),
    Case("VoVNet", "ese_vovnet19b_slim_dw", {}),
    Case("MNASNet", "torchvision:mnasnet0_5", {}),
    Case("PoolFormer", "transformers:PoolFormerForImageClassification", _FOUR_STAGES),
)


class Counting(Silent):
    """Counts the steps of training."""

    steps = 0

    def track(self, items: Iterable[T], label: str, total: int, size: object = None) -> Iterator[T]:
        for item in items:
            self.steps += label.startswith("epoch")
            yield item


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures of each class, two of which are for training."""
    folder, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name in CLASSES:
        (folder / name).mkdir()
        for index in range(4):
            picture = random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(picture).save(folder / name / f"{index}.png")
    return folder


@torch.no_grad()
def original(case: Case) -> nn.Module:
    """The library's own network, with no tensor left as a constructor makes it: many make zeros."""
    torch.manual_seed(0)
    source, _, name = case.model.rpartition(":")
    if source == "transformers":
        kind = getattr(transformers, name)
        network: nn.Module = kind(kind.config_class(num_labels=len(CLASSES), **case.arguments))
    else:
        create = torchvision.models.get_model if source else timm.create_model
        network = create(name, num_classes=len(CLASSES), **case.arguments)
    for parameter in network.parameters():
        parameter.add_(0.02 * torch.randn_like(parameter))
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
    # Statistics of a real pass, without which signals fade; but no channel that was silent in it becomes loud.
    network.train()(torch.randn(8, 3, SIDE, SIDE))
    for norm in norms:
        norm.running_var.clamp_(min=float(norm.running_var.mean()))
    return network.eval()


def written(case: Case, network: nn.Module, folder: Path) -> dict[str, Any]:
    """Write its weights as its library's users have them; return the options that name it and them."""
    if case.model.startswith("transformers:"):
        network.save_pretrained(folder / "network")
        return {"model": f"transformers:{folder / 'network'}"}
    save_file(network.state_dict(), folder / "weights.safetensors")
    arguments = {"num_classes": len(CLASSES), **case.arguments}
    return {"model": case.model, "checkpoint": str(folder / "weights.safetensors"), "model_args": arguments}


def logits(network: nn.Module, x: Tensor) -> Tensor:
    output = network(x)
    return getattr(output, "logits", output)


@pytest.mark.parametrize(
    "case",
    [*CASES, *(pytest.param(case, marks=pytest.mark.slow) for case in FURTHER)],
    ids=lambda case: f"{case.model.rpartition(':')[0] or 'timm'}, {case.family}",
)
def test_an_adapted_network_is_the_original_at_the_canonical_input(case: Case, photos: Path, tmp_path: Path) -> None:
    network = original(case)
    options = written(case, network, tmp_path) | {"data": str(photos), "preprocess": "none", "device": "cpu"}
    options |= {"canonicalizer": {"kind": "optimized", "network": "conv", "size": 16, "width": 4}, "policy": "one"}
    options |= {"group": "c4", "epochs": 1, "batch_size": 3}
    config = build_config({}, [], options)
    run, progress = new_run(str(tmp_path / "run"), config.network.model, config.group, overwrite=False), Counting()
    train_canonicalizer(config, run, progress)
    assert progress.steps == 2

    stored, given = load_file(run.model), network.state_dict()
    beside = {key for key in stored if not key.startswith("canonicalizer.")} - {"training_pictures"}
    assert beside == {f"prediction_network.{key}" for key in given}
    bits = {key: value.numpy().tobytes() for key, value in given.items()}
    assert [key for key in given if stored[f"prediction_network.{key}"].numpy().tobytes() != bits[key]] == []

    loaded = equicli.load(run.folder)
    assert tiny.same(loaded.prediction_network, given)
    torch.manual_seed(config.seed)
    normalization = equicli.read_config(run.model).preprocess.normalization
    context = Context(parse_group("c4"), normalization)
    untrained = REGISTRY[config.canonicalizer.kind].create(config.canonicalizer, context)
    assert torch.equal(stored["canonicalizer.reference"], untrained.reference)  # it was drawn alike, so the rest was
    assert not [k for k, v in untrained.named_parameters() if torch.equal(v, stored[f"canonicalizer.{k}"])]

    x = torch.randn(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    turned = torch.rot90(x, 1, (-2, -1))
    with torch.inference_mode():
        output, canonical = loaded(x), loaded.canonicalize(x)
        assert output.shape == (4, len(CLASSES))
        assert (logits(network, turned) - logits(network, x)).abs().amax() > 1e-4  # it is far from invariant itself
        assert torch.equal(output, loaded.prediction_network(canonical))
        torch.testing.assert_close(output, logits(network, canonical), rtol=0, atol=1e-6)
        assert torch.equal(loaded(turned), output)
