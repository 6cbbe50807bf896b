"""What an adapted model is made of, but for its weights: the artifact's header, and `config.json`."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, TypeAdapter, ValidationError
from torch import nn

from equicli.adapted import AdaptedModel
from equicli.canonicalization.canonicalizer import Canonicalizer
from equicli.canonicalization.prior import Prior, near_chance
from equicli.canonicalization.registry import kinds_for
from equicli.data.clouds.preprocess import CloudPreprocess
from equicli.data.preprocess import Preprocess
from equicli.data.value_range import AS_USUAL, ValueRanges
from equicli.errors import EquicliError, UsageError, shown
from equicli.groups import parse_group
from equicli.groups.action import PADDINGS
from equicli.groups.labels import read_label
from equicli.policy import ONE, Mean, Policy
from equicli.prediction.network import NetworkSpec
from equicli.prediction.signature import CLASSIFIER, Signature
from equicli.settings import fault

FORMAT = 2
# The two kinds of preprocessing, where one of them is told from the other.
_PICTURES, _CLOUDS = "of pictures", "of clouds"


@dataclass(frozen=True)
class CanonicalizerSpec:
    """What rebuilds a canonicalizer without its weights: its kind, and that kind's own spec.

    source: of one that was taken from another artifact, that one's `name` and `sha256`, and the `group` it was trained
        for; else empty.
    """

    kind: str
    spec: Mapping[str, Any]
    source: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelConfig:
    """All of an adapted model but its weights; `config.json`, and the artifact's header.

    task: its name in `tasks.registry`. task_settings: what `Task.stored` gave.
    signature: what the prediction network takes and returns.
    policy: how the prediction network is asked.
    prior: the poses of the training folder that the prediction network expects.
    padding: what images that are turned off the grid show from outside.
    value_ranges: of pictures of more than 8 bits that do not say theirs.
    trained_base: whether the prediction network was trained, too, so that it is no longer that of `provenance`.
    labels: the output that stands for each class name of the dataset; empty where the task has no classes.
    class_names: for every output of the network the names that it goes by; empty where nothing says, or a head was
        fitted to the dataset's own.
    provenance: what was loaded as prediction network (see `PretrainedNetwork`).
    identity_rate: share of validation images that training found as the prior says; None where that is not known.
    identity_rate_of: how many these were.
    """

    task: str
    signature: Signature
    group: str
    canonicalizer: CanonicalizerSpec
    prediction_network: NetworkSpec
    preprocess: Annotated[
        Annotated[Preprocess, Tag(_PICTURES)] | Annotated[CloudPreprocess, Tag(_CLOUDS)],
        Discriminator(lambda value: _CLOUDS if "points" in _fields(value) else _PICTURES),
    ]
    labels: Mapping[str, Annotated[int, Field(ge=0)]]
    provenance: Mapping[str, str]
    prior: Prior
    padding: str
    policy: Annotated[Policy, Field(discriminator="kind")] = ONE
    task_settings: Mapping[str, Any] = field(default_factory=dict)
    class_names: tuple[tuple[str, ...], ...] = ()
    trained_base: bool = False
    adapter_only: bool = False
    value_ranges: ValueRanges = AS_USUAL
    identity_rate: float | None = None
    identity_rate_of: Annotated[int, Field(ge=1)] = 1
    format: int = field(default=FORMAT)

    @property
    def names(self) -> tuple[str, ...]:
        """What each output stands for: its class of the folder, else its first name in words, else its number."""
        own = {output: name for name, output in self.labels.items()}
        count = max([len(self.class_names), *(output + 1 for output in own)], default=0)

        def called(output: int) -> str:
            known = self.class_names[output] if output < len(self.class_names) else ()
            words = [name for name in known if not re.fullmatch(r"n\d{8}", name)]  # WordNet's number
            return own.get(output) or next(iter((*words, *known)), str(output))

        return tuple(called(output) for output in range(count))

    @property
    def near_chance(self) -> bool:
        """Whether training is known to have found hardly more poses than guesses do."""
        rate, n = self.identity_rate, self.identity_rate_of
        return rate is not None and near_chance(parse_group(self.group), self.prior, rate, n)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2)

    def assemble(self, canonicalizer: Canonicalizer, network: nn.Module) -> AdaptedModel:
        """Put both networks together as this says."""
        return AdaptedModel(
            canonicalizer,
            network,
            self.preprocess,
            padding=self.padding,
            policy=self.policy,
            signature=self.signature,
            value_ranges=self.value_ranges,
        )


def parse_config(header: str | None, name: str) -> ModelConfig:
    """Read what an artifact's header says of its model.

    Args:
        name: what an error calls the artifact.

    Raises:
        EquicliError: it says nothing, is damaged, or is of a newer format.
    """
    try:
        content = json.loads(header or "")
        version = content["format"]
    except (KeyError, TypeError, ValueError, RecursionError):
        raise EquicliError(f"{name}: not an equicli artifact, only weights. Make one with `equicli adapt`.") from None
    if version not in (1, FORMAT):
        raise EquicliError(
            f"{name}: artifact format {shown(version)}, but this equicli reads 1 to {FORMAT}; update equicli."
        )
    try:
        config = _checked().validate_python(_of_format_1(content) if version == 1 else content, extra="forbid")
        _check(config)
    except ValidationError as error:
        raise EquicliError(f"{name}: {damaged(error)}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EquicliError(f"{name}: damaged configuration at {shown(error)}.") from None
    return config


@cache
def _checked() -> TypeAdapter[ModelConfig]:
    return TypeAdapter(ModelConfig)


def _of_format_1(content: Mapping[str, Any]) -> dict[str, Any]:
    """What a header of format 1 says in the words of this one: classifiers of images were all that there was."""
    new = dict(content)
    for name in ("signature", "policy"):
        if name in new:
            raise ValueError(f"{name}: format 1 has none")
    average = new.pop("average", "none")
    canonicalizer = dict(new["canonicalizer"])
    if canonicalizer.get("kind") == "frame":  # looked at what the network is shown
        canonicalizer["spec"] = {"size": None}
    policy = asdict(ONE) if average == "none" else asdict(Mean(average))
    return {**new, "canonicalizer": canonicalizer, "policy": policy, "signature": asdict(CLASSIFIER), "format": FORMAT}


def _fields(value: Any) -> Any:
    return value if isinstance(value, Mapping) else vars(value) if hasattr(value, "__dict__") else ()


def damaged(error: ValidationError, *where: str) -> str:
    """What is wrong first with values of a configuration, and where."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in (*where, *first["loc"]) if part not in (_PICTURES, _CLOUDS))
    if first["type"] == "unexpected_keyword_argument":
        return f"unknown field {shown(place)} in its configuration: written by a newer equicli; update equicli."
    return f"damaged configuration at {shown(place)}: {shown(fault(first))}."


def _check(config: ModelConfig) -> None:
    """Raise a ValueError that names what is wrong with values whose types are right."""
    try:
        group = parse_group(config.group)
    except UsageError:
        raise ValueError(f"group: '{config.group}' is none") from None
    kind = kinds_for(group).get(config.canonicalizer.kind)
    if (group.dimension == 3) != (config.signature.inputs == "points"):
        raise ValueError(f"group: '{config.group}' does not act on inputs of the kind {config.signature.inputs}")
    if (group.dimension == 3) != isinstance(config.preprocess, CloudPreprocess):
        raise ValueError(f"preprocess: not for {group.name}")
    if kind is None or not kind.takes(group):
        raise ValueError(f"canonicalizer.kind: '{config.canonicalizer.kind}' is none for {group.name}")
    trained_for = config.canonicalizer.source.get("trained_for", group.name)
    try:
        parse_group(trained_for)
    except UsageError:
        raise ValueError(f"canonicalizer.source.trained_for: '{trained_for}' is no group") from None
    refusal = config.policy.refusal(group, config.signature.outputs, kind.ranks(group))
    if refusal is not None:
        raise ValueError(f"policy: {refusal}")
    if config.padding not in PADDINGS:
        raise ValueError(f"padding: '{config.padding}' is none")
    for label in config.prior.poses:
        if read_label(group, label) is None and not (group.name == "so3" and config.prior.upright):
            raise ValueError(f"prior.poses: '{label}' is no pose of {group.name}")
    shares = config.prior.shares
    if not config.prior.poses or len(shares) not in (0, len(config.prior.poses)):
        raise ValueError("prior: there must be a pose, and a share for each or for none")
    if shares and not (all(0 <= share <= 1 for share in shares) and abs(sum(shares) - 1) < 1e-3):
        raise ValueError("prior.shares: they must add up to 1")
    for entry in ("model", "sha256") if config.adapter_only else ("model",):
        if entry not in config.provenance:
            raise ValueError(f"provenance.{entry}: there is none")
