"""Accuracy against time: what each way of asking the network gets right, all of the same answers about every pose."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from equicli.adapted import AdaptedModel
from equicli.canonicalization.canonicalizer import Pose, posterior
from equicli.evaluation.systems import SYMMETRIZED, Memory
from equicli.groups import as_finite
from equicli.policy import Gate, Mean, One, Policy, average_outputs
from equicli.prediction.evidence import EVIDENCE
from equicli.tasks.intervals import clustered
from equicli.tasks.task import Task

# The gate that is drawn where none was fitted: the two likeliest poses, weighed by p(g | x).
PLAIN = Gate(threshold=0.0, most=2)
# Mean passes at which a gate is drawn.
PASSES = (1.05, 1.1, 1.15, 1.2, 1.25, 1.5, 2.0, 3.0, 4.0)


@dataclass(frozen=True)
class Ways:
    """What each way of asking gets right of n inputs at the turns that show the network different views.

    All other turns are one of these followed by a multiple of 90°, whose views are the same.

    policy: of the adapted model. gate: that is drawn, for any threshold. order: |G|.
    scores: the task's score by way, (n, turns) each: `one` at the likeliest pose; `gated` where the gate is open;
        `mean` over all poses, weighted by p(g | x); `energy` at the pose of which the network itself is most sure;
        `symmetrized`.
    certainty: p(ĝ | x), (n, turns).
    """

    policy: Policy
    gate: Gate
    order: int
    scores: Mapping[str, Tensor]
    certainty: Tensor


class WaysWatch:
    """Gathers what each way of asking gets right, batch by batch, without asking the network itself."""

    def __init__(self, model: AdaptedModel, task: Task) -> None:
        self.task, self.policy = task, model.policy
        self.gate = model.policy if isinstance(model.policy, Gate) else PLAIN
        self._order = as_finite(model.canonicalizer.group).order
        self._scores: dict[str, list[Tensor]] = defaultdict(list)
        self._certainty: list[Tensor] = []

    @staticmethod
    def takes(model: AdaptedModel, systems: Sequence[str]) -> bool:
        """Whether there are ways to choose between: a classifier, scores of all poses, and the network's answers."""
        canonicalizer, outputs = model.canonicalizer, model.signature.outputs
        learned = canonicalizer.finds_poses and canonicalizer.learns
        return learned and SYMMETRIZED in systems and PLAIN.refusal(canonicalizer.group, outputs) is None

    def look(self, views: Memory, poses: Sequence[Pose], right: Sequence[Any]) -> None:
        """Take a batch.

        Args:
            views: what `Symmetrized` remembers.
            poses: what was found at each turn. right: the targets.
        """
        found: dict[str, list[Tensor]] = defaultdict(list)
        certainty = []
        for turn, outputs in views.items():
            p, answers = self._answers(poses[turn].scores, outputs)
            certainty.append(p)
            for name, output in answers.items():
                found[name].append(self.task.record(output, right)[self.task.score].cpu())
        for name, scores in found.items():
            self._scores[name].append(torch.stack(scores, dim=1))
        self._certainty.append(torch.stack(certainty, dim=1).cpu())

    def _answers(self, scores: Tensor | None, outputs: Sequence[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """p(ĝ | x), (b,), and by way what is said: logits (b, k)."""
        assert scores is not None
        every, rows = torch.stack(list(outputs), dim=1), torch.arange(len(scores), device=scores.device)
        p, poses = posterior(scores, self.gate.temperature)
        ranked = [every[rows, poses[:, rank]] for rank in range(self.gate.most)]
        energy = torch.stack([EVIDENCE["logsumexp"](output) for output in outputs], dim=1).argmax(dim=1)
        return p[:, 0], {
            "one": ranked[0],
            "gated": self.gate.combined(ranked, p[:, : self.gate.most]),
            "mean": average_outputs(scores, outputs, "probabilities"),
            "energy": every[rows, energy],
            "symmetrized": average_outputs(None, outputs, "probabilities"),
        }

    def found(self) -> Ways:
        scores = {name: torch.cat(parts).double() for name, parts in self._scores.items()}
        return Ways(self.policy, self.gate, self._order, scores, torch.cat(self._certainty))


def curve_of(ways: Ways, score: str, relative_time: float) -> dict[str, Any]:
    """What `metrics.json` says of accuracy against time.

    Returns:
        `gate`, the one that is drawn; and `points`, each with its `way`; `passes` of the network for each input;
        `time`, canonicalizer included, where a pass takes 1; the group-averaged score and its interval; of a gate the
        `threshold`; and whether it is the adapted model's `own` policy.

    Args:
        score: its name. relative_time: of the canonicalizer, see `cost.relative_time`.
    """
    own = ways.policy

    def point(way: str, passes: float, values: Tensor, *, canonicalizer: bool = True, **more: Any) -> dict[str, Any]:
        return {
            "way": way,
            "passes": passes,
            "time": passes + canonicalizer * relative_time,
            f"avg_{score}": float(values.mean()),
            f"avg_{score}_ci": clustered(values.numpy()),
            "threshold": None,
            "own": False,
            **more,
        }

    scores, gated = ways.scores, [(threshold, False) for threshold in _thresholds(ways)]
    if isinstance(own, Gate):
        gated = sorted([*gated, (own.threshold, True)])
    points = [point("one", 1.0, scores["one"], own=isinstance(own, One))]
    for threshold, fitted in gated:
        opened = ways.certainty < threshold
        passes = 1 + (ways.gate.most - 1) * float(opened.double().mean())
        values = torch.where(opened, scores["gated"], scores["one"])
        points.append(point("gate", passes, values, threshold=threshold, own=fitted))
    points.append(point("mean", float(ways.order), scores["mean"], own=own == Mean()))
    points += [point(way, float(ways.order), scores[way], canonicalizer=False) for way in ("energy", "symmetrized")]
    return {"gate": asdict(ways.gate), "points": points}


def _thresholds(ways: Ways) -> list[float]:
    """Those at which the gate takes PASSES on these inputs, on average."""
    sure, n = ways.certainty.flatten().double().sort().values, ways.certainty.numel()
    edges = [*sure.tolist(), 2.0]  # above all, where the gate is always open
    counts = [round((passes - 1) / (ways.gate.most - 1) * n) for passes in PASSES]
    return list(dict.fromkeys((edges[count - 1] + edges[count]) / 2 for count in counts if 0 < count <= n))
