"""The training loop of a canonicalizer: small images in memory, AdamW, the best epoch by validation, resume."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from equicli.canonicalization.canonicalizer import Canonicalizer, Pose
from equicli.data.source import Images, Source
from equicli.devices import find_precision, full_float32
from equicli.errors import EquicliError, reason
from equicli.files import read_tensors, write_tensors
from equicli.groups import Group, is_finite
from equicli.groups.action import act, kind_of
from equicli.progress import Progress
from equicli.settings import TrainingSettings
from equicli.training.augmentation import degrade, vary
from equicli.training.clouds import vary_clouds
from equicli.training.objective import Objective
from equicli.training.pose_targets import mirrored

WARMUP = 0.1  # share of the training over which the learning rate rises
MOMENTUM = 0.9
# After 1/3 and 1/2 of the epochs the learning rate falls to a tenth; in more than 100 of them after 1/6, too.
STEPS, STEPS_OF_LONG = (3, 2), (6, 3, 2)


@dataclass(frozen=True)
class Scores:
    """A model measured on a set of untouched images; with `augment` the loss is that of turned ones.

    identity_rate: share of images found in a pose of the prior's set. loss: the weighted sum that training minimizes,
    without the contrast and artifact losses.
    """

    identity_rate: float
    loss: float


def fit(
    canonicalizer: Canonicalizer,
    train: Source,
    validation: Source,
    objective: Objective,
    settings: TrainingSettings,
    seed: int,
    *,
    base: nn.Module | None = None,
    trained_before: bool = False,
    state: Path | None,
    log: Callable[[Mapping[str, Any]], None],
    progress: Progress,
) -> tuple[int, Scores]:
    """Train in place, and leave the weights of the best epoch.

    Args:
        train, validation: images as the objective wants them; see `Objective.normalization`.
        seed: of shuffling and augmentation.
        base: the prediction network, where it is trained, too; it is the one of the objective's task.
        trained_before: whether the weights are of an earlier training, and so may be the best.
        state: file that holds the last whole epoch; where it exists, training goes on from it to the same weights. None
            keeps none.
        log: takes one entry an epoch.

    Returns:
        The best epoch, counted from 1, or 0 for the weights of before, and its scores on the validation images.
    """
    canonicalizer.training_views = settings.views
    trainer = _Trainer(canonicalizer, objective, settings, seed, base)
    if state is not None and state.is_file():
        trainer.restore(state)
        progress.say(f"going on after epoch {trainer.epoch} of {settings.epochs}")
    elif trained_before:
        trainer.judge(validation)
    while trainer.epoch < settings.epochs:
        start = time.monotonic()
        with full_float32(trainer.device):  # also of gradients
            losses = trainer.run_epoch(train, progress)
        seconds = time.monotonic() - start
        scores = trainer.judge(validation)
        log({"epoch": trainer.epoch, "seconds": seconds, **losses, "validation": vars(scores)})
        if state is not None:
            trainer.save(state)
        progress.say(
            f"epoch {trainer.epoch}/{settings.epochs}: loss {losses['loss']:.3f}; "
            f"validation: loss {scores.loss:.3f}"
            + (f", identity rate {scores.identity_rate:.1%}" if canonicalizer.finds_poses else "")
        )
    return trainer.finish()


def measure(
    canonicalizer: Canonicalizer, images: Source, objective: Objective, batch_size: int, *, turn: bool = False
) -> Scores:
    """Score a canonicalizer on untouched images, or with `turn` on each in one of the group's poses, in turn.

    Poses are those of the images' `looks`, where there are any: what evaluation sees and rounds as it does.
    """
    canonicalizer.eval()
    group, task_only, poses, task = canonicalizer.group, objective.only("task"), [], 0.0
    targets: list[Tensor] = []
    normalization = objective.normalization(canonicalizer)
    with torch.inference_mode():
        for indices in torch.arange(len(images)).split(batch_size):
            taken, pose = images.take(indices), None
            if taken.looks is not None and canonicalizer.finds_poses:
                with full_float32(taken.looks.device):
                    pose = canonicalizer(taken.looks)
            if pose is None or task_only.weights:
                x = normalization(taken.pixels)
                if turn:
                    elements = indices % group.order if is_finite(group) else _turns(group, indices)
                    x = act(group, elements.to(x.device), x, kind_of(group), padding=objective.padding)
                seen, losses = task_only.losses(canonicalizer, x, taken.targets, poses=taken.poses)
                task += float(task_only.total(losses)) * len(x) / len(images)
                pose = pose or seen
            if pose is not None:
                poses.append(pose._replace(vectors=None))
                targets += [taken.poses] if taken.poses is not None and objective.by_picture else []
        if not poses:
            return Scores(1.0, task)
        # Of all images at once: how often each pose occurs is not a mean over batches.
        parts = [None if part[0] is None else torch.cat(part) for part in zip(*poses, strict=True)]
        pose = Pose(torch.as_tensor(parts[0]), *parts[1:])
        weight = objective.weights.get("prior")
        expected = torch.cat(targets) if targets else None
        prior = weight * float(objective.prior_loss(group, pose, expected)) if weight else 0.0
        right = objective.prior.is_identity(group, pose)
    return Scores(float(right.cpu().double().mean()), prior + task)


def _turns(group: Group, indices: Tensor) -> Tensor:
    """For each image one of a continuous group's elements, always the same."""
    return group.sample(int(indices.max()) + 1, torch.Generator().manual_seed(0))[indices]


class _Trainer:
    """The state of one training: weights, optimizer, epoch, and the best weights so far.

    Each epoch's shuffling and augmentation come from a generator seeded by run and epoch, so that a resumed run
    needs no generator state to repeat them.
    """

    def __init__(
        self,
        canonicalizer: Canonicalizer,
        objective: Objective,
        settings: TrainingSettings,
        seed: int,
        base: nn.Module | None,
    ) -> None:
        self.canonicalizer = canonicalizer
        # All that is trained, by the names that a saved state has.
        self.trained = nn.ModuleDict({"canonicalizer": canonicalizer, **({} if base is None else {"base": base})})
        self.objective = objective
        self.settings, self.seed = settings, seed
        self.mirrors = settings.mirror and objective.prior.survives_mirroring(canonicalizer.group)
        self.epoch = 0
        # In fp16 small gradients would vanish; in other precisions this does nothing.
        self.scaler = torch.amp.GradScaler(
            next(self.trained.parameters()).device.type, enabled=settings.precision == "fp16", init_scale=2.0**12
        )
        self.best: tuple[int, Scores, dict[str, Tensor]] | None = None
        rates = {"canonicalizer": settings.learning_rate, "base": settings.base_learning_rate}
        groups = []
        for name, module in self.trained.items():
            # Biases, norms and the temperature have no reason to be small.
            for large, decay in ((True, settings.weight_decay), (False, 0.0)):
                parameters = [p for p in module.parameters() if (p.ndim > 1) == large]
                groups += [{"params": parameters, "weight_decay": decay, "peak": rates[name]}] if parameters else []
        adamw = settings.optimizer == "adamw"
        self.optimizer = torch.optim.AdamW(groups) if adamw else torch.optim.SGD(groups, lr=0.0, momentum=MOMENTUM)
        # The running mean of all weights and statistics; empty where none is kept.
        self.mean = self._weights() if settings.running_mean else {}

    @property
    def device(self) -> torch.device:
        return next(self.trained.parameters()).device

    def run_epoch(self, images: Source, progress: Progress) -> dict[str, float]:
        """Pass once over the images; return the mean of the weighted sum, `loss`, and of each loss, `prior_loss`, …"""
        settings, n = self.settings, len(images)
        device = self.device
        torch.manual_seed(self.seed * 1_000_003 + self.epoch)  # dropout
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        precision = find_precision(settings.precision, device)
        normalization = self.objective.normalization(self.canonicalizer)
        self.trained.train()
        totals = {"loss": 0.0, **{f"{name}_loss": 0.0 for name in self.objective.weights}}
        batches = torch.randperm(n, generator=generator).split(settings.batch_size)
        if self.objective.prior.shares and len(batches) > 1:
            batches = batches[: n // settings.batch_size]  # the rest would be too few to tell how often a pose occurs
        elif "base" in self.trained and len(batches[-1]) == 1 < len(batches):
            batches = batches[:-1]  # of which batch normalization could make nothing
        seen = sum(map(len, batches))
        label = f"epoch {self.epoch + 1}/{settings.epochs}"
        for step, indices in enumerate(progress.track(batches, label, seen, size=len)):
            for group in self.optimizer.param_groups:
                group["lr"] = group["peak"] * learning_rate_factor(
                    self.epoch + step / len(batches), settings.epochs, settings.schedule
                )
            taken = images.take(indices)
            x, poses = self._vary(taken, generator)
            x = normalization(x)
            if settings.augment:
                acting = self.canonicalizer.group
                h = acting.sample(len(x), generator)
                x = act(acting, h.to(device), x, kind_of(acting), padding=self.objective.padding)
            _, losses = self.objective.losses(self.canonicalizer, x, taken.targets, generator, precision, poses)
            loss = self.objective.total(losses)
            if not loss.isfinite():
                slower = f"--set learning_rate={settings.learning_rate / 10:g}"
                raise EquicliError(f"training diverged in epoch {self.epoch + 1}; try {slower}.")
            self.optimizer.zero_grad()
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            if self.mean:
                self._average(self.epoch * len(batches) + step)
            for name, value in {"loss": loss, **{f"{name}_loss": part for name, part in losses.items()}}.items():
                totals[name] += value.item() * len(indices) / seen
        self.epoch += 1
        return totals

    def _vary(self, taken: Images, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Training images or clouds, varied at random, and the poses that are right for each where these are known."""
        if self.canonicalizer.group.dimension == 3:
            return vary_clouds(taken.pixels, generator, mirror=self.mirrors), None
        aspects = taken.aspects if self.objective.small and self.canonicalizer.view.whole else None
        side, crop = taken.pixels.shape[-1], self.settings.crop
        size = max(1, round(self.settings.crop_size * side))
        x, flipped = vary(taken.pixels, generator, crop=crop, mirror=self.mirrors, aspects=aspects, size=size)
        poses = taken.poses
        if poses is not None:
            flipped = flipped[:, None].to(poses.device)
            poses = torch.where(flipped, mirrored(self.canonicalizer.group, poses), poses)
        return degrade(x, generator) if self.settings.degrade else x, poses

    def _weights(self) -> dict[str, Tensor]:
        return {key: value.detach().clone() for key, value in self.trained.state_dict().items()}

    @torch.no_grad()
    def _average(self, step: int) -> None:
        """Take the weights of a step, counted from 0, into their mean: most of it is of the last tenth of the steps."""
        kept = (1 + step) / (10 + step)
        for key, value in self.trained.state_dict().items():
            if value.is_floating_point():
                self.mean[key].lerp_(value, 1 - kept)
            else:
                self.mean[key].copy_(value)

    def judge(self, images: Source) -> Scores:
        """Measure the weights, or the running mean of them where one is kept, and keep them if they are the best."""
        current = self._weights() if self.mean else {}
        if self.mean:
            self.trained.load_state_dict(self.mean)
        self.trained.eval()
        size = 4 * self.settings.batch_size
        scores = measure(self.canonicalizer, images, self.objective, size, turn=self.settings.augment)
        if self.best is None or self._rank(scores) > self._rank(self.best[1]):
            self.best = self.epoch, scores, self._weights()
        if self.mean:
            self.trained.load_state_dict(current)
        return scores

    def _rank(self, scores: Scores) -> tuple[float, ...]:
        return (scores.identity_rate, -scores.loss) if self.objective.judged_by_identity_rate else (-scores.loss,)

    def finish(self) -> tuple[int, Scores]:
        assert self.best is not None
        epoch, scores, weights = self.best
        self.trained.load_state_dict(weights)
        self.trained.eval()
        return epoch, scores

    def save(self, path: Path) -> None:
        """Write the whole state as one file."""
        assert self.best is not None
        epoch, scores, weights = self.best
        tensors = {f"current.{k}": v for k, v in self.trained.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in weights.items()}
        tensors |= {f"mean.{k}": v for k, v in self.mean.items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
        tensors |= {f"scaler.{name}": torch.tensor(value) for name, value in self.scaler.state_dict().items()}
        numbers = [self.epoch, epoch, scores.identity_rate, scores.loss]
        tensors["progress"] = torch.tensor(numbers, dtype=torch.float64)
        write_tensors(path, tensors)

    def restore(self, path: Path) -> None:
        """Go back to a state that was saved.

        Raises:
            EquicliError: the file is damaged, or of another training.
        """
        try:
            self._restore(read_tensors(path))
        except Exception as error:  # of a file that holds anything
            raise EquicliError(
                f"{path}: damaged ({reason(error)}). Remove it, and training begins again with the first epoch."
            ) from error

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        epoch, best_epoch, identity_rate, best_loss = tensors.pop("progress").tolist()
        parts: dict[str, dict[str, Tensor]] = {"current": {}, "best": {}, "mean": {}, "optimizer": {}, "scaler": {}}
        for key, value in tensors.items():
            part, _, name = key.partition(".")
            parts[part][name] = value
        self.trained.load_state_dict(parts["current"])
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in parts["optimizer"].items():
            index, _, moment = name.partition(".")
            moments.setdefault(int(index), {})[moment] = value
        self.optimizer.load_state_dict({"state": moments, "param_groups": self.optimizer.state_dict()["param_groups"]})
        for parameter, state in self.optimizer.state.items():
            if any(moment.ndim and moment.shape != parameter.shape for moment in state.values()):
                raise ValueError("moments of another shape")
        self.scaler.load_state_dict({name: value.item() for name, value in parts["scaler"].items()})
        own = {name: value.shape for name, value in self.trained.state_dict().items()}
        if {name: value.shape for name, value in parts["best"].items()} != own or not 0 <= best_epoch <= epoch:
            raise ValueError("no weights of the best epoch")
        if {name: value.shape for name, value in parts["mean"].items()} != (own if self.mean else {}):
            raise ValueError("no running mean of the weights")
        for name, value in parts["mean"].items():
            self.mean[name].copy_(value)  # as the weights lie
        self.epoch = int(epoch)
        self.best = int(best_epoch), Scores(identity_rate, best_loss), parts["best"]


def learning_rate_factor(epoch: float, epochs: int, schedule: str = "cosine") -> float:
    """What the learning rate is multiplied with at `epoch` in [0, epochs); needs no state to resume.

    `cosine` is a linear warm-up, then a half cosine to 0; the others are those of EquiAdapt's published code.
    """
    if schedule == "constant":
        return 1.0
    if schedule == "steps":
        return 0.1 ** sum(epoch >= max(1, epochs // part) for part in (STEPS_OF_LONG if epochs > 100 else STEPS))
    warmup = WARMUP * epochs
    if epoch < warmup:
        return 0.05 + 0.95 * epoch / warmup
    return 0.5 + 0.5 * math.cos(math.pi * (epoch - warmup) / (epochs - warmup))
