import pytest

from dpmo_cli.datasets.registry import DATASET_NAMES, open_dataset
from dpmo_cli.errors import UsageError

from .conftest import Builder


def test_the_names_are_those_of_the_readme() -> None:
    expected = "shanghaitech-a shanghaitech-b qnrf jhu nwpu ucf-cc-50 csv"
    assert expected.split() == list(DATASET_NAMES)


@pytest.mark.parametrize("name", ["sha", "SHA", "shanghaitech_a", "ShanghaiTech-A", "auto"])
def test_aliases_and_auto(build: Builder, name: str) -> None:
    build.shanghaitech()
    assert open_dataset(name, build.root).name == "shanghaitech-a"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        pytest.param("shangaitech-a", "did you mean shanghaitech-a?", id="a letter is missing"),
        pytest.param("ucf_cc50", "did you mean ucf-cc-50?", id="a hyphen is missing"),
        pytest.param("something", "unknown dataset 'something'. Known:", id="nothing like it"),
    ],
)
def test_an_unknown_name_is_answered_with_the_known_ones(
    build: Builder, name: str, hint: str
) -> None:
    with pytest.raises(UsageError) as caught:
        open_dataset(name, build.root)
    assert hint in str(caught.value)
    assert all(known in str(caught.value) for known in (*DATASET_NAMES, "sha", "shb", "auto"))


@pytest.mark.parametrize("name", ["auto", "sha"])
def test_one_folder_too_high_names_the_right_one(build: Builder, name: str) -> None:
    build.root = build.root / "unpacked"
    build.shanghaitech("part_A_final")
    below, above = build.root, build.root.parent
    with pytest.raises(UsageError) as caught:
        open_dataset(name, above)
    assert f", but {below} looks like" in str(caught.value)
    assert str(caught.value).endswith("; give that one with --root")
    with pytest.raises(UsageError, match="holds no qnrf with annotations"):
        open_dataset("qnrf", above)


def test_auto_does_not_guess(build: Builder) -> None:
    with pytest.raises(UsageError, match="no known dataset found"):
        open_dataset("auto", build.root)
    build.shanghaitech("part_A_final")
    build.shanghaitech("part_B_final")
    with pytest.raises(UsageError, match="may be shanghaitech-a and shanghaitech-b; say which"):
        open_dataset("auto", build.root)
