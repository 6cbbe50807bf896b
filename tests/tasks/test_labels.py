"""Which output stands for which class folder: by name, by number, in the order of a library, or as a file says."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from equicli.data.decode import read_picture
from equicli.data.folders import Dataset, Sample, open_folder
from equicli.data.normalization import Normalization
from equicli.data.preprocess import Preprocess
from equicli.errors import EquicliError, UsageError
from equicli.prediction.classes import find_label, natural_key
from equicli.prediction.network import NetworkSpec, PretrainedNetwork
from equicli.progress import Silent
from equicli.tasks.classification.class_map import read_class_map
from equicli.tasks.classification.labels import NATURAL, TEXT, match_labels
from equicli.tasks.classification.order import better_order
from equicli.tasks.classification.task import Classification
from tests.evaluation.handmade import C4

NUMBERS = sorted(map(str, range(12)))
IN_TEXT, IN_NATURAL = {name: i for i, name in enumerate(NUMBERS)}, {str(i): i for i in range(12)}


class Told(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


class Red(nn.Module):
    """Sees how red a picture is: of 20 · k the output k is largest."""

    def __init__(self, outputs: int = 12) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, images: Tensor) -> Tensor:
        red = images[:, 0].mean(dim=(1, 2))[:, None] * 255
        return -(red - 20 * torch.arange(self.outputs)).abs()


def network(library: str = "timm", names: Sequence[str] | None = None, outputs: int = 12) -> PretrainedNetwork:
    plain = Preprocess(None, None, "bilinear", Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))
    class_names = None if names is None else tuple((name,) for name in names)
    return PretrainedNetwork(Red(outputs), NetworkSpec(library, "Red"), plain, class_names, {"model": library})


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """Folders 0 to 11 of pictures that are 20 times as red."""
    for number in range(12):
        (tmp_path / "data" / str(number)).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (2, 2), (20 * number, i, 0)).save(tmp_path / "data" / str(number) / f"{i}.png")
    return open_folder(tmp_path / "data")


def shown(found: PretrainedNetwork, sample: Sample) -> Tensor:
    return found.preprocess.normalization(found.preprocess(read_picture(sample.path)))[None]


def bind(found: PretrainedNetwork, data: Dataset, **settings: object) -> tuple[dict[str, int], str]:
    told = Told()
    binding = Classification(Classification.Settings(**settings)).bind(
        found, data, torch.zeros(1, 3, 2, 2), lambda sample: shown(found, sample), told
    )
    return dict(binding.labels), "\n".join(told.lines)


@given(st.lists(st.text(max_size=8), max_size=6))
def test_the_natural_order_is_timms(names: list[str]) -> None:
    from timm.utils import natural_key as timms

    try:
        expected = sorted(names, key=timms)
    except ValueError:  # timm takes ² for a number
        sorted(names, key=natural_key)
    else:
        assert sorted(names, key=natural_key) == expected


@pytest.mark.parametrize(
    ("library", "order", "expected"),
    [("timm", NATURAL, IN_NATURAL), ("torchvision", TEXT, IN_TEXT), ("python", TEXT, IN_TEXT)],
)
def test_numbered_folders_are_in_the_order_of_the_library(library: str, order: str, expected: dict[str, int]) -> None:
    matched = match_labels(network(library), 12, NUMBERS)
    assert matched.outputs == expected and matched.order == order and matched.other in (IN_TEXT, IN_NATURAL)
    assert order in matched.reason


def test_the_natural_order_ignores_case_as_timm_does() -> None:
    matched = match_labels(network(outputs=2), 2, ["Zebra", "ape"])
    assert matched.outputs == {"ape": 0, "Zebra": 1} and matched.other == {"Zebra": 0, "ape": 1}


@pytest.mark.parametrize("library", ["timm", "torchvision", "python"])
def test_what_the_network_says_of_training_images_decides_between_the_orders(data: Dataset, library: str) -> None:
    labels, told = bind(network(library), data)
    assert labels == IN_NATURAL
    assert "48" in told and "8 in the other" in told if library == "timm" else "taking natural order" in told


def test_a_network_trained_in_text_order_is_known_by_what_it_says(data: Dataset) -> None:
    turned = torch.tensor([IN_TEXT[str(i)] for i in range(12)])

    class Text(Red):
        def forward(self, images: Tensor) -> Tensor:
            return torch.empty(len(images), 12).index_copy(1, turned, super().forward(images))

    labels, told = bind(replace(network("timm"), network=Text()), data)
    assert labels == IN_TEXT and "taking text order" in told


def test_an_order_that_images_do_not_tell_is_said_to_be_open(data: Dataset) -> None:
    class Same(Red):
        def forward(self, images: Tensor) -> Tensor:
            return torch.zeros(len(images), 12)

    labels, told = bind(replace(network("timm"), network=Same()), data)
    assert labels == IN_NATURAL and "decides nothing; --class-map FILE" in told


def test_one_order_needs_no_check(data: Dataset) -> None:
    assert match_labels(network(), 3, ["a", "b", "c"]).other is None
    assert match_labels(network(), 12, [f"{i:02}" for i in range(12)]).other is None


def test_an_empty_class_folder_counts_where_the_network_has_an_output_for_it() -> None:
    matched = match_labels(network(), 3, ["ant", "cow"], ["bee"])
    assert matched.outputs == {"ant": 0, "cow": 2} and "counting 1 without a picture" in matched.reason


def test_the_other_order_is_told_where_it_fits_better() -> None:
    target = torch.arange(12).repeat(4)  # in text order
    names = {output: name for name, output in IN_TEXT.items()}
    prediction = torch.tensor([IN_NATURAL[names[int(t)]] for t in target])
    records = {"target": target[:, None].expand(-1, 4), "prediction": prediction[:, None].expand(-1, 4)}
    (line,) = better_order(records, IN_TEXT)
    assert "right about 8 of 48" in line and "about 48 if" in line and NATURAL in line
    assert better_order({**records, "prediction": records["target"]}, IN_TEXT) == []
    assert better_order(records, {"a": 0, "b": 1}) == [] and better_order(records, {"a": 3}) == []
    assert Classification().warnings(records, C4, IN_TEXT) == [line]


IMAGENETTE = ["tench", "cassette player", "chain saw", "church"]


def test_one_folder_that_does_not_match_is_named_and_the_head_stays() -> None:
    names = [*IMAGENETTE, "crane", "crane"]
    with pytest.raises(EquicliError, match=r"'unicorn' is no class of the checkpoint, though 4 of 5.*--head new"):
        match_labels(network(names=names), 6, [*IMAGENETTE, "unicorn"])
    with pytest.raises(EquicliError, match=r"'crane' is a name of 2 of the checkpoint's classes"):
        match_labels(network(names=names), 6, [*IMAGENETTE, "crane"])
    with pytest.raises(EquicliError, match=r"'Church' and 'church' are one class|'church' and 'Church' are one class"):
        match_labels(network(names=names), 6, [*IMAGENETTE, "Church"])
    assert match_labels(network(names=names), 6, ["tench", "unicorn", "dragon"]).outputs is None


def test_digits_are_no_classes_of_imagenet() -> None:
    names = [f"class {i}" for i in range(1000)]
    assert match_labels(network(names=names), 1000, [str(i) for i in range(10)]).outputs is None
    matched = match_labels(network(names=names), 1000, sorted(map(str, range(1000))))
    assert matched.outputs == {str(i): i for i in range(1000)}


@pytest.mark.parametrize("names", [None, [f"class {i}" for i in range(20)]])
def test_some_numbers_are_outputs_where_the_network_says_so(data: Dataset, names: list[str] | None) -> None:
    labels, told = bind(network(names=names, outputs=20), data)
    assert labels == IN_NATURAL and "numbers of outputs, as 48 of 48" in told

    class Other(Red):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images).roll(5, dims=1)

    labels, told = bind(replace(network(names=names, outputs=20), network=Other(20)), data)
    assert labels == {} and "fitting a linear head" in told


def test_a_new_head_is_fitted_whatever_the_classes_are(data: Dataset) -> None:
    told = Told()
    settings = Classification.Settings(head="new")
    found = network()
    binding = Classification(settings).bind(
        found, data, torch.zeros(1, 3, 2, 2), lambda sample: shown(found, sample), told
    )
    assert binding.head_needed and "--head new" in told.lines[-1]


MAPS = {
    "class to output.json": '{"ant": 2, "Bee": 0, "caf\\u00e9": 5}',
    "texts.json": '{"ant": "2", "bee": "0", "caf\\u00e9": "5"}',
    "output to class.json": '{"2": "ant", "0": "bee", "5": "caf\\u00e9"}',
    "output to names.json": '{"2": ["n01", "ant"], "0": ["n02", "bee"], "5": ["n03", "caf\\u00e9"]}',
    "a list.json": '["bee", "x", "ant", "y", "z", "caf\\u00e9"]',
    "a mapping.yaml": "ant: 2\nbee: 0\ncaf\u00e9: 5\n",
    "outputs.yml": "2: ant\n0: bee\n5: caf\u00e9\n",
    "a list.yaml": "- bee\n- x\n- ant\n- y\n- z\n- caf\u00e9\n",
    "timm's.txt": "bee\nx\nant\ny\nz\ncaf\u00e9\n",
    "class first.txt": "ant 2\nbee 0\ncaf\u00e9 5\n\n",
    "commas.csv": "ant,2\nbee,0\ncaf\u00e9,5\n",
    "output first": "2: ant\n0: bee\n5: caf\u00e9\n",
    "arrows.txt": "ant -> 2\nbee -> 0\ncaf\u00e9 -> 5",
    "decomposed.txt": "ant\t2\nbee\t0\ncafe\u0301\t5",
}


@pytest.mark.parametrize("name", MAPS)
def test_a_class_map_is_read_whatever_its_form(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(MAPS[name], encoding="utf-8")
    found = read_class_map(str(tmp_path / name), ["ant", "bee", "caf\u00e9"], 6)
    assert found == {"ant": 2, "bee": 0, "caf\u00e9": 5}


def test_classes_that_are_numbers_are_mapped_as_well(tmp_path: Path) -> None:
    (tmp_path / "map.json").write_text(json.dumps({"0": 3, "10": 1, "2": 0}))
    assert read_class_map(str(tmp_path / "map.json"), ["0", "10", "2"], 4) == {"0": 3, "10": 1, "2": 0}
    (tmp_path / "map.txt").write_text("class 1\nclass 2\nclass 3\n")
    assert read_class_map(str(tmp_path / "map.txt"), ["class 1", "class 3"], 3) == {"class 1": 0, "class 3": 2}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("map.json", "{", "not valid JSON"),
        ("map.json", "3", "wants a mapping"),
        ("map.json", "{}", "wants a mapping"),
        ("map.json", '{"ant": 1.5}', "is no class with its output"),
        ("map.json", '{"ant": 0, "be": 1}', "no output for class folder 'bee'. Did you mean 'be'"),
        ("map.json", '{"ant": 0, "bee": 9}', "'bee' is output 9; the network has 0 to 2"),
        ("map.json", '{"0": "ant", "1": ["ant", "bee"]}', "'ant' has two outputs"),
        ("map.yaml", "a: [", "not a valid YAML file"),
        ("map.txt", b"\xff\xfe\x00", "not a text file"),
        ("none.txt", None, "cannot be read"),
    ],
)
def test_a_class_map_that_does_not_fit_is_refused_in_one_line(
    tmp_path: Path, name: str, content: str | bytes | None, words: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError) as error:
        read_class_map(str(tmp_path / name), ["ant", "bee"], 3)
    assert words in str(error.value) and "--class-map" in str(error.value) and "\n" not in str(error.value)


def test_a_class_map_wins_over_every_order(data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "map.json").write_text(json.dumps({str(i): 11 - i for i in range(12)}))
    labels, told = bind(network(), data, class_map=str(tmp_path / "map.json"))
    assert labels == {str(i): 11 - i for i in range(12)} and "from map.json" in told


def test_a_class_map_that_nothing_would_use_is_refused(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"map\.json: --head new fits outputs of its own"):
        bind(network(), data, class_map=str(Path("map.json")), head="new")
    with pytest.raises(UsageError, match=r"map\.json: this folder has no class folders"):
        bind(network(), replace(data, classes=()), class_map=str(Path("map.json")))


def test_labels_of_a_run_are_found_whatever_their_case_and_encoding() -> None:
    labels = {"caf\u00e9": 3, "Cat": 1}
    assert find_label("cafe\u0301", labels) == 3 and find_label("cat", labels) == 1
    assert find_label("dog", labels) is None
    assert find_label("CAT", {"Cat": 1, "cat": 2}) is None and find_label("cat", {"Cat": 1, "cat": 2}) == 2
    assert Classification().rebind(Dataset(Path(), ("cat",), (), None), labels, ()) is labels


def test_prompts_by_class_are_compared_normalized(tmp_path: Path) -> None:
    from equicli.prediction.prompts import class_prompts

    (tmp_path / "prompts.yaml").write_text("cafe\u0301: a cup\n", encoding="utf-8")
    prompts, _ = class_prompts(str(tmp_path / "prompts.yaml"), ["caf\u00e9"], "{}")
    assert prompts == {"caf\u00e9": ("a cup",)}
