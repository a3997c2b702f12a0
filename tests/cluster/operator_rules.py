"""What KubeRay's operator refuses, for the settings that our files use.

The rules are those of `ValidateRayClusterSpec` and `ValidateRayJobSpec`, said in our words: see
ray-operator/controllers/ray/utils/validation.go of github.com/ray-project/kuberay, commit
feeaf72facab.
"""

import re
from collections.abc import Iterator
from typing import Any

LONGEST_NAME = 63 - len("-head-svc")


def of_metadata(metadata: dict[str, Any]) -> Iterator[str]:
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", metadata["name"]):
        yield "the name is no DNS label"
    if len(metadata["name"]) > LONGEST_NAME:
        yield "the name is too long for that of a service"


def of_cluster(spec: dict[str, Any]) -> Iterator[str]:
    groups = [("head", spec["headGroupSpec"])]
    groups += [(group["groupName"], group) for group in spec.get("workerGroupSpecs", [])]
    scales = spec.get("enableInTreeAutoscaling", False)
    options = spec.get("autoscalerOptions", {})
    for name, group in groups:
        pod, start = group["template"]["spec"], group.get("rayStartParams", {})
        if not pod["containers"]:
            yield f"{name} has no container"
        if {"num-cpus", "num-gpus", "memory", "resources"} & start.keys() and group.get(
            "resources"
        ):
            yield f"{name} has resources twice"
        if "labels" in start:
            yield f"{name} has labels among its start parameters"
        if any(not isinstance(value, str) for value in start.values()):
            yield f"{name} has a start parameter that is not text"
        if (
            scales
            and options.get("version") == "v2"
            and pod.get("restartPolicy", "Never") != "Never"
        ):
            yield f"{name} restarts by itself, and the autoscaler v2 forbids that"
    for name, group in groups[1:]:
        if not scales and not {"minReplicas", "maxReplicas"} <= group.keys():
            yield f"{name} needs minReplicas and maxReplicas"
        if not 0 <= group.get("minReplicas", 0) <= group.get("maxReplicas", 1 << 31):
            yield f"{name} has replicas that make no range"
    if options.get("idleTimeoutSeconds", 0) < 0:
        yield "the idle timeout is negative"
    if spec.get("authOptions", {}).get("mode") == "token":
        version = tuple(map(int, spec.get("rayVersion", "0").split(".")))
        if version < (2, 52, 0):
            yield "tokens need rayVersion 2.52.0 or later"


def of_job(spec: dict[str, Any]) -> Iterator[str]:
    selector, own = spec.get("clusterSelector"), spec.get("rayClusterSpec")
    retries = spec.get("backoffLimit", 0)
    if not selector and own is None:
        yield "neither a cluster of its own nor one that is selected"
    if selector is not None:
        if not selector.get("ray.io/cluster"):
            yield "the selected cluster has no name"
        if retries > 0:
            yield "backoffLimit goes with a cluster of its own only"
        if spec.get("submissionMode") == "SidecarMode":
            yield "SidecarMode goes with a cluster of its own only"
        if spec.get("suspend"):
            yield "a job on a selected cluster cannot be suspended"
    if retries < 0:
        yield "backoffLimit is negative"
    if spec.get("submissionMode") == "InteractiveMode" and retries > 0:
        yield "backoffLimit does not go with InteractiveMode"
    if spec.get("suspend") and not spec.get("shutdownAfterJobFinishes"):
        yield "a job that keeps its cluster cannot be suspended"
    if spec.get("ttlSecondsAfterFinished", 0) < 0:
        yield "ttlSecondsAfterFinished is negative"
    for name in ("activeDeadlineSeconds", "preRunningDeadlineSeconds"):
        if spec.get(name, 1) <= 0:
            yield f"{name} is not positive"
    if own is not None:
        yield from of_cluster(own)
