// The figures of the last evaluation, and the queries that it ranked worst.
import { html } from "../vendor/preact.js";
import { Crop } from "./card.js";
import { count, grouped, moment } from "./format.js";
import { address } from "./place.js";

/** @typedef {{path: string, identity: number | null, camera: string | null, ap: number, first_match_rank: number | null, row_id: number | null, gallery?: string | null}} Worst */
/** @typedef {{name: string, queries: number, valid: number, rank: Record<string, number | null>, mAP: number, mINP: number}} Ranking */
/** @typedef {{created: string, query: {location: string, version: number}, gallery: {location: string, version: number}, results: Ranking[], worst?: Worst[]}} Evaluation */

/** @param {number | null | undefined} value A share from 0 to 1 as a percentage. */
const percent = (value) => (value === null || value === undefined ? "–" : (100 * value).toFixed(1));

/** @param {{evaluation: Evaluation | null, version: number}} props */
export function Figures({ evaluation, version }) {
  if (!evaluation)
    return html`<p class="note">Nobody evaluated this gallery here. <code>regallery evaluate</code> measures it, and its figures appear here.</p>`;
  const [first] = evaluation.results;
  const isOld = evaluation.gallery.version === version ? "" : ", which is not the latest";
  const large = [
    ["mAP", first.mAP],
    ["Rank 1", first.rank["1"]],
    ["mINP", first.mINP],
  ];
  return html`<div class="stack">
    <dl class="large">${large.map(([name, value]) => html`<div><dt>${name}</dt><dd>
      ${percent(/** @type {number} */ (value))}<small> %</small></dd></div>`)}
      <div><dt>Valid queries</dt><dd>${grouped(first.valid)}<small> of ${grouped(first.queries)}</small></dd></div></dl>
    ${
      evaluation.results.length > 1 &&
      html`<div class="scroll" role="region" tabindex="0" aria-label="Rankings"><table>
      <thead><tr><th>Ranking</th><th class="n">mAP</th><th class="n">Rank 1</th><th class="n">Rank 10</th>
        <th class="n">mINP</th></tr></thead>
      <tbody>${evaluation.results.map(({ name, mAP, mINP, rank }) => html`<tr><td>${name}</td><td class="n">
        ${percent(mAP)}</td><td class="n">${percent(rank["1"])}</td><td class="n">${percent(rank["10"])}</td>
        <td class="n">${percent(mINP)}</td></tr>`)}</tbody>
    </table></div>`
    }
    <p class="small quiet wrap">
      ${evaluation.query.location} against version ${evaluation.gallery.version}${isOld}, ${moment(evaluation.created)}.</p>
  </div>`;
}

/** @param {{gallery: string, worst: Worst[]}} props */
export const WorstQueries = ({ gallery, worst }) => html`<ul class="worst">
  ${worst.map(
    ({ path, ap, first_match_rank: rank, row_id: id, gallery: own }) => html`<li class="sheet">
      ${
        id !== null &&
        html`<a href=${address(own ?? gallery, "search", "", { like: id })} aria-label=${`Search from row ${id}`}>
        <${Crop} gallery=${own ?? gallery} id=${id} height=${192} />
      </a>`
      }
      <div>
        <strong>AP ${percent(ap)} %</strong>
        <p class="small quiet">${rank === null ? "no match" : `first match at rank ${grouped(rank)}`}</p>
        <p class="small quiet wrap">${path}</p>
      </div>
    </li>`,
  )}
</ul>`;

/** @param {{names: Record<string, number>}} props */
export const Reasons = ({ names }) =>
  html`<ul class="chips">${Object.entries(names).map(([name, number]) => html`<li class="tag">
    ${name}: ${count(number, "image")}</li>`)}</ul>`;
