#!/usr/bin/env python3
"""Renders or lints the chart with Helm's own library out of .tools (make tools), where no helm is at hand.

    scripts/render_chart.py VALUES.yaml [RELEASE [NAMESPACE]]     prints the objects
    scripts/render_chart.py --jobs                                for tests: JSON on stdin and stdout

A job is {"values": PATH or object, "release", "namespace"} or {"lint": PATH or object}; its answer is
{"files": {template: text}}, {"error": text}, or {"findings": [text]}.
"""

import glob
import json
import os
import sys

here = os.path.dirname(os.path.abspath(__file__))
repository = os.path.dirname(here)
chart_path = os.path.join(repository, "helm", "understudy")
tools = os.environ.get("UNDERSTUDY_TOOLS", os.path.join(repository, ".tools"))
libraries = sorted(glob.glob(os.path.join(tools, "helm-sdk-*")))
if not libraries:
    sys.exit("Helm's library is not in .tools: run make tools")
sys.path.insert(0, libraries[-1])

from helm_python import HelmError  # noqa: E402
from helm_python.chart import Chart, lint, values_from_yaml  # noqa: E402


def read(values):
    """A path to a YAML file, or the values themselves."""
    if isinstance(values, str):
        with open(values, encoding="utf-8") as file:
            return values_from_yaml(file.read())
    return values


def answer(chart, job):
    try:
        if "lint" in job:
            report = lint(chart_path, read(job["lint"]), strict=True, namespace="redis")
            return {"findings": [f"{it['path']}: {it['error']}" for it in report["messages"]] + report["errors"]}
        return {"files": chart.render(read(job["values"]), name=job["release"], namespace=job["namespace"], is_install=True)}
    except HelmError as error:
        return {"error": str(error)}


def main():
    with Chart.load(chart_path) as chart:
        if sys.argv[1:] == ["--jobs"]:
            json.dump([answer(chart, job) for job in json.load(sys.stdin)], sys.stdout)
            return
        if not 2 <= len(sys.argv) <= 4 or sys.argv[1].startswith("-"):
            sys.exit(__doc__)
        release, namespace = (sys.argv[2:] + ["understudy", "default"][len(sys.argv) - 2 :])[:2]
        said = answer(chart, {"values": sys.argv[1], "release": release, "namespace": namespace})
        if "error" in said:
            sys.exit(said["error"])
        for name, text in said["files"].items():
            if text.strip() and not name.endswith("NOTES.txt"):
                print(f"---\n# Source: {name}\n{text.strip()}")


main()
