"""DETR and RT-DETR: asked and read through their own image processors, one picture at a time."""

import json

import numpy as np
import pytest
import torch
import transformers

from equicli.adapted import AdaptedModel
from equicli.data.normalization import HALF
from equicli.errors import EquicliError, UsageError
from equicli.groups import PlanarGroup
from equicli.groups.action import act
from equicli.prediction.inputs import Pictures
from equicli.prediction.load import load_network, rebuild_network
from equicli.tasks.annotations.objects import Objects
from equicli.tasks.annotations.outputs import find_outputs
from equicli.tasks.instances.answers import check_answer
from equicli.tasks.instances.labels import count_outputs, first_label
from equicli.tasks.instances.task import Instances
from tests.canonicalization.examples import AS_THEY_ARE, conv_canonicalizer
from tests.prediction.small_sam import DETECTORS, random_network
from tests.prediction.test_transformers_sam import picture

C4 = PlanarGroup(4)
EVERY = pytest.mark.parametrize("network", DETECTORS, indirect=True)


@pytest.fixture
def network(request):
    return random_network(request.param)


@EVERY
def test_boxes_come_back_in_the_frame_of_the_picture_at_every_angle(network) -> None:
    model = AdaptedModel(conv_canonicalizer("c4"), network, AS_THEY_ARE, signature=Instances.signature)
    upright = picture(37, 60)
    expected = model.predict([upright]).output
    check_answer(expected)
    assert len(expected[0]["boxes"]) == 6 and expected[0]["boxes"].std() > 1
    for h in range(1, 4):
        (answer,) = model.predict([act(C4, h, upright)]).output
        turned = act(C4, h, expected[0]["boxes"], "boxes", (37, 60))
        assert torch.allclose(answer["boxes"], turned, atol=1e-4)
        assert torch.equal(answer["scores"], expected[0]["scores"])
        assert torch.equal(answer["labels"], expected[0]["labels"])


@EVERY
def test_they_answer_as_transformers_own_pipeline(network) -> None:
    processor = getattr(transformers, network.processor)(size=network.size, do_rescale=False, do_normalize=False)
    image = HALF(picture(60, 41))
    with torch.inference_mode():
        answer = super(type(network).__bases__[0], network).forward(**processor(images=[image], return_tensors="pt"))
        (theirs,) = processor.post_process_object_detection(answer, threshold=0.0, target_sizes=[(60, 41)])
        (ours,) = network([image])
    for key in ("boxes", "labels", "scores"):
        assert torch.equal(ours[key], theirs[key])


@EVERY
def test_their_own_loss_is_that_of_transformers_and_known_in_every_pose(network) -> None:
    boxes = np.array([[4.0, 6, 20, 30], [22, 10, 41, 50], [3, 3, 3, 8]])  # the last has no size
    there = Objects(boxes, np.array([0, 2, 1]), np.ones(3), np.ones(3), np.zeros(3, dtype=bool))
    image = picture(60, 41)
    inputs = Pictures([image], AS_THEY_ARE, torch.device("cpu"), lists=True, grows=True)
    costs = Instances().pose_costs(network, inputs, C4, [there])
    assert costs.shape == (1, 4) and costs.std() > 0 and not network.training
    for h in (1, 2):
        left, top, right, bottom = act(C4, -h % 4, torch.tensor(boxes[:2]), "boxes", (60, 41)).unbind(1)
        shown = act(C4, -h % 4, image)
        sides = torch.tensor([shown.shape[2], shown.shape[1]] * 2)
        middles = (
            torch.stack([left + right, top + bottom, 2 * (right - left), 2 * (bottom - top)], 1).float() / sides / 2
        )
        processor = getattr(transformers, network.processor)(size=network.size, do_rescale=False, do_normalize=False)
        with torch.inference_mode():
            theirs = super(type(network).__bases__[0], network).forward(
                **processor(images=[HALF(shown / 255)], return_tensors="pt"),
                labels=[{"class_labels": torch.tensor([0, 2]), "boxes": middles}],
            )
        assert float(costs[0, h]) == pytest.approx(float(theirs.loss), rel=1e-4)
    empty = there.take(np.zeros(0, dtype=np.int64))
    assert Instances().pose_costs(network, inputs, C4, [empty]).isfinite().all()


@EVERY
def test_they_are_loaded_with_the_size_that_their_file_says(network, tmp_path) -> None:
    kind = type(network).__name__
    plain = getattr(transformers, kind)(network.config)
    plain.load_state_dict(network.state_dict())
    plain.save_pretrained(tmp_path)
    described = json.loads((tmp_path / "config.json").read_text())
    described["id2label"] = {"0": "cat", "1": "dog", "2": "emu"}
    (tmp_path / "config.json").write_text(json.dumps(described))
    processor = {"size": {"height": 64, "width": 64}, "do_normalize": False}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    found = load_network(str(tmp_path))
    assert any("resizes every picture to 64x64 pixels, whatever its shape" in remark for remark in found.remarks)
    assert found.class_names == (("cat",), ("dog",), ("emu",)) and not found.preprocess.resizes
    assert found.spec.arguments["size"] == {"height": 64, "width": 64} and Instances.is_for(str(tmp_path))
    rebuilt = rebuild_network(found.spec)
    rebuilt.load_state_dict(found.network.state_dict())
    image = HALF(picture(50, 33))
    with torch.inference_mode():
        assert torch.equal(rebuilt([image])[0]["boxes"], found.network([image])[0]["boxes"])
    (tmp_path / "preprocessor_config.json").unlink()
    detr = kind.startswith("Detr")
    edges = {"shortest_edge": 48, "longest_edge": 60} if detr else {"height": 64, "width": 96}
    shorter = load_network(str(tmp_path), arguments=edges)
    assert shorter.spec.arguments["size"] == edges
    with torch.inference_mode():
        assert len(shorter.network([image])) == 1
    if detr:
        with pytest.raises(UsageError, match="height and width go together"):
            load_network(str(tmp_path), arguments={"height": 48})
        default = transformers.DetrImageProcessor().size["longest_edge"]
        shorter = load_network(str(tmp_path), arguments={"shortest_edge": 48})
        assert shorter.spec.arguments["size"] == {"shortest_edge": 48, "longest_edge": default}
    else:
        with pytest.raises(UsageError, match="shortest_edge and longest_edge go together"):
            load_network(str(tmp_path), arguments={"shortest_edge": 48})
    with pytest.raises(UsageError, match="in place of it, --model-arg shortest_edge=N"):
        load_network(str(tmp_path), image_size=64)
    with pytest.raises(EquicliError, match="takes no argument 'depth'"):
        load_network(str(tmp_path), arguments={"depth": 3})


def test_classes_without_names_are_counted_from_0_as_there_is_no_background() -> None:
    network = random_network("RTDetrForObjectDetection")
    assert (count_outputs(network), first_label(network)) == (3, 0)

    class Nameless:
        class_names = None

    labels, how = find_outputs(Nameless, {1: "a", 4: "b", 9: "c"}, 3, first=0)
    assert labels == {"a": 0, "b": 1, "c": 2} and how.endswith("from 0 on")
    with pytest.raises(EquicliError, match="knows 3 classes, and the data has 4"):
        find_outputs(Nameless, {1: "a", 4: "b", 9: "c", 10: "d"}, 3, first=0)
