"""Point clouds from files of every kind, in every layout; what is no cloud is told in one line."""

import io

import numpy as np
import pytest
import torch

from equicli.data.clouds.decode import CloudDecoder, UnreadableCloudError
from equicli.data.clouds.folders import open_clouds
from equicli.data.clouds.preprocess import CloudPreprocess, farthest_points, unit_sphere
from equicli.data.layouts import SplitNames
from equicli.errors import EquicliError, UsageError
from equicli.groups import parse_group
from equicli.groups.action import act
from equicli.groups.cover import cover

POINTS = np.random.default_rng(0).normal(size=(20, 3)).round(3)
OFF = "4 4 0\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 1 2\n3 0 1 3\n3 0 2 3\n3 1 2 3\n"
read = CloudDecoder().read


def saved(path, points=POINTS):
    """Write points as the suffix says."""
    suffix = path.suffix
    if suffix in (".xyz", ".txt", ".pts"):
        head = {".xyz": "# x y z\n", ".txt": "", ".pts": f"{len(points)}\n"}[suffix]
        between = "," if suffix == ".txt" else " "  # as ModelNet40's, with normals
        rows = [between.join(f"{v:.6f}" for v in (*row, 0, 0, 1)) for row in points]
        path.write_text(head + "\n".join(rows))
    elif suffix == ".npy":
        np.save(path, points)
    elif suffix == ".npz":
        np.savez(path, pos=points, normal=points)
    elif suffix in (".las", ".laz"):
        import laspy

        scan = laspy.create(point_format=0, file_version="1.2")
        scan.header.scales = [0.001] * 3
        scan.x, scan.y, scan.z = points.T
        scan.write(str(path))
    else:
        import trimesh

        trimesh.PointCloud(points).export(path)
    return path


@pytest.mark.parametrize("suffix", [".xyz", ".txt", ".pts", ".npy", ".npz", ".las", ".laz", ".ply", ".obj"])
def test_points_come_in_the_order_and_the_units_of_the_file(tmp_path, suffix):
    found = read(saved(tmp_path / f"cloud{suffix}"))
    assert found.dtype == torch.float64
    assert torch.allclose(found, torch.from_numpy(POINTS), atol=1e-5)


@pytest.mark.parametrize("head", ["OFF\n", "OFF"])  # in ModelNet40 some headings run into the counts
def test_meshes_are_sampled_evenly_by_area_with_a_seed(tmp_path, head):
    path = tmp_path / "mesh.off"
    path.write_text(head + OFF)
    found = CloudDecoder(3000, seed=1).read(path)
    assert found.shape == (3000, 3)
    assert torch.equal(found, CloudDecoder(3000, seed=1).read(path))
    assert not torch.equal(found, CloudDecoder(3000, seed=2).read(path))
    slanted = ((found.sum(dim=1) - 1).abs() < 1e-9).double().mean()  # the side with √3 of 3 + √3 parts
    assert abs(float(slanted) - 3**0.5 / (3 + 3**0.5)) < 0.04


def test_stl_is_a_mesh(tmp_path):
    import trimesh

    path = tmp_path / "mesh.stl"
    trimesh.load(io.BytesIO(("OFF\n" + OFF).encode()), file_type="off").export(path)
    assert read(path).shape == (2048, 3)


@pytest.mark.parametrize(
    "name, content, why",
    [
        ("a.xyz", "", "no points in it"),
        ("a.xyz", "1 2\n3 4", "unreadable"),
        ("a.xyz", "1 2 nan\n3 4 5", "not a number, or infinite"),
        ("a.xyz", "1 2 1e200\n3 4 5", "beyond 1e150"),
        ("a.xyz", "1 2 three\n4 five 6", "unreadable"),
        ("a.npy", "no array", "unreadable"),
        ("a.las", "no scan", "unreadable"),
        ("a.off", "no mesh", "unreadable"),
        ("a.off", "OFF\n3 1 0\n0 0 0\n0 0 0\n0 0 0\n3 0 1 2\n", "a surface without area"),
        ("a.png", "no cloud", "'.png' is none of"),
    ],
)
def test_what_is_no_cloud_is_refused_in_one_line_that_names_the_file(tmp_path, name, content, why):
    (tmp_path / name).write_text(content)
    with pytest.raises(UnreadableCloudError) as error:
        read(tmp_path / name)
    assert why in str(error.value) and str(tmp_path / name) in str(error.value) and "\n" not in str(error.value)


def test_nothing_is_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"points": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UnreadableCloudError, match="allow_pickle=False"):
        read(tmp_path / "a.npy")


def test_a_missing_file_and_values_that_are_no_clouds(tmp_path):
    with pytest.raises(UnreadableCloudError, match="No such file"):
        read(tmp_path / "gone.xyz")
    with pytest.raises(UsageError, match="a cloud is a path or an array"):
        read(np.zeros((4, 2)))
    assert len(CloudDecoder().read_all(POINTS)) == 1 and len(CloudDecoder().read_all([POINTS, POINTS])) == 2


def test_class_folders_in_modelnet40s_layout(tmp_path):
    for name in ("chair", "night_stand"):
        for part in ("train", "test"):
            (tmp_path / name / part).mkdir(parents=True)
            (tmp_path / name / part / f"{name}_0001.off").write_text("OFF\n" + OFF)
    (tmp_path / "README.txt.md").write_text("no cloud")
    found = open_clouds(tmp_path)
    assert found.classes == ("chair", "night_stand") and found.test is not None
    assert (len(found.train), len(found.test)) == (2, 2)
    assert "1 file other than point clouds (.md)" in str(found.left_out.line())


def test_a_flat_folder_has_no_labels_and_an_empty_one_is_refused_by_its_name(tmp_path):
    with pytest.raises(EquicliError, match="point cloud"):
        open_clouds(tmp_path)
    for index in range(3):
        saved(tmp_path / f"{index}.npy")
    found = open_clouds(tmp_path)
    assert (found.classes, len(found.train)) == ((), 3)


def h5(path, labels, seed=0):
    import h5py

    points = np.random.default_rng(seed).normal(size=(len(labels), 16, 3)).astype(np.float32)
    with h5py.File(path, "w") as file:
        file["data"], file["label"] = points, np.array(labels, dtype=np.float32)[:, None]
    return points


def test_h5_files_of_modelnet40_and_scanobjectnn(tmp_path):
    first = h5(tmp_path / "ply_data_train0.h5", [0, 2, 1, 0])
    h5(tmp_path / "ply_data_test0.h5", [1, 2], seed=1)
    (tmp_path / "shape_names.txt").write_text("airplane\nbathtub\nbed\n")
    found = open_clouds(tmp_path)
    assert found.classes == ("airplane", "bathtub", "bed") and found.test is not None
    assert [sample.target for sample in found.train] == [0, 2, 1, 0] and [s.target for s in found.test] == [1, 2]
    assert torch.equal(read(found.train[1].path), torch.from_numpy(first[1]).double())
    prints = {CloudDecoder().fingerprint(sample.path) for sample in found.samples}
    assert len(prints) == 6
    with pytest.raises(UnreadableCloudError, match="000099"):
        read(tmp_path / "ply_data_train0.h5" / "000099")


def test_damaged_h5_files_are_refused(tmp_path):
    (tmp_path / "train.h5").write_text("no h5")
    with pytest.raises(EquicliError, match=r"train.h5: no h5 file with data \(n, points, 3\)"):
        open_clouds(tmp_path)
    (tmp_path / "train.h5").unlink()
    h5(tmp_path / "main_split_train.h5", [0, 0.5])
    with pytest.raises(EquicliError, match="labels are no whole numbers from 0 on"):
        open_clouds(tmp_path)
    h5(tmp_path / "main_split_train.h5", [0, 5])
    (tmp_path / "shape_names.txt").write_text("only one\n")
    with pytest.raises(EquicliError, match="names 2 classes, but labels go up to 5"):
        open_clouds(tmp_path)


def test_parts_of_h5_files_are_what_their_names_say_and_nothing_is_lost(tmp_path):
    h5(tmp_path / "train.h5", [0, 1, 0])
    h5(tmp_path / "val.h5", [1], seed=1)
    saved(tmp_path / "beside.npy")
    (tmp_path / "more").mkdir()
    h5(tmp_path / "more" / "train.h5", [0])
    found = open_clouds(tmp_path)
    assert (len(found.train), found.validation, found.test) == (4, None, None)
    assert found.remarks == ("no h5 file here has test clouds: all are divided anew",)
    assert found.left_out.line() == "left out: 2 point clouds beside what is read (beside.npy, train.h5)"
    with pytest.raises(UsageError, match=r"--val-split val: .* has h5 files"):
        open_clouds(tmp_path, SplitNames(validation="val"))
    h5(tmp_path / "test.h5", [1, 1], seed=2)
    found = open_clouds(tmp_path)
    assert (len(found.train), len(found.validation), len(found.test), found.remarks) == (3, 1, 2, ())
    for name in ("train.h5", "test.h5"):
        (tmp_path / name).unlink()
    assert len(open_clouds(tmp_path).train) == 1
    h5(tmp_path / "val.h5", [])
    with pytest.raises(EquicliError, match="no clouds in its h5 files"):
        open_clouds(tmp_path)


def test_labels_of_points_are_whole_numbers(tmp_path):
    path, decoder = tmp_path / "cloud.txt", CloudDecoder()
    path.write_text("0 0 0 2\n1 0 0 5.0\n")
    assert decoder.read_labels(path).tolist() == [2, 5]
    path.write_text("0 0 0 0.1 0.2 0.4\n1 0 0 0 0 1\n")
    with pytest.raises(EquicliError, match=r"cloud\.txt: labels in the last column are no whole numbers from 0 on"):
        decoder.read_labels(path)
    path.write_text("0 0 0 -1\n1 0 0 5\n")
    with pytest.raises(EquicliError, match=r"cloud\.txt: labels in the last column are no whole numbers from 0 on"):
        decoder.read_labels(path)
    for normals in ("0 0 0 0.6 0 0.8\n1 0 0 0 0 1\n", "0 0 0 0 0 1\n1 0 0 0 1 0\n"):  # the latter are whole numbers
        path.write_text(normals)
        with pytest.raises(EquicliError, match=r"cloud\.txt: the last three columns are normals"):
            decoder.read_labels(path)
    path.write_text("0 0 0 0 0 1 2\n1 0 0 0 1 0 0\n")
    assert decoder.read_labels(path).tolist() == [2, 0]
    np.savez(tmp_path / "named.npz", points=POINTS, label=np.array(["leg"] * 20))
    with pytest.raises(EquicliError, match=r"named\.npz: labels are no whole numbers"):
        decoder.read_labels(tmp_path / "named.npz")
    (tmp_path / "damaged.npz").write_bytes(b"PK\x03\x04")
    assert decoder.read_labels(tmp_path / "damaged.npz") is None and decoder.read_labels(tmp_path / "gone.txt") is None


def test_drawn_points_are_centred_and_scaled_to_the_unit_sphere():
    cloud = torch.from_numpy(POINTS) * 7 + 1e6
    for draw in ("random", "first", "farthest"):
        found = CloudPreprocess(12, draw)(cloud)
        assert found.shape == (12, 3) and found.dtype == torch.float32
        assert found.mean(dim=0).abs().max() < 1e-6 and abs(float(found.norm(dim=1).max()) - 1) < 1e-6
        assert torch.equal(found, CloudPreprocess(12, draw)(cloud))
    assert torch.equal(CloudPreprocess(12, "first")(cloud), unit_sphere(cloud[:12]).float())
    assert not torch.equal(CloudPreprocess(12, seed=1)(cloud), CloudPreprocess(12)(cloud))
    few = CloudPreprocess(50)(cloud)
    assert len(few) == 50 and len(few.unique(dim=0)) == 20  # all of them, and some again


def test_preparing_commutes_with_turning_and_exactly_with_the_rotations_of_the_cube():
    group, cloud = parse_group("so3"), torch.from_numpy(POINTS) + 3
    prepare = CloudPreprocess(12)
    for h in (*cover(group)[1:4], *cover(group)[-3:]):
        assert torch.equal(prepare(act(group, h, cloud, "points")), act(group, h, prepare(cloud), "points"))
    h = group.sample(1, torch.Generator().manual_seed(0))[0]
    assert torch.allclose(prepare(act(group, h, cloud, "points")), act(group, h, prepare(cloud), "points"), atol=1e-6)


def test_equal_points_stay_at_the_origin_and_huge_coordinates_are_no_harm():
    assert torch.equal(unit_sphere(torch.full((5, 3), 1e7 + 0.1, dtype=torch.float64)), torch.zeros(5, 3).double())
    assert torch.equal(unit_sphere(torch.zeros(1, 3)), torch.zeros(1, 3))
    huge = unit_sphere(torch.from_numpy(POINTS) * 1e140)
    assert torch.allclose(huge, unit_sphere(torch.from_numpy(POINTS)), atol=1e-12)


def test_farthest_points_are_spread_and_the_same_in_any_order():
    cloud = torch.from_numpy(POINTS)
    chosen = cloud[farthest_points(cloud, 6)]
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    assert torch.equal(cloud[order][farthest_points(cloud[order], 6)], chosen)
    apart = torch.cdist(chosen, chosen).add(torch.eye(6) * 9).min()
    assert apart > torch.cdist(cloud, cloud).add(torch.eye(20) * 9).min()
    with pytest.raises(UsageError, match="--mean: is for pictures"):
        CloudPreprocess().override("checkpoint", mean=(0.5, 0.5, 0.5))
