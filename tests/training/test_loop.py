import copy
from itertools import pairwise

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from equicli.adapted import AdaptedModel
from equicli.canonicalization.networks import conv
from equicli.config import AdaptConfig
from equicli.data.normalization import HALF
from equicli.errors import EquicliError
from equicli.progress import Silent
from equicli.training.loop import WARMUP, Scores, augment, fit, learning_rate_factor, measure
from tests.canonicalization.examples import canonicalizer, conv_canonicalizer
from tests.evaluation.handmade import BOTTOM, LEFT, TOP, EdgeNetwork, bright, finding_top


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

    def track(self, items, label, total):
        for index, item in enumerate(items):
            if index == self.batch and label.startswith(self.text):
                raise Killed
            yield item


def upright(count):
    """Images that are brighter above than below, uint8 (count, 3, 16, 16)."""
    generator = torch.Generator().manual_seed(count)
    slope = torch.linspace(200, 50, 16)[:, None]
    return (slope + 50 * torch.rand(count, 3, 16, 16, generator=generator)).to(torch.uint8)


def forgetful(seed):
    """A canonicalizer with dropout, from a state of its own."""
    torch.manual_seed(seed)
    return canonicalizer("c4", nn.Sequential(conv(4, 32), nn.Dropout(0.3), nn.Linear(32, 16)), size=16)


def train(module, tmp_path, *, validation=None, log=lambda entry: None, progress=None, **settings):
    settings = {"epochs": 3, "batch_size": 8, "learning_rate": 0.01, **settings}
    config = AdaptConfig(data="photos", model="test_resnet", **settings)
    state = tmp_path / "state.safetensors"
    validation = upright(12) if validation is None else validation
    return fit(module, upright(20), validation, HALF, config, state=state, log=log, progress=progress or Silent())


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
    model = AdaptedModel(conv_canonicalizer("c4", size=16), timm.create_model("test_resnet")).train()
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
    ranks = [(entry["validation"]["identity_rate"], -entry["validation"]["prior_loss"]) for entry in entries]
    assert ranks[epoch - 1] == max(ranks) == (scores.identity_rate, -scores.prior_loss)
    assert same(weights(module), snapshots[epoch - 1])
    assert measure(module, validation, HALF, 32) == scores
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
        assert entry["validation"].keys() == {"identity_rate", "prior_loss"}


def test_training_in_half_precision_keeps_finite_float32_weights_and_learns(tmp_path):
    module = conv_canonicalizer("c4", size=16)
    _, scores = train(module, tmp_path, precision="bf16", epochs=15)
    assert all(parameter.dtype == torch.float32 and parameter.isfinite().all() for parameter in module.parameters())
    assert scores.identity_rate > 0.9


def test_measuring_counts_images_found_upright_whatever_the_batches():
    module, images = finding_top(EdgeNetwork()).canonicalizer, bright(TOP, LEFT, TOP, BOTTOM, TOP)
    assert measure(module, images, HALF, 5).identity_rate == 3 / 5
    for size in (1, 2, 7):
        again = measure(module, images, HALF, size)
        assert again.identity_rate == 3 / 5
        assert again.prior_loss == pytest.approx(measure(module, images, HALF, 5).prior_loss, rel=1e-5)


def test_a_higher_identity_rate_is_better_and_then_a_lower_loss():
    ordered = [Scores(0.5, 9.0), Scores(0.5, 1.0), Scores(0.9, 2.0), Scores(1.0, 3.0)]
    assert all(later.better_than(earlier) for earlier, later in pairwise(ordered))
    assert not any(earlier.better_than(later) for earlier, later in pairwise(ordered))
    assert not Scores(0.5, 1.0).better_than(Scores(0.5, 1.0))


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


@given(st.integers(1, 6), st.sampled_from([8, 15, 32]), st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_augmenting_keeps_shape_range_and_what_the_seed_decides(batch, side, seed):
    images = torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8)
    augmented = augment(images, torch.Generator().manual_seed(seed))
    assert (augmented.shape, augmented.dtype) == (images.shape, torch.float32)
    assert augmented.min() >= 0 and augmented.max() <= 1 + 1e-6
    assert torch.equal(augmented, augment(images, torch.Generator().manual_seed(seed)))


def test_augmenting_mirrors_some_images_and_keeps_all_upright():
    down = torch.arange(0, 240, 8, dtype=torch.uint8)[:, None].expand(30, 30)
    image = torch.stack([down, down.T, down])
    augmented = augment(image.expand(64, -1, -1, -1), torch.Generator().manual_seed(0))
    assert (augmented[:, 0].diff(dim=1) >= -1e-6).all()
    rising = (augmented[:, 1].diff(dim=2) >= -1e-6).all(dim=(1, 2))
    falling = (augmented[:, 1].diff(dim=2) <= 1e-6).all(dim=(1, 2))
    assert (rising | falling).all()
    assert 16 < rising.sum() < 48


def test_a_diverged_training_stops_and_names_the_remedy(tmp_path):
    module = conv_canonicalizer("c4", size=16)
    with torch.no_grad():
        next(module.parameters()).fill_(float("nan"))
    with pytest.raises(EquicliError, match="diverged in epoch 1; try --set learning_rate="):
        train(module, tmp_path)


def test_with_reflections_a_mirrored_picture_counts_as_upright(tmp_path):
    module = conv_canonicalizer("d4", size=16)
    assert (
        measure(module, upright(20), HALF, 32, poses=(0, 4)).identity_rate
        >= measure(module, upright(20), HALF, 32).identity_rate
    )
    poses = module(HALF(upright(20))).element
    expected = float(((poses == 0) | (poses == 4)).float().mean())
    assert measure(module, upright(20), HALF, 32, poses=(0, 4)).identity_rate == pytest.approx(expected)
