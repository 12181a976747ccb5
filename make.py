#!/usr/bin/env python3
"""Set up and run: ``python3 make.py demo`` plans the built-in patient, ``python3 make.py test`` passes the tests,
``python3 make.py docs`` builds the documentation.

Standard library only. Makes ``.venv`` beside this file and installs the package there whenever
``pyproject.toml`` has changed since the last time.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "installed.sha256"

CONSTRAINTS_UNMET = 3
TARGETS = {
    "demo": "plan the built-in digital patient on the MR-Linac and say where the report lies",
    "test": "run the linters, the type checker, the layer contract and the tests (more words go to pytest)",
    "lint": "run the linters, the type checker and the layer contract only",
    "docs": "build the documentation in site/",
    "setup": "only make the environment",
}


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in TARGETS:
        print("usage: python3 make.py TARGET\n" + "".join(f"  {name:6} {what}\n" for name, what in TARGETS.items()))
        return 2
    target, *rest = arguments
    if sys.version_info < (3, 11):
        print(f"mrlinac needs Python 3.11 or newer; this is {sys.version.split()[0]} ({sys.executable})")
        return 1
    setup()
    if target == "demo":
        code = run("-m", "mrlinac", "plan", "demo", "--out", "demo", "--overwrite", *rest)
        return (
            0 if code == CONSTRAINTS_UNMET else code
        )  # so coarse a plan need not meet them all; the report says which
    if target == "docs":
        return run("-m", "mkdocs", "build", "--strict", *rest)
    if target in ("lint", "test"):
        code = lint()
        if code or target == "lint":
            return code
        return test(rest)
    if target == "docs":
        return docs(rest)
    return 0


def setup() -> None:
    """Make the environment, and install the package in it when pyproject.toml changed."""
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + sys.version.encode()).hexdigest()
    if PYTHON.exists() and STAMP.exists() and STAMP.read_text() == wanted:
        return
    if not has_pip():
        print("making .venv", flush=True)
        made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], capture_output=True, text=True)
        if made.returncode:
            print(made.stdout + made.stderr)
            version = f"{sys.version_info.major}.{sys.version_info.minor}"
            sys.exit(
                "The environment could not be made. On Debian and Ubuntu the package that is missing is "
                f"'python{version}-venv': sudo apt-get install python{version}-venv"
            )
    print("installing mrlinac and what it needs into .venv (wheels only)", flush=True)
    command = [
        str(PYTHON),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--only-binary",
        ":all:",
    ]
    quietly([*command, "--upgrade", "hatchling", "editables"])
    quietly([*command, "--no-build-isolation", "--editable", f"{ROOT}[dev]"])
    STAMP.write_text(wanted)


def quietly(command: list[str]) -> None:
    """Run a command and keep what it says to ourselves, unless it fails: then all of it is shown."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    if done.returncode:
        print(done.stdout, flush=True)
        raise subprocess.CalledProcessError(done.returncode, command)


def has_pip() -> bool:
    """Whether there is an environment that can install: a failed attempt leaves one that cannot."""
    return PYTHON.exists() and not subprocess.call([str(PYTHON), "-m", "pip", "--version"], stdout=subprocess.DEVNULL)


def lint() -> int:
    """Ruff, mypy, the layer contract: all of them side by side, said in order, then the worst exit status."""
    contract = VENV / PYTHON.parent.name / ("lint-imports.exe" if os.name == "nt" else "lint-imports")
    commands = (
        [str(PYTHON), "-m", "ruff", "check", "."],
        [str(PYTHON), "-m", "ruff", "format", "--check", "."],
        [str(PYTHON), "-m", "mypy"],
        [str(contract)],
    )
    pipe, words = subprocess.PIPE, {"text": True, "encoding": "utf-8", "errors": "replace", "cwd": ROOT}
    started = [subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, **words) for command in commands]
    worst = 0
    for process in started:
        print(process.communicate()[0], end="", flush=True)
        worst = max(worst, abs(process.returncode))
    return worst


def test(words: list[str]) -> int:
    """The tests, a worker for each core; one that has nothing left takes from another's (``-n 0``: in this process)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    alone = any(word.startswith(("-n", "--numprocesses", "--pdb")) for word in words)
    return run("-m", "pytest", *(() if alone else ("-n", str(cores), "--dist", "worksteal")), *words)


def docs(words: list[str]) -> int:
    """The site in ``site/``; a broken link or a missing page is an error. Nothing is fetched."""
    os.environ["NO_MKDOCS_2_WARNING"] = "1"  # of mkdocs-material: an advertisement
    code = run("-m", "mkdocs", "build", "--strict", *words)
    if not code:
        print(ROOT / "site" / "index.html")
    return code


def run(*arguments: str) -> int:
    return subprocess.call([str(PYTHON), *arguments], cwd=ROOT)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except subprocess.CalledProcessError as error:
        sys.exit(f"failed: {' '.join(error.cmd)}")
    except KeyboardInterrupt:
        sys.exit(130)
