import copy
import math
from itertools import pairwise

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from equicli.adapted import AdaptedModel
from equicli.canonicalization.networks import conv
from equicli.canonicalization.prior import Prior
from equicli.canonicalization.registry import REGISTRY
from equicli.config import build_config
from equicli.data.normalization import HALF
from equicli.data.preprocess import Preprocess
from equicli.data.source import Resident
from equicli.errors import EquicliError
from equicli.groups.action import act
from equicli.policy import One
from equicli.progress import Silent
from equicli.tasks.classification.task import Classification
from equicli.training import loop as room
from equicli.training.augmentation import vary
from equicli.training.loop import WARMUP, fit, learning_rate_factor, measure
from equicli.training.objective import Objective, TaskLoss
from tests.canonicalization.examples import canonicalizer, conv_canonicalizer, create
from tests.evaluation.handmade import BOTTOM, LEFT, TOP, EdgeNetwork, bright, finding_top

UPRIGHT = Prior(("r0",))
AS_THEY_ARE = Preprocess(None, None, "bilinear", HALF)


class Killed(Exception):
    pass


class Killing(Silent):
    """Stops at the first line that starts so, or before batch `batch` of the items labelled so."""

    def __init__(self, text, batch=None):
        self.text = text
        self.batch = batch

    def say(self, text):
        if self.batch is None and text.startswith(self.text):
            raise Killed

    def track(self, items, label, total, size=None):
        for index, item in enumerate(items):
            if index == self.batch and label.startswith(self.text):
                raise Killed
            yield item


def upright(count, side=16):
    """Images that are brighter above than below, uint8 (count, 3, side, side)."""
    generator = torch.Generator().manual_seed(count)
    slope = torch.linspace(200, 50, side)[:, None]
    return (slope + 50 * torch.rand(count, 3, side, side, generator=generator)).to(torch.uint8)


def forgetful(seed):
    """A canonicalizer with dropout, from a state of its own."""
    torch.manual_seed(seed)
    return canonicalizer("c4", nn.Sequential(conv(4, 32), nn.Dropout(0.3), nn.Linear(32, 16)), size=16)


def train(
    module, tmp_path, *, images=None, validation=None, task=None, log=lambda entry: None, progress=None, **settings
):
    kind = next((name for name, kind in REGISTRY.items() if type(module) is kind), "optimized")
    basic = {"group": module.group.name, "canonicalizer": {"kind": kind}}
    settings = {"epochs": 3, "batch_size": 8, "learning_rate": 0.01, **basic, **settings}
    config = build_config({"data": "photos", "model": "test_resnet", **settings}, [], None)
    side = module.view.size
    parts = [upright(20, side) if images is None else images, upright(12, side) if validation is None else validation]
    parts = [part if isinstance(part, Resident) else unlabelled(part) for part in parts]
    objective = Objective.of(config.training, Prior.of(config.prior, module.group), config.padding, task)
    state = tmp_path / "state.safetensors"
    options = {"state": state, "log": log, "progress": progress or Silent()}
    return fit(module, *parts, objective, config.training, config.seed, **options)


def unlabelled(pixels, aspect=1.0):
    return Resident(pixels, torch.full((len(pixels),), aspect), [None] * len(pixels))


def objective_of(prior=UPRIGHT, weights=None):
    return Objective(prior, weights or {"prior": 1.0}, "edge", None)


def weights(module):
    return {key: value.clone() for key, value in module.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_a_canonicalizer_learns_to_find_upright_images(tmp_path):
    module = conv_canonicalizer("c4", size=16)
    entries = []
    _, scores = train(module, tmp_path, epochs=15, log=entries.append)
    assert scores.identity_rate > 0.9
    assert entries[-1]["prior_loss"] < entries[0]["prior_loss"] / 2


def test_after_training_every_parameter_and_buffer_of_the_prediction_network_is_as_it_was(tmp_path):
    model = AdaptedModel(conv_canonicalizer("c4", size=16), timm.create_model("test_resnet"), AS_THEY_ARE).train()
    before = copy.deepcopy(model.state_dict())
    train(model.canonicalizer, tmp_path)
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert "canonicalizer.network.0.weight" in changed
    assert not any(key.startswith("prediction_network.") for key in changed)
    assert not any(module.training for module in model.prediction_network.modules())


@pytest.mark.parametrize("upside_down", [False, True])
def test_the_weights_and_scores_of_the_best_epoch_are_left(tmp_path, upside_down):
    validation = upright(12).flip(-2) if upside_down else upright(12)  # the more is learned, the worse when upside down
    module, entries, snapshots = forgetful(0), [], []

    def log(entry):
        entries.append(entry)
        snapshots.append(weights(module))

    epoch, scores = train(module, tmp_path, validation=validation, epochs=8, log=log)
    assert epoch < 8 or not upside_down
    ranks = [(entry["validation"]["identity_rate"], -entry["validation"]["loss"]) for entry in entries]
    assert ranks[epoch - 1] == max(ranks) == (scores.identity_rate, -scores.loss)
    assert same(weights(module), snapshots[epoch - 1])
    assert measure(module, unlabelled(validation), objective_of(), 32) == scores
    assert not module.training


@pytest.mark.parametrize(
    ("text", "batch"),
    [("epoch 1/3", None), ("epoch 2/3", None), ("epoch 3/3", None), ("epoch 1/3", 0), ("epoch 2/3", 1)],
)
def test_a_killed_run_resumes_to_the_weights_of_an_uninterrupted_one(tmp_path, text, batch):
    (tmp_path / "whole").mkdir()
    whole = forgetful(0)
    expected = train(whole, tmp_path / "whole")

    killed = forgetful(0)
    with pytest.raises(Killed):
        train(killed, tmp_path, progress=Killing(text, batch))
    resumed = forgetful(9) if (tmp_path / "state.safetensors").exists() else forgetful(0)
    torch.manual_seed(1234)
    assert train(resumed, tmp_path) == expected
    assert same(weights(resumed), weights(whole))


def test_a_run_in_fp16_resumes_to_the_same_weights_and_scale(tmp_path):
    (tmp_path / "whole").mkdir()
    whole = forgetful(0)
    expected = train(whole, tmp_path / "whole", precision="fp16")
    with pytest.raises(Killed):
        train(forgetful(0), tmp_path, precision="fp16", progress=Killing("epoch 2/3"))
    resumed = forgetful(9)
    assert train(resumed, tmp_path, precision="fp16") == expected
    assert same(weights(resumed), weights(whole))
    states = [load_file(folder / "state.safetensors") for folder in (tmp_path, tmp_path / "whole")]
    scaler = [{key: value.item() for key, value in state.items() if key.startswith("scaler.")} for state in states]
    assert scaler[0] == scaler[1] and scaler[0]["scaler._growth_tracker"] > 0


def test_a_run_killed_while_logging_resumes_to_the_same_weights_and_repeats_that_epoch(tmp_path):
    def log(entry):
        entries.append(entry["epoch"])
        if entry["epoch"] == 2 and not (tmp_path / "killed").exists():
            (tmp_path / "killed").touch()
            raise Killed

    (tmp_path / "whole").mkdir()
    whole, entries = forgetful(0), []
    train(whole, tmp_path / "whole")
    with pytest.raises(Killed):
        train(forgetful(0), tmp_path, log=log)
    resumed = forgetful(9)
    train(resumed, tmp_path, log=log)
    assert same(weights(resumed), weights(whole))
    assert entries == [1, 2, 2, 3]


def test_a_running_mean_of_the_weights_is_kept_and_resumed(tmp_path):
    def run(folder, kept=True, **options):
        module, steps = forgetful(0), []
        (tmp_path / folder).mkdir(exist_ok=True)
        state = tmp_path / folder / "state.safetensors"
        if options:
            with pytest.raises(Killed):
                train(forgetful(0), tmp_path / folder, batch_size=20, running_mean=kept, **options)
        train(module, tmp_path / folder, batch_size=20, running_mean=kept, log=lambda _: steps.append(weights(module)))
        return load_file(state), steps

    plain, steps = run("plain", False)  # one step an epoch
    averaged, same_steps = run("averaged")
    resumed, _ = run("resumed", progress=Killing("epoch 3/3"))
    assert all(same(before, after) for before, after in zip(steps, same_steps, strict=True))
    assert not any(name.startswith("mean.") for name in plain)
    module = forgetful(0)
    for name, first in dict(module.named_parameters()).items():
        mean = first.detach()
        for step, kept in enumerate((1 / 10, 2 / 11, 3 / 12)):
            mean = kept * mean + (1 - kept) * steps[step][name]
        torch.testing.assert_close(averaged[f"mean.canonicalizer.{name}"], mean)
    assert averaged.keys() == resumed.keys()
    assert all(torch.equal(averaged[name], resumed[name]) for name in averaged)


def test_the_running_mean_is_what_is_judged_and_left(tmp_path):
    module = forgetful(0)
    _, scores = train(module, tmp_path, epochs=1, running_mean=True)
    state = load_file(tmp_path / "state.safetensors")
    parts = ("best", "mean", "current")
    best, mean, current = ({name: state[f"{part}.canonicalizer.{name}"] for name in weights(module)} for part in parts)
    assert same(best, mean) and same(best, weights(module)) and not same(best, current)
    assert measure(module, unlabelled(upright(12)), objective_of(), 32) == scores


def test_a_seed_decides_the_weights(tmp_path):
    results = []
    for index, seed in enumerate((0, 0, 1)):
        module = forgetful(0)
        (tmp_path / str(index)).mkdir()
        torch.manual_seed(index)
        train(module, tmp_path / str(index), seed=seed)
        results.append(weights(module))
    assert same(results[0], results[1])
    assert not same(results[0], results[2])


def test_each_epoch_is_logged_with_its_losses(tmp_path):
    entries = []
    train(forgetful(0), tmp_path, log=entries.append, prior_weight=2.0, contrast_weight=0.5)
    assert [entry["epoch"] for entry in entries] == [1, 2, 3]
    for entry in entries:
        assert entry["loss"] == pytest.approx(2 * entry["prior_loss"] + 0.5 * entry["contrast_loss"], rel=1e-5)
        assert entry["validation"].keys() == {"identity_rate", "loss"}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_training_in_half_precision_keeps_finite_float32_weights_and_learns(tmp_path, precision):
    module = conv_canonicalizer("c4", size=16)
    _, scores = train(module, tmp_path, precision=precision, epochs=15)
    assert all(parameter.dtype == torch.float32 and parameter.isfinite().all() for parameter in module.parameters())
    assert scores.identity_rate > 0.9


@pytest.mark.parametrize(
    ("kind", "group", "precision"),
    [("equivariant", "c4", "bf16"), ("steerable", "so2", "fp16"), ("steerable", "o2", "bf16")],
)
def test_every_kind_trains_in_half_precision(tmp_path, kind, group, precision):
    module = create(kind, group, size=17, width=4)
    entries, options = [], {"artifact_weight": float(kind == "steerable")}
    train(module, tmp_path, precision=precision, epochs=2, log=entries.append, **options)
    assert all(parameter.dtype == torch.float32 and parameter.isfinite().all() for parameter in module.parameters())
    assert all(math.isfinite(entry["loss"]) for entry in entries)


def test_measuring_counts_images_found_upright_whatever_the_batches():
    module, images = finding_top(EdgeNetwork()).canonicalizer, unlabelled(bright(TOP, LEFT, TOP, BOTTOM, TOP))
    whole = measure(module, images, objective_of(), 5)
    assert whole.identity_rate == 3 / 5
    for size in (1, 2, 7):
        again = measure(module, images, objective_of(), size)
        assert again.identity_rate == 3 / 5
        assert again.loss == pytest.approx(whole.loss, rel=1e-5)


def test_poses_are_measured_on_what_evaluation_sees_where_that_is_kept():
    module, pixels = conv_canonicalizer("c4", size=16), upright(12)
    kept = Resident(pixels.flip(-2), torch.ones(12), [None] * 12, HALF(pixels))
    assert measure(module, kept, objective_of(), 5) == measure(module, unlabelled(pixels), objective_of(), 5)
    assert measure(module, unlabelled(kept.pixels), objective_of(), 5) != measure(module, kept, objective_of(), 5)


def test_measuring_leaves_out_what_only_helps_training():
    module, images = conv_canonicalizer("c8", size=16), unlabelled(upright(6, 32))
    alone = measure(module, images, objective_of(weights={"prior": 2.0}), 4)
    assert measure(module, images, objective_of(weights={"prior": 2.0, "contrast": 1.0, "artifact": 1.0}), 4) == alone
    assert alone.loss == pytest.approx(2 * measure(module, images, objective_of(), 4).loss)


@given(st.integers(1, 50), st.integers(1, 40))
def test_the_learning_rate_warms_up_and_then_falls_to_nothing(epochs, steps):
    at = [step / steps for step in range(epochs * steps)]
    factors = [learning_rate_factor(epoch, epochs) for epoch in at]
    assert all(0 < factor <= 1 for factor in factors)
    for (epoch, factor), (_, following) in pairwise(zip(at, factors, strict=True)):
        assert (
            following >= factor
            if epoch + 1 / steps <= WARMUP * epochs
            else following <= factor or epoch < WARMUP * epochs
        )
    assert learning_rate_factor(WARMUP * epochs, epochs) == 1
    assert learning_rate_factor(epochs, epochs) == pytest.approx(0)


def test_a_diverged_training_stops_and_names_the_remedy(tmp_path):
    module = conv_canonicalizer("c4", size=16)
    with torch.no_grad():
        next(module.parameters()).fill_(float("nan"))
    with pytest.raises(EquicliError, match="diverged in epoch 1; try --set learning_rate="):
        train(module, tmp_path)


def test_with_reflections_a_mirrored_picture_counts_as_upright():
    module, images = conv_canonicalizer("d4", size=16), upright(20)
    poses = module(HALF(images)).element
    for prior, wanted in ((UPRIGHT, [0]), (Prior(("r0", "r0m")), [0, 4])):
        expected = float(torch.isin(poses, torch.tensor(wanted)).float().mean())
        found = measure(module, unlabelled(images), objective_of(prior), 32).identity_rate
        assert found == pytest.approx(expected)


def handed(count, side):
    """The same, and a little brighter on the left, so that a mirrored image can be told."""
    return (upright(count, side).float() * torch.linspace(1, 0.6, side)).to(torch.uint8)


def turned(images, label, group):
    pose = group.find(*Prior((label,)).main)
    return act(group, pose, images)


@pytest.mark.parametrize(
    ("kind", "group", "label"),
    [
        ("optimized", "c4", "r90"),
        ("steerable", "so2", "r90"),
        pytest.param("optimized", "d4", "r90m", marks=pytest.mark.slow),
        pytest.param("equivariant", "c4", "r90", marks=pytest.mark.slow),
    ],
)
def test_the_poses_of_a_turned_folder_are_learned_as_the_prior_says(tmp_path, kind, group, label):
    module = create(kind, group, size=17, width=8)
    images, validation = (turned(handed(count, module.view.size), label, module.group) for count in (24, 12))
    parts = {"images": images, "validation": validation, "prior": [label]}
    _, scores = train(module, tmp_path, epochs=12, **parts)
    assert scores.identity_rate > 0.8
    pose = module(HALF(validation)).element
    assert Prior((label,)).contains(module.group, pose).float().mean().item() == pytest.approx(scores.identity_rate)
    assert not UPRIGHT.contains(module.group, pose).float().mean() > 0.5


@pytest.mark.parametrize(
    ("prior", "mirrors"),
    [(["r0"], True), (["r90"], False), (["r90", "r270"], True), ({"r90": 0.75, "r270": 0.25}, False)],
)
def test_images_are_mirrored_in_training_just_where_that_keeps_the_prior(tmp_path, monkeypatch, prior, mirrors):
    asked = []
    monkeypatch.setattr(
        room, "vary", lambda *a, mirror, **more: asked.append(mirror) or vary(*a, mirror=mirror, **more)
    )
    train(conv_canonicalizer("c4", size=16), tmp_path, epochs=1, prior=prior)
    assert set(asked) == {mirrors}


@pytest.mark.parametrize(("group", "small", "told"), [("c4", True, True), ("c8", True, False), ("c4", False, False)])
def test_aspects_are_undone_just_where_pictures_were_squashed_to_the_views_that_are_trained_on(
    tmp_path, monkeypatch, group, small, told
):
    asked = []
    monkeypatch.setattr(
        room, "vary", lambda *a, aspects, **more: asked.append(aspects) or vary(*a, aspects=aspects, **more)
    )
    module, options = conv_canonicalizer(group, size=16), {}
    images = unlabelled(upright(8, module.view.size), aspect=1.5)
    if not small:
        images, options = labelled(8), {"task_weight": 1.0, "task": edge_task()}
    train(module, tmp_path, images=images, validation=images, epochs=1, **options)
    assert [aspects is not None for aspects in asked] == [told]
    assert not told or set(asked[0].tolist()) == {1.5}


def test_a_skewed_distribution_is_learned_and_its_rarer_pose_is_found(tmp_path):
    module = create("equivariant", "c4", size=17, width=8)
    labels = ["r0"] * 18 + ["r90"] * 6
    images = torch.cat(
        [turned(image[None], label, module.group) for image, label in zip(upright(24, 17), labels, strict=True)]
    )
    shares = {"r0": 0.75, "r90": 0.25}
    _, scores = train(module, tmp_path, images=images, validation=images, prior=shares, epochs=30, batch_size=24)
    share = module(HALF(images)).element.bincount(minlength=4) / 24
    torch.testing.assert_close(share, torch.tensor([0.75, 0.25, 0, 0]), atol=0.1, rtol=0)
    assert scores.loss < 0.3


def test_with_a_distribution_the_lowest_loss_chooses_the_epoch(tmp_path):
    module, entries = forgetful(0), []
    epoch, scores = train(module, tmp_path, epochs=6, prior={"r0": 0.5, "r180": 0.5}, log=entries.append)
    losses = [entry["validation"]["loss"] for entry in entries]
    assert losses[epoch - 1] == min(losses) == scores.loss


def edge_task():
    """Four classes that tell images of four edges apart, and no more, just where the top edge is turned up."""
    return TaskLoss(EdgeNetwork(), HALF, One(), Classification().loss)


def labelled(count, target=TOP):
    return Resident(upright(count), torch.ones(count), [target] * count)


def test_the_task_alone_teaches_the_pose_that_the_network_knows(tmp_path):
    module, entries = conv_canonicalizer("c4", size=16), []
    options = {"prior_weight": 0, "contrast_weight": 0, "task_weight": 1.0, "task": edge_task(), "log": entries.append}
    epoch, scores = train(module, tmp_path, images=labelled(24), validation=labelled(12), epochs=20, **options)
    assert scores.identity_rate > 0.9
    losses = [entry["validation"]["loss"] for entry in entries]
    assert losses[epoch - 1] == min(losses)
    assert entries[0].keys() == {"epoch", "seconds", "loss", "task_loss", "validation"}


def test_losses_are_logged_one_by_one_and_add_up(tmp_path):
    entries = []
    weights = {"prior_weight": 2.0, "contrast_weight": 0.5, "artifact_weight": 0.25, "task_weight": 0.125}
    options = {"images": labelled(20), "validation": labelled(12), "task": edge_task(), "log": entries.append}
    train(conv_canonicalizer("c8", size=16), tmp_path, epochs=2, **weights, **options)
    for entry in entries:
        parts = {name: weight * entry[name.replace("weight", "loss")] for name, weight in weights.items()}
        assert entry["loss"] == pytest.approx(sum(parts.values()), rel=1e-5)
        assert all(part > 0 for part in parts.values())
    for name in ("prior", "contrast"):
        entries.clear()
        given_ = {
            f"{name}_weight": 1.0,
            **{f"{other}_weight": 0 for other in ("artifact", "contrast") if other != name},
        }
        (tmp_path / name).mkdir()
        train(conv_canonicalizer("c8", size=16), tmp_path / name, epochs=1, log=entries.append, **given_)
        assert f"{name}_loss" in entries[0] and "artifact_loss" not in entries[0] and "task_loss" not in entries[0]


@pytest.mark.parametrize(("kind", "group"), [("optimized", "c8"), ("equivariant", "c8"), ("steerable", "o2")])
def test_every_kind_resumes_to_the_same_weights_with_every_loss_on(tmp_path, kind, group):
    options = {"images": labelled(16), "validation": labelled(8), "task": edge_task(), "epochs": 2}
    options |= {"task_weight": 0.5, "artifact_weight": 0.5}
    (tmp_path / "whole").mkdir()
    whole = create(kind, group, size=17, width=4)
    expected = train(whole, tmp_path / "whole", **options)
    with pytest.raises(Killed):
        train(create(kind, group, size=17, width=4), tmp_path, progress=Killing("epoch 2/2", 1), **options)
    resumed = create(kind, group, size=17, width=4, seed=5)
    torch.manual_seed(99)
    assert train(resumed, tmp_path, **options) == expected
    assert same(weights(resumed), weights(whole))


def test_the_loss_of_a_distribution_prior_does_not_depend_on_batches():
    module, images = conv_canonicalizer("c4", size=16), upright(21)
    pixels = torch.cat([torch.rot90(images, k, (-2, -1)) for k in (0, 1)])  # ordered by pose
    objective = objective_of(Prior(("r0", "r90"), (0.5, 0.5)))
    losses = [measure(module, unlabelled(pixels), objective, size).loss for size in (42, 21, 4)]
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-5)


def test_as_many_views_are_asked_as_the_settings_say_whoever_trains(tmp_path):
    module = create("consensus", "c4", size=16, width=4)
    train(module, tmp_path, views=1, epochs=1)
    assert module.training_views == 1
