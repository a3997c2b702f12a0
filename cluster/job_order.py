"""An order for a cluster's job server: a command, the files to upload, and the resources to
reserve.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import InputError

NAME = "job_name"
"""The key under which Ray stores a job's name; its dashboard shows it."""
VERB = "regallery_verb"
"""The key under which a job stores the verb that it runs."""
GALLERY = "regallery_gallery"
"""The key under which a job stores the location of the gallery that it changes."""

# Every head has one of these, even one without CPUs.
_HEAD = "node:__internal_head__"
_VALID_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


@dataclass(frozen=True)
class DriverSettings:
    """What Ray reserves for the job's own process, in addition to its workers."""

    driver_cpus: float = 0
    """CPUs to reserve for the job's own process. With 0 it runs on the cluster's head, also on
    one without CPUs; otherwise on any machine that has them."""
    driver_memory: float = 1
    """Memory to reserve for the job's own process, in GiB; it starts when a machine has so much."""

    def __post_init__(self) -> None:
        """Raise `InputError` for what Ray cannot reserve."""
        if not 0 <= self.driver_cpus < float("inf"):
            raise InputError(f"`driver_cpus` is {self.driver_cpus:g}: give 0 or more")
        if self.driver_cpus > 1 and self.driver_cpus % 1:
            raise InputError(
                f"`driver_cpus` is {self.driver_cpus:g}: above 1, Ray takes whole numbers only"
            )
        if not 0 <= self.driver_memory < float("inf"):
            raise InputError(f"`driver_memory` is {self.driver_memory:g} GiB: give 0 or more")

    def for_ray(self) -> dict[str, Any]:
        """The arguments for Ray.

        Ray places a job that reserves anything on another machine than the head, unless it reserves
        something that only the head has.
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
        """Raise `InputError` for a name that is not one word in every context."""
        if self.name is not None and not _VALID_NAME.fullmatch(self.name):
            raise InputError(
                f"`name` {self.name!r} cannot be a job's name: use up to 63 letters, digits, dots,"
                " dashes and underscores, and begin with a letter or a digit"
            )

    def for_ray(self) -> dict[str, Any]:
        """The arguments for Ray's client, without the job's id."""
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
        """Remove the values of variables from a message, because the server may repeat what it was
        sent.

        >>> order = Order(("info",), Path("/tmp"), environment={"TOKEN": "hunter2", "EMPTY": ""})
        >>> order.without_secrets("cannot use hunter2")
        'cannot use ***'
        """
        for value in sorted(filter(None, self.environment.values()), key=len, reverse=True):
            text = text.replace(value, "***")
        return text
