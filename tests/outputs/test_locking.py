"""The lock of a folder: one holder, and one clear line for the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpmo_cli.errors import UsageError
from dpmo_cli.outputs.atomic import OutputError
from dpmo_cli.outputs.locking import hold


def test_a_second_holder_is_told_until_the_first_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "lock"
    lock = hold(path, tmp_path, "busy")
    with pytest.raises(UsageError, match="somebody writes there"):
        hold(path, tmp_path, "somebody writes there")
    lock.release()
    hold(path, tmp_path, "busy").release()


def test_a_folder_that_can_not_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputError, match="file") as caught:
        hold(tmp_path / "file" / "lock", tmp_path / "file", "busy")
    assert "\n" not in str(caught.value)
