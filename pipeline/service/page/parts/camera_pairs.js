// Cameras against cameras: the threshold of each pair, deeper where it is higher.
import { html } from "../vendor/preact.js";
import { camera as named, count, grouped, score } from "./format.js";

/** @typedef {{a: string, b: string, positives: number, negatives: number, threshold: number | null, true_match_rate?: number | null}} CameraPair */

const MOST = 14;

/** @param {{pairs: CameraPair[]}} props */
export function CameraPairs({ pairs }) {
  const names = [...new Set(pairs.flatMap(({ a, b }) => [a, b]))].sort((a, b) =>
    a.localeCompare(b, "en", { numeric: true }),
  );
  const known = pairs.map(({ threshold }) => threshold).filter((each) => each !== null);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  if (names.length > MOST) return html`<${List} pairs=${pairs} />`;
  /** @param {string} a @param {string} b */
  const of = (a, b) =>
    pairs.find((each) => each.a === a && each.b === b) ?? pairs.find((each) => each.a === b && each.b === a);
  /** @param {CameraPair | undefined} pair */
  const cell = (pair) => {
    if (!pair) return html`<td></td>`;
    if (pair.threshold === null)
      return html`<td class="few" title=${`${count(pair.positives, "positive pair")}, ${count(pair.negatives, "negative pair")}`}>too few</td>`;
    const part = high > low ? (pair.threshold - low) / (high - low) : 0.5;
    const told =
      pair.true_match_rate == null ? "" : html`<small>${Math.round(100 * pair.true_match_rate)} % found</small>`;
    return html`<td style=${{ "--part": `${Math.round(8 + part * 42)}%` }}>${score(pair.threshold)}${told}</td>`;
  };
  return html`<div class="scroll" role="region" tabindex="0" aria-label="Camera pairs"><table class="pairs">
    <caption>Threshold of each pair of cameras, the query’s camera on the left: deeper color, higher threshold. “Found” is the true-match rate.</caption>
    <thead><tr><td></td>${names.map((name) => html`<th scope="col">${named(name)}</th>`)}</tr></thead>
    <tbody>${names.map((a) => html`<tr><th scope="row">${named(a)}</th>
      ${names.map((b) => cell(of(a, b)))}</tr>`)}</tbody>
  </table></div>`;
}

/** @param {{pairs: CameraPair[]}} props */
const List = ({ pairs }) => html`<div class="scroll" role="region" tabindex="0" aria-label="Camera pairs"><table>
  <thead><tr><th>Cameras</th><th class="n">Threshold</th><th class="n">Positive pairs</th>
    <th class="n">Negative pairs</th></tr></thead>
  <tbody>${[...pairs]
    .sort((one, other) => (other.threshold ?? -1) - (one.threshold ?? -1))
    .map(
      ({ a, b, threshold, positives, negatives }) =>
        html`<tr><td>${a}, ${b}</td><td class="n">${threshold === null ? "too few" : score(threshold)}</td>
          <td class="n">${grouped(positives)}</td><td class="n">${grouped(negatives)}</td></tr>`,
    )}</tbody>
</table></div>`;
