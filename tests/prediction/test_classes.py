"""Which output of a checkpoint belongs to which class folder."""

import pytest

from equicli.prediction.classes import imagenet_class_names, match_classes

IMAGENET = imagenet_class_names(1000)
IMAGENETTE = {
    "n01440764": 0,
    "n02102040": 217,
    "n02979186": 482,
    "n03000684": 491,
    "n03028079": 497,
    "n03394916": 566,
    "n03417042": 569,
    "n03425413": 571,
    "n03445777": 574,
    "n03888257": 701,
}


def test_imagenet_has_a_thousand_classes_with_an_id_and_words_each() -> None:
    assert len(IMAGENET) == 1000
    assert IMAGENET[0] == ("n01440764", "tench", "Tinca tinca")
    assert all(len(names) >= 2 and all(names) for names in IMAGENET)


@pytest.mark.parametrize("outputs", [None, 10, 1001, 21843])
def test_other_numbers_of_outputs_are_not_imagenet(outputs) -> None:
    assert imagenet_class_names(outputs) is None


def test_wordnet_ids_are_matched() -> None:
    assert match_classes(list(IMAGENETTE), IMAGENET) == list(IMAGENETTE.values())


@pytest.mark.parametrize(
    ("folder", "output"),
    [
        ("tench", 0),
        ("Tench", 0),
        ("Tinca tinca", 0),
        ("English springer", 217),
        ("english_springer", 217),
        ("English-Springer", 217),
        ("English springer spaniel", 217),
        ("german_short_haired_pointer", 210),
        ("N02102040", 217),
        (" parachute ", 701),
    ],
)
def test_names_are_matched_whatever_their_case_and_joining(folder: str, output: int) -> None:
    assert match_classes([folder], IMAGENET) == [output]


@pytest.mark.parametrize("folder", ["crane", "maillot", "cat", "springer", "n00000000", "", "217"])
def test_a_name_of_two_classes_or_of_none_is_not_guessed(folder: str) -> None:
    assert match_classes([folder], IMAGENET) is None


def test_an_ambiguous_class_is_matched_by_its_id() -> None:
    cranes = [names[0] for names in IMAGENET if "crane" in names]
    assert len(cranes) == 2
    matched = match_classes(cranes, IMAGENET)
    assert matched is not None and [IMAGENET[i][0] for i in matched] == cranes


@pytest.mark.parametrize("other", ["unicorn", "crane", "Tinca tinca", "n01440764"])
def test_one_folder_that_does_not_fit_or_fits_twice_spoils_the_match(other: str) -> None:
    assert match_classes(["tench", "parachute"], IMAGENET) == [0, 701]
    assert match_classes(["tench", "parachute", other], IMAGENET) is None


def test_a_class_that_names_itself_twice_is_not_ambiguous() -> None:
    assert match_classes(["big cat"], [("dog",), ("Big Cat", "big_cat")]) == [1]
