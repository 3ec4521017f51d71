"""scripts/kubernetes.yaml against Kubernetes' own schemas, and its numbers and words against each other."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest

from bench.cli.run_command import given_options
from tests import ROOT

yaml = pytest.importorskip("yaml")
MANIFEST = ROOT / "scripts" / "kubernetes.yaml"


def resources() -> dict[str, dict[str, Any]]:
    return {each["kind"]: each for each in yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("version", ["1.25", None], ids=["oldest", "newest"])
def test_its_fields_are_those_of_kubernetes(version: str | None) -> None:
    schemas = pytest.importorskip("kubernetes_validate")
    for resource in resources().values():
        schemas.validate(resource, version or schemas.latest_version(), strict=True)


def test_the_schemas_refuse_a_field_that_is_misspelt() -> None:
    schemas = pytest.importorskip("kubernetes_validate")
    job = resources()["Job"]
    job["spec"]["completion_mode"] = job["spec"].pop("completionMode")
    with pytest.raises(schemas.ValidationError, match="completion_mode"):
        schemas.validate(job, schemas.latest_version(), strict=True)


def test_its_numbers_and_names_go_together() -> None:
    service, job = (resources()[kind] for kind in ("Service", "Job"))
    pods, spec = job["spec"]["template"]["spec"], job["spec"]
    (container,) = pods["containers"]
    words = shlex.split(container["args"][0])
    nodes, ranks = (int(re.findall(rf"{name}=(\d+)", container["args"][0])[0]) for name in ("nnodes", "nproc-per-node"))
    assert spec["completions"] == spec["parallelism"] == nodes
    assert container["resources"]["limits"]["nvidia.com/gpu"] == ranks
    # Pod 0 of an indexed job has the job's name and its index as host name, below the service's name.
    assert f"--master-addr={job['metadata']['name']}-0.{service['metadata']['name']}" in words
    assert pods["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    volumes = {volume["name"] for volume in pods["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert volumes == set(mounts)
    options = given_options(words[words.index("bench") + 2 :])
    assert str(options["output"]) == mounts["results"]
    assert options["launcher"] == "env"
