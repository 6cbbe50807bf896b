"""Detectors and segmentation networks: loaded as their libraries have them, and shown pictures as they want them."""

from pathlib import Path

import pytest
import torch
import torchvision.models as zoo
from torch import nn

from equicli.data.preprocess import AS_THEY_ARE
from equicli.errors import UsageError
from equicli.prediction import torchvision_source
from equicli.prediction.load import load_network, rebuild_network
from equicli.prediction.signature import asking
from equicli.tasks.instances.task import Instances
from equicli.tasks.semantic.task import Semantic

SSD = "torchvision:ssdlite320_mobilenet_v3_large"


@pytest.fixture(scope="module")
def ssd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("ssd") / "ssd.pt"
    torch.save(zoo.detection.ssdlite320_mobilenet_v3_large(weights_backbone=None).state_dict(), file)
    return file


def test_a_detector_takes_pictures_as_they_are_and_names_its_outputs(ssd: Path) -> None:
    found = load_network(SSD, checkpoint=str(ssd))
    assert found.preprocess == AS_THEY_ARE
    assert found.class_names is not None and found.class_names[1] == ("person",) and len(found.class_names) == 91
    rebuilt = rebuild_network(found.spec)
    rebuilt.load_state_dict(torch.load(ssd, weights_only=True))
    images = [torch.rand(3, 40, 60), torch.rand(3, 70, 30)]
    with torch.inference_mode():
        own = asking(found.network, Instances.signature)(images)
        for one, image in zip(own, images, strict=True):  # and does not depend on what is beside it
            (alone,) = rebuilt([image])
            assert all(torch.equal(one[key], alone[key]) for key in ("boxes", "labels", "scores"))


def test_a_detector_with_classes_of_its_own_has_no_names(ssd: Path) -> None:
    network = torchvision_source.create("ssdlite320_mobilenet_v3_large", {"num_classes": 3})
    torch.save(network.state_dict(), ssd.with_name("three.pt"))
    found = load_network(SSD, checkpoint=str(ssd.with_name("three.pt")), arguments={"num_classes": 3})
    assert found.class_names is None


def test_a_detector_resizes_itself_so_a_size_is_refused(ssd: Path) -> None:
    with pytest.raises(UsageError, match="in place of --image-size, --model-arg min_size=N"):
        load_network(SSD, checkpoint=str(ssd), image_size=300)


def test_the_first_published_detectors_are_built_without_epsilon_as_they_were_trained() -> None:
    weights = zoo.get_model_weights("fasterrcnn_resnet50_fpn").DEFAULT
    said = [
        torchvision_source._arguments_of(name, weights, torchvision_source.DETECTORS, pretrained=pretrained)
        for name, pretrained in (
            ("fasterrcnn_resnet50_fpn", True),
            ("fasterrcnn_resnet50_fpn", False),
            ("fasterrcnn_resnet50_fpn_v2", True),
        )
    ]
    assert said == [{"norm_eps": 0.0}, {}, {}]
    network = torchvision_source.create("fasterrcnn_mobilenet_v3_large_320_fpn", {"norm_eps": 0.0})
    assert {layer.eps for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)} == {0.0}


def test_a_segmenter_is_shown_whole_pictures_and_says_a_class_for_every_pixel_of_them(tmp_path: Path) -> None:
    network = zoo.segmentation.lraspp_mobilenet_v3_large(weights_backbone=None).eval()
    torch.save(network.state_dict(), tmp_path / "l.pt")
    found = load_network("torchvision:lraspp_mobilenet_v3_large", checkpoint=str(tmp_path / "l.pt"), image_size=64)
    assert (found.preprocess.size, found.preprocess.resize) == (None, 64)
    assert found.class_names is not None and found.class_names[15] == ("person",)
    image = found.preprocess.normalization(found.preprocess(torch.randint(0, 256, (3, 40, 60), dtype=torch.uint8)))
    assert image.shape == (3, 64, 96)
    with torch.inference_mode():
        said = asking(found.network, Semantic.signature)(image[None])["classes"]
        assert torch.equal(said, network(image[None])["out"].argmax(dim=1).to(torch.uint8))


def test_a_segmenter_of_transformers_is_loaded_from_its_folder(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.SegformerConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 8, 16, 16],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
        id2label={0: "road", 1: "tree", 2: "sky"},
        label2id={"road": 0, "tree": 1, "sky": 2},
    )
    network = transformers.SegformerForSemanticSegmentation(config).eval()
    network.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        '{"image_processor_type": "SegformerImageProcessor", "do_resize": true, "size": {"height": 64, "width": 64}}'
    )
    found = load_network(f"transformers:{tmp_path}")
    assert found.class_names == (("road",), ("tree",), ("sky",))
    assert (found.preprocess.size, found.preprocess.squash) == (64, True)
    assert found.spec.architecture == "SegformerForSemanticSegmentation"
    rebuild_network(found.spec).load_state_dict(found.network.state_dict())
    image = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        said = asking(found.network, Semantic.signature)(image)["classes"]
        scores = nn.functional.interpolate(network(image).logits, (64, 64), mode="bilinear")
    assert said.shape == (2, 64, 64) and torch.equal(said, scores.argmax(dim=1).to(torch.uint8))
