from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch import nn

from equicli.canonicalization.losses import set_loss, target_loss
from equicli.canonicalization.prior import Prior
from equicli.data.decode import PLAIN
from equicli.data.folders import Sample
from equicli.data.normalization import HALF
from equicli.data.preprocess import Preprocess
from equicli.errors import UsageError
from equicli.groups import as_finite, parse_group
from equicli.groups.action import act
from equicli.prediction.network import NetworkSpec, PretrainedNetwork
from equicli.progress import Silent
from equicli.tasks.classification.task import Classification
from equicli.training.objective import Objective
from equicli.training.pose_targets import find_pose_targets, mirrored
from tests.training.small_runs import configuration, run_adapt, write_images

SIDE = 12


class Handless(nn.Module):
    """A classifier that says the same of a picture and its mirror image."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.weights = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 3))

    def forward(self, x):
        return self.weights(x) + self.weights(x.flip(-1))


def targets_of(folder, group, right, network=None):
    network = network or Handless()
    found = PretrainedNetwork(network, NetworkSpec("python", "own"), Preprocess(None, None, "bilinear", HALF), None, {})
    samples = [Sample(path) for path in sorted(folder.iterdir())]
    setup = SimpleNamespace(
        found=found,
        task=Classification(),
        group=parse_group(group),
        config=SimpleNamespace(padding="edge"),
        device=torch.device("cpu"),
        decoder=PLAIN,
        progress=Silent(),
    )
    return find_pose_targets(setup, samples, right)


def write_noise(folder, change=lambda picture: picture):
    folder.mkdir()
    for seed in range(3):
        picture = torch.randint(0, 256, (3, SIDE, SIDE), generator=torch.Generator().manual_seed(seed))
        Image.fromarray(change(picture.to(torch.uint8)).permute(1, 2, 0).numpy()).save(folder / f"{seed}.png")
    return folder


@pytest.mark.parametrize("right", [[0, 1, 2], None])
@pytest.mark.parametrize("group", ["c4", "d4"])
def test_targets_are_the_networks_likelihood_and_turn_and_mirror_with_the_picture(tmp_path, group, right):
    of = as_finite(parse_group(group))
    q = targets_of(write_noise(tmp_path / "as-it-is"), group, right)
    assert q.shape == (3, of.order) and torch.allclose(q.sum(dim=1), torch.ones(3))
    assert q.std(dim=1).min() > 1e-3
    for h in range(of.order):
        turned = targets_of(write_noise(tmp_path / f"{h}", lambda x, h=h: act(of, h, x)), group, right)
        # q(g | h·x) = q(h⁻¹g | x)
        rows = [of.compose(of.inverse(h), g) for g in range(of.order)]
        assert torch.allclose(turned, q[:, rows], atol=1e-5)
    flipped = targets_of(write_noise(tmp_path / "mirrored", lambda x: x.flip(-1)), group, right)
    assert torch.allclose(flipped, mirrored(parse_group(group), q), atol=1e-5)


def test_a_view_of_which_the_network_says_the_right_thing_is_the_likelier(tmp_path):
    class Top(nn.Module):  # class 1 is bright above
        def forward(self, x):
            above = x[:, :, : SIDE // 2].mean(dim=(1, 2, 3)) - x[:, :, SIDE // 2 :].mean(dim=(1, 2, 3))
            return torch.stack([-above, above], dim=1) * 5

    write_images(tmp_path / "bright", 2, frames=((SIDE, SIDE),))
    assert targets_of(tmp_path / "bright", "c4", [1, 1], Top()).argmax(dim=1).tolist() == [0, 0]
    assert targets_of(tmp_path / "bright", "c4", [0, 0], Top()).argmax(dim=1).tolist() == [2, 2]


def test_a_target_with_one_pose_is_that_set_and_the_best_scores_are_those_of_the_target():
    scores = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    certain = torch.eye(4)[[2] * 5]
    assert target_loss(scores, certain).item() == pytest.approx(set_loss(scores, [2]).item(), rel=1e-5)
    q = scores.softmax(dim=1)
    assert target_loss(scores, q).item() == pytest.approx(0, abs=1e-6)
    assert target_loss(scores.flip(0), q).item() > 0.01


def test_pictures_with_targets_of_their_own_choose_the_epoch_by_the_loss():
    assert Objective(Prior(), {"prior": 1.0}, "edge", None).judged_by_identity_rate
    assert not Objective(Prior(), {"prior": 1.0}, "edge", None, by_picture=True).judged_by_identity_rate


@pytest.mark.parametrize("labelled", [True, False])
def test_a_run_trains_on_what_the_network_says_and_is_measured_as_upright(workplace, labelled):
    data = "photos"
    if not labelled:
        data = "flat"
        write_images(workplace / data, 12)
    run, adapted = run_adapt("out", data=data, prior="model", group="d4")
    assert adapted.config.policy.temperature == 1  # p(g|x) is of the network's targets: no prior is to be fitted
    assert run.read_settings()["prior"] == "model"
    assert adapted.config.prior == Prior(("r0", "r0m"))
    losses = [entry["prior_loss"] for entry in run.read_log() if "prior_loss" in entry]
    _, other = run_adapt("other", data=data, group="d4")
    assert len(losses) == 2
    changed = zip(adapted.model.canonicalizer.parameters(), other.model.canonicalizer.parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in changed)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"group": "so2"}, "infinitely many poses"),
        ({"canonicalizer": {"kind": "energy"}, "training": {"prior_weight": 0}}, "not trained towards poses"),
        ({"prior_weight": 0, "task_weight": 1}, "not trained towards poses"),
        ({"upright": ["more"]}, "leave one of them out"),
    ],
)
def test_what_goes_with_no_targets_of_the_network_is_refused(changes, words):
    canonicalizer = {} if changes.get("group") == "so2" else {"canonicalizer": {"network": "conv"}}
    with pytest.raises(UsageError, match=words):
        configuration(**{**canonicalizer, "canonicalizer": {}, "prior": "model", **changes})
