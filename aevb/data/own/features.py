"""The choice of images, labels and splits among the features and splits of another library's data set."""

from collections.abc import Mapping, Sequence

from aevb.data.own.contents import SPLIT_WORDS
from aevb.data.source import DatasetError


def choose_images(name: str, candidates: Sequence[str], features: Sequence[str], key: str | None) -> str:
    """Return the feature that holds the images.

    Args:
      name: the name of the data set in messages.
      candidates: the features that may be images, of the likeliest kind only.
      features: all features.
      key: `image_key`, or `None`.

    Raises:
      DatasetError: there are no candidates, or there are several and none has a common name of images.
    """
    found = _choose(name, candidates, features, key, "image", ("image", "images", "img", "x"))
    if found is None:
        raise DatasetError(f"{name} has no images: its features are {', '.join(features)}; choose one with image_key=")
    return found


def choose_labels(name: str, candidates: Sequence[str], features: Sequence[str], key: str | None) -> str | None:
    """Return the feature with the labels, or `None`. Arguments and errors are those of `choose_images`."""
    return _choose(name, candidates, features, key, "label", ("label", "labels", "y"))


def _choose(
    name: str, candidates: Sequence[str], features: Sequence[str], key: str | None, role: str, usual: tuple[str, ...]
) -> str | None:
    if key is not None:
        if key not in features:
            raise DatasetError(f"{name} has no feature {key!r}: its features are {', '.join(features)}")
        return key
    called = [each for each in usual if each in candidates]
    if called or len(candidates) < 2:
        return next(iter([*called, *candidates]), None)
    raise DatasetError(
        f"{name} has several features that may be {role}s, {', '.join(candidates)}: choose one with {role}_key="
    )


def assign_splits(name: str, splits: Sequence[str]) -> Mapping[str, str]:
    """Return a mapping from "train", "valid" and "test" to the names of the splits in the data set.

    A single split is "train". Splits with other names are left out.

    Raises:
      DatasetError: there is no training split, or two splits have the same role.
    """
    if len(splits) == 1:
        return {"train": splits[0]}
    found: dict[str, str] = {}
    for split in splits:
        meaning = SPLIT_WORDS.get(split.lower())
        if meaning in found:
            raise DatasetError(f"{name} has two {meaning} splits, {found[meaning]} and {split}")
        if meaning is not None:
            found[meaning] = split
    if "train" not in found:
        raise DatasetError(f"{name} has no split called train, only {', '.join(splits) or 'none'}")
    return {split: found[split] for split in ("train", "valid", "test") if split in found}
