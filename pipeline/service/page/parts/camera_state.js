// What became of each camera: rows, times, and whether its newest rows differ from the rest.
import { html } from "../vendor/preact.js";
import { camera as named, count, grouped, moment } from "./format.js";

/** @typedef {{camera: string | null, rows: number, first_time: string | null, last_time: string | null, mean_quality?: number | null}} CameraRow */
/** @typedef {{camera: string, shift: number, low: number, high: number, has_drifted: boolean}} Drift */
/** @typedef {{camera: string, last: string, quiet_hours: number}} Silent */

const WIDTH = 120;

/** @param {{drift: Drift, most: number}} props The interval of a shift, around no shift in the middle. */
function Shift({ drift: { shift, low, high, has_drifted: drifted }, most }) {
  /** @param {number} value */
  const x = (value) => WIDTH / 2 + (value / most) * (WIDTH / 2 - 5);
  const told = `${shift > 0 ? "+" : ""}${shift.toFixed(3)}, ${low.toFixed(3)} to ${high.toFixed(3)}`;
  return html`<span class=${`shift ${drifted ? "bad" : ""}`} title=${told}>
    <svg width=${WIDTH} height="14" aria-hidden="true">
      <line class="none" x1=${WIDTH / 2} x2=${WIDTH / 2} y1="0" y2="14" />
      <line x1=${x(low)} x2=${x(high)} y1="7" y2="7" /><circle cx=${x(shift)} cy="7" r="4" />
    </svg>${drifted ? "drifted" : "steady"}<span class="small quiet">${told}</span></span>`;
}

/** @param {{cameras: CameraRow[], drift: Drift[], silent: Silent[]}} props */
export function CameraStates({ cameras, drift, silent }) {
  const measured = cameras.some(({ mean_quality }) => mean_quality != null);
  const timed = cameras.some(({ first_time }) => first_time);
  const watched = drift.length > 0 || silent.length > 0;
  const most = Math.max(...drift.flatMap(({ low, high }) => [Math.abs(low), Math.abs(high)]));
  /** @param {string | null} camera */
  const state = (camera) => {
    const quiet = silent.find((each) => each.camera === camera);
    const shift = drift.find((each) => each.camera === camera);
    if (quiet) return html`<span class="bad">silent for ${count(quiet.quiet_hours, "active hour")}</span>`;
    return shift ? html`<${Shift} drift=${shift} most=${most} />` : html`<span class="quiet">too few rows to say</span>`;
  };
  return html`<div class="scroll" role="region" tabindex="0" aria-label="Cameras"><table>
    <thead><tr><th>Camera</th><th class="n">Rows</th>
      ${measured && html`<th class="n">Quality</th>`}
      ${timed && html`<th>First row</th><th>Last row</th>`}
      ${watched && html`<th>Scores of the newest tenth, against the rest</th>`}</tr></thead>
    <tbody>${cameras.map(
      ({ camera, rows, mean_quality: quality, first_time: first, last_time: last }) => html`<tr>
        <th scope="row">${named(camera)}</th><td class="n">${grouped(rows)}</td>
        ${measured && html`<td class="n">${quality?.toFixed(2) ?? "–"}</td>`}
        ${timed && html`<td>${first ? moment(first) : "–"}</td><td>${last ? moment(last) : "–"}</td>`}
        ${watched && html`<td>${state(camera)}</td>`}</tr>`,
    )}</tbody>
  </table></div>`;
}
