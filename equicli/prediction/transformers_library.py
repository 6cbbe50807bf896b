"""The library transformers, as far as networks of its own classes are built and given published weights.

A configuration chooses among those classes by name; whatever in it would run code or read other files is not passed on.
"""

import importlib
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor

from equicli.errors import EquicliError, UsageError, reason
from equicli.prediction.classes import imagenet_class_names

# Older files hold these beside the parameters, for networks that have no use for them any more.
_LEFT_ASIDE = re.compile(r"(^|\.)(position_ids|relative_position_index|num_batches_tracked|pooler\.dense\.\w+)$")


@cache
def transformers() -> Any:
    """The library, imported when it is first asked for.

    Raises:
        UsageError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("transformers")
    except ImportError as error:
        raise UsageError(
            f"transformers is needed for this network and cannot be imported ({reason(error)}). "
            "Install it: pip install 'equicli[transformers]'"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """What transformers would say of loading, equicli says or refuses."""
    log = importlib.import_module("transformers.utils.logging")
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()


@cache
def entries(config_class: Any) -> frozenset[str]:
    """The entries of a configuration that describe the network.

    Those that every configuration has are left out: they choose code (attention from the Hub, quantization, fusions),
    files and precision.
    """
    with quiet():
        return frozenset(config_class().to_dict()) - _common_entries()


@cache
def _common_entries() -> frozenset[str]:
    with quiet():
        base = importlib.import_module("transformers.configuration_utils")
        common = getattr(base, "PreTrainedConfig", None) or base.PretrainedConfig
        return frozenset(common().to_dict()) | {"model_type", "quantization_config", "auto_map", "attn_implementation"}


def description(value: Any) -> Any:
    """A value of a configuration; one that is a configuration itself, without what every one has."""
    if not isinstance(value, dict):
        return value
    return {k: description(v) for k, v in value.items() if not k.startswith("_") and k not in _common_entries()}


def configuration(published: Mapping[str, Any]) -> dict[str, Any]:
    """A published configuration, or a part of one; of a backbone's in it stays which of transformers' own that is."""
    plain: dict[str, Any] = description(dict(published))
    backbone = published.get("backbone_config")
    if isinstance(backbone, dict) and isinstance(backbone.get("model_type"), str):
        plain["backbone_config"]["model_type"] = backbone["model_type"]
    return plain


def translate(kind: Any, config: Any, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate a published state dict, whose names may be an older version's, to the names that `kind` has now.

    What is missing stays missing, and what has another shape or fits nowhere keeps it, so that `load_weights` can say
    so.
    """
    # In one precision, which transformers would otherwise choose by the first tensor.
    plain = {key: value.float() if value.is_floating_point() else value for key, value in weights.items()}
    try:
        with quiet():
            loaded, report = kind.from_pretrained(
                None,
                config=config,
                state_dict=plain,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except Exception as error:
        raise EquicliError(f"transformers cannot read these weights ({reason(error)}).") from error
    missing = set(report["missing_keys"])
    own = {key: value for key, value in loaded.state_dict().items() if key not in missing}
    own |= {key: torch.empty(shape, device="meta") for key, shape, *_ in report["mismatched_keys"]}
    return own | {key: plain[key] for key in report["unexpected_keys"] if not _LEFT_ASIDE.search(key)}


def class_names_of(labels: object, outputs: int) -> tuple[tuple[str, ...], ...] | None:
    """For each output the names that a configuration gives it; None where they are missing or only numbers.

    ImageNet's get their WordNet ids beside them: folders are named so.
    """
    if not isinstance(labels, dict) or len(labels) != outputs or {str(i) for i in range(outputs)} != set(labels):
        return None
    texts = [str(labels[str(i)]) for i in range(outputs)]
    if all(re.fullmatch(r"(?i:label[ _]?)?\d+", text) for text in texts):
        return None
    names = [tuple(dict.fromkeys((text, *(word.strip() for word in text.split(","))))) for text in texts]
    first = outputs - 1000  # some have "background" before ImageNet's thousand
    imagenet = imagenet_class_names(1000) if first in (0, 1) else None
    if imagenet is not None:
        same = [bool(set(names[first + i]) & set(known)) for i, known in enumerate(imagenet)]
        if sum(same) >= 900:  # some words differ between the lists that people copied
            names[first:] = [tuple(dict.fromkeys((*known, *names[first + i]))) for i, known in enumerate(imagenet)]
    return tuple(names)
