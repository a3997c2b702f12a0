"""The lines of a verb about files elsewhere that may hold erased rows."""

from pipeline.runs.outcomes import Followed


def output_lines(followed: list[Followed]) -> list[str]:
    """A line for each output, and what to do about those that are left."""
    lines = []
    for each in followed:
        what = f"{each.kind} {each.place} (made from version {each.version})"
        if each.is_removed:
            done = "purged" if each.kind.endswith("gallery") else "deleted"
            lines.append(f"{done} too: {what}")
        else:
            reason = f": {each.reason}" if each.reason else ""
            lines.append(f"STILL THERE, and may hold the rows: {what}{reason}")
    left = [each for each in followed if not each.is_removed]
    if any(not each.reason for each in left):
        lines.append("--purge --everywhere removes those that it can reach")
    elif left:
        lines.append("remove those yourself; the next purge reports whether they are gone")
    return lines
