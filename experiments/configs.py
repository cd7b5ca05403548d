"""The typed configuration of a run. Its flags, its file and its checks are made from the fields here.

Each field is written once, with its type, default, range and meaning. A model is configured by its family and the
family's arguments, whose names, types and meanings are the family's own.
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
    """The model: the name of a family and its arguments."""

    name: str = setting("mlp", "Model family.", choices=FAMILIES.names, flag="model")
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Add the default arguments, so that equal models have equal configurations."""
        try:
            known = model_arguments.family_arguments(self.name)
        except ValueError:  # a family that is not registered in this process; it can still be compared
            known = {}
        defaults = {argument: default for argument, (_, default) in known.items()}
        object.__setattr__(self, "arguments", defaults | dict(self.arguments))


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer, its schedule and its minibatches."""

    name: str = setting(
        "adagrad",
        "Optimizer from optax. The accumulator of `adagrad` starts at 0.",
        choices=lambda: tuple(OPTIMIZERS),
        flag="optimizer",
    )
    learning_rate: float = setting(0.02, "Learning rate; with a schedule, the initial one.", above=0)
    schedule: str = setting(
        "constant",
        "Learning-rate schedule. `burda`: stage i lasts 3^i epochs at rate x 10^(-i/7). `cosine`: decays to 5 % over "
        "the run, which cannot be prolonged afterwards.",
        choices=SCHEDULES.keys,
    )
    epsilon: float | None = setting(
        None, "Epsilon in the denominator of an adaptive optimizer; by default optax's own.", minimum=0
    )
    beta1: float | None = setting(
        None, "Decay rate of Adam's first moments; by default optax's own.", minimum=0, maximum=1
    )
    initial_second_moment: float = setting(
        0.0, "Initial value of Adam's second moments; a value above 0 warms up the step size.", minimum=0
    )
    output_bias: OutputBias = setting(
        "weight_init",
        "Initial bias of the decoder's output layer. `weight_init`: as the model initializes it; `data_mean`: the "
        "log-odds of the mean training image.",
    )
    clip_norm: float | None = setting(
        None, "Largest global norm of a gradient; larger gradients are scaled down to it.", above=0
    )
    weight_decay: float = setting(
        0.0,
        "Multiple of the parameters that is added to their gradients after --clip_norm, before an adaptive optimizer "
        "scales them: the prior N(0, I / (N x weight decay)) over theta and phi. Not the weight decay of AdamW.",
        minimum=0,
    )
    batch_size: int = setting(100, "M, datapoints per minibatch.", minimum=1)
    length_buckets: int = setting(
        1,
        "Number of length buckets, for sequences. Each minibatch comes from one bucket and is cut to its length; 1: no "
        "buckets.",
        minimum=1,
    )


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """The objective: the estimator of a bound, its targets and the prior of theta."""

    num_samples: int = setting(1, "L, draws of z per datapoint.", minimum=1)
    kl: KL = setting("analytic", "Estimator of the paper: B (analytic KL) or A (sampled KL).")
    gradient: Gradient = setting("pathwise", "Gradient estimator, for --algorithm=aevb.")
    bound: BoundName = setting(
        "elbo",
        "Bound to maximize. `iwae`: the importance weighted bound with --num_samples draws; `fivo`: for sequences, "
        "the bound of a particle filter with --num_samples particles.",
    )
    reported_kl: KL | None = setting(None, "KL estimator in the reported bounds; by default --kl.")
    kl_warm_up: int = setting(
        0, "Warm-up over which the weight of the KL, or of log p(z)/q(z|x), rises to 1.", minimum=0, unit="epochs"
    )
    kl_start: float = setting(0.0, "Weight at the start of --kl_warm_up.", minimum=0)
    free_bits: float = setting(0.0, "Part of each level's KL that is not penalized.", minimum=0, unit="nats")
    map_prior: bool = setting(True, "Include log p(theta) = log N(theta; 0, I) in the objective.")
    binarization: Binarization = setting("grey", "How pixels are binarized; `grey`: not at all.")


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How long to train, and when to evaluate."""

    num_epochs: int = setting(50, "Passes over the training set.", minimum=0, is_length=True)
    num_train_samples: int | None = setting(
        None, "Training samples, instead of --num_epochs; the last epoch may be incomplete.", minimum=1, is_length=True
    )
    eval_every: EvalEvery = setting(1, "Epochs between evaluations; `log`: eight evaluations per decade.", minimum=1)
    patience: int | None = setting(
        None,
        "Stop after this many evaluations without a higher bound on the validation images.",
        minimum=1,
        is_length=True,
    )
    seed: int = setting(0, "Seed of the initial weights, shuffles and noise.", minimum=0, maximum=flag_checks.MAX_SEED)


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The training data. Sizes are numbers of images."""

    name: str = setting("mnist", "Name of the data set.", flag="dataset")
    split_rule: str = setting("official", "Rule that splits training and test images.")
    num_train_images: int = setting(0, "Train on this many images, drawn with seed 0 (0: all of them).", minimum=0)
    num_valid_images: int = setting(
        0, "Hold out this many training images for validation, drawn with seed 1.", minimum=0
    )
    condition: Condition = setting(
        "none",
        "What images are conditioned on: nothing, or the label of each.",
        choices=lambda: typing.get_args(Condition),
    )


@dataclasses.dataclass(frozen=True)
class OwnDataConfig:
    """Where the user's own data are and how they are read, as in `aevb.data.load_own`."""

    path: str | None = setting(
        None, "Data to train on: a .npy or .npz file, a folder of PNG or JPEG files, tfds:NAME or hf:NAME.", flag="data"
    )
    image_size: int | None = setting(
        None, "Crop images to their central square and resize it to this size.", minimum=1, unit="pixels per side"
    )
    colour: str | None = setting(None, "Convert every image to this colour mode.", choices=lambda: ("rgb", "grey"))
    skip_unreadable: bool = setting(False, "Leave out unreadable images, and report how many there are.")
    max_value: int | None = setting(None, "The uint8 value of full intensity; by default 255.", minimum=1)
    image_key: str | None = setting(None, "Name of the images, if the data have several arrays or features.")
    label_key: str | None = setting(None, "Name of the labels, if the data have several arrays or features.")
    test_fraction: float = setting(
        0.1, "Fraction held out for testing, drawn with seed 0, if the data have no test split.", above=0, maximum=1
    )
    fingerprint: str | None = setting(None, "Checksum of the data.", is_recorded=True)


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that decides the numbers of a run, and nothing else. Folder names list flags in this order."""

    model: ModelConfig = ModelConfig()
    algorithm: str = setting(
        "aevb",
        "Training algorithm: AEVB, a baseline, or full variational Bayes of Appendix F (`full_vb`).",
        choices=ALGORITHMS.names,
    )
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
      path: its path, such as `("optimizer", "learning_rate")`.
      flag: the name of its flag.
      kind: its type.
      default: its value in the configuration that it was taken from.
      setting: its help, range and choices.
    """

    path: tuple[str, ...]
    flag: str
    kind: Any
    default: Any
    setting: Setting


def fields_of(config: Any, above: tuple[str, ...] = ()) -> Iterator[Field]:
    """Yield every setting of a configuration in order, including the arguments of its model."""
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
    """Yield the arguments of a model's family, except those that the data decide."""
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
    """Raise `ValueError` or `TypeError` for a value that is out of range or not one of the choices."""
    for field in fields_of(config):
        field.setting.check(field.flag, field.default)
        if field.default == "float64" and not jax.config.read("jax_enable_x64"):
            raise ValueError(f"{field.flag}=float64 would be float32: set JAX_ENABLE_X64=1 in the environment")
    conditions.check(config.data.condition, config.model.name)
    if shape := conditions.any_shape(config.model.name):
        _with_arguments(config, shape, 2).build_model()  # raises for bad arguments


def _with_arguments(config: Config, shape: Sequence[int], num_classes: int | None) -> Config:
    """Return the configuration with the model arguments that the data decide."""
    values = conditions.arguments(config.model.name, shape, num_classes)
    return replace(config, {("model", "arguments", name): value for name, value in values.items()})


def flat(config: Config) -> dict[str, Any]:
    """Return the values of all settings by the names of their flags."""
    return {field.flag: field.default for field in fields_of(config) if not field.setting.is_recorded}


def change(config: Config, **values: Any) -> Config:
    """Return a configuration with other values of some settings, by the names of their flags.

    The model is changed first. Arguments of the new family take its defaults, except those that the former family had
    too, in the same form and with a value other than its default: these are kept. A new condition starts from its
    default family.

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
            raise ValueError(f"there is no setting {describe(flag)} for the model {config.model.name}")
    return replace(config, {paths[flag]: value for flag, value in values.items()})


def _absolute(spec: str) -> str:
    """Return the specification of own data with an absolute path, if it names a file or folder."""
    kind = next((kind for kind in ("tfds:", "hf:") if spec.startswith(kind)), "")
    path = spec.removeprefix(kind)
    return kind + os.path.abspath(path) if os.path.exists(path) else spec


def with_data(config: Config, train: Dataset) -> Config:
    """Return the configuration with what loaded data decide: model arguments, name, split rule and fingerprint."""
    shape = conditions.shape_for(config.model.name, train)
    if config.data.condition == "label":
        train.classes()  # raises if there are no labels
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
