"""Builders of small datasets in their native layouts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture
def shared_data() -> Path:
    """The folder of real datasets; skips the test where it is missing."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real datasets of ../shared/data are not here")
    return SHARED_DATA


class Builder:
    """Writes files under one folder, which is the root unless a test says otherwise."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def image(self, name: str, height: int = 20, width: int = 30) -> Path:
        path = self.path(name)
        Image.new("RGB", (width, height), (10, 20, 30)).save(path)
        return path

    def text(self, name: str, text: str) -> Path:
        path = self.path(name)
        path.write_bytes(text.encode("utf-8"))
        return path

    def json(self, name: str, content: object) -> Path:
        return self.text(name, json.dumps(content))

    def mat(self, name: str, **variables: object) -> Path:
        path = self.path(name)
        savemat(path, variables)
        return path

    def gt(self, name: str, location: object, number: object | None = None) -> Path:
        """ShanghaiTech's nest: a cell with a struct with `location` and `number`."""
        count = np.uint16(len(location)) if number is None else number
        info = np.empty((1, 1), dtype=object)
        info[0, 0] = {"location": location, "number": count}
        return self.mat(name, image_info=info)

    def shanghaitech(self, part: str = "part_A_final") -> None:
        for split in ("train_data", "test_data"):
            for image in ("IMG_1", "IMG_10", "IMG_2"):
                self.image(f"{part}/{split}/images/{image}.jpg")
                points = np.array([[1.5, 2.0], [3.0, 4.25]])
                self.gt(f"{part}/{split}/ground-truth/GT_{image}.mat", points)

    def qnrf(self, home: str = "UCF-QNRF_ECCV18/") -> None:
        for split in ("Train", "Test"):
            self.image(f"{home}{split}/img_0001.jpg")
            self.mat(f"{home}{split}/img_0001_ann.mat", annPoints=np.array([[5.0, -0.17]]))

    def jhu(self, home: str = "jhu_crowd_v2.0/") -> None:
        for split in ("train", "val", "test"):
            self.image(f"{home}{split}/images/0001.jpg")
            self.image(f"{home}{split}/images/0009.jpg")
            self.text(f"{home}{split}/gt/0001.txt", "10 8 4 6 1 0\n20 9 5 6 3 1 \n")
            self.text(f"{home}{split}/gt/0009.txt", "")
            labels = "0001,2,street, at night,1,0\n0009,0,water,0,1\n"
            self.text(f"{home}{split}/image_labels.txt", labels)

    def nwpu(self, home: str = "NWPU-Crowd/", images: str = "images") -> None:
        self.text(f"{home}train.txt", "0001 1 1\n0003 0 0\n")
        self.text(f"{home}val.txt", "0002 2 1\n")
        self.text(f"{home}test.txt", "0004\n")
        for number in (1, 2, 3, 4):
            self.image(f"{home}{images}/000{number}.jpg")
        two = {"points": [[10, 5], [20.5, 6]], "boxes": [[8, 3, 12, 8], [18, 4, 22, 9]]}
        self.json(f"{home}jsons/0001.json", {"img_id": "0001.jpg", "human_num": 2, **two})
        self.json(f"{home}jsons/0002.json", {"img_id": "0002.jpg", "human_num": 2, **two})
        self.json(f"{home}jsons/0003.json", {"human_num": 0, "points": [], "boxes": []})

    def cc50(self, home: str = "UCF_CC_50/") -> None:
        for number in (1, 2, 10):
            self.image(f"{home}{number}.jpg")
            self.mat(f"{home}{number}_ann.mat", annPoints=np.array([[1.0, 2.0]]))

    def csv(self) -> None:
        self.image("photos/a.png")
        self.image("photos/b.png")
        rows = "image,x,y\nphotos/b.png,1.5,2\nphotos/a.png,3,4\nphotos/b.png,5,6\n"
        self.text("points.csv", rows)


@pytest.fixture
def build(tmp_path: Path) -> Builder:
    """Builds datasets under the test's own folder."""
    return Builder(tmp_path)
