"""Data sets prepared by TensorFlow Datasets and Hugging Face's datasets."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

import aevb
from aevb.data import DatasetError, load_own
from tests.own import COLOUR, GREY, LABELS, as_set, together

# TensorFlow Datasets


def encoded(image: np.ndarray) -> io.BytesIO:
    Image.fromarray(image).save(file := io.BytesIO(), "PNG")
    file.seek(0)
    return file


class Animals(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A typical prepared data set: PNG, classes and two splits."""

    VERSION = tfds.core.Version("1.2.0")
    url_infos: dict | None = {}  # noqa: RUF012  # pyright: ignore[reportIncompatibleVariableOverride]

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "id": tfds.features.Text(),
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.ClassLabel(names=["cat", "dog", "eel"]),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {"train": self._generate_examples(0, 30), "validation": self._generate_examples(30, 40)}

    def _generate_examples(self, start: int, end: int):
        for index in range(start, end):
            yield index, {"id": str(index), "image": encoded(COLOUR[index]), "label": int(LABELS[index])}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tfds")
    Animals(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


def test_tfds(prepared):
    splits = load_own("tfds:animals", data_dir=prepared)
    assert splits.valid is not None
    assert splits.train.split_rule == "random 27/3 by seed 0, own validation split, 10"
    assert as_set(together(splits)) == as_set(COLOUR[:30])
    np.testing.assert_array_equal(splits.valid.images, COLOUR[30:])
    np.testing.assert_array_equal(splits.valid.labels, LABELS[30:])
    assert splits.train.label_names == ("cat", "dog", "eel")
    for spec in (f"tfds:{prepared}/animals", f"tfds:{prepared}/animals/1.2.0"):
        assert load_own(spec).train.fingerprint == splits.train.fingerprint
    assert load_own("tfds:animals:1.2.0", data_dir=prepared, image_size=4).train.images.shape == (27, 4, 4, 3)


def test_tfds_reads_what_this_library_prepares(tmp_path):
    train = aevb.data.load("digits", "train", tmp_path)
    own = load_own("tfds:aevb_digits", data_dir=tmp_path, max_value=16)
    assert len(own.train.images) + len(own.test.images) == 1797
    assert set(as_set(train.images)) <= set(as_set(together(own)))
    assert own.train.labels is not None


def test_tfds_is_read_without_tensorflow(prepared):
    program = (
        "import sys, aevb\n"
        f"print(len(aevb.data.load_own('tfds:animals', data_dir={str(prepared)!r}).train.images))\n"
        "assert 'tensorflow' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "27\n"


def test_damaged_tfds_records_are_one_line(prepared, tmp_path):
    Animals(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    (records,) = tmp_path.glob("animals/1.2.0/*train*array_record*")
    records.write_bytes(records.read_bytes()[: records.stat().st_size // 2])
    with pytest.raises(DatasetError, match=r"tfds:animals \(train\) is damaged .*: prepare it again") as caught:
        load_own("tfds:animals", data_dir=tmp_path)
    assert "\n" not in str(caught.value)


def test_tfds_in_another_format_is_refused(tmp_path):
    class Plain(Animals, skip_registration=True):
        pass

    Plain(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    (info,) = tmp_path.glob("plain/*/dataset_info.json")
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(DatasetError, match="not prepared as ArrayRecord, the only format with random access"):
        load_own("tfds:plain", data_dir=tmp_path)


# Hugging Face


@pytest.fixture(scope="module")
def datasets():
    return pytest.importorskip("datasets", reason="Hugging Face's datasets is not installed")


@pytest.fixture
def animals(datasets):
    """Return rows of the colour images as a `datasets.Dataset`."""
    classes = datasets.ClassLabel(names=["cat", "dog", "eel"])
    features = datasets.Features({"image": datasets.Image(), "label": classes})

    def rows(start: int, end: int):
        columns = {
            "image": [Image.fromarray(image) for image in COLOUR[start:end]],
            "label": LABELS[start:end].tolist(),
        }
        return datasets.Dataset.from_dict(columns, features=features)

    return rows


def test_hf_with_its_own_splits(datasets, animals, tmp_path):
    splits = {"train": animals(0, 20), "validation": animals(20, 30), "test": animals(30, 40)}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "animals")
    found = load_own(f"hf:{tmp_path}/animals")
    assert found.valid is not None
    assert found.train.split_rule == "own train/valid/test split, 20/10/10"
    assert found.train.label_names == ("cat", "dog", "eel")
    np.testing.assert_array_equal(found.train.images, COLOUR[:20])
    np.testing.assert_array_equal(found.valid.labels, LABELS[20:30])
    np.testing.assert_array_equal(found.test.images, COLOUR[30:])


def test_hf_without_splits_and_hidden_labels(datasets, animals, tmp_path):
    animals(0, 40).save_to_disk(tmp_path / "animals")
    found = load_own(f"hf:{tmp_path}/animals", colour="grey", image_size=4)
    assert found.train.images.shape == (36, 4, 4)
    hidden = animals(30, 40).map(lambda row: {"label": -1})
    datasets.DatasetDict({"train": animals(0, 30), "test": hidden}).save_to_disk(tmp_path / "hidden")
    found = load_own(f"hf:{tmp_path}/hidden")
    assert found.test.labels is None
    assert found.train.labels is not None


def test_hf_arrays_and_strings(datasets, tmp_path):
    features = datasets.Features({"pixels": datasets.Array2D((6, 8), "float32"), "label": datasets.Value("string")})
    columns = {"pixels": GREY / np.float32(255), "label": ["cat", "dog"] * 20}
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(tmp_path / "a")
    found = load_own(f"hf:{tmp_path}/a")
    assert as_set(together(found)) == as_set(GREY / np.float32(255))
    assert found.train.label_names == ("cat", "dog")


def test_hf_mistakes_are_one_line(datasets, animals, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    pictures = [Image.fromarray(image) for image in COLOUR[:20]]
    features = datasets.Features({"one": datasets.Image(), "other": datasets.Image()})
    both = datasets.Dataset.from_dict({"one": pictures, "other": pictures}, features=features)
    both.save_to_disk(tmp_path / "both")
    animals(0, 20).remove_columns("image").save_to_disk(tmp_path / "labels")
    animals(0, 20).save_to_disk(tmp_path / "damaged")
    (table,) = (tmp_path / "damaged").glob("*.arrow")
    table.write_bytes(table.read_bytes()[:200])
    for spec, message in {
        "hf:": "hf: needs a name",
        f"hf:{tmp_path}/missing": "does not exist",
        "hf:no/such": "hf:no/such cannot be loaded: ",
        f"hf:{tmp_path}/both": "several features that may be images, one, other: choose one with image_key=",
        f"hf:{tmp_path}/labels": "has no images: its features are label; choose one with image_key=",
        f"hf:{tmp_path}/damaged": "cannot be loaded: ",
    }.items():
        with pytest.raises(DatasetError) as caught:
            load_own(spec)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
    assert load_own(f"hf:{tmp_path}/both", image_key="other").train.images.shape == (18, 6, 8, 3)


def test_hf_where_it_is_not_installed(tmp_path):
    program = (
        "import sys; sys.modules['datasets'] = None\n"
        "import aevb\n"
        "try: aevb.data.load_own('hf:mnist')\n"
        "except aevb.data.DatasetError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    expected = "hf:mnist needs Hugging Face's datasets, which is not installed: pip install datasets"
    assert done.stdout.strip() == expected
