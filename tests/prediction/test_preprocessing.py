"""Images reach a network as its publisher prepared them."""

from pathlib import Path

import pytest
import timm
import torch
import torchvision.models as zoo
from PIL import Image
from timm.data import create_transform, resolve_data_config

from equicli.data.normalization import Normalization
from equicli.prediction.load import load_network
from tests.prediction.tiny import pickled, repository, weights

TINY = "hf-hub:acme/tiny"


@pytest.fixture(scope="module", params=[(211, 180), (160, 300), (200, 200)], ids=str)
def picture(request) -> Image.Image:
    width, height = request.param
    pixels = torch.randint(256, (8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Image.fromarray(pixels.numpy()).resize((width, height), Image.Resampling.BICUBIC)


def prepared(found, picture: Image.Image) -> torch.Tensor:
    return found.preprocess.normalization(found.preprocess(picture))


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet"])
def test_a_picture_is_prepared_as_timm_does(tmp_path: Path, picture, name: str) -> None:
    network = timm.create_model(name, num_classes=4)
    (tmp_path / "w.pth").write_bytes(pickled(network.state_dict()))
    found = load_network(name, checkpoint=str(tmp_path / "w.pth"), arguments={"num_classes": 4})
    theirs = create_transform(**resolve_data_config({}, model=network))(picture)
    torch.testing.assert_close(prepared(found, picture), theirs, rtol=0, atol=1e-6)


def test_a_picture_is_prepared_as_torchvision_does(tmp_path: Path, picture) -> None:
    (tmp_path / "w.pth").write_bytes(pickled(zoo.squeezenet1_1().state_dict()))
    found = load_network("torchvision:squeezenet1_1", checkpoint=str(tmp_path / "w.pth"))
    theirs = zoo.SqueezeNet1_1_Weights.DEFAULT.transforms()(picture)
    torch.testing.assert_close(prepared(found, picture), theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "entries",
    [
        {"input_size": [3, 96, 96], "crop_pct": 0.75, "interpolation": "nearest"},
        {"input_size": [3, 64, 64], "crop_pct": 1.0, "crop_mode": "squash", "interpolation": "lanczos"},
        {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]},
    ],
    ids=["crop", "squash", "normalization"],
)
def test_a_repository_says_how_its_images_are_prepared(hub, picture, entries: dict[str, object]) -> None:
    hub({"acme/tiny": {"main": repository(pretrained_cfg=entries)}})
    found = load_network(TINY)
    theirs = create_transform(**resolve_data_config({}, model=found.network))(picture)
    torch.testing.assert_close(prepared(found, picture), theirs, rtol=0, atol=1e-6)
    if "mean" in entries:
        assert found.preprocess.normalization == Normalization((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_another_image_size_keeps_the_share_that_is_cropped_away(hub) -> None:
    hub({"acme/tiny": {"main": repository(pretrained_cfg={"crop_pct": 0.5})}})
    preprocess = load_network(TINY, image_size=48).preprocess
    assert (preprocess.size, preprocess.resize) == (48, 96)


def test_overrides_replace_what_the_checkpoint_says_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(pickled(weights()))
    found = load_network("test_resnet", checkpoint=str(tmp_path / "w.pth"), arguments={"num_classes": 4})
    own, mean, std = found.preprocess, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    assert own.override("checkpoint", None, None) == own
    assert own.override("checkpoint", mean, None).normalization == Normalization(mean, own.normalization.std)
    assert own.override("checkpoint", mean, std).size == own.size
    as_it_is = own.override("none", None, std)
    assert (as_it_is.size, as_it_is.normalization) == (None, Normalization(own.normalization.mean, std))
    assert as_it_is(Image.new("RGB", (50, 30))).shape == (3, 30, 50)
