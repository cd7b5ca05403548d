"""What a run is: one typed configuration. Its flags, its file and its checks are made from the fields here.

A field is spelled once, with its type, its default, its range and what it means. Of a model there are its family and
the arguments of it, whose names, types and meaning are the family's own.
"""

import dataclasses
import os
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import jax

import aevb
from aevb.algorithms import ALGORITHMS
from aevb.arguments import describe
from aevb.data import Condition, Dataset
from aevb.data.binarization import Binarization
from aevb.gradients import Gradient
from aevb.models.families import FAMILIES
from aevb.objectives import KL, BoundName
from aevb.training.timetable import EvalEvery
from experiments import conditions, flag_checks, model_arguments
from experiments.optimizers import OPTIMIZERS, SCHEDULES
from experiments.settings import Setting, setting

OutputBias: TypeAlias = Literal["weight_init", "data_mean"]


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Which model: a family by its name, and its arguments."""

    name: str = setting("mlp", "Family of the model.", choices=FAMILIES.names, flag="model")
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Complete the arguments, so that there is one spelling of them: what was not given is at its default."""
        try:
            known = model_arguments.family_arguments(self.name)
        except ValueError:  # somebody's family, that is not registered here: it can be compared all the same
            known = {}
        defaults = {argument: default for argument, (_, default) in known.items()}
        object.__setattr__(self, "arguments", defaults | dict(self.arguments))


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """How the objective is ascended."""

    name: str = setting(
        "adagrad", "From optax; Adagrad starts at 0.", choices=lambda: tuple(OPTIMIZERS), flag="optimizer"
    )
    learning_rate: float = setting(0.02, "Step size.", above=0)
    schedule: str = setting(
        "constant",
        "Of the step size; burda: x 10^(-i/7) for 3^i epochs; cosine: down to 5 % over the run, which cannot be "
        "prolonged then.",
        choices=SCHEDULES.keys,
    )
    epsilon: float | None = setting(None, "Of an adaptive optimizer's denominator; optax's own by default.", minimum=0)
    beta1: float | None = setting(
        None, "Of Adam: the decay of its first moments; optax's own by default.", minimum=0, maximum=1
    )
    initial_second_moment: float = setting(
        0.0, "Of Adam: what its second moments start at; above 0, a warm-up of the step size.", minimum=0
    )
    output_bias: OutputBias = setting(
        "weight_init", "What the decoder's last bias starts at; data_mean: the log-odds of the mean training image."
    )
    clip_norm: float | None = setting(None, "Gradients of a larger global norm are scaled down to it.", above=0)
    batch_size: int = setting(100, "M, datapoints in a minibatch.", minimum=1)
    length_buckets: int = setting(
        1,
        "Of sequences: minibatches are made of similar lengths, of so many ranges, and cut to them; 1: of any lengths.",
        minimum=1,
    )


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """What is ascended: an estimator of a bound, on which targets, with which prior of theta."""

    num_samples: int = setting(1, "L, draws of z for each datapoint.", minimum=1)
    kl: KL = setting("analytic", "Estimator B (analytic) or A (sampled) of the paper.")
    gradient: Gradient = setting("pathwise", "Estimator of the gradient, with --algorithm=aevb.")
    bound: BoundName = setting(
        "elbo",
        "What is ascended; iwae: the importance weighted bound of --num_samples draws; fivo: of sequences, that of a "
        "filter of --num_samples particles.",
    )
    reported_kl: KL | None = setting(None, "Estimator of the KL in the bounds that are reported; by default --kl.")
    kl_warm_up: int = setting(
        0, "Over which the weight of the KL, or of log p(z)/q(z|x), rises to 1.", minimum=0, unit="epochs"
    )
    kl_start: float = setting(0.0, "The weight that --kl_warm_up rises from.", minimum=0)
    free_bits: float = setting(0.0, "Of each level's KL that cost nothing.", minimum=0, unit="nats")
    map_prior: bool = setting(True, "Include log p(theta) = log N(theta; 0, I) in the objective.")
    binarization: Binarization = setting("grey", "What the pixels become.")


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How long to train, and when to look."""

    num_epochs: int = setting(50, "Passes over the training set.", minimum=0, is_length=True)
    num_train_samples: int | None = setting(
        None, "Training samples in place of epochs; the last epoch may be a part of one.", minimum=1, is_length=True
    )
    eval_every: EvalEvery = setting(1, "Epochs between evaluations; log: 8 a factor of ten.", minimum=1)
    patience: int | None = setting(
        None,
        "Stop after this many evaluations without a higher bound on the validation images.",
        minimum=1,
        is_length=True,
    )
    seed: int = setting(0, "Of initial weights, shuffles and noise.", minimum=0, maximum=flag_checks.MAX_SEED)


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What is trained on. The sizes are counts of images."""

    name: str = setting("mnist", "The data set.", flag="dataset")
    split_rule: str = setting("official", "How training and test images are told apart.")
    num_train_images: int = setting(0, "Trains on so many, random ones by seed 0; 0 for all.", minimum=0)
    num_valid_images: int = setting(0, "Hold out so many training images for validation, drawn with seed 1.", minimum=0)
    condition: Condition = setting(
        "none",
        "What images are modelled given: nothing, or the label of each.",
        choices=lambda: typing.get_args(Condition),
    )


@dataclasses.dataclass(frozen=True)
class OwnDataConfig:
    """Where data of one's own are, and how they are read; as for `aevb.data.load_own`."""

    path: str | None = setting(
        None, "A .npy or .npz file, a folder of PNG or JPEG files, tfds:NAME or hf:NAME.", flag="data"
    )
    image_size: int | None = setting(
        None, "Crop pictures to their central square and resize them to this.", minimum=1, unit="pixels a side"
    )
    colour: str | None = setting(None, "Convert every picture to it.", choices=lambda: ("rgb", "grey"))
    skip_unreadable: bool = setting(False, "Leave unreadable pictures out, and count them.")
    max_value: int | None = setting(None, "Of uint8, that means full intensity; 255 by default.", minimum=1)
    image_key: str | None = setting(None, "The name of the images, where there are several arrays or features.")
    label_key: str | None = setting(None, "The name of the labels, likewise.")
    test_fraction: float = setting(
        0.1, "For testing, by seed 0, where the data have no test split.", above=0, maximum=1
    )
    fingerprint: str | None = setting(None, "Checksum of the data.", is_recorded=True)


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that decides the numbers of a run, and nothing else. The order of flags that name a folder is this."""

    model: ModelConfig = ModelConfig()
    algorithm: str = setting("aevb", "AEVB, a baseline, or Appendix F (full_vb).", choices=ALGORITHMS.names)
    optimizer: OptimizerConfig = OptimizerConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    training: TrainingConfig = TrainingConfig()
    data: DataConfig = DataConfig()
    own_data: OwnDataConfig = OwnDataConfig()

    def build_model(self) -> aevb.Model:
        """Return the model.

        Raises:
          TypeError, ValueError: as for the family.
        """
        return aevb.models.build(self.model.name, **self.model.arguments)


class Field(NamedTuple):
    """One setting of a configuration.

    Attributes:
      path: `("optimizer", "learning_rate")`.
      flag: the name of its flag.
      kind: its type.
      default: its value in the configuration that was asked.
      setting: what else is known.
    """

    path: tuple[str, ...]
    flag: str
    kind: Any
    default: Any
    setting: Setting


def fields_of(config: Any, above: tuple[str, ...] = ()) -> Iterator[Field]:
    """Yield every setting of a configuration in order, the arguments of its model among them."""
    kinds = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value, path = getattr(config, field.name), (*above, field.name)
        if dataclasses.is_dataclass(value):
            yield from fields_of(value, path)
        elif "setting" in field.metadata:
            known: Setting = field.metadata["setting"]
            yield Field(path, known.flag or field.name, kinds[field.name], value, known)
        else:
            yield from _arguments_of(config, path)


def _arguments_of(model: ModelConfig, above: tuple[str, ...]) -> Iterator[Field]:
    """Yield the arguments of a model's family; what the data decide is none."""
    helps = model_arguments.argument_helps(model.name)
    for name, (kind, default) in model_arguments.family_arguments(model.name).items():
        yield Field((*above, name), name, kind, model.arguments.get(name, default), Setting(helps.get(name, "")))


def get(config: Any, path: Sequence[str]) -> Any:
    """Return the value of a setting."""
    for name in path:
        config = config[name] if isinstance(config, Mapping) else getattr(config, name)
    return config


def replace(config: Config, values: Mapping[tuple[str, ...], Any]) -> Config:
    """Return a configuration with other values of some settings, by their paths."""
    for path, value in values.items():
        config = _replace(config, path, value)
    return config


def _replace(config: Any, path: Sequence[str], value: Any) -> Any:
    name, *rest = path
    if rest:
        value = _replace(config[name] if isinstance(config, Mapping) else getattr(config, name), rest, value)
    return {**config, name: value} if isinstance(config, Mapping) else dataclasses.replace(config, **{name: value})


def check(config: Config) -> None:
    """Raise `ValueError` or `TypeError` for a value that is out of its range or none of its choices."""
    for field in fields_of(config):
        field.setting.check(field.flag, field.default)
        if field.default == "float64" and not jax.config.read("jax_enable_x64"):
            raise ValueError(f"{field.flag}=float64 would be float32: set JAX_ENABLE_X64=1 in the environment")
    conditions.check(config.data.condition, config.model.name)
    if shape := conditions.any_shape(config.model.name):
        _with_arguments(config, shape, 2).build_model()  # to hear its errors


def _with_arguments(config: Config, shape: Sequence[int], num_classes: int | None) -> Config:
    """Return the configuration with those arguments of its model that the data decide."""
    values = conditions.arguments(config.model.name, shape, num_classes)
    return replace(config, {("model", "arguments", name): value for name, value in values.items()})


def flat(config: Config) -> dict[str, Any]:
    """Return the value of every setting by the name of its flag."""
    return {field.flag: field.default for field in fields_of(config) if not field.setting.is_recorded}


def change(config: Config, **values: Any) -> Config:
    """Return a configuration with other values of some settings, by the names of their flags.

    The model comes first: what another family takes is at that family's default, unless the former one took it too, in
    the same form, and had another value than its own default. Another condition starts from its own family.

    Raises:
      ValueError: there is no such setting.
    """
    given = config.data.condition
    family = conditions.family_for(values.get("condition", given), config.model.name, given)
    if (name := values.pop("model", family)) != config.model.name:
        arguments, former = model_arguments.family_arguments(name), model_arguments.family_arguments(config.model.name)
        kept = {
            argument: value
            for argument, value in config.model.arguments.items()
            if argument in arguments
            and model_arguments.takes(arguments[argument][0], value)
            and model_arguments.one_spelling(value) != model_arguments.one_spelling(former[argument][1])
        }
        config = dataclasses.replace(config, model=ModelConfig(name, kept))
    paths = {field.flag: field.path for field in fields_of(config)}
    for flag in values:
        if flag not in paths:
            raise ValueError(f"there is no setting {describe(flag)} with the model {config.model.name}")
    return replace(config, {paths[flag]: value for flag, value in values.items()})


def _absolute(spec: str) -> str:
    """Return where own data are from anywhere, if they are in a file or folder."""
    kind = next((kind for kind in ("tfds:", "hf:") if spec.startswith(kind)), "")
    path = spec.removeprefix(kind)
    return kind + os.path.abspath(path) if os.path.exists(path) else spec


def with_data(config: Config, train: Dataset) -> Config:
    """Return the configuration for the data that were loaded: what a model takes of them, and what tells them apart."""
    shape = conditions.shape_for(config.model.name, train)
    if config.data.condition == "label":
        train.classes()  # to hear whether there are any
    config = _with_arguments(config, shape, train.num_classes)
    if train.fingerprint is None:
        return config
    found = {
        ("data", "name"): train.name,
        ("data", "split_rule"): train.split_rule,
        ("own_data", "path"): _absolute(config.own_data.path or ""),
        ("own_data", "fingerprint"): train.fingerprint,
    }
    return replace(config, found)
