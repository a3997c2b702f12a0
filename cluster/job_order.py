"""What is asked of a cluster's job server: a command, what is uploaded, and what it reserves."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import InputError

NAME = "job_name"
"""Where Ray keeps a job's name; its dashboard shows it."""
VERB = "regallery_verb"
"""Where a job keeps the verb that it runs."""
GALLERY = "regallery_gallery"
"""Where a job keeps the location of the gallery that it changes."""

# Every head has one of these, also one without CPUs.
_HEAD = "node:__internal_head__"
_VALID_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


@dataclass(frozen=True)
class DriverSettings:
    """What Ray reserves for the job's own process, beside its workers."""

    driver_cpus: float = 0
    """CPUs to reserve for the job's own process. With 0 it runs on the cluster's head, also on
    one without CPUs; otherwise on any machine that has them."""
    driver_memory: float = 1
    """Memory to reserve for the job's own process, in GiB; it starts when a machine has so much."""

    def __post_init__(self) -> None:
        """Raises `InputError` for what Ray cannot reserve."""
        if not 0 <= self.driver_cpus < float("inf"):
            raise InputError(f"`driver_cpus` is {self.driver_cpus:g}: give 0 or more")
        if self.driver_cpus > 1 and self.driver_cpus % 1:
            raise InputError(
                f"`driver_cpus` is {self.driver_cpus:g}: above 1, Ray takes whole numbers only"
            )
        if not 0 <= self.driver_memory < float("inf"):
            raise InputError(f"`driver_memory` is {self.driver_memory:g} GiB: give 0 or more")

    def for_ray(self) -> dict[str, Any]:
        """As arguments for Ray, which takes a job that reserves anything off the head unless it
        reserves something of the head's own.
        """
        on_head = self.driver_memory > 0 and self.driver_cpus == 0
        return {
            "entrypoint_num_cpus": self.driver_cpus,
            "entrypoint_memory": int(self.driver_memory * 2**30),
            "entrypoint_resources": {_HEAD: 0.001} if on_head else None,
        }


@dataclass(frozen=True)
class Order:
    """A job to submit; `environment` holds secrets, and is never shown."""

    arguments: tuple[str, ...]
    folder: Path
    verb: str | None = None
    gallery: str | None = None
    name: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    requirements: tuple[str, ...] = ()
    driver: DriverSettings = DriverSettings()

    def __post_init__(self) -> None:
        """Raises `InputError` for a name that would not be one word everywhere."""
        if self.name is not None and not _VALID_NAME.fullmatch(self.name):
            raise InputError(
                f"`name` {self.name!r} cannot be a job's name: use up to 63 letters, digits, dots,"
                " dashes and underscores, and begin with a letter or a digit"
            )

    def for_ray(self) -> dict[str, Any]:
        """As arguments for Ray's client, but for the job's id."""
        environment: dict[str, Any] = {"working_dir": str(self.folder)}
        if self.environment:
            environment["env_vars"] = dict(self.environment)
        if self.requirements:
            environment["pip"] = list(self.requirements)
        labels = {NAME: self.name, VERB: self.verb, GALLERY: self.gallery}
        return {
            "entrypoint": shlex.join(["python", "-m", "jobs.cli", *self.arguments]),
            "runtime_env": environment,
            "metadata": {key: value for key, value in labels.items() if value},
            **self.driver.for_ray(),
        }

    def without_secrets(self, text: str) -> str:
        """A message without the values of variables, should the server repeat what it was sent.

        >>> order = Order(("info",), Path("/tmp"), environment={"TOKEN": "hunter2", "EMPTY": ""})
        >>> order.without_secrets("cannot use hunter2")
        'cannot use ***'
        """
        for value in sorted(filter(None, self.environment.values()), key=len, reverse=True):
            text = text.replace(value, "***")
        return text
