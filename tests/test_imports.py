"""What is imported when: the package and its help stay light."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

HELP_S = 0.5
HEAVY = {"torch", "torchvision", "timm", "segment_anything", "scipy", "pyarrow", "PIL"}

LIST_MODULES = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"
HELP = """
import sys
from dpmo_cli.cli.app import main
sys.argv = ["dpmo", {arguments}"--help"]
try:
    main()
except SystemExit as end:
    assert end.code == 0
print("modules:", end=" ")
"""


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{LIST_MODULES}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split("modules: ")[-1].split())


def test_the_package_is_light() -> None:
    found = modules_after("import dpmo_cli; assert dpmo_cli.__version__")
    assert "dpmo_cli" in found
    assert not found & HEAVY


@pytest.mark.parametrize(
    "arguments", ["", '"convert", ', '"export", ', '"weights", "fetch", ', '"train", "nano", ']
)
def test_help_is_light(arguments: str) -> None:
    found = modules_after(HELP.format(arguments=arguments))
    assert "typer" in found
    assert not found & (HEAVY | {"numpy"})


def test_help_is_fast() -> None:
    """The best of five, in seconds of computing: what else the machine does is not counted."""
    command = Path(sys.executable).with_name("dpmo")
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([command, "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert 0 < min(seconds) < HELP_S


@pytest.mark.parametrize("module", ["pipeline.merge", "outputs.validate"])
def test_what_asks_no_network_loads_none(module: str) -> None:
    found = modules_after(f"import dpmo_cli.{module}; print('modules:', end=' ')")
    assert "pyarrow" in found
    assert not found & {"torch", "torchvision", "timm", "segment_anything"}
