"""JSB chorales: 382 chorales by J. S. Bach as piano rolls of 88 keys, with one step per quarter note.

The splits train, valid and test are those of Boulanger-Lewandowski, Bengio and Vincent, "Modeling Temporal Dependencies
in High-Dimensional Sequences", 2012: 229/76/77 sequences of 13,807/4,602/4,725 steps. Column k is the MIDI pitch
k + 21. A silent step is observed like any other, and 64 steps before the ends are silent: only `lengths` tells where a
sequence ends.
"""

import json
from pathlib import Path

import numpy as np

from aevb.data.source import DatasetError, Feature, Original, Source, SplitRule

LOWEST_PITCH = 21
"""The MIDI pitch of the first of the 88 keys."""

_FILE = "jsb-chorales-quarter.json"
_NUM_STEPS, _NUM_KEYS = 160, 88  # the longest sequence of all three splits
_SIZES = {"train": 229, "valid": 76, "test": 77}


def read_rolls(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """Return, for each split, `rolls` `[N, 160, 88]` uint8 of 0 and 1, 0 after the end, and `lengths` `[N]` int32.

    Raises:
      DatasetError: the file has other contents.
    """
    try:
        chorales = json.loads(path.read_text())
        return {split: _rolls(chorales[split]) for split in _SIZES}
    except (ValueError, KeyError, TypeError, IndexError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DatasetError(f"{path} is not a JSON file of chorales by split, step and pitch ({reason})") from None


def _rolls(chorales: list[list[list[int]]]) -> dict[str, np.ndarray]:
    rolls = np.zeros((len(chorales), _NUM_STEPS, _NUM_KEYS), np.uint8)
    for roll, chorale in zip(rolls, chorales, strict=True):
        for step, pitches in enumerate(chorale):
            keys = np.array(pitches, np.int64) - LOWEST_PITCH
            if (keys < 0).any():
                raise ValueError(f"the pitch {keys.min() + LOWEST_PITCH} is below {LOWEST_PITCH}")
            roll[step, keys] = 1
    return {"rolls": rolls, "lengths": np.array([len(chorale) for chorale in chorales], np.int32)}


SOURCE = Source.of_features(
    name="jsb_chorales",
    version="1.0.0",
    features={"rolls": Feature((_NUM_STEPS, _NUM_KEYS), np.uint8), "lengths": Feature((), np.int32)},
    sizes=_SIZES,
    read=lambda folder: read_rolls(folder / _FILE),
    split_rules={
        "official": SplitRule(
            "official 229/76/77", lambda split: (split, slice(None)), splits=("train", "valid", "test")
        )
    },
    originals=(
        Original(
            _FILE,
            407_200,
            "2db9329f1881a1d3f49703ec556bf1d6f84b4f6c1d702c156536e93cf31e1c91",
            (f"https://raw.githubusercontent.com/czhuang/JSB-Chorales-dataset/master/{_FILE}",),
        ),
    ),
)
