"""Write piano rolls as MIDI files, to listen to. mido does it, which is optional."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

_TICKS = 480  # per quarter note
_TEMPO = 80  # quarter notes per minute
_VELOCITY = 70


def write_all(folder: Path, rolls: Mapping[str, np.ndarray], lowest_pitch: int) -> None:
    """Write one MIDI file per roll, or print that mido is missing.

    Args:
      folder: made if it does not exist.
      rolls: `[T, D]` each, one quarter note per step. Values above 0.5 sound; NaN is silent.
      lowest_pitch: the MIDI pitch of the first of D keys.
    """
    try:
        import mido  # noqa: F401
    except ImportError:
        print("no MIDI files of the samples: they need mido (pip install mido, or aevb[midi])")
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name, roll in rolls.items():
        write(folder / f"{name}.mid", roll, lowest_pitch)


def write(path: Path, roll: np.ndarray, lowest_pitch: int) -> None:
    """Write one roll. A key that sounds in successive steps becomes one held note."""
    import mido

    file = mido.MidiFile(ticks_per_beat=_TICKS)
    track = mido.MidiTrack()
    file.tracks.append(track)
    track.append(mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(_TEMPO)))
    sounds = np.pad(np.nan_to_num(roll) > 0.5, ((1, 1), (0, 0))).astype(np.int8)
    last = 0
    for step, changes in enumerate(np.diff(sounds, axis=0)):
        for kind, change in (("note_off", -1), ("note_on", 1)):
            for key in np.flatnonzero(changes == change):
                pitch = int(key) + lowest_pitch
                track.append(mido.Message(kind, note=pitch, velocity=_VELOCITY, time=_TICKS * step - last))
                last = _TICKS * step
    partial = path.with_name(f".{path.name}.part")
    file.save(partial)
    os.replace(partial, path)
