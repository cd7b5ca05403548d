"""Random command lines with good and bad values, generated from the flags of each binary and their ranges.

`describe` is run in a process of each binary and returns its flags with types, ranges and choices, from absl and from
the `Setting` of a configuration's field. No range is repeated here. Only `_SMALL` names values, which keep valid
commands short.
"""

import json
import os
import random
import runpy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tests.conftest import ROOT

_SMALL = {
    "batch_size": 16, "chunk_size": 10, "clip_norm": 10, "eval_every": 1, "figure_format": "", "hidden_dim": 4,
    "horizon": 2, "kl_warm_up": 1, "latent_dim": 2, "latent_dim_frey_face": "", "latent_dim_mnist": 2,
    "learning_rate": 0.01, "num_chains": 2, "num_classes": 2, "num_components": 2, "num_datapoints": 4,
    "num_distributions": 2, "num_draws": 10, "num_epochs": 1, "num_evaluation_samples": 2, "num_filters": 2,
    "num_folds": 2, "num_hmc_samples": 2,
    "num_images": 4, "num_importance_samples": 4, "num_iterations": 2, "num_labels": 20, "num_m1_epochs": 1,
    "num_particles": 2, "num_processes": 1, "num_restarts": 1, "num_samples": 2, "num_seeds": 1, "num_sequences": 2,
    "num_shown": 2, "num_splits": 1, "num_states": 2, "num_steps": 2, "num_train_images": 60, "num_transitions": 4,
    "num_trial_epochs": 1, "num_valid_images": 5, "num_warmup": 2, "patience": 1, "repeats": 1, "stretch": 1,
}  # fmt: skip

# Arguments of each binary besides its flags in `_SMALL`. Without the data, valid commands end when the data are not
# found, because the network cannot be reached.
COMMANDS: Mapping[str, Sequence[str]] = {
    "actions": ("--dataset=basic_motions", "--model=hmm"),
    "benchmark": ("--dataset=digits", "--peers=", "--suite=peers"),
    "check": ("--run={run}",),
    "complete_sequences": ("--run={sequences_run}",),
    "compress": ("--run={run}", "{images}", "out.aevb"),
    "digits": ("--nodraw_pictures",),
    "explore": ("--run={run}", "--output=page.html"),
    "figure2": (),
    "figure3": (),
    "figure4": (),
    "figure5": (),
    "forecast": ("--models=deep_markov", "--data={series}"),
    "frey_face": ("--nodraw_pictures",),
    "full_vb": (),
    "gradient_variance": ("--dataset=digits",),
    "hmm": ("--data={sequences}",),
    "images": ("--data={images}", "--nodraw_pictures"),
    "inpaint": ("--run={run}", "--mask=lower", "--workdir=out"),
    "jsb_chorales": ("--nodraw_pictures",),
    "marginal_likelihood": ("--run={run}", "--methods=is", "--output=out.json"),
    "mnist": ("--nodraw_pictures",),
    "regression": ("--dataset=bimodal", "--models=gaussian"),
    "semi_supervised": ("--dataset=digits", "--model=m1"),
    "sequences": ("--data={sequences}", "--nodraw_pictures", "--model=linear_gaussian"),
    "sweep": ("--dataset=digits",),
}

_WORDS = ["", " ", "abc", "None", "ünïcödé", "\u202e", "日本", "😀", "\udcff", "a\nb", "\x1b[31m", "%s", "{0}",
          "$HOME", "'", '"', "--", "-", "=", ",", ",,", "../..", "x" * 300, "x" * 5000]  # fmt: skip
_NO_NUMBERS = ["nan", "inf", "-inf", "1e400", "1e3", "1.5", "1,5", "1-", "0x10", "1_0", "\u0663", "\uff11\uff12", "1 2",
               "+1", "True", "1e-300", "-0", "-0.0", "-1", "-1e-3", "0", "00", "1e30", "1e-40"]  # fmt: skip
_HUGE = [
    "2147483647",
    "2147483648",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "1" + "0" * 30,
    "9" * 5000,
]
_PATHS = ["/dev/null", "/dev/full", "/dev/null/x", "/proc/self/x", "~", "~/x", "~nobody-here/x", "gs://bucket/run",
          "file:///x", "a" * 256, "a/" * 3000, ".", "new", "new/er", "*", "[a]", "a\\b", "{run}", "{images}",
          "{damaged}"]  # fmt: skip
_OF_ABSL = [
    *(f"--{name}" for name in ("help", "helpfull", "helpshort", "helpxml", "logtostderr", "version")),
    *(f"--flagfile={path}" for path in ("nowhere", "{damaged}", "{images}", ".")),
    *(f"--{name}=x" for name in ("verbosity", "stderrthreshold", "only_check_args", "logger_levels", "undefok")),
    *("--fromenv=a", "--tryfromenv=a", "--log_dir=nowhere", "--profile_file=nowhere/x", "--verbosity=-1"),
]


_WITHOUT_DATA = {"actions", "figure2", "figure3", "figure4", "figure5", "frey_face", "full_vb", "jsb_chorales", "mnist"}
_DEAR = {"forecast", "gradient_variance", "inpaint", "regression"}  # 5 to 20 s of CPU time each
_NOT_HERE = {(name, "hidden_dim") for name in ("sequences", "jsb_chorales")}  # not a flag of the model that is trained


class Flag(NamedTuple):
    """A flag as a binary defines it.

    Attributes:
      name: The name without dashes.
      kind: bool, int, float, enum, list or text.
      least, most: The range of numbers; `above` is an exclusive lower bound.
      choices: The choices of an enum; for other kinds, those of each word.
    """

    name: str
    kind: str
    least: float | None
    above: float | None
    most: float | None
    choices: tuple[str, ...]


class Line(NamedTuple):
    """A command: the name of a binary, its arguments, and whether they include a bad value."""

    name: str
    arguments: list[str]
    is_good: bool


def describe(name: str) -> None:
    """Print the flags of a binary as JSON; call this in a separate process."""
    from absl import app, flags

    from aevb.models.families import FAMILIES
    from experiments import configs

    settings = {}
    for family in FAMILIES.names():
        for field in configs.fields_of(configs.change(configs.Config(), model=family)):
            settings.setdefault(field.flag, field)
    app.run = lambda *_, **__: None  # define the flags without running
    runpy.run_module(f"experiments.{name}", run_name="__main__", alter_sys=True)
    found = []
    for module, of_module in flags.FLAGS.flags_by_module_dict().items():
        for flag in of_module if module.startswith("experiments.") else ():
            parser, field = flag.parser, settings.get(flag.name)
            kind = _kind(flag.flag_type(), field)
            known = field.setting if field and flag.flag_type() not in ("int", "float", "string enum") else None
            bounds = (known.minimum, known.above, known.maximum) if known else (None, None, None)
            lower = getattr(parser, "lower_bound", None) if bounds[0] is None else bounds[0]
            upper = getattr(parser, "upper_bound", None) if bounds[2] is None else bounds[2]
            choices = getattr(parser, "enum_values", None) or (known.choices() if known and known.choices else ())
            found.append(Flag(flag.name, kind, lower, bounds[1], upper, tuple(map(str, choices))))
    print(json.dumps(sorted(found)))


def _kind(of_absl: str, field: Any) -> str:
    kinds = {"bool": "bool", "int": "int", "float": "float", "string enum": "enum"}
    if of_absl in kinds:
        return kinds[of_absl]
    if "list" in of_absl:
        return "list"
    words = str(field.kind) if field else ""
    return "float" if "float" in words else "int" if "int" in words else "text"


def flags_in(text: str) -> list[Flag]:
    """Return the flags that `describe` printed."""
    return [Flag(*each[:5], tuple(each[5])) for each in json.loads(text)]


class Lines:
    """A generator of random command lines."""

    def __init__(self, flags: Mapping[str, Sequence[Flag]], seed: int, good: float = 0.125):
        """Of binaries with these flags; the share `good` of lines has nothing bad in them."""
        self._flags, self._random, self._good_share = flags, random.Random(seed), good

    def next(self) -> Line:
        """Return a command line of any binary."""
        is_good = self._random.random() < self._good_share
        name = self._random.choice(sorted(self._flags.keys() - _WITHOUT_DATA if is_good else self._flags))
        if name in _DEAR and self._random.random() < 0.7:
            name = self._random.choice(sorted(self._flags.keys() - _DEAR))
        known = {flag.name: flag for flag in self._flags[name]}
        small = [
            f"--{flag}={value}" for flag, value in _SMALL.items() if flag in known and (name, flag) not in _NOT_HERE
        ]
        arguments = [*small, *COMMANDS[name]]
        for index, flag in enumerate(self._random.choices(list(known.values()), k=self._random.randint(1, 3))):
            bad = not is_good and (index == 0 or self._random.random() < 0.7)
            arguments = [each for each in arguments if not each.startswith((f"--{flag.name}=", f"--no{flag.name}"))]
            arguments += self._spelled(flag, self._bad(flag) if bad else self._good(flag), bad)
        if not is_good and self._random.random() < 0.15:
            arguments.insert(self._random.randint(0, len(arguments)), self._stray(list(known)))
        return Line(name, arguments, is_good)

    def _spelled(self, flag: Flag, value: str, bad: bool) -> list[str]:
        if flag.kind == "bool" and value in ("true", "false"):
            return [f"--{'' if value == 'true' else 'no'}{flag.name}"]
        how = self._random.random() if bad else 1.0
        if how < 0.05:
            return [f"--{flag.name}", value]
        if how < 0.08:
            return [f"-{flag.name}={value}"]
        if how < 0.12:
            return [f"--{flag.name}={value}", f"--{flag.name}={self._good(flag)}"]
        if how < 0.14:
            return [f"--{flag.name[: self._random.randint(1, len(flag.name))]}={value}"]
        if how < 0.16:
            return [f"--{flag.name}"]
        return [f"--{flag.name}={value}"]

    def _stray(self, names: Sequence[str]) -> str:
        word = self._random.choice(_WORDS)
        name = self._random.choice(names)
        return self._random.choice(
            [word, f"--{word}", f"--{name[:-1]}", f"--no{name}", *self._random.sample(_OF_ABSL, 6)]
        )

    def _good(self, flag: Flag) -> str:
        if flag.choices:
            return self._random.choice(flag.choices)
        if flag.kind == "bool":
            return self._random.choice(["true", "false"])
        if flag.kind in ("int", "float"):
            least = flag.least if flag.least is not None else 0 if flag.above is None else flag.above
            small = int(_SMALL.get(flag.name) or 0)
            if flag.kind == "int":
                return str(
                    self._random.choice(
                        [*range(int(least) + (flag.above is not None), int(least) + 3), max(small, int(least) + 1)]
                    )
                )
            most = 1.0 if flag.most is None else flag.most
            return f"{self._random.uniform(least, max(most, least + 1e-3)):.3g}"
        if flag.name in _SMALL:
            return str(_SMALL[flag.name])
        return self._random.choice(["1", "a", "1,2", "new"])

    def _bad(self, flag: Flag) -> str:
        kinds = [_WORDS, _NO_NUMBERS, _PATHS if flag.kind == "text" else _NO_NUMBERS]
        if self._random.random() < 0.15:
            kinds = [_HUGE]
        elif flag.kind == "list" and self._random.random() < 0.5:
            parts = [self._random.choice([*_WORDS, *_NO_NUMBERS, "1", "2"]) for _ in range(self._random.randint(1, 4))]
            return self._random.choice([",", "-", ", "]).join(parts)
        elif flag.choices and self._random.random() < 0.5:
            one = self._random.choice(flag.choices)
            return self._random.choice([one.upper(), one[:-1], f"{one},{one}", f" {one}", f"{one}\n", one + "é"])
        bounds = [flag.least, flag.above, flag.most]
        if self._random.random() < 0.25 and any(bound is not None for bound in bounds):
            bound = self._random.choice([bound for bound in bounds if bound is not None])
            return f"{bound + self._random.choice([-1, 0, 1, -1e-3, 1e-3, -1e9]):.12g}"
        return self._random.choice(self._random.choice(kinds))


def make_files(folder: Path) -> dict[str, str]:
    """Write small data files and a damaged file; return their paths by the names in braces above."""
    folder.mkdir()
    rng = np.random.RandomState(0)
    np.save(folder / "images.npy", 255 * rng.randint(0, 2, (40, 4, 4)).astype(np.uint8))
    values = rng.normal(size=(20, 6, 2)).astype(np.float32)
    np.savez(folder / "sequences.npz", values=values, lengths=rng.randint(2, 7, 20))
    np.savez(folder / "series.npz", values=np.sin(np.arange(240) / 3).astype(np.float32))
    (folder / "damaged").write_bytes(rng.bytes(300))
    names = ("images.npy", "sequences.npz", "series.npz", "damaged")
    return {name.partition(".")[0]: str(folder / name) for name in names}


def unfinished(folder: Path) -> list[str]:
    """Return unfinished results in a folder: empty folders, files under temporary names, runs without configuration."""
    found = []
    for root, folders, files in os.walk(folder):
        if "downloads" in folders:
            folders.remove("downloads")  # TFDS creates it in advance
        if Path(root) != folder and not folders and set(files) <= {".lock"}:
            found.append(root)
        found += [f"{root}/{name}" for name in files if name.endswith(".part")]
        found += [f"{root}/{name}" for name in folders if ".orbax-checkpoint-tmp" in name]
        if "metrics.csv" in files and "config.json" not in files:
            found.append(root)
    return found


def all_binaries() -> set[str]:
    """Return the module names of the binaries in `experiments`."""
    paths = [*(ROOT / "experiments").glob("*.py"), *(ROOT / "experiments").glob("*/__main__.py")]
    return {
        path.parent.name if path.stem == "__main__" else path.stem
        for path in paths
        if '__name__ == "__main__"' in path.read_text()
    }
