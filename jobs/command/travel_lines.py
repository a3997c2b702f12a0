"""What travel times do, as text."""

from pipeline.runs.travelled import TravelEffect


def effect_lines(travel: TravelEffect) -> list[str]:
    """What travel times exclude, and what becomes of groups without them."""
    share = travel.pairs_excluded / max(1, travel.pairs)
    told = f"travel times ({travel.origin}) exclude {share:.1%} of {travel.pairs:,} pairs of rows"
    if travel.true_pairs:
        lost = travel.true_pairs_excluded / travel.true_pairs
        told += f", and {lost:.2%} of {travel.true_pairs:,} pairs of one known identity"
    lines = [told]
    if travel.rows_unknown:
        lines.append(f"{travel.rows_unknown:,} rows without camera or time: nothing is excluded")
    if (lists := travel.lists) is not None:
        lines.append(
            f"lists of {lists.k} rows of other cameras, for {lists.queries:,} rows: precision"
            f" {lists.precision:.3f} ({lists.precision_without:.3f} without travel times), rank-1"
            f" {lists.rank1:.3f} ({lists.rank1_without:.3f})"
        )
    if (known := travel.without) is not None:
        lines.append(
            f"without travel times: B-cubed precision {known.precision:.3f}, recall"
            f" {known.recall:.3f}, F {known.f_score:.3f}"
        )
    return lines
