"""`equicli upright`: turned pictures show upright, lossless where it is said, and others are left as they are."""

import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, JpegImagePlugin

import equicli
from equicli.data.decode import read_picture
from equicli.data.orientation import D4, ELEMENTS, with_orientation
from equicli.errors import UsageError
from equicli.groups.action import act
from equicli.progress import Silent
from equicli.serving.inputs import find_inputs
from equicli.serving.turning import CannotTurnError, turn_file
from equicli.serving.upright import plan_outputs, turn_upright

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 40, 3)).astype(np.uint8))


def encoded(form: str, **options) -> bytes:
    file = io.BytesIO()
    PICTURE.save(file, form, **options)
    return file.getvalue()


def exif(orientation: int | None) -> bytes:
    made = Image.Exif()
    made[271] = "a camera"  # Make
    if orientation is not None:
        made[274] = orientation
    return made.tobytes()


def read(content: bytes, tmp_path) -> torch.Tensor:
    path = tmp_path / "picture"
    path.write_bytes(content)
    return read_picture(path)


@pytest.mark.parametrize("element", range(8))
@pytest.mark.parametrize("stored", [None, 0, 1, 6, 7])
def test_a_tag_turns_what_is_shown_and_keeps_every_other_byte(element, stored, tmp_path) -> None:
    """stored: the orientation before; 0: an EXIF block without one; None: no EXIF."""
    content = encoded("JPEG", **({} if stored is None else {"exif": exif(stored or None)}))
    turned = turn_file(content, element, "tag")
    assert turned.loss is None
    assert torch.equal(read(turned.content, tmp_path), act(D4, element, read(content, tmp_path)))
    scan = content[content.index(b"\xff\xdb") :]
    assert turned.content.endswith(scan)
    if stored is not None:
        assert Image.open(io.BytesIO(turned.content)).getexif()[271] == "a camera"


@pytest.mark.parametrize("form", ["PNG", "TIFF", "BMP", "WEBP"])
@pytest.mark.parametrize("element", range(1, 8))
def test_pixels_turn_without_loss_in_formats_without_loss(form, element, tmp_path) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    content = encoded(form, **options)
    turned = turn_file(content, element, None)
    assert turned.loss is None
    assert torch.equal(read(turned.content, tmp_path), act(D4, element, read(content, tmp_path)))


def test_pixels_of_a_jpeg_are_compressed_again_upright_with_metadata_and_profile(tmp_path) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    content = encoded("JPEG", quality=95, exif=exif(6), icc_profile=profile, subsampling=2)  # blocks of 16 pixels
    turned = turn_file(content, 2, "pixels")
    again = Image.open(io.BytesIO(turned.content))
    assert turned.loss is not None
    assert again.info["icc_profile"] == profile
    assert (again.getexif()[271], again.getexif()[274]) == ("a camera", 1)
    assert again.quantization == Image.open(io.BytesIO(content)).quantization
    expected = act(D4, 2, read(content, tmp_path)).float()
    assert (read(turned.content, tmp_path).float() - expected).abs().mean() < 12


@pytest.mark.parametrize("element", range(1, 8))
@pytest.mark.parametrize("stored, options", [(None, {"subsampling": 0}), (6, {"subsampling": 0, "progressive": True})])
def test_whole_blocks_of_a_jpeg_are_moved_and_moved_back_without_loss(element, stored, options, tmp_path) -> None:
    blocks = pytest.importorskip("turbojpeg")
    content = encoded("JPEG", **options, **({} if stored is None else {"exif": exif(stored)}))
    turned = turn_file(content, element, "pixels")
    assert turned.loss is None
    image = Image.open(io.BytesIO(turned.content))
    assert ("progressive" in image.info) == ("progressive" in options)
    assert image.getexif().get(274, 1) == 1 and (stored is None or image.getexif()[271] == "a camera")
    expected = act(D4, element, read(content, tmp_path)).float()
    assert (read(turned.content, tmp_path).float() - expected).abs().max() <= 3  # a decoder rounds columns, then rows
    wanted = D4.inverse(D4.compose(element, ELEMENTS[stored or 1]))
    back = turn_file(turned.content, wanted, "pixels").content
    assert coefficients(blocks, back) == coefficients(blocks, content)


def coefficients(blocks, content: bytes) -> bytes:
    """The compressed pixels of a JPEG as libjpeg-turbo writes them: all from the first quantization table on."""
    plain = blocks.transform(content, copynone=True)
    return plain[plain.index(b"\xff\xdb") :]


@pytest.mark.parametrize("installed", [True, False])
def test_a_jpeg_whose_blocks_are_not_moved_says_why(installed, monkeypatch) -> None:
    if installed:
        pytest.importorskip("turbojpeg")
    else:
        monkeypatch.setitem(sys.modules, "turbojpeg", None)
    loss = turn_file(encoded("JPEG", subsampling=2), 2, "pixels").loss
    assert ("no whole number of blocks" if installed else "pip install 'equicli[jpeg]'") in str(loss)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_pixels_keep_the_sampling_of_colours(subsampling) -> None:
    turned = turn_file(encoded("JPEG", subsampling=subsampling), 2, "pixels")
    assert JpegImagePlugin.get_sampling(Image.open(io.BytesIO(turned.content))) == subsampling


def test_what_cannot_be_turned_says_why() -> None:
    file = io.BytesIO()
    PICTURE.save(file, "PNG", save_all=True, append_images=[PICTURE.rotate(180)])
    for content, method, why in (
        (file.getvalue(), None, "several frames"),
        (encoded("PNG"), "tag", "only JPEG"),
        (encoded("GIF"), None, "GIF is not written"),
    ):
        with pytest.raises(CannotTurnError, match=why):
            turn_file(content, 1, method)


def test_a_damaged_exif_block_is_refused() -> None:
    content = encoded("JPEG", exif=exif(6))
    at = content.index(b"Exif\0\0") + 6
    with pytest.raises(ValueError, match="damaged"):
        with_orientation(content[:at] + b"XX" + content[at + 2 :], 1)


def test_tags_and_elements_are_one_to_one() -> None:
    assert sorted(ELEMENTS.values()) == list(range(8))


@pytest.fixture
def turned(here):
    """`turned`: photos as JPEG, by quarter turns."""
    (here / "turned").mkdir()
    for number, path in enumerate(sorted((here / "photos").rglob("*.png"))):
        Image.open(path).rotate(90 * number, expand=True).save(here / "turned" / f"{number:02}.jpg", quality=90)
    return here


def test_pictures_come_out_in_one_pose_and_a_second_call_changes_nothing(cli, turned) -> None:
    done = cli("upright", "run", "turned", "--output", "out", "--sure", "0", "--json", cwd=turned)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)["counts"]
    assert sum(counts.values()) == 20 and set(counts) <= {"turned", "upright already"}
    pictures = sorted((turned / "out").glob("*.jpg"))
    pose = equicli.load(turned / "run").predict([str(path) for path in pictures]).pose
    assert pose.element.tolist() == [0] * 20
    again = cli("upright", "run", "out", "--output", "again", "--sure", "0", cwd=turned)
    assert again.returncode == 0
    assert all(path.read_bytes() == (turned / "again" / path.name).read_bytes() for path in pictures)


def test_pictures_that_are_not_sure_are_copied_and_listed(cli, turned) -> None:
    done = cli("upright", "run", "turned", "--output", "out", "--sure", "1", cwd=turned)
    assert "left alone: not sure" in done.stderr
    for path in (turned / "turned").iterdir():
        assert (turned / "out" / path.name).read_bytes() == path.read_bytes()
    listed = [json.loads(line) for line in (turned / "out" / "upright.jsonl").read_text().splitlines()]
    assert len(listed) == 20 and {"path", "done", "pose", "sure"} <= set(listed[0])


def test_what_cannot_be_read_is_copied_and_listed(cli, turned) -> None:
    (turned / "turned" / "broken.jpg").write_bytes(b"no picture")
    done = cli("upright", "run", "turned", "--output", "out", cwd=turned)
    assert done.returncode == 0 and "turned/broken.jpg: left alone: unreadable: not an image" in done.stderr
    assert (turned / "out" / "broken.jpg").read_bytes() == b"no picture"


def test_a_dry_run_writes_nothing(cli, turned) -> None:
    before = sorted(turned.rglob("*"))
    for output in ((), ("--output", "out")):
        done = cli("upright", "run", "turned", "--dry-run", "--sure", "0", *output, cwd=turned)
        assert done.returncode == 0 and "(a dry run: nothing was written)" in done.stdout
        assert ": turned (looks r" in done.stderr
        assert sorted(turned.rglob("*")) == before


def test_nothing_is_overwritten_and_inputs_never(cli, turned) -> None:
    first = ("upright", "run", "turned", "--output", "out")
    assert cli(*first, cwd=turned).returncode == 0
    assert "--overwrite" in cli(*first, cwd=turned).stderr
    assert cli(*first, "--overwrite", cwd=turned).returncode == 0
    own = cli("upright", "run", "turned", "--output", "turned", "--overwrite", cwd=turned)
    assert own.returncode == 2 and "name another folder" in own.stderr


def test_no_input_is_overwritten_by_another_ones_output(tmp_path, monkeypatch) -> None:
    """Below the common folder, a/b/x.jpg goes to out/b/x.jpg, which is an input here."""
    paths = ["a/b/x.jpg", "a/out/b/x.jpg"]
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).touch()
    (tmp_path / "link").symlink_to("a/out")
    monkeypatch.chdir(tmp_path)
    for folder in ("a/out", "link"):
        with pytest.raises(UsageError, match="is an input; name another folder"):
            plan_outputs(paths, Path(folder), overwrite=True)
    assert plan_outputs(paths, Path("new"), overwrite=False) == {path: Path("new", path[2:]) for path in paths}


def test_one_file_by_two_names_is_one_input(tmp_path, monkeypatch) -> None:
    (tmp_path / "a.jpg").touch()
    monkeypatch.chdir(tmp_path)
    names = ["a.jpg", "./a.jpg", str(tmp_path / "a.jpg")]
    assert find_inputs(names, io.StringIO(), Silent()) == ["a.jpg"]


def test_a_model_that_may_mirror_good_pictures_is_refused() -> None:
    settings = {"epochs": 1, "canonicalizer.network": "conv", "canonicalizer.size": 16, "canonicalizer.width": 4}
    model = equicli.adapt(torch.nn.Identity(), [PICTURE, PICTURE], "d4", settings=settings)
    how = {"method": None, "sure": 0, "batch_size": 1, "workers": 0, "max_pixels": 9, "strict": False}
    with pytest.raises(UsageError, match=r"d4 cannot tell handedness .* adapted with c4"):
        list(turn_upright(model, ["a.jpg"], {}, **how, progress=Silent()))


def test_a_canonicalizer_alone_is_enough(cli, here) -> None:
    from tests.serving.conftest import SMALL

    adapt = ("adapt", "photos", "--model", "none", *SMALL[6:8], *SMALL[10:], "--output", "poses")
    done = cli(*[a for a in adapt if a not in ("--preprocess", "none")][:3], "none", *adapt[4:], cwd=here)
    assert done.returncode == 0, done.stderr
    assert equicli.read_config(here / "poses").policy.temperature != 1
    report = (here / "poses" / "report.md").read_text()
    assert report.startswith("# A canonicalizer of c4")
    for word in ("vanilla", "oracle", "prediction network", "relative time", "passes"):
        assert word not in report and f"{word}:" not in done.stdout, word
    gate = cli("adapt", "photos", "--model", "none", "--passes", "2", cwd=here)
    assert gate.returncode == 2 and "there is no prediction network to ask; leave it out" in gate.stderr
    shutil.copytree(here / "photos" / "ant", here / "some")
    done = cli("upright", "poses", "some", "--output", "out", "--json", cwd=here)
    assert done.returncode == 0 and json.loads(done.stdout)["pictures"] == 10
    refused = cli("adapt", "photos", "--model", "none", "--checkpoint", "weights.safetensors", cwd=here)
    assert refused.returncode == 2 and "--model none has no network" in refused.stderr
