// Quality: what was measured, and what looks wrong.
import { html, useMemo, useState } from "../vendor/preact.js";
import * as api from "../api.js";
import { CameraPairs } from "../parts/camera_pairs.js";
import { CameraStates } from "../parts/camera_state.js";
import { Crop } from "../parts/card.js";
import { Cards } from "../parts/cards.js";
import { Chart } from "../parts/chart.js";
import { Figures, Reasons, WorstQueries } from "../parts/figures.js";
import { count, rate } from "../parts/format.js";
import { Refused, useLoaded, Waiting } from "../parts/load.js";
import { address } from "../parts/place.js";

/** @import {Reject, Room, Row, Summary} from "../types.js" */

const KINDS = /** @type {Record<string, string>} */ ({
  frame: "Whole frames, not crops of one person",
  duplicate: "The same file as an earlier row",
  "low-quality": "The least quality",
});
const FEWEST = 3;

/** @param {{summary: Summary}} props */
function Threshold({ summary }) {
  const points = useMemo(() => [...summary.calibration].sort((a, b) => a.threshold - b.threshold), [summary.version]);
  const xs = useMemo(() => points.map(({ threshold }) => threshold), [points]);
  const ys = useMemo(() => points.map(({ false_match_rate }) => false_match_rate), [points]);
  if (summary.threshold === null)
    return html`<p class="note">The gallery has no threshold. <code>regallery calibrate</code> finds the one for a false-match rate.</p>`;
  const exact = points.find(({ threshold }) => threshold === summary.threshold);
  return html`<p>Threshold <strong>${summary.threshold.toFixed(3)}</strong>${exact ? html`, false-match rate <strong>
    ${rate(exact.false_match_rate)}</strong>` : ""}.
      <span class="quiet"> ${summary.threshold_from ?? ""}</span></p>
    ${
      points.length >= FEWEST &&
      html`<${Chart} label="False-match rate by threshold" xs=${xs} ys=${ys} xLabel="threshold"
        yLabel="false-match rate" logarithmic mark=${summary.threshold} />`
    }`;
}

/** @param {{gallery: string, rejects: (Reject & {n?: number, detail?: string | null})[]}} props */
const Rejects = ({ gallery, rejects }) => html`<ul class="rejects">
  ${rejects.map(
    (
      { n, path, reason, detail },
      index,
    ) => html`<li><${Crop} gallery=${gallery} id=${0} address=${api.rejectAddress(gallery, n ?? index)} />
      <p><strong>${reason}</strong></p><p class="small quiet wrap">${path}</p>
        ${detail && html`<p class="small quiet wrap">${detail}</p>`}</li>`,
  )}
</ul>`;

/** @param {Room} props */
export default function Quality({ summary }) {
  const { gallery } = summary;
  const { value, error, job } = useLoaded(
    (signal, tell) => api.quality(gallery, tell, signal),
    [gallery, summary.version],
  );
  const [all, setAll] = useState(false);
  const shown = value?.rejects?.slice(0, all ? undefined : 12) ?? [];
  /** @param {Row} row */
  const search = (row) => {
    location.hash = address(gallery, "search", "", { like: row.row_id });
  };
  return html`<header class="head"><div><h1>Quality</h1>
    <p>What was measured on this gallery, and what looks wrong in it.</p></div></header>
    ${error && html`<${Refused} error=${error} />`}
    ${!value && !error && html`<${Waiting} job=${job} what="Looking at the gallery" />`}
    ${
      value &&
      html`<div class="stack wide">
      <div class="halves">
        <section class="sheet stack"><h2>Figures</h2>
          <${Figures} evaluation=${value.evaluation} version=${summary.version} /></section>
        <section class="sheet stack"><h2>Threshold</h2><${Threshold} summary=${summary} /></section>
      </div>
      <section class="sheet stack"><h2>Cameras</h2>
        <${CameraStates} cameras=${value.by_camera ?? []} drift=${value.drift ?? []} silent=${value.silent ?? []} />
        </section>
      <section class="sheet stack"><h2>Camera pairs</h2>${
        value.camera_pairs?.length
          ? html`<${CameraPairs} pairs=${value.camera_pairs} />`
          : html`<p class="note">No pair of cameras has a threshold of its own. <code>regallery calibrate --by-camera</code> finds them.</p>`
      }</section>
      ${value.evaluation?.worst?.length > 0 && html`<section class="stack"><h2>Worst queries</h2>
        <${WorstQueries} gallery=${gallery} worst=${value.evaluation.worst} /></section>`}
      ${(value.oddities ?? []).map(
        (
          /** @type {{kind: string, rows: number, examples: Row[]}} */ { kind, rows, examples },
        ) => html`<section class="stack" key=${kind}>
          <div><h2>${KINDS[kind] ?? kind}</h2><p class="quiet">
            ${count(rows, "row")}${rows > examples.length ? `, the first ${examples.length} of them` : ""}</p></div>
          <${Cards} gallery=${gallery} rows=${examples} label=${KINDS[kind] ?? kind} verb="Search from" onPress=${search} /></section>`,
      )}
      <section class="stack"><div><h2>Rejects</h2><p class="quiet">
        ${value.rejects_total ? `${count(value.rejects_total, "image")} gave no row.` : "Every image gave a row."}</p>
        </div>
        ${value.rejects_by_reason && html`<${Reasons} names=${value.rejects_by_reason} />`}
        ${shown.length > 0 && html`<${Rejects} gallery=${gallery} rejects=${shown} />`}
        ${!all && value.rejects?.length > 12 && html`<p>
          <button onClick=${() => setAll(true)}>Show the first ${value.rejects.length}</button></p>`}</section>
    </div>`
    }`;
}
