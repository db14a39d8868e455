"""What smoothctl brings into an environment: the licence and known vulnerabilities of each package.

    python -m tools.audit [--licences]

The packages are those that smoothctl needs, and those that these need, as they are installed.
Exits 1 where a licence is not among the ALLOWED ones, a vulnerability is known, or pip-audit cannot
reach its database, as what was not audited must not look as if it were.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ALLOWED = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD", "BSD-2-Clause", "BSD-3-Clause",
    "BSL-1.0", "CC0-1.0", "CNRI-Python", "HPND", "ISC", "MIT", "MIT-0", "MIT-CMU", "MPL-2.0",
    "PSF-2.0", "Python-2.0", "Unlicense", "Zlib",
}  # fmt: skip
"""Licences that ask no more of a user than to keep their text (MPL: and changes of its files)."""

KNOWN_AS = {
    "Apache 2": "Apache-2.0",
    "Apache": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "HPND": "HPND",
    "ISC": "ISC",
    "MIT": "MIT",
    "Mozilla Public License 2": "MPL-2.0",
    "MPL": "MPL-2.0",
    "PSF": "PSF-2.0",
    "Python Software Foundation": "PSF-2.0",
    "Unlicense": "Unlicense",
}
"""How a free text begins -> SPDX identifier."""

EXCEPTIONS = ("cuda-toolkit", "nvidia-")
"""How the names of packages begin that torch's builds for NVIDIA's GPUs need, and no other: their
licence is NVIDIA's own."""


def needed(name: str = "smoothctl", extras: Iterable[str] = ()) -> dict[str, Distribution]:
    """Returns what a package needs, directly or not, where it is installed; without itself."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [(name, frozenset(extras))]
    while waiting:
        current, wanted = waiting.pop()
        key = canonicalize_name(current)
        if (key, wanted) in seen:
            continue
        seen.add((key, wanted))
        try:
            found[key] = distribution(current)
        except PackageNotFoundError:
            continue  # of another platform
        for text in found[key].requires or []:
            requirement = Requirement(text)
            if _applies(requirement, wanted):
                waiting.append((requirement.name, frozenset(requirement.extras)))
    found.pop(canonicalize_name(name), None)
    return dict(sorted(found.items()))


def _applies(requirement: Requirement, extras: Iterable[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))


def licence(package: Distribution) -> str:
    """Returns a package's licence: its SPDX expression, else what its other metadata say."""
    metadata = package.metadata
    if "License-Expression" in metadata:
        return metadata["License-Expression"]
    classifiers = metadata.get_all("Classifier") or []
    named = [c.rpartition(" :: ")[2] for c in classifiers if c.startswith("License :: OSI")]
    free = metadata.get_all("License") or [""]
    texts = named or [free[0].strip().partition("\n")[0]]
    return " AND ".join(_identifier(text) for text in texts) or "unknown"


def _identifier(text: str) -> str:
    plain = text.removeprefix("The ").removeprefix("3-Clause ").removeprefix("License: ")
    matches = (known for begin, known in KNOWN_AS.items() if plain.startswith(begin))
    return text if text in ALLOWED else next(matches, text or "unknown")


def allowed(expression: str) -> bool:
    """Returns whether a licence, or one of those that may be chosen, is allowed."""
    bare = re.sub(r"[()]", "", expression)
    return any(
        all(part.strip() in ALLOWED for part in re.split(r" AND ", choice))
        for choice in re.split(r" OR ", bare)
    )


def print_licences(packages: Mapping[str, Distribution]) -> bool:
    """Prints package, version and licence of each; returns whether all may be here."""
    fine = True
    for name, package in packages.items():
        found, verdict = licence(package), ""
        if not allowed(found):
            excused = name.startswith(EXCEPTIONS)
            fine = fine and excused
            verdict = "  (for NVIDIA's GPUs alone)" if excused else "  NOT ON THE LIST"
        print(f"{name:28} {package.version:14} {found}{verdict}")
    return fine


def audited(packages: Mapping[str, Distribution]) -> list[dict[str, Any]]:
    """Returns what pip-audit says of each package: its name and either `vulns` or `skip_reason`."""
    pins = "".join(f"{name}=={p.version.partition('+')[0]}\n" for name, p in packages.items())
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requirements.txt"
        file.write_text(pins)
        command = [sys.executable, "-m", "pip_audit", "--requirement", str(file), "--format=json"]
        command += ["--no-deps", "--disable-pip", "--progress-spinner=off", "--timeout=20"]
        done = subprocess.run(  # noqa: S603, as it runs this Python, on a file of ours
            command, capture_output=True, text=True, check=False
        )
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return [{"name": name, "skip_reason": last} for name in packages]
    return found


def print_vulnerabilities(packages: Mapping[str, Distribution]) -> bool:
    """Prints known vulnerabilities; returns whether all packages were audited and none has any.

    One package is asked for first, so that an unreachable database ends it at once.
    """
    first = dict([next(iter(packages.items()))])
    (probe,) = audited(first)
    if "skip_reason" in probe:
        print(
            "Not audited: pip-audit reaches no database of vulnerabilities from here "
            f"({probe['skip_reason']}); run this where pypi.org can be reached."
        )
        return False
    found = audited(packages)
    skipped = [entry["name"] for entry in found if "skip_reason" in entry]
    known = [(e["name"], e["version"], v) for e in found for v in e.get("vulns", [])]
    for name, version, v in known:
        fixed = ", ".join(v["fix_versions"]) or "no version yet"
        print(f"{name} {version}: {v['id']}, fixed by {fixed}")
    print(f"{len(found) - len(skipped)} packages audited, {len(known)} known vulnerabilities.")
    if skipped:
        print(f"Not audited, as PyPI does not have them: {', '.join(skipped)}.")
    return not known and not skipped


def main() -> None:
    """Prints both lists."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--licences", action="store_true", help="the licences alone")
    arguments = parser.parse_args()
    packages = needed()
    fine = print_licences(packages)
    if not arguments.licences:
        fine = print_vulnerabilities(packages) and fine
    sys.exit(not fine)


if __name__ == "__main__":
    main()
