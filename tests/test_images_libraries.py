"""`python -m experiments.images` on patches of photographs prepared by other libraries gives the same numbers."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from tests.photographs import LABELS, NAMES, patches
from tests.processes import assert_one_line_error, experiment, metrics, run, without_seconds

pytestmark = pytest.mark.slow

SETTINGS = ("--hidden_dim=16", "--latent_dim=2", "--num_train_samples=3000")


def images(data: str, workdir: Path, *flags: str) -> list[str]:
    """Return the command that trains on `data`."""
    return [sys.executable, "-m", "experiments.images", f"--data={data}", f"--workdir={workdir}", *SETTINGS, *flags]


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> list[dict[str, str]]:
    """Return the metrics of the same patches as an array."""
    folder = tmp_path_factory.mktemp("array")
    np.save(folder / "patches.npy", patches())
    done = run(images(str(folder / "patches.npy"), folder / "run", "--nodraw_pictures"))
    assert (done.returncode, done.stderr) == (0, "")
    return without_seconds(metrics(folder / "run"))


class Patches(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """The patches as PNG with their classes, in order."""

    VERSION = tfds.core.Version("1.0.0")
    url_infos: dict | None = {}  # noqa: RUF012  # pyright: ignore[reportIncompatibleVariableOverride]

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {"image": tfds.features.Image(shape=(32, 32, 3)), "label": tfds.features.ClassLabel(names=list(NAMES))}
        )
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for index, image in enumerate(patches()):
            Image.fromarray(image).save(file := io.BytesIO(), "PNG")
            file.seek(0)
            yield index, {"image": file, "label": int(LABELS[index])}


def test_tfds(expected, tmp_path):
    Patches(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    where, workdir = f"--data_dir={tmp_path}", tmp_path / "run"
    done = run(images("tfds:patches", workdir, where))
    assert (done.returncode, done.stderr) == (0, "")
    assert without_seconds(metrics(workdir)) == expected
    assert (workdir / "figures" / "latent_space.png").exists()
    done = run(images("tfds:patches", workdir, where, "--resume"))
    assert "nothing to do" in done.stdout
    flags = ("--methods=is", "--num_datapoints=3", "--num_samples=20", f"--output={tmp_path / 'out.json'}")
    done = experiment("marginal_likelihood", f"--run={workdir}", *flags)
    assert_one_line_error(done, "no data set is prepared as 'patches' in ")
    done = experiment("marginal_likelihood", f"--run={workdir}", where, *flags)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "out.json").read_text())["dataset"] == "patches"
    # The same data given by their path count as the same.
    done = run(images(f"tfds:{tmp_path}/patches", workdir, "--resume"))
    assert "nothing to do" in done.stdout, done.stderr


def test_hf(expected, tmp_path):
    datasets = pytest.importorskip("datasets", reason="Hugging Face's datasets is not installed")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(NAMES))})
    columns = {"image": [Image.fromarray(image) for image in patches()], "label": LABELS.tolist()}
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(tmp_path / "patches")
    done = run(images(f"hf:{tmp_path}/patches", tmp_path / "run"))
    assert (done.returncode, done.stderr) == (0, "")
    assert without_seconds(metrics(tmp_path / "run")) == expected
    assert (tmp_path / "run" / "figures" / "latent_space.png").exists()
    (tmp_path / "patches").rename(tmp_path / "moved")
    done = run(images(f"hf:{tmp_path}/moved", tmp_path / "run", "--resume"))
    assert "nothing to do" in done.stdout, done.stderr
