"""List what is installed (an SBOM in CycloneDX) and look up known vulnerabilities of it.

Made by `make audit`. The list is made offline. The look-up needs a service on the network: where it
knows none of the packages, or can't be reached, that is said and is no failure.

    audit.py TOOLS PYTHON SBOM.json     TOOLS: the folder of cyclonedx-py and pip-audit
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LOOK_UP_S = 180.0
SHOWN = 3


def main(tools: str, python: str, sbom: str) -> int:
    """Write the list, look up, say what came of it; 1: a vulnerability is known."""
    path = Path(sbom)
    path.parent.mkdir(parents=True, exist_ok=True)
    listing = [f"{tools}/cyclonedx-py", "environment", "--pyproject", "pyproject.toml"]
    listing += ["--output-reproducible", "--output-file", sbom, python]
    subprocess.run(listing, check=True)
    listed = json.loads(path.read_text(encoding="utf-8"))
    print(f"{len(listed['components'])} packages are listed in {sbom}")
    names = [one["name"] for one in listed["components"]]
    if missing := sorted({"pygls", "tokenizers", "numpy"} - set(names)):
        print(f"the list lacks {', '.join(missing)}")
        return 1
    purelib = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    look_up = [f"{tools}/pip-audit", "--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(
            [*look_up, "--path", purelib],
            capture_output=True, text=True, timeout=LOOK_UP_S, check=False,
        )  # fmt: skip
        told, is_bad = verdict(json.loads(done.stdout))
    except subprocess.TimeoutExpired:
        told, is_bad = "skipped: the service of known vulnerabilities did not answer", False
    except ValueError:
        reason = done.stderr.strip().rsplit("\n", 1)[-1][:200]
        told, is_bad = f"skipped: the service of known vulnerabilities said: {reason}", False
    print(told)
    return int(is_bad)


def verdict(report: Mapping[str, Any]) -> tuple[str, bool]:
    """Return what pip-audit's report says in words, and whether a vulnerability is known."""
    rows = report["dependencies"]
    unknown = [row for row in rows if "skip_reason" in row]
    bad = [
        f"{row['name']} {row['version']}: {vulnerability['id']}"
        for row in rows
        for vulnerability in row.get("vulns", ())
    ]
    if bad:
        return "\n".join(bad), True
    if len(unknown) == len(rows):
        example = f" (such as: {unknown[0]['skip_reason']})" if unknown else ""
        return f"skipped: the service knows none of the packages{example}", False
    names = ", ".join(row["name"] for row in unknown[:SHOWN])
    more = f"; {len(unknown)} could not be looked up, such as {names}" if unknown else ""
    return f"no vulnerability is known of {len(rows) - len(unknown)} packages{more}", False


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
