"""status: show how far the change of a gallery is, or what the jobs of a cluster do."""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from pipeline.errors import InputError, RunError
from pipeline.runs.locations import Location
from pipeline.runs.outcomes import GalleryStatus

if TYPE_CHECKING:  # imported where it is used, so that --help answers at once
    from cluster.job_server import Job, JobServer
    from pipeline.gallery.progress import RunProgress


@dataclass(frozen=True)
class JobStatus:
    """A job that has not ended: the state of its gallery if that can be seen from this machine
    (otherwise `unseen` says why not), and the last line of its log.
    """

    job: str
    verb: str | None
    job_state: str
    started: str | None
    gallery_status: GalleryStatus | None
    unseen: str | None
    last_line: str | None


@dataclass(frozen=True)
class ClusterStatus:
    """The jobs of a cluster that have not ended, newest first."""

    address: str
    going_on: tuple[JobStatus, ...]


def status(
    gallery: Location | None = None, *, address: str | None = None
) -> GalleryStatus | ClusterStatus:
    """Show how far the change of a gallery is, or what the jobs of a cluster do.

    The command that changes a gallery stores its progress beside the rows
    every ten seconds, so any machine that can read the gallery can show it:
    work units and crops done, crops per second, rejects, the expected end,
    and who works where. Nothing is locked or changed.

    For example:

        regallery status galleries/test

    Args:
        gallery: Folder of the gallery.
        address: URL of a cluster's dashboard, such as http://host:8265: show its jobs.
    """
    if (gallery is None) == (address is None):
        raise InputError("give a gallery or --address, one of the two")
    if gallery is not None:
        from pipeline.runs.status import gallery_status

        return gallery_status(gallery)
    from cluster.job_server import connected

    server = connected(str(address))
    going_on = (job for job in server.jobs() if job.is_going_on and job.verb)
    return ClusterStatus(server.address, tuple(_of_job(server, job) for job in going_on))


def _of_job(server: "JobServer", job: "Job") -> JobStatus:
    from pipeline.runs.status import gallery_status

    seen, unseen = None, None
    if job.gallery is not None:
        try:
            seen = gallery_status(job.gallery)
        except (InputError, RunError, OSError) as error:
            unseen = str(error)
    started, last = job.started, server.last_line(job.id)
    return JobStatus(job.id, job.verb, job.state, started, seen, unseen, last)


def describe(result: GalleryStatus | ClusterStatus) -> RenderableType:
    """What is done, how fast, when it ends, and who does it."""
    if isinstance(result, GalleryStatus):
        return Text("\n".join(_lines(result)))
    if not result.going_on:
        return Text(f"no jobs are running at {result.address}")
    parts = []
    for job in result.going_on:
        lines = [f"{job.job}: {job.job_state.lower()} since {job.started or 'unknown'}"]
        if job.gallery_status is not None:
            lines += [f"  {line}" for line in _lines(job.gallery_status)]
        elif job.last_line:
            lines.append(f"  {job.last_line}")
        parts.append(Text("\n".join(lines)))
    return Group(*parts)


def _lines(status: GalleryStatus) -> list[str]:
    if status.state == "running":
        lines = [
            f"{status.gallery}: {status.purpose}, process {status.process} on {status.host},"
            f" since {status.since}"
        ]
    elif status.state == "interrupted":
        lines = [f"{status.gallery}: a run was interrupted; the same command resumes it"]
    else:
        lines = [f"{status.gallery}: nobody changes it"]
    return lines + ([] if status.progress is None else _progress(status.progress))


def _progress(progress: "RunProgress") -> list[str]:
    crops = " crops" if progress.units is not None else ""
    done = f"{progress.step}: {progress.done:,} of {progress.total:,}{crops}"
    if progress.units is not None:
        done += f", {progress.units_done:,} of {progress.units:,} work units"
    if progress.rate is not None:
        done += f", {progress.rate:,.3g}{crops} a second"
    if progress.rejected is not None:
        done += f", {progress.rejected:,} rejects"
    if progress.ends is not None:
        return [done, f"expected end: {progress.ends} (as of {progress.renewed})"]
    return [f"{done} (as of {progress.renewed})"]


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["status", *sys.argv[1:]]))
