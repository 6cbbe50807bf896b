"""Every system on the same inputs, turned by every element of a group: what is recorded of it, and of the poses."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from equicli.adapted import AdaptedModel
from equicli.canonicalization.canonicalizer import Pose, posterior
from equicli.canonicalization.prior import TIE, Prior, same_pose
from equicli.data.loading import in_threads
from equicli.data.reencode import Encoding
from equicli.devices import arithmetic, place
from equicli.evaluation.cache import OutputCache
from equicli.evaluation.curve import Ways, WaysWatch
from equicli.evaluation.systems import SYMMETRIZED, Memory, Oracle, Turned, systems_of
from equicli.groups import Group, PlanarGroup, Turns, acting, is_finite
from equicli.groups.elements import Element, Frame, inverse, multiply
from equicli.policy import temperature_of
from equicli.prediction.inputs import Inputs, Pictures
from equicli.prediction.signature import Ask, asking
from equicli.tasks.task import Records, Task


class InputBatch(NamedTuple):
    """indices: int64 (b,), positions in the list of samples. inputs: the samples, untouched."""

    indices: Tensor
    inputs: Inputs


@dataclass(frozen=True)
class FoundPoses:
    """What an adapted model found, for n inputs.

    identity: whether x itself was found as the prior expects, bool (n,); see `Prior.is_identity`.
    shared: the elements h of R that the adapted group has, too; the first is the identity.
    expected: whether ĝ(h·x) = h·s for a pose s of the prior's set, bool (n, |shared|).
    consistent: whether ĝ(h·x) = h·ĝ(x), bool (n, |shared|).
    confidence: p(ĝ | h·x), (n, |shared|), with scores divided by `temperature`; None where there are no scores.
    poses: ĝ(x) of the untouched inputs, elements of a finite group, int64 (n,); None for a continuous one.
    ties: bool (n,), inputs of which a rounding decides what they are asked about, for some element: whose two best
        scores were within TIE, or what the policy says.
    """

    identity: Tensor
    shared: tuple[int, ...]
    expected: Tensor
    consistent: Tensor
    confidence: Tensor | None
    temperature: float
    poses: Tensor | None
    ties: Tensor


@dataclass(frozen=True)
class Evaluation:
    """Records of a whole test set of n inputs and |R| elements; nothing is averaged over batches.

    records: by system, what the task keeps of each output beside its target, for each input and turn.
    passes: by system, of the prediction network for each input: the mean over inputs and turns.
    changed: whether the adapted model's prediction is another one than of the untouched input, bool (n, |R|).
    max_delta: largest absolute change of a number of its output, by turn, (|R|,).
    found: None where the adapted model chooses no poses.
    ways: of asking the network, beside each other; None where there are none to choose between.
    frames: (height, width) of the untouched inputs. indices: which of the samples they are.
    agreement: whether "right" means agreement with the vanilla prediction on the untouched input (no labels).
    """

    elements: Turns
    group: Group
    records: Mapping[str, Records]
    passes: Mapping[str, float]
    changed: Tensor
    max_delta: Tensor
    found: FoundPoses | None
    ways: Ways | None
    frames: tuple[Frame, ...]
    agreement: bool
    indices: tuple[int, ...] = ()

    @property
    def n(self) -> int:
        return len(self.changed)


def record_systems(
    model: AdaptedModel,
    task: Task,
    batches: Iterable[InputBatch],
    targets: Sequence[Any] | None,
    elements: Turns,
    *,
    prior: Prior,
    systems: Sequence[str],
    cache: OutputCache | None = None,
    reencode: Encoding | None = None,
    device: torch.device,
    precision: str = "fp32",
) -> Evaluation:
    """Evaluate an adapted model beside its baselines, in one pass over the inputs.

    Args:
        targets: what is right for each sample; None where nothing says.
        elements: R, the group whose every element acts on the inputs.
        systems: names; `adapted` is always one.
        prior: the true poses of untouched inputs, for the oracle and for what is expected of ĝ.
        cache: what the prediction network is known to return, for whoever asks it. Without one the adapted model asks
            it anew at every turn, which measures whether equal inputs have equal outputs, and only baselines share.
        reencode: how pictures are compressed again after each turn, the turn by 0° included.
    """
    place(model.eval(), device)
    group = model.canonicalizer.group
    chosen = systems_of(model, prior, elements, systems, cached=cache is not None)
    network = asking(model.prediction_network, model.signature)
    kept: dict[str, dict[str, list[Any]]] = {system.name: defaultdict(list) for system in chosen}
    temperature = temperature_of(model.policy)
    watch = _PoseWatch(group, elements, prior, temperature) if model.chooses_pose else None
    ways = WaysWatch(model, task) if WaysWatch.takes(model, systems) else None
    passes: dict[str, float] = defaultdict(float)
    changed, deltas, frames, read = [], [], [], list[int]()
    with torch.inference_mode(), arithmetic(device, precision):
        for indices, untouched in batches:
            ask: Ask = (cache or OutputCache()).before(network, lists=model.signature.lists)
            frames += untouched.frames()
            read += indices.tolist()
            right = (
                task.targets_of(Oracle(model, prior).upright(untouched, elements, ask, indices))
                if targets is None
                else [targets[i] for i in indices.tolist()]
            )
            memories: dict[str, Memory] = {system.name: {} for system in chosen}
            records: dict[str, list[dict[str, Any]]] = {system.name: [] for system in chosen}
            changes: list[tuple[Tensor, float]] = []
            poses: list[Pose] = []
            reference: Any = None
            for h in elements.elements():
                turn = acting(elements, h, indices)
                inputs = untouched if h == 0 else untouched.turned(*turn)
                inputs = inputs if reencode is None else _compressed(inputs, reencode)
                turned = Turned(inputs, elements, h, reencode is None, indices)
                for system in chosen:
                    prediction = system.answer(turned, ask, memories[system.name])
                    passes[system.name] += system.passes(prediction.pose) * len(untouched)
                    # In the frame of the untouched input, where the targets are.
                    output = prediction.output
                    if h != 0:
                        output = untouched.carried_back(*turn, output, model.signature.outputs)
                    records[system.name].append(task.record(output, right))
                    if system.name == "adapted":
                        reference = output if h == 0 else reference
                        changes.append(task.changes(output, reference))
                        poses += [] if prediction.pose is None else [prediction.pose]
            for name, of_turns in records.items():
                for key in of_turns[0]:
                    kept[name][key].append(_by_sample([record[key] for record in of_turns]))
            changed.append(torch.stack([other for other, _ in changes], dim=1))
            deltas.append(torch.tensor([delta for _, delta in changes]))
            if watch is not None:
                watch.look(poses, [model.policy.ties(pose) for pose in poses], indices)
            if ways is not None:
                ways.look(memories[SYMMETRIZED], poses, right)
            del untouched, inputs, turned  # pictures may be large: not two batches of them
    return Evaluation(
        elements=elements,
        group=group,
        records={name: {key: _joined(parts) for key, parts in of.items()} for name, of in kept.items()},
        passes={name: total / (len(frames) * elements.order) for name, total in passes.items()},
        changed=torch.cat(changed),
        max_delta=torch.stack(deltas).amax(dim=0),
        found=None if watch is None else watch.found(),
        ways=None if ways is None else ways.found(),
        frames=tuple(frames),
        agreement=targets is None,
        indices=tuple(read),
    )


def _by_sample(turns: Sequence[Any]) -> Any:
    """What was recorded of a batch turn by turn, for each sample: a tensor (b, |R|, …), or b lists."""
    if isinstance(turns[0], Tensor):
        return torch.stack(list(turns), dim=1).cpu()
    return [list(of_sample) for of_sample in zip(*turns, strict=True)]


def _joined(batches: Sequence[Any]) -> Any:
    return torch.cat(list(batches)) if isinstance(batches[0], Tensor) else [one for batch in batches for one in batch]


def _compressed(inputs: Inputs, reencode: Encoding) -> Pictures:
    assert isinstance(inputs, Pictures)  # `find_encoding` refuses tensors
    return replace(inputs, pictures=in_threads(reencode, inputs.pictures))


class _PoseWatch:
    """Gathers what is found of poses, batch by batch."""

    def __init__(self, group: Group, elements: Turns, prior: Prior, temperature: float) -> None:
        self.group, self.elements, self.prior, self.temperature = group, elements, prior, temperature
        self.shared = list(self._shared(torch.zeros(1, dtype=torch.int64)))
        self.identity: list[Tensor] = []
        self.expected: list[Tensor] = []
        self.consistent: list[Tensor] = []
        self.confidence: list[Tensor] = []
        self.poses: list[Tensor] = []
        self.ties: list[Tensor] = []

    def _shared(self, indices: Tensor) -> dict[int, Element]:
        """The elements of R that the adapted group has, too, and what it calls them."""
        elements, group = self.elements, self.group
        if not isinstance(elements, PlanarGroup):
            own = [0, *elements.scenarios.get(group.name, ())] if group.name != "so3" else elements.elements()
            return {g: elements.matrices(g, indices) for g in own}
        found = {g: group.find(elements.angle(g), elements.mirrored(g)) for g in elements.elements()}
        return {g: h for g, h in found.items() if h is not None}

    def look(self, poses: Sequence[Pose], close: Sequence[Tensor | None], indices: Tensor) -> None:
        """Take the poses of one batch at every turn, and which inputs the policy asks about by a rounding."""
        group = self.group
        # h⁻¹·ĝ(h·x), which is the same pose for every h where the canonicalizer is equivariant.
        turns = self._shared(indices)
        relative = [multiply(group, inverse(group, h), poses[g].element) for g, h in turns.items()]
        self.identity.append(self.prior.is_identity(group, poses[0]).cpu())
        self.expected.append(torch.stack([self.prior.contains(group, pose) for pose in relative], dim=1).cpu())
        self.consistent.append(torch.stack([same_pose(group, p, relative[0]) for p in relative], dim=1).cpu())
        if is_finite(group):
            scores = [poses[g].scores for g in self.shared]
            sure = [posterior(s, self.temperature)[0][:, 0] for s in scores if s is not None]
            self.confidence += [torch.stack(sure, dim=1).cpu()] if sure else []
        self.poses.append(relative[0].cpu())
        tied = [_tied(group, pose) for pose in poses] + [flags for flags in close if flags is not None]
        self.ties.append(torch.stack(tied, dim=1).any(dim=1).cpu())

    def found(self) -> FoundPoses:
        return FoundPoses(
            identity=torch.cat(self.identity),
            shared=tuple(self.shared),
            expected=torch.cat(self.expected),
            consistent=torch.cat(self.consistent),
            confidence=torch.cat(self.confidence) if self.confidence else None,
            temperature=self.temperature,
            poses=torch.cat(self.poses) if is_finite(self.group) else None,
            ties=torch.cat(self.ties),
        )


def _tied(group: Group, pose: Pose) -> Tensor:
    """Whether the two best scores of each input are within TIE, or a rounding decides how they were found: (b,)."""
    if (not is_finite(group) and pose.candidates is None) or pose.scores is None or pose.scores.shape[1] < 2:
        return torch.zeros(len(pose.element), dtype=torch.bool, device=pose.element.device)
    best = pose.scores.topk(2, dim=1).values
    close = best[:, 0] - best[:, 1] < TIE
    return close if pose.tied is None else close | pose.tied
