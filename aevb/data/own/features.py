"""Which features of a data set of another library are its images and its labels, and which of its splits are which."""

from collections.abc import Mapping, Sequence

from aevb.data.own.contents import SPLIT_WORDS
from aevb.data.source import DatasetError


def choose_images(name: str, candidates: Sequence[str], features: Sequence[str], key: str | None) -> str:
    """Return the feature that holds the images.

    Args:
      name: of the data set, for messages.
      candidates: features that may be images, the likeliest kind alone.
      features: all there are.
      key: `image_key`, or `None`.

    Raises:
      DatasetError: there is none, or several and none of them is called so.
    """
    found = _choose(name, candidates, features, key, "image", ("image", "images", "img", "x"))
    if found is None:
        raise DatasetError(f"{name} has no images: its features are {', '.join(features)}; choose one with image_key=")
    return found


def choose_labels(name: str, candidates: Sequence[str], features: Sequence[str], key: str | None) -> str | None:
    """Return the feature that holds the labels, `None` where none does; arguments and errors as of `choose_images`."""
    return _choose(name, candidates, features, key, "label", ("label", "labels", "y"))


def _choose(
    name: str, candidates: Sequence[str], features: Sequence[str], key: str | None, role: str, usual: tuple[str, ...]
) -> str | None:
    if key is not None:
        if key not in features:
            raise DatasetError(f"{name} has no feature {key!r}: there are {', '.join(features)}")
        return key
    called = [each for each in usual if each in candidates]
    if called or len(candidates) < 2:
        return next(iter([*called, *candidates]), None)
    raise DatasetError(
        f"{name} has several features that may be {role}s, {', '.join(candidates)}: choose one with {role}_key="
    )


def assign_splits(name: str, splits: Sequence[str]) -> Mapping[str, str]:
    """Return "train", "valid" and "test" -> what the data set calls them; one split alone is "train".

    Splits of other names are left out.

    Raises:
      DatasetError: there is no split to train on, or two of one kind.
    """
    if len(splits) == 1:
        return {"train": splits[0]}
    found: dict[str, str] = {}
    for split in splits:
        meaning = SPLIT_WORDS.get(split.lower())
        if meaning in found:
            raise DatasetError(f"{name} has two splits for one thing, {found[meaning]} and {split}")
        if meaning is not None:
            found[meaning] = split
    if "train" not in found:
        raise DatasetError(f"{name} has no split called train, but {', '.join(splits) or 'none at all'}")
    return {split: found[split] for split in ("train", "valid", "test") if split in found}
