"""What `dpmo validate` can find wrong: the codes and the finding itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

CODES = {
    # The run as a whole.
    "DPMO-V001": "run.json is missing, can't be read, or is of another version",
    "DPMO-V002": "a file that belongs to the run is missing",
    "DPMO-V003": "a file is there that does not belong to the run",
    "DPMO-V004": "the counts in run.json differ from what the files hold",
    # annotations/<split>.json
    "DPMO-V010": "the annotations can't be read as COCO JSON",
    "DPMO-V011": "an image is not well-formed",
    "DPMO-V012": "an annotation is not well-formed",
    "DPMO-V013": "an image id is used twice",
    "DPMO-V014": "an annotation id is used twice",
    "DPMO-V015": "an annotation's image is not listed",
    "DPMO-V016": "the annotations of an image do not stand together",
    "DPMO-V017": "the category is not 1 or iscrowd is not 0",
    "DPMO-V018": "the extent differs from the run's",
    # The masks.
    "DPMO-V020": "a mask's size is not its image's",
    "DPMO-V021": "an RLE can't be decoded or does not fill its image",
    "DPMO-V022": "area is not the number of the mask's pixels",
    "DPMO-V023": "bbox is not the box of the mask's pixels",
    "DPMO-V024": "two masks of an image overlap",
    "DPMO-V025": "a mask reaches outside its disc",
    "DPMO-V026": "a mask does not hold its site's pixel",
    # points/<split>.parquet
    "DPMO-V030": "the points can't be read as Parquet",
    "DPMO-V031": "the points do not follow the schema",
    "DPMO-V032": "rows of an image are not its points 0, 1, 2, ... and the added ones in order",
    "DPMO-V033": "a status is not known",
    "DPMO-V034": "a row with a mask names no annotation of its image",
    "DPMO-V035": "a row without a mask names an annotation",
    "DPMO-V036": "an annotation and the row of its point disagree",
    "DPMO-V037": "an annotation is named by no row",
    "DPMO-V038": "rows name an image otherwise than the annotations do",
    "DPMO-V039": "the source or the reviewer of a row does not go with its mask",
    # review/queue.parquet
    "DPMO-V040": "the queue can't be read as Parquet",
    "DPMO-V041": "the queue does not follow the schema",
    "DPMO-V042": "the queue and the points differ",
    "DPMO-V043": "the queue is not ordered worst first",
    "DPMO-V044": "a mask in the queue is not its annotation's",
    "DPMO-V045": "the queue names another dataset",
    # review/corrections.parquet
    "DPMO-V050": "the applied decisions can't be read",
}
"""Each code and what it means; codes are stable, messages are not."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        code: a key of CODES.
        file: path inside OUT, with "/".
        message: what exactly, one line.
    """

    code: str
    file: str
    message: str

    def __str__(self) -> str:
        return f"{self.code} {self.file}: {self.message}"


Problem = tuple[str, str]
"""A code and a message; the code tells which file of a split it is about."""

QUEUE_FILE = "review/queue.parquet"
CORRECTIONS_FILE = "review/corrections.parquet"
DECISIONS_FILE = "review/decisions.sqlite"
AUDIT_FILE = "review/audit.json"
CALIBRATION_FILE = "review/calibration.json"
REVIEW_FILES = (
    QUEUE_FILE,
    CORRECTIONS_FILE,
    DECISIONS_FILE,
    f"{DECISIONS_FILE}-wal",
    f"{DECISIONS_FILE}-shm",
    AUDIT_FILE,
    CALIBRATION_FILE,
)
"""What may lie in the folder of the review."""


def annotations_file(split: str) -> str:
    """Return where the masks of a split lie inside OUT."""
    return f"annotations/{split}.json"


def points_file(split: str) -> str:
    """Return where the rows of a split lie inside OUT."""
    return f"points/{split}.parquet"


def in_split(split: str, problems: Iterable[Problem]) -> Iterator[Finding]:
    """Make findings of problems of a split; codes from 010 on come in tens by file."""
    for code, message in problems:
        if code >= "DPMO-V040":
            yield Finding(code, QUEUE_FILE, f"split {split}: {message}")
        else:
            is_points = code >= "DPMO-V030"
            yield Finding(code, (points_file if is_points else annotations_file)(split), message)


def few(items: Iterable[object], shown: int = 5) -> str:
    """Return the first items joined by commas, and "..." where there are more."""
    first = [str(item) for item in islice(items, shown + 1)]
    return ", ".join(first[:shown] + ["..."] * (len(first) > shown))


def one_line(error: Exception) -> str:
    """Return an exception's message as one line that does not run on."""
    return " ".join(str(error).split())[:200] or type(error).__name__
