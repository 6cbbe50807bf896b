"""`train_base`: the prediction network is trained, too, alone, behind a canonicalizer, or averaged over poses."""

import pytest
import torch
from safetensors.torch import load_file

from equicli.artifact import load, read_config, write_artifact
from equicli.errors import EquicliError, UsageError
from equicli.groups.action import act
from equicli.training.loop import learning_rate_factor
from tests.training.small_runs import SIDE, VIEWS, resume, run_adapt
from tests.training.test_loop import Killed, Killing

MEAN = {"kind": "mean", "of": "logits"}
SYSTEMS = {
    "augmentation": {"canonicalizer": {"kind": "none"}, "augment": True},
    "learned": {"canonicalizer": {"kind": "equivariant", "size": 17, "width": 4}, "prior_weight": 0},
    "equioptadapt": {"canonicalizer": VIEWS},
    "equituning": {"canonicalizer": {"kind": "none"}, "policy": MEAN},
    "lambda": {
        "canonicalizer": VIEWS,
        "policy": MEAN,
        "prior_weight": 0,
        "contrast_weight": 0,
    },
    "sgd": {"canonicalizer": VIEWS, "optimizer": "sgd", "schedule": "steps"},
}


@pytest.mark.parametrize("changes", [SYSTEMS[name] for name in ("augmentation", "equioptadapt", "lambda")], ids=str)
def test_the_network_is_trained_and_the_artifact_gives_it_back(workplace, changes) -> None:
    run, adapted = run_adapt("out", train_base=True, **changes)
    stored, given = load_file(run.model), load_file(workplace / "weights.safetensors")
    moved = [key for key, value in given.items() if not torch.equal(stored[f"prediction_network.{key}"], value)]
    assert "fc.weight" in moved and "bn1.running_mean" in moved
    x = torch.rand(2, 3, SIDE, SIDE)
    with torch.inference_mode():
        assert torch.equal(load(run.model)(x), adapted.model(x))
    config = read_config(run.model)
    assert config.trained_base and config.policy.kind == ("mean" if "policy" in changes else "one")
    with pytest.raises(EquicliError, match="--adapter-only: the prediction network was trained"):
        write_artifact(workplace / "adapter.safetensors", adapted.model, config, adapter_only=True)


@pytest.mark.parametrize("changes", [SYSTEMS[name] for name in ("lambda", "sgd")], ids=str)
def test_a_killed_run_resumes_to_the_same_artifact(workplace, changes) -> None:
    whole, _ = run_adapt("whole", train_base=True, **changes)
    with pytest.raises(Killed):
        run_adapt("killed", Killing("epoch 1/2:"), train_base=True, **changes)
    resume("killed", train_base=True, **changes)
    assert whole.model.read_bytes() == (workplace / "killed" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_averages_over_the_group_are_the_same_for_every_turn(workplace, average: str) -> None:
    _, adapted = run_adapt("out", canonicalizer={"kind": "none"}, policy={"kind": "mean", "of": average})
    model, x = adapted.model.eval(), torch.rand(3, 3, SIDE, SIDE)
    group = model.canonicalizer.group
    with torch.inference_mode():
        outputs = torch.stack([model(act(group, g, x)) for g in range(group.order)])
        alone = torch.stack([model.prediction_network(act(group, g, x)) for g in range(group.order)])
    torch.testing.assert_close(outputs, outputs[:1].expand_as(outputs), rtol=1e-5, atol=1e-5)
    expected = alone.mean(dim=0) if average == "logits" else alone.softmax(dim=2).mean(dim=0).log()
    torch.testing.assert_close(outputs[0], expected, rtol=1e-5, atol=1e-5)
    assert model.passes(None) == 4 and not model.chooses_pose and model.find_pose(model.tensors(x)) is None


def test_learned_weights_average_as_the_scores_say(workplace) -> None:
    _, adapted = run_adapt("out", canonicalizer=VIEWS, policy=MEAN)
    model, x = adapted.model.eval(), torch.rand(2, 3, SIDE, SIDE)
    group = model.canonicalizer.group
    with torch.inference_mode():
        weights = model.find_pose(model.tensors(x)).scores.softmax(dim=1)
        views = [model.prediction_network(act(group, group.inverse(g), x)) for g in range(group.order)]
        expected = sum(weights[:, g, None] * views[g] for g in range(group.order))
        torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-5)


def test_without_labels_nothing_is_trained_on_the_task(workplace) -> None:
    with pytest.raises(UsageError, match="labels"):
        run_adapt("out", train_base=True, data="photos/ant")
    assert not (workplace / "out").exists()


def test_steps_are_those_of_the_published_code() -> None:
    assert [learning_rate_factor(0.5, epochs, "steps") for epochs in (1, 2, 3)] == [1, 1, 1]  # which has none so short
    short = [learning_rate_factor(epoch, 12, "steps") for epoch in (0, 3.9, 4, 5.9, 6, 11.9)]
    assert short == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    long = [learning_rate_factor(epoch, 200, "steps") for epoch in (32, 33, 66, 100)]
    assert long == pytest.approx([1, 0.1, 0.01, 0.001])
