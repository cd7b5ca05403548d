"""`experiments.compress`, as users run it."""

import numpy as np
import pytest
from PIL import Image

from tests.processes import assert_one_line_error, experiment
from tests.runs import tiny_config, tiny_splits, train_into


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return a run on binary pixels and one on grey pixels without a probability mass, of images of 3 x 4."""
    folder, splits = tmp_path_factory.mktemp("runs"), tiny_splits()
    for binarization in ("threshold", "grey"):
        config = tiny_config(splits, binarization=binarization, num_epochs=1, param_dtype="float32")
        train_into(folder / binarization, config, splits)
    images = (np.random.RandomState(0).rand(60, 3, 4) < 0.4).astype(np.uint8)
    np.save(folder / "images.npy", images)
    np.savez(folder / "images.npz", images=255 * images, labels=np.arange(60))
    (folder / "pngs").mkdir()
    for number, image in enumerate(images):
        Image.fromarray(255 * image).save(folder / "pngs" / f"{number:02}.png")
    return folder, images


def test_files_come_back_in_every_format(runs):
    folder, images = runs
    run = f"--run={folder / 'threshold'}"
    done = experiment("compress", run, "--num_samples=1", str(folder / "images.npy"), str(folder / "one.aevb"))
    assert done.returncode == 0, done.stderr
    for name in ("this file", "without initial bits", "-ELBO", "gzip", "bz2", "lzma", "PNG, all in one"):
        assert name in done.stdout
    assert "60 images" in done.stdout
    done = experiment("compress", run, "--decompress", str(folder / "one.aevb"), str(folder / "back.npy"))
    assert done.returncode == 0, done.stderr
    assert (folder / "back.npy").read_bytes() == (folder / "images.npy").read_bytes()
    done = experiment("compress", run, "--nocompare", str(folder / "pngs"), str(folder / "two.aevb"))
    assert done.returncode == 0, done.stderr
    done = experiment("compress", run, "--decompress", str(folder / "two.aevb"), str(folder / "back"))
    assert done.returncode == 0, done.stderr
    back = [np.asarray(Image.open(path)) for path in sorted((folder / "back").iterdir())]
    np.testing.assert_array_equal(np.stack(back), 255 * images)


@pytest.mark.slow
def test_mistakes_are_one_line(runs, tmp_path):
    folder, _ = runs
    run, images = f"--run={folder / 'threshold'}", str(folder / "images.npy")
    new = str(tmp_path / "new.aevb")
    np.save(tmp_path / "grey.npy", np.full((3, 3, 4), 90, np.uint8))
    (tmp_path / "junk.aevb").write_bytes(b"junk")
    for arguments, message in [
        ((images, new), "--run must name a run folder"),
        ((run, images), "IN and OUT must be given"),
        ((run, images, new, "more"), "unexpected argument 'more'"),
        ((run, images, images), "exists already"),
        ((run, str(tmp_path / "none.npy"), new), "does not exist"),
        ((run, str(tmp_path / "grey.npy"), new), "such as 90, which have no probability under a Bernoulli likelihood"),
        ((f"--run={folder / 'grey'}", images, new), "was trained on grey pixels"),
        ((run, "--decompress", str(tmp_path / "junk.aevb"), new), "not a file of compressed images"),
    ]:
        assert_one_line_error(experiment("compress", *arguments), message)
    assert not (tmp_path / "new.aevb").exists()
