"""The whole arrow as one module of tensors: canonicalizer, exact turn, prediction network, policy, and the way back."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from equicli.adapted import AdaptedModel, Prediction
from equicli.policy import Gate, certainty
from equicli.prediction.inputs import Inputs, Views
from equicli.prediction.no_network import NoNetwork
from equicli.prediction.signature import Ask, asking

POSE, SURE, LOGITS, OUTPUT = "pose", "sure", "logits", "output"


class InputsGraph(nn.Module):
    """From inputs that are preprocessed, images (b, 3, h, w) or clouds (b, n, 3), to what the model says, by name.

    `logits` of a classifier; else `output`, or the names that the network gives its parts. `pose`: the element of the
    group, int64 (b,), or of a continuous one matrices (b, d, d). `sure`: p(ĝ | x), float32 (b,), where it is known. A
    gate asks about as many poses for every input; its answer is the same. A network that takes lists is asked about one
    image, (1, 3, h, w), and its answer has the axis of a batch of one. Where there is no network, poses are all.
    """

    def __init__(self, model: AdaptedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        return answer(self.model, self.model.tensors(inputs))


def answer(model: AdaptedModel, inputs: Inputs) -> dict[str, Tensor]:
    """What a model says of inputs, as tensors by name; see `InputsGraph`."""
    output, pose = predict(model, inputs)
    found = _named(output, LOGITS if model.signature.outputs == "logits" else OUTPUT)
    if isinstance(model.prediction_network, NoNetwork):
        found = {}
    named = {name: part.float() if part.is_floating_point() else part for name, part in found.items()}
    if pose is not None:
        named[POSE] = pose.element
        sure = certainty(model.policy, pose)
        if sure is not None:
            named[SURE] = sure
    return named


def predict(model: AdaptedModel, inputs: Inputs) -> Prediction:
    """What `AdaptedModel.answer` does, without a shape that depends on a value."""
    ask = asking(model.prediction_network, model.signature)
    ask = _of_one(ask) if model.signature.lists else ask
    if not isinstance(model.policy, Gate):
        return model.answer(inputs, ask)
    pose = model.find_pose(inputs, ask)
    views = Views(inputs, model.canonicalizer.group, ask, model.signature.outputs)
    return Prediction(model.policy.answer_all(views, pose), pose)


def _of_one(ask: Ask) -> Ask:
    """Asks what takes a list about a batch of one image."""

    def of_one(images: Tensor) -> dict[str, Tensor]:
        (said,) = ask([images[0]])
        return {name: part[None] for name, part in said.items()}

    return of_one


def _named(output: Any, name: str) -> dict[str, Tensor]:
    if isinstance(output, Tensor):
        return {name: output}
    parts = output.items() if isinstance(output, Mapping) else enumerate(output)
    prefix = "" if isinstance(output, Mapping) else f"{name}_"
    return {key: value for part, inner in parts for key, value in _named(inner, f"{prefix}{part}").items()}
