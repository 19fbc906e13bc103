"""The examples of docs/deploy.md: each is of its reader's form, and says what our files say."""

from __future__ import annotations

import json
import os
import re
import signal
from contextlib import ExitStack
from pathlib import Path

import jsonschema
import pytest
import yaml
from acme import tasks

import frappe_jobs as frappe
from frappe_jobs import runtime
from frappe_jobs.cli.metrics import metrics as METRICS
from frappe_jobs.config import load_settings
from frappe_jobs.deploy.processes import processes
from frappe_jobs.metrics.families import text

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples/deploy"
#: Cut from compose-spec's and Kubernetes 1.37's own to what the examples use; KEDA's by hand.
SCHEMAS = json.loads((ROOT / "tests/data/deploy_schemas.json").read_text())

#: What other people's process managers start.
LINES = [
    line
    for line in (ROOT / "tests/data/bench_commands.txt").read_text().splitlines()
    if not line.startswith("#")
]
COMPOSE = yaml.safe_load((EXAMPLES / "compose.yaml").read_text())
MANIFESTS = [
    manifest
    for file in sorted(EXAMPLES.glob("kubernetes/*.yaml"))
    for manifest in yaml.safe_load_all(file.read_text())
]


def waits(tmp_path: Path) -> dict[tuple[str, ...], int]:
    """How long each command of a bench may take to end, as our own files say."""
    tmp_path.joinpath("common_site_config.json").write_text("{}")
    return {one.command: one.stop_wait for one in processes(load_settings(tmp_path))}


def containers():
    for manifest in MANIFESTS:
        if manifest["kind"] == "Deployment":
            spec = manifest["spec"]["template"]["spec"]
            yield manifest, spec, spec["containers"][0]


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda one: one["metadata"]["name"])
def test_each_manifest_is_of_its_form(manifest):
    jsonschema.validate(manifest, SCHEMAS[manifest["kind"]])


def test_the_compose_file_is_of_its_form():
    jsonschema.validate(COMPOSE, SCHEMAS["compose"])
    assert len(SCHEMAS) == 4


@pytest.mark.parametrize("wrong", [{"restarts": "always"}, {"restart": 1}, {"command": {}}])
def test_a_wrong_service_is_not(wrong):
    services = {"scheduler": COMPOSE["services"]["scheduler"] | wrong}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(COMPOSE | {"services": services}, SCHEMAS["compose"])


@pytest.mark.parametrize("wrong", [{"replica": 1}, {"replicas": "two"}])
def test_a_wrong_manifest_is_not(wrong):
    manifest = MANIFESTS[-1] | {"spec": MANIFESTS[-1]["spec"] | wrong}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(manifest, SCHEMAS["Deployment"])


def test_they_wait_as_long_as_our_own_files(tmp_path):
    wanted = waits(tmp_path)
    composed = {
        tuple(service["command"]): int(service["stop_grace_period"].removesuffix("s"))
        for name, service in COMPOSE["services"].items()
        if name != "redis"
    }
    assert composed == wanted
    found = {tuple(one["args"]): spec for _, spec, one in containers()}
    periods = {
        command: spec["terminationGracePeriodSeconds"]
        for command, spec in found.items()
        if command[1] != "metrics"  # which does no work of its own
    }
    assert periods == wanted


def test_each_selector_finds_its_own_pods():
    for manifest, _, _ in containers():
        spec = manifest["spec"]
        assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    [scaled] = [one for one in MANIFESTS if one["kind"] == "ScaledObject"]
    names = [one["metadata"]["name"] for one, _, _ in containers()]
    assert scaled["spec"]["scaleTargetRef"]["name"] in names


def test_their_commands_and_probes_are_ours(bench):
    probes = [
        probe["exec"]["command"]
        for _, _, container in containers()
        for name, probe in container.items()
        if name.endswith("Probe") and "exec" in probe
    ]
    assert len(probes) == 8
    probes.append(COMPOSE["services"]["scheduler"]["healthcheck"]["test"][1:])
    for words in probes:
        done = bench.run(*words[1:])
        assert (done.returncode, done.stderr) == (1, ""), words
        assert done.stdout.startswith("No ")


def test_what_keda_asks_for_is_served(bench):
    with frappe.site("site1"):
        frappe.enqueue(tasks.ping, queue="short")
    [scaled] = [one for one in MANIFESTS if one["kind"] == "ScaledObject"]
    [trigger] = scaled["spec"]["triggers"]
    [metric] = re.findall(r"max\((.+)\)", trigger["metadata"]["query"])
    page = text(runtime.current()).decode()
    [age] = re.findall(rf"^{re.escape(metric)} (.+)$", page, re.MULTILINE)
    assert 0 <= float(age) < 60
    [served] = [one for one in MANIFESTS if one["metadata"]["name"] == "metrics"][1:]
    assert served["spec"]["ports"] == [{"port": METRICS.params[1].default}]


def test_what_peoples_process_managers_start_runs_together_and_ends_with_its_group(make_bench):
    """Each line as it stands; some managers send SIGTERM to all of a line's processes at once."""
    bench = make_bench(workers={"reports": {}})
    bench.use()
    with ExitStack() as stack:
        started = [stack.enter_context(bench.process(*line.split())) for line in LINES]
        for one in started:
            one.wait_ready()
        with frappe.site("site1"):
            jobs = [frappe.enqueue(tasks.ping, name) for name in ("short", "long", "reports")]
        assert [job.wait(30) for job in jobs] == ["pong"] * 3
        for one in started:
            os.killpg(one.process.pid, signal.SIGTERM)
        assert [one.process.wait(30) for one in started] == [0] * len(LINES)
