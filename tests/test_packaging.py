import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

import aevb
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
NAMES = [
    "contract",
    "notebook",
    "algorithms",
    "population",
    "streaming",
    "bare functions",
    "linen",
    "nnx",
    "equinox",
    "haiku",
]


@pytest.mark.parametrize(("name", "block"), list(zip(NAMES, BLOCKS, strict=True)))
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_readme_code_runs(name, block, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    exec(compile(block, f"README.md ({name})", "exec"), {})


def test_public_names_exist():
    for name in aevb.__all__:
        assert getattr(aevb, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'elbow'"):
        _ = aevb.elbow


def test_changelog_has_this_version():
    assert f"## {aevb.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_locked_versions_have_hashes_and_no_addresses():
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text()
        requirements = re.findall(r"^[A-Za-z0-9_.\[\]-]+==.*$", text, re.MULTILINE)
        assert len(requirements) > 40
        assert all(line.endswith("\\") for line in requirements)  # followed by its hashes
        assert "://" not in text


@pytest.mark.slow
def test_wheel_installs_into_an_empty_environment(tmp_path):
    """Built, installed by pip with everything it declares, and used from a folder far from this one."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("aevb-*.whl")
    venv.create(tmp_path / "empty", with_pip=True)
    python = tmp_path / "empty" / "bin" / "python"
    versions = tmp_path / "constraints.txt"
    versions.write_text(constraints(ROOT / "requirements.lock"))
    install = [str(python), "-m", "pip", "install", "--quiet", "--constraint", str(versions), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    program = (
        "import jax, aevb, aevb.datasets.builder, aevb.baselines, aevb.full_vb, aevb.marginal_likelihood, pathlib\n"
        "model = aevb.mlp_vae((784,), 20)\n"
        "bound = aevb.elbo(model.init(jax.random.key(0)), jax.random.key(1), jax.numpy.zeros(784), model)\n"
        "assert (pathlib.Path(aevb.__file__).parent / 'py.typed').exists()\n"
        "print(aevb.__version__, float(bound))"
    )
    done = subprocess.run([str(python), "-c", program], cwd=tmp_path, check=True, capture_output=True, text=True)
    version, bound = done.stdout.split()
    assert version == aevb.__version__
    assert -560 < float(bound) < -530  # 784 log 2 = 543.4 at initial weights


def constraints(lock: Path) -> str:
    """The versions of a lock file without its hashes, which pip does not take for a local wheel beside them."""
    lines = re.findall(r"^([A-Za-z0-9_.-]+==[^\\\n]+?)\s*\\?$", lock.read_text(), re.MULTILINE)
    return "\n".join(lines)


def test_supported_versions_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11,<3.14"
    assert "jax>=0.10" in project["dependencies"]
