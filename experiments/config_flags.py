"""Flags made from the fields of a configuration, and the configurations that they specify."""

import itertools
import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from absl import flags

from aevb.models.families import FAMILIES
from experiments import configs, model_arguments
from experiments.configs import Config, Field
from experiments.settings import Setting

_FLAGS = flags.FLAGS


class ConfigFlags:
    """One flag per setting. Settings with several values are crossed."""

    def __init__(
        self,
        config: Config,
        several: Mapping[str, Sequence[Any]],
        leave_out: Sequence[str] = (),
        has_defaults: bool = True,
    ):
        """Define the flags.

        Args:
          config: the configuration that the flags change.
          several: flags that take comma-separated values, and their default values.
          leave_out: flags that are not defined.
          has_defaults: whether the flags have the values of `config` as defaults; `False` if the configuration is known
            only after parsing and passed to `crossed`.
        """
        self._config, self._several = config, {name: list(values) for name, values in several.items()}
        self.axes: tuple[str, ...] = ()
        self._fields: dict[str, Field] = {}
        others = _of_other_families(config)
        self._lists = {field.flag for field in others if not model_arguments.takes(field.kind, 1)}  # in any family
        for field in (*configs.fields_of(config), *others):
            if not field.setting.is_recorded and field.flag not in leave_out:
                known = self._fields.get(field.flag)
                self._fields[field.flag] = field if known is None else _with_choices_of(known, field)
        for field in self._fields.values():
            self._define(field if has_defaults else field._replace(default=None))

    def _define(self, field: Field) -> None:
        help_text = f"{field.setting.help}{_limits(field.setting)}"
        choices = _choices(field)
        if field.flag in self._several:
            default = [str(value) for value in self._several[field.flag]]
            levels = " Join the sizes of one model's levels with hyphens: 100-50." if field.flag in self._lists else ""
            flags.DEFINE_list(field.flag, default, f"{help_text} Comma-separated values: one run per value.{levels}")
        elif field.kind is bool:
            flags.DEFINE_bool(field.flag, field.default, help_text)
        elif choices:
            flags.DEFINE_enum(field.flag, field.default, choices, help_text)
        elif _takes_list(field.kind):
            values = field.default if isinstance(field.default, Sequence) else [field.default]
            default: Any = None if field.default is None else [str(value) for value in values]
            flags.DEFINE_list(field.flag, default, help_text)
        else:
            flags.DEFINE_string(field.flag, _text(field.default), help_text)

    def crossed(self, more: Sequence[str] = (), config: Config | None = None) -> list[Config]:
        """Return the requested configurations, one per combination of the settings with several values.

        Args:
          more: settings with their values, such as `optimizer.learning_rate=0.01,0.1`. If there are any, the default
            values of other settings are not crossed.
          config: the configuration that the flags change; by default the one given to the constructor.

        Raises:
          ValueError: a value is invalid, out of range, or given twice.
        """
        config = self._changed(config or self._config)
        known = {field.flag: field for field in configs.fields_of(config)}
        crossed = [flag for flag in self._several if flag in known and (_FLAGS[flag].present or not more)]
        axes = {flag: self._values(known[flag]) for flag in crossed}
        axes |= dict(_axis(text, known) for text in more)
        axes = {flag: axes[flag] for flag in known if flag in axes}
        self.axes = tuple(axes)
        found = [
            configs.change(config, **dict(zip(axes, values, strict=True)))
            for values in itertools.product(*axes.values())
        ]
        for each in found:
            configs.check(each)
        return found

    def changed(self) -> list[str]:
        """Return the flags whose value is not the default, in order."""
        return [flag for flag in self._fields if _FLAGS[flag].value != _FLAGS[flag].default]

    def is_open(self, flag: str) -> bool:
        """Return whether a setting was neither given by its flag nor crossed."""
        return not _FLAGS[flag].present and flag not in self.axes

    def _given(self, flag: str) -> Any:
        field, value = self._fields[flag], _FLAGS[flag].value
        if isinstance(value, list):
            return _each(field, value, _element_of(field.kind))
        return value if isinstance(value, bool) or _choices(field) else parse(flag, value, field.kind)

    def _changed(self, config: Config) -> Config:
        given = [flag for flag in self._fields if _FLAGS[flag].present and flag not in self._several]
        values = {flag: self._given(flag) for flag in given}
        if "num_epochs" in values:
            if "num_train_samples" in values:
                raise ValueError("--num_epochs and --num_train_samples both set how long to train: give one of them")
            values["num_train_samples"] = None  # which may be the default
        of_family = configs.change(config, **{flag: values[flag] for flag in ("model", "condition") if flag in values})
        for flag in values.keys() - {field.flag for field in configs.fields_of(of_family)}:
            raise ValueError(f"--{flag} is not a setting of --model={of_family.model.name}")
        return configs.change(config, **values)

    def _values(self, field: Field) -> list[Any]:
        given: Any = _FLAGS[field.flag].value
        if _FLAGS[field.flag].present:
            return _distinct(field, given)
        several = self._several[field.flag]
        return several if all(model_arguments.takes(field.kind, value) for value in several) else [field.default]


def _axis(text: str, known: Mapping[str, Field]) -> tuple[str, list[Any]]:
    """Return the flag and the values in an argument of --sweep."""
    name, equals, values = text.partition("=")
    paths = {
        ".".join(field.path).replace(".arguments.", "."): flag
        for flag, field in known.items()
        if not field.setting.is_recorded
    }
    flag = paths.get(name, name)
    if not equals or flag not in paths.values():
        raise ValueError(f"--sweep takes setting=values with one of {', '.join(paths)}, got {text}")
    if flag == "binarization":
        raise ValueError("--sweep: bounds under different binarizations are not comparable")
    return flag, _distinct(known[flag], values.split(","))


def parse(flag: str, text: Any, kind: Any) -> Any:
    """Return the value of a flag's text.

    Raises:
      ValueError: the text is not a value of this kind.
    """
    if text is None or not isinstance(text, str):
        return text
    for option in get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,):
        if get_origin(option) is Literal and text in get_args(option):
            return text
        if option is bool and text in ("True", "true", "False", "false"):
            return text in ("True", "true")
        if option in (int, float, str):
            try:
                return option(text)
            except ValueError:
                continue
    raise ValueError(f"--{flag} takes {_words(kind)}, got {text}")


def _distinct(field: Field, texts: Sequence[str]) -> list[Any]:
    given = ",".join(texts)
    element = _element_of(field.kind)
    if len(texts) > 1 and not model_arguments.takes(field.kind, 1) and not any("-" in text for text in texts):
        raise ValueError(
            f"--{field.flag} takes the sizes of one model joined by hyphens, {'-'.join(texts)}, and commas between "
            f"models, got {given}"
        )
    values = _each(field, texts, field.kind) if element is None else [_listed(field, text, element) for text in texts]
    if not values:
        raise ValueError(f"--{field.flag} takes {_words(element or field.kind, several=True)}, got none")
    if len({model_arguments.joined(value) for value in values}) < len(values):
        raise ValueError(f"--{field.flag} names a value twice: {given}")
    return values


def _listed(field: Field, text: str, element: Any) -> Any:
    """Return one value of a setting that takes lists of sizes, where a hyphen is a separator and not a sign."""
    if "-" in text or not model_arguments.takes(field.kind, 1):
        return _each(field, text.split("-"), element)
    return _each(field, [text], field.kind)[0]


def _each(field: Field, texts: Sequence[str], kind: Any) -> list[Any]:
    element = get_args(kind)[0] if get_origin(kind) else kind
    element = kind if get_origin(kind) in (Union, types.UnionType, Literal) else element
    try:
        return [parse(field.flag, text, element) for text in texts]
    except ValueError:
        raise ValueError(f"--{field.flag} takes {_words(element, several=True)}, got {','.join(texts)}") from None


def _words(kind: Any, several: bool = False) -> str:
    """Describe the values that a kind of setting takes."""
    options = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    known = {int: ("an integer", "integers"), float: ("a number", "numbers"), str: ("a word", "words")}
    words = [known[option][several] for option in options if option in known]
    words += [value for option in options if get_origin(option) is Literal for value in get_args(option)]
    return " or ".join(words or ["True or False"]) + (" separated by commas" if several else "")


def _limits(setting: Setting) -> str:
    """Describe the unit and the range of a setting."""
    least = "positive" if setting.above == 0 else "" if setting.minimum is None else f"at least {setting.minimum:g}"
    most = "" if setting.maximum is None else f"at most {setting.maximum:.10g}"
    unit = f"in {setting.unit}" if setting.unit else ""
    words = ", ".join(word for word in (unit, least, most) if word)
    return f" {words[0].upper()}{words[1:]}." if words else ""


def _choices(field: Field) -> tuple[str, ...]:
    if field.setting.choices is not None:
        return tuple(field.setting.choices())
    return get_args(field.kind) if get_origin(field.kind) is Literal else ()


def _takes_list(kind: Any) -> bool:
    return model_arguments.takes(kind, [])


def _element_of(kind: Any) -> Any:
    """Return the element type of a setting that takes lists; `None` for other settings."""
    options = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    lists = [option for option in options if _takes_list(option)]
    return get_args(lists[0])[0] if lists else None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _with_choices_of(field: Field, other: Field) -> Field:
    """Return a setting with the choices of another family's setting of the same name added."""
    if get_origin(field.kind) is not Literal or get_origin(other.kind) is not Literal:
        return field
    choices = dict.fromkeys((*get_args(field.kind), *get_args(other.kind)))
    return field._replace(kind=Literal[tuple(choices)])  # type: ignore[valid-type]


def _of_other_families(config: Config) -> list[Field]:
    """Return the arguments of the other families, with the default `None`."""
    found = []
    for name in FAMILIES.names():
        if name != config.model.name:
            other = configs.change(config, model=name)
            found += [field._replace(default=None) for field in configs.fields_of(other) if "arguments" in field.path]
    return found
