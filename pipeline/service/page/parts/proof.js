// The proof of an erasure: what went, what was searched, and a copy to keep.
import { html, useEffect, useState } from "../vendor/preact.js";
import { bytes, count, grouped, moment } from "./format.js";
import { Facts } from "./facts.js";
import { Icon } from "./icons.js";

/** @typedef {{kind: string, place: string, host?: string | null, is_removed?: boolean, is_here?: boolean, reason?: string}} Output */

const REMAINS = "The rows are gone from the gallery, but not from everything named below.";

/**
 * What becomes of an output, or became of it.
 *
 * @param {boolean | undefined} removed
 * @param {boolean | undefined} here
 * @param {string | undefined} reason
 */
function fate(removed, here, reason) {
  if (removed === undefined) return here === false ? "out of reach: named in the proof" : "may hold the rows";
  return removed ? "purged" : reason || "kept";
}

/** @param {{outputs: Output[]}} props */
export const Outputs = ({
  outputs,
}) => html`<div class="scroll" role="region" tabindex="0" aria-label="What was made from the gallery"><table>
  <thead><tr><th>What</th><th>Where</th><th>What becomes of it</th></tr></thead>
  <tbody>${outputs.map(
    ({
      kind,
      place,
      host,
      is_removed: removed,
      is_here: here,
      reason,
    }) => html`<tr><td>${kind}</td><td class="wrap">${place}${host ? ` on ${host}` : ""}</td>
      <td>${fate(removed, here, reason)}</td></tr>`,
  )}</tbody>
</table></div>`;

/** @param {{result: any}} props */
function Keep({ result }) {
  const [address, setAddress] = useState("");
  useEffect(() => {
    const made = URL.createObjectURL(new Blob([`${JSON.stringify(result, null, 2)}\n`], { type: "application/json" }));
    setAddress(made);
    return () => URL.revokeObjectURL(made);
  }, [result]);
  return html`<a class="button primary" href=${address} download=${`erasure-${result.gallery}-version-${result.version}.json`}>Keep the proof as a file</a>`;
}

/** @param {{result: any, onAgain: () => void}} props The certificate of the service. */
export function Proof({ result, onAgain }) {
  const { erased, purged } = result;
  const remains =
    purged &&
    (purged.out_of_reach?.length ||
      purged.not_checked?.length ||
      purged.outputs?.some((/** @type {Output} */ each) => each.is_removed === false));
  /** @type {[string, any][]} */
  const facts = [
    ["Rows erased", grouped(erased.rows)],
    ["Rows left", grouped(erased.rows_left)],
    ["Version", `${result.from_version ?? ""} → ${result.version}`],
    ["Older versions removed", purged && grouped(purged.versions_removed)],
    ["Files removed", purged && `${grouped(purged.files_removed)} of ${bytes(purged.bytes_removed)}`],
    ["Verdicts removed", purged?.verdicts_removed],
    ["Files searched", purged && `${grouped(purged.searched_files)} of ${bytes(purged.searched_bytes)}`],
    ["Searched for", purged && `${count(purged.rows_gone, "row")} and ${count(purged.rejects_gone, "reject")}`],
    ["Deleted unread", purged?.unreadable?.length || null],
    ["Out of reach", purged?.out_of_reach?.join(", ") || null],
    ["Not checked", purged?.not_checked?.join(", ") || null],
    ["Ended", result.ended_at && moment(result.ended_at)],
    ["SHA-256 of the proof", result.sha256 && html`<span class="code wrap">${result.sha256}</span>`],
  ];
  return html`<section class="sheet stack" aria-label="Proof">
    <p class=${`note ${remains ? "bad" : "good"}`} role="status"><strong>
      ${remains ? REMAINS : `${count(erased.rows, "row")} erased. Every file was searched, and nothing of them is left.`}
    </strong></p>
    <${Facts} facts=${facts} />
    ${purged?.outputs?.length > 0 && html`<h3>Made from the gallery elsewhere</h3>
      <${Outputs} outputs=${purged.outputs} />`}
    <div class="row"><${Keep} result=${result} /><button onClick=${onAgain}>
      <${Icon} name="back" />Erase others</button></div>
  </section>`;
}
