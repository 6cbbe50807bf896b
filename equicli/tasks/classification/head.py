"""Fitting a linear head on frozen features, for classes that the network does not have."""

import warnings

import numpy as np
import torch
from torch import Tensor

from equicli.errors import EquicliError

# Inverse regularization strengths tried; the validation images choose.
HEAD_STRENGTHS = (0.01, 0.1, 1.0, 10.0)


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
