import importlib.util
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

import aevb
from tests.conftest import ROOT


def test_public_names_exist():
    for name in aevb.__all__:
        assert getattr(aevb, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'elbow'"):
        _ = aevb.elbow


def test_changelog_has_this_version():
    assert f"## {aevb.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_locked_versions_have_hashes_and_no_addresses():
    for name in ("", "-dev", "-docs", "-oldest", "-accelerators"):
        text = (ROOT / f"requirements{name}.lock").read_text()
        requirements = re.findall(r"^[A-Za-z0-9_.\[\]-]+==.*$", text, re.MULTILINE)
        assert len(requirements) > 40
        assert all(line.endswith("\\") for line in requirements)  # followed by its hashes
        assert "://" not in text


@pytest.mark.slow
def test_wheel_installs_into_an_empty_environment(tmp_path):
    """The wheel is built, installed by pip with all declared dependencies, and used from a distant folder."""
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
        "import jax, aevb, aevb.data.builder, aevb.algorithms, aevb.posterior, aevb.marginal_likelihood, pathlib\n"
        "model = aevb.mlp_vae((784,), 20)\n"
        "bound = aevb.elbo(model.init(jax.random.key(0)), jax.random.key(1), jax.numpy.zeros(784), model)\n"
        "assert (pathlib.Path(aevb.__file__).parent / 'py.typed').exists()\n"
        "print(aevb.__version__, float(bound))"
    )
    done = subprocess.run([str(python), "-c", program], cwd=tmp_path, check=True, capture_output=True, text=True)
    version, bound = done.stdout.split()
    assert version == aevb.__version__
    assert -560 < float(bound) < -530  # 784 log 2 = 543.4 at the initial weights


def constraints(lock: Path) -> str:
    """Return the versions of a lock file without hashes, which pip does not accept together with a local wheel."""
    lines = re.findall(r"^([A-Za-z0-9_.-]+==[^\\\n]+?)\s*\\?$", lock.read_text(), re.MULTILINE)
    return "\n".join(lines)


def test_supported_versions_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11,<3.14"
    assert "jax>=0.10" in project["dependencies"]


def test_the_oldest_versions_are_those_that_are_allowed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    oldest = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements-oldest.lock").read_text(), re.MULTILINE))
    for requirement in (*project["dependencies"], *project["optional-dependencies"]["experiments"]):
        name, version = requirement.split(">=")
        assert f"{oldest[name.lower()]}.".startswith(f"{version}.")


def audit_script():
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_audit_looks_up_every_locked_version_once_a_name():
    lists = audit_script().locked([ROOT / "requirements.lock", ROOT / "requirements-dev.lock"])
    found = [pin for pins in lists for pin in pins]
    expected = {
        pin
        for name in ("requirements.lock", "requirements-dev.lock")
        for pin in re.findall(r"^[\w.-]+==[^\s;]+", (ROOT / name).read_text(), re.MULTILINE)
    }
    assert set(found) == expected
    assert len(found) == len(expected)
    for pins in lists:
        assert len({pin.split("==")[0] for pin in pins}) == len(pins)


def test_an_audit_fails_on_a_vulnerability_and_never_passes_unseen():
    verdict = audit_script().verdict
    sound = {"name": "flax", "version": "0.12.0", "vulns": []}
    broken = {"name": "numpy", "version": "2.0.0", "vulns": [{"id": "CVE-1", "fix_versions": ["2.0.1"]}]}
    unknown = {"name": "jax", "skip_reason": "not found"}
    assert verdict([sound, broken, unknown]) == (
        [
            "audit: numpy 2.0.0: CVE-1, fixed in 2.0.1",
            "audit: 2 of 3 locked versions checked, 1 known vulnerabilities",
        ],
        1,
    )
    assert verdict([sound])[1] == 0
    assert verdict([unknown]) == (["audit: NOT DONE, the service knows none of the 1 locked versions"], 0)


def test_an_audit_without_its_source_says_so(monkeypatch, capsys):
    audit = audit_script()

    def unreachable(*_, **__):
        trace = "Traceback (most recent call last):\nrequests.exceptions.ConnectionError: nobody there"
        return subprocess.CompletedProcess([], 1, "", trace)

    monkeypatch.setattr(audit.subprocess, "run", unreachable)
    assert audit.main([ROOT / "requirements.lock"]) == 0
    assert capsys.readouterr().out.count("\n") == 1
    monkeypatch.setattr(audit.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 2, "", "bad flag"))
    with pytest.raises(RuntimeError, match="pip-audit failed with status 2:\nbad flag"):
        audit.main([ROOT / "requirements.lock"])
