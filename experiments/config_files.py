"""Read and write config.json, and compare configurations."""

import copy
import dataclasses
import json
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from aevb.checkpoints import RunError
from aevb.saved import CONFIG_FILE, FORMAT_VERSION, read_config
from experiments.configs import Config, fields_of


def to_json(config: Config) -> dict[str, Any]:
    """Return the contents of config.json."""
    return {"format_version": FORMAT_VERSION, **dataclasses.asdict(config)}


def from_json(contents: Mapping[str, Any]) -> Config:
    """Return the configuration from the contents of a config.json of this format; missing settings take their defaults.

    Raises:
      KeyError, TypeError, ValueError: the contents are not a configuration.
    """
    contents = {name: copy.deepcopy(value) for name, value in contents.items() if name != "format_version"}
    # Early files of format 3 have the settings of own data in the group `data`.
    moved = {name: contents["data"].pop(name) for name in _OWN if name in contents.get("data", {})}
    if moved:
        contents["own_data"] = moved | contents.get("own_data", {})
    return _filled(Config(), contents)


_OWN = ("path", "fingerprint")


def _filled(defaults: Any, contents: Mapping[str, Any]) -> Any:
    names = {field.name for field in dataclasses.fields(defaults)}
    if unknown := contents.keys() - names:
        raise ValueError(f"unknown setting {sorted(unknown)[0]!r}")
    values = {}
    for name, value in contents.items():
        default = getattr(defaults, name)
        values[name] = _filled(default, value) if dataclasses.is_dataclass(default) else value
    return dataclasses.replace(defaults, **values)


def differences(there: Config, here: Config) -> list[str]:
    """Return the differences in words, ignoring the length of training, since a run can be prolonged.

    Own data are compared by their contents, not by their location.
    """
    if here.own_data.fingerprint and here.own_data.fingerprint == there.own_data.fingerprint:
        there = dataclasses.replace(there, data=dataclasses.replace(there.data, name=here.data.name))
    # With a schedule over the whole run, its length affects the numbers from the first step on.
    ignored = _NO_DIFFERENCE - (_LENGTHS if here.optimizer.schedule == "cosine" else set())
    one, other = (json.loads(json.dumps(dataclasses.asdict(each))) for each in (there, here))
    return sorted(_differences(one, other, ignored))


# The length of training, and the location of own data, which are compared by their fingerprint.
_LENGTHS = {"num_epochs", "num_train_samples"}
_NO_DIFFERENCE = {"path", *(field.path[-1] for field in fields_of(Config()) if field.setting.is_length)}


def _differences(
    there: Mapping[str, Any], here: Mapping[str, Any], ignored: Collection[str], group: str = ""
) -> Iterator[str]:
    for name in there.keys() | here.keys():
        one, other = there.get(name), here.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _differences(one, other, ignored, group if name == "arguments" else name)
        elif one != other and name not in ignored:
            yield f"{group if name == 'name' else name} is {one} there, {other} here"


def read(folder: str | os.PathLike) -> Config:
    """Return the configuration of a run folder written by any version.

    Raises:
      RunError: config.json is missing or damaged.
    """
    contents = read_config(folder)
    try:
        return from_json(contents)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{Path(folder) / CONFIG_FILE} cannot be read: {' '.join(str(error).split())}") from None
