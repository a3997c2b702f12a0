// Which rows a search may find: cameras, time, how many, and from which threshold on they match.
import { html, useState } from "../vendor/preact.js";
import { camera as named, grouped, oneIn, rate } from "./format.js";

/** @import {Calibrated, Summary} from "../types.js" */

/**
 * @typedef {object} Chosen
 * @property {string[]} cameras None: all of them.
 * @property {boolean} others Only cameras other than the query's own.
 * @property {string} after
 * @property {string} before
 * @property {number} limit
 * @property {number | null} threshold Null: the gallery's own.
 * @property {boolean} everywhere All galleries as one ranking.
 */

const MANY = 20; // cameras, from which on they are looked for by name

/** @type {Chosen} */
export const ALL = { cameras: [], others: false, after: "", before: "", limit: 25, threshold: null, everywhere: false };

/**
 * @param {Chosen} chosen
 * @param {string | null | undefined} own The query's camera.
 */
export function filterOf(chosen, own) {
  /** @type {object[]} */
  const must = [];
  /** @type {object[]} */
  const mustNot = [];
  if (chosen.cameras.length) must.push({ key: "camera", match: { any: chosen.cameras } });
  if (chosen.others && own) mustNot.push({ key: "camera", match: { value: own } });
  const range = {
    ...(chosen.after && { gte: new Date(`${chosen.after}Z`).toISOString() }),
    ...(chosen.before && { lt: new Date(`${chosen.before}Z`).toISOString() }),
  };
  if (Object.keys(range).length) must.push({ key: "captured_at", range });
  return must.length || mustNot.length ? { must, must_not: mustNot } : undefined;
}

/**
 * The false-match rate of a threshold: between the points of the calibration, on a logarithmic scale; beyond them,
 * it is at most that of the last and at least that of the first, because it falls with the threshold.
 *
 * @param {Calibrated[]} calibration
 * @param {number} threshold
 * @returns {{far: number, told: "" | "at least " | "at most "} | null}
 */
export function falseMatchRate(calibration, threshold) {
  const points = [...calibration].sort((a, b) => a.threshold - b.threshold);
  if (!points.length) return null;
  const above = points.findIndex((point) => point.threshold >= threshold);
  if (above < 0) return { far: points[points.length - 1].false_match_rate, told: "at most " };
  const [low, high] = [points[Math.max(0, above - 1)], points[above]];
  if (high.threshold === threshold) return { far: high.false_match_rate, told: "" };
  if (low === high) return { far: high.false_match_rate, told: "at least " };
  if (!high.false_match_rate || !low.false_match_rate) return { far: low.false_match_rate, told: "at most " };
  const part = (threshold - low.threshold) / (high.threshold - low.threshold);
  return {
    far: Math.exp(Math.log(low.false_match_rate) * (1 - part) + Math.log(high.false_match_rate) * part),
    told: "",
  };
}

/** @param {{summary: Summary, chosen: Chosen, onChange: (change: Partial<Chosen>) => void}} props */
function Threshold({ summary, chosen, onChange }) {
  const value = chosen.threshold ?? summary.threshold;
  const found = value === null ? null : falseMatchRate(summary.calibration, value);
  return html`<div class="field">
    <label for="threshold">Threshold <output class="value">
      ${value === null ? "none" : value.toFixed(3)}</output></label>
    <input id="threshold" type="range" min="0" max="1" step="0.005" value=${value ?? 0.5} aria-describedby="far"
      onInput=${(/** @type {any} */ event) => onChange({ threshold: Number(event.target.value) })} />
    <p id="far" class="small quiet">
      ${
        found !== null
          ? html`False-match rate ${found.told}<strong>${rate(found.far)}</strong>: ${found.told}${oneIn(found.far)}.`
          : value === null
            ? "No threshold: no row is marked as a match. Move it, or calibrate the gallery."
            : "The gallery has no calibration, so the false-match rate is unknown."
      }
    </p>
    ${
      chosen.threshold !== null &&
      summary.threshold !== null &&
      html`<button class="plain start" onClick=${() => onChange({ threshold: null })}>Back to ${summary.threshold.toFixed(3)}</button>`
    }
  </div>`;
}

/** @param {{summary: Summary, several: boolean, own?: string | null, chosen: Chosen, onChange: (change: Partial<Chosen>) => void}} props */
export function Filters({ summary, several, own, chosen, onChange }) {
  const [part, setPart] = useState("");
  const shown = summary.cameras.filter(({ camera }) => chosen.cameras.includes(camera) || camera.toLowerCase().includes(part));
  /** @param {string} camera */
  const toggle = (camera) =>
    onChange({
      cameras: chosen.cameras.includes(camera)
        ? chosen.cameras.filter((each) => each !== camera)
        : [...chosen.cameras, camera],
    });
  return html`<div class="filters">
    <${Threshold} summary=${summary} chosen=${chosen} onChange=${onChange} />
    <fieldset class="field">
      <legend class="label">Cameras</legend>
      ${summary.cameras.length > MANY &&
      html`<input type="search" placeholder="Find a camera" aria-label="Find a camera"
        onInput=${(/** @type {any} */ event) => setPart(event.target.value.trim().toLowerCase())} />`}
      <div class="chips tall">
        ${shown.map(
          ({ camera, rows }) => html`<label class="chip" title=${`${grouped(rows)} rows`}>
            <input type="checkbox" checked=${chosen.cameras.includes(camera)} onChange=${() => toggle(camera)} />
              ${named(camera)}
          </label>`,
        )}
      </div>
      ${
        own &&
        html`<label class="row small"><input type="checkbox" checked=${chosen.others}
        onChange=${() => onChange({ others: !chosen.others })} />Only other cameras than ${named(own)}</label>`
      }
    </fieldset>
    ${
      summary.first_time &&
      html`<div class="times">
      <label class="field"><span class="label">From (UTC)</span>
        <input type="datetime-local" step="1" value=${chosen.after}
        onChange=${(/** @type {any} */ event) => onChange({ after: event.target.value })} /></label>
      <label class="field"><span class="label">Until (UTC)</span>
        <input type="datetime-local" step="1" value=${chosen.before}
        onChange=${(/** @type {any} */ event) => onChange({ before: event.target.value })} /></label>
    </div>`
    }
    <label class="field"><span class="label">Rows to show</span>
      <select value=${String(chosen.limit)} onChange=${(/** @type {any} */ event) => onChange({ limit: Number(event.target.value) })}>
        ${[10, 25, 50, 100, 200].map((limit) => html`<option value=${String(limit)}>${limit}</option>`)}
      </select></label>
    ${
      several &&
      html`<label class="row small"><input type="checkbox" checked=${chosen.everywhere}
      onChange=${() => onChange({ everywhere: !chosen.everywhere })} />In all galleries, as one ranking</label>`
    }
  </div>`;
}
