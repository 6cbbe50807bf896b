"""Image classification: the output is invariant; labels are folder names; a prediction is the largest logit."""

import warnings
from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from equicli.errors import EquicliError, UsageError, reason
from equicli.prediction.classes import match_classes
from equicli.prediction.network import PretrainedNetwork
from equicli.settings import LocalPath, TaskSettings

NAME: Final = "classification"


class ClassificationSettings(TaskSettings):
    """How outputs get their classes."""

    kind: Literal["classification"] = "classification"
    prompts: LocalPath | None = Field(None, description="of a zero-shot network's classes: a text or YAML file")
    head: Literal["auto", "none"] = Field("auto", description="fit a linear head where the classes do not match")


# Inverse regularization strengths tried for a fitted head; the validation images choose.
HEAD_STRENGTHS = (0.01, 0.1, 1.0, 10.0)


def count_outputs(network: torch.nn.Module, images: Tensor) -> int:
    """Number of classes that a network predicts.

    Args:
        images: normalized images (b, 3, h, w).

    Raises:
        EquicliError: the network does not run on them or gives no logits (b, classes).
    """
    try:
        logits = network(images)
    except Exception as error:  # any network, also the user's own
        size = f"{images.shape[-1]}x{images.shape[-2]}"
        raise EquicliError(
            f"--model: the network fails on images of {size} ({reason(error)}). Try --image-size or --preprocess."
        ) from error
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        found = f"a tensor of shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise EquicliError(f"--model: not a classifier: it returns {found}, not logits (images, classes).")
    return int(logits.shape[1])


def match_labels(found: PretrainedNetwork, outputs: int, classes: Sequence[str]) -> tuple[dict[str, int] | None, str]:
    """Decide which output stands for which class folder, and say how it was decided.

    Returns:
        The output of each class, or None where neither names nor numbers fit; and one line for the user.
    """
    if found.class_names is not None:
        matched = match_classes(classes, found.class_names)
        if matched is not None:
            return dict(
                zip(classes, matched, strict=True)
            ), f"labels: folder names match the checkpoint's {outputs} classes"
        return None, f"labels: the folder names are not classes of the checkpoint ({outputs} outputs)"
    if outputs == len(classes):
        order = f"{classes[0]} = 0 … {classes[-1]} = {outputs - 1}"
        return {
            name: i for i, name in enumerate(classes)
        }, f"labels: the checkpoint names no classes; taking sorted folders ({order})"
    return None, f"labels: the network has {outputs} outputs, the data {len(classes)} class folders"


def refuse_labels(reason: str) -> UsageError:
    return UsageError(
        f"{reason}, and --head none fits no new one. Use --head auto, or name folders as the network's classes."
    )


def fit_head(
    features: Tensor, labels: Tensor, validation_features: Tensor, validation_labels: Tensor
) -> tuple[Tensor, Tensor, float]:
    """Fit a linear head on frozen features by multinomial logistic regression.

    Args:
        features: (n, d); labels: int64 (n,), every class 0..k-1 at least once; likewise for the validation images,
            which choose the regularization.

    Returns:
        weight (k, d), bias (k,), and the accuracy on the validation images.

    Raises:
        EquicliError: there is only one class.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    if len(labels.unique()) < 2:
        raise EquicliError(
            "--head auto: a head needs images of two classes. With one, put the images into the folder itself: "
            "adapting needs no labels."
        )
    mean, scale = features.mean(dim=0), features.std(dim=0).clamp_min(1e-6)
    x, y = ((features - mean) / scale).numpy(), labels.numpy()
    x_val, y_val = ((validation_features - mean) / scale).numpy(), validation_labels.numpy()
    best: tuple[float, LogisticRegression] | None = None
    for strength in HEAD_STRENGTHS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # an unconverged fit is judged like any other
            model = LogisticRegression(C=strength, max_iter=300).fit(x, y)
        accuracy = float(model.score(x_val, y_val))
        if best is None or accuracy > best[0]:
            best = accuracy, model
    assert best is not None
    accuracy, model = best
    weight, bias = model.coef_, model.intercept_
    if len(weight) == 1:  # two classes: scikit-learn keeps one logit, of the second
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight_t = torch.from_numpy(weight).float() / scale
    return weight_t, torch.from_numpy(bias).float() - weight_t @ mean, accuracy


def correct(logits: Tensor, targets: Tensor) -> Tensor:
    """Whether each prediction is right: logits (b, k) and output indices (b,) to bool (b,)."""
    return logits.argmax(dim=1) == targets


TOP = 5


def correct_top(logits: Tensor, targets: Tensor) -> Tensor:
    """Whether the right output is among the TOP largest: logits (b, k) and output indices (b,) to bool (b,)."""
    return (logits.topk(min(TOP, logits.shape[1]), dim=1).indices == targets[:, None]).any(dim=1)


def confidence(logits: Tensor) -> Tensor:
    """The probability of each prediction: logits (b, k) to (b,) in [0, 1]."""
    return logits.softmax(dim=1).amax(dim=1)


def loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of logits (b, k) and output indices (b,), a scalar."""
    return torch.nn.functional.cross_entropy(logits, targets)
