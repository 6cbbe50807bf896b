"""PointNet and DGCNN: published weights load by name, and the order of points means nothing."""

import pytest
import torch
from torch.nn import functional as f

from equicli.data.clouds.preprocess import CloudPreprocess
from equicli.errors import EquicliError, UsageError
from equicli.prediction.load import load_network, rebuild_network
from equicli.prediction.points.dgcnn import DGCNN, edge_features
from equicli.prediction.points.pointnet import PointNet
from equicli.prediction.points.source import MODELNET40

CLOUDS = torch.randn(2, 30, 3, generator=torch.Generator().manual_seed(0))
ARGUMENTS = ({}, {"transforms": True}, {"compact": True}, {"compact": True, "transforms": True})


def seeded(network_class, *args, **kwargs):
    torch.manual_seed(0)
    network = network_class(*args, **kwargs)
    network.train()
    network(torch.randn(4, 20, 3))  # so that running statistics are none of the initial ones
    return network.eval()


@pytest.mark.real
def test_the_public_checkpoint_of_modelnet40_loads_and_says_what_its_published_layout_says(real_data):
    path = real_data / "checkpoints" / "pointnet_modelnet40_learning3d.t7"
    found = load_network("pointnet", checkpoint=str(path))
    weights = torch.load(path, weights_only=True, map_location="cpu")

    def layer(x, number):
        x = f.conv1d(x, weights[f"feature_model.conv{number}.weight"], weights[f"feature_model.conv{number}.bias"])
        return f.relu(normalized(x, f"feature_model.bn{number}"))

    def normalized(x, name):
        mean, variance = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
        return f.batch_norm(x, mean, variance, weights[f"{name}.weight"], weights[f"{name}.bias"], eps=1e-5)

    x = CLOUDS.mT
    for number in range(1, 6):
        x = layer(x, number)
    x = x.amax(dim=2)
    for number in (1, 2):
        x = f.relu(
            normalized(f.linear(x, weights[f"linear{number}.weight"], weights[f"linear{number}.bias"]), f"bn{number}")
        )
    wanted = f.linear(x, weights["linear3.weight"], weights["linear3.bias"])
    with torch.no_grad():
        assert torch.allclose(found.network(CLOUDS), wanted, atol=1e-4, rtol=1e-5)
    assert wanted.shape == (2, 40) and len(set(MODELNET40)) == 40
    assert found.class_names == tuple((name,) for name in MODELNET40)
    assert isinstance(found.preprocess, CloudPreprocess) and found.spec.library == "equicli"


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
def test_the_order_of_points_changes_no_class_and_permutes_the_labels_of_points(arguments):
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        network = seeded(PointNet, 5, **arguments)
        assert torch.allclose(network(CLOUDS[:, order]), network(CLOUDS), atol=1e-5)
        network = seeded(PointNet, 5, parts=True, **arguments)
        assert network(CLOUDS).shape == (2, 30, 5)
        assert torch.allclose(network(CLOUDS[:, order]), network(CLOUDS)[:, order], atol=1e-5)


def test_of_dgcnn_neither():
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        network = seeded(DGCNN, 5, k=6, width=32)
        assert torch.allclose(network(CLOUDS[:, order]), network(CLOUDS), atol=1e-5)
        network = seeded(DGCNN, 5, k=6, width=32, parts=True)
        assert torch.allclose(network(CLOUDS[:, order]), network(CLOUDS)[:, order], atol=1e-5)


def test_edges_go_to_the_nearest_points_and_keep_the_points_own_features():
    edges = edge_features(CLOUDS.mT, 4)
    assert edges.shape == (2, 6, 30, 4)
    assert torch.equal(edges[:, 3:], CLOUDS.mT[..., None].expand(2, 3, 30, 4))
    lengths = edges[:, :3].norm(dim=1).sort(dim=2).values
    wanted = torch.cdist(CLOUDS, CLOUDS).sort(dim=2).values[..., :4]
    assert torch.allclose(lengths, wanted, atol=1e-3)


def test_checkpoints_of_other_implementations_load(tmp_path):
    network = seeded(DGCNN, 7, width=1024)
    state = network.state_dict()
    # WangYueFt's and antao97's hold the first five normalizations twice, and are saved in DataParallel.
    twice = {
        f"bn{n}.{key}": state[f"conv{n}.1.{key}"] for n in range(1, 6) for key in ("weight", "bias", "running_mean")
    }
    torch.save({f"module.{key}": value for key, value in (twice | state).items()}, tmp_path / "dgcnn.t7")
    found = load_network("dgcnn", checkpoint=str(tmp_path / "dgcnn.t7"), arguments={"classes": 7})
    with torch.no_grad():
        assert torch.equal(found.network(CLOUDS), network(CLOUDS))
    # yanx27's PointNet, whose names are ours, within what its trainer saves.
    network = seeded(PointNet, 7, transforms=True, compact=True)
    torch.save({"epoch": 3, "model_state_dict": network.state_dict()}, tmp_path / "best_model.pth")
    arguments = {"classes": 7, "transforms": True, "compact": True}
    found = load_network("pointnet", checkpoint=str(tmp_path / "best_model.pth"), arguments=arguments)
    with torch.no_grad():
        assert torch.equal(found.network(CLOUDS), network(CLOUDS))
        assert torch.equal(rebuild_network(found.spec)(CLOUDS).isfinite(), torch.ones(2, 7, dtype=torch.bool))


def test_what_cannot_be_had_is_told_in_one_line(tmp_path):
    with pytest.raises(UsageError, match=r"no weights of it are published.*--checkpoint FILE.*pretrained=false"):
        load_network("pointnet")
    assert load_network("pointnet", arguments={"pretrained": False}).spec.arguments == {"classes": 40}
    with pytest.raises(EquicliError, match=r"layers.*Check --model-arg"):
        load_network("pointnet", arguments={"pretrained": False, "layers": 3})
    with pytest.raises(EquicliError, match="classes=0 is no number from 1 to 4096"):
        load_network("dgcnn", arguments={"pretrained": False, "classes": 0})
    with pytest.raises(UsageError, match="takes point clouds; leave out --image-size"):
        load_network("dgcnn", arguments={"pretrained": False}, image_size=64)
    torch.save(seeded(PointNet, 7).state_dict(), tmp_path / "seven.pth")
    with pytest.raises(EquicliError, match=r"seven.pth: not the weights of this network"):
        load_network("pointnet", checkpoint=str(tmp_path / "seven.pth"))
