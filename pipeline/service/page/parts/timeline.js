// A lane for each camera, a tick for each row, and the path between them.
import { html, useEffect, useRef, useState } from "../vendor/preact.js";
import { Crop, inWords } from "./card.js";
import { camera, person, when } from "./format.js";
import { address } from "./place.js";

/** @import {Row} from "../types.js" */
/** @import {Axis, Visit} from "./visits.js" */

const LANE = 34;
const TOP = 8;

/** @param {{current: HTMLElement | null}} element */
function useWidth(element) {
  const [width, setWidth] = useState(640);
  useEffect(() => {
    const seen = element.current;
    if (!seen) return undefined;
    const observer = new ResizeObserver(([entry]) => setWidth(Math.max(200, entry.contentRect.width)));
    observer.observe(seen);
    return () => observer.disconnect();
  }, []);
  return width;
}

/** @param {{visits: Visit[], rows: Row[], axis: Axis, at: number, onPick: (at: number) => void}} props */
function Lanes({ visits, rows, axis, at, onPick }) {
  const frame = useRef(/** @type {HTMLElement | null} */ (null));
  const width = useWidth(frame);
  const cameras = [...new Set(visits.map(({ camera }) => camera))].sort((a, b) =>
    a.localeCompare(b, "en", { numeric: true }),
  );
  const first = visits[0].from;
  const last = Math.max(...visits.map(({ until }) => until));
  const longest = Math.max(...cameras.map(({ length }) => Math.min(16, length)));
  const label = Math.min(longest * 7.5 + 8, width * 0.4);
  /** @param {number} time */
  const x = (time) => label + 8 + ((time - first) / Math.max(1, last - first)) * (width - label - 16);
  /** @param {string} name */
  const y = (name) => TOP + (cameras.indexOf(name) + 0.5) * LANE;
  const path = visits
    .map(({ camera: name, from, until }, index) => `${index ? "L" : "M"}${x(from)} ${y(name)}L${x(until)} ${y(name)}`)
    .join("");
  const height = TOP + cameras.length * LANE + 22;
  const now = rows[at];
  /** @param {MouseEvent} event */
  const pick = (event) => {
    const left = event.clientX - /** @type {Element} */ (event.currentTarget).getBoundingClientRect().left;
    const nearest = rows.reduce(
      (best, row, index) => (Math.abs(x(axis.of(row)) - left) < Math.abs(x(axis.of(rows[best])) - left) ? index : best),
      0,
    );
    onPick(nearest);
  };
  return html`<div ref=${frame} class="lanes">
    <svg width=${width} height=${height} aria-hidden="true" onClick=${pick}>
      ${cameras.map(
        (name) => html`<line class="lane" x1=${label} x2=${width} y1=${y(name)} y2=${y(name)} />
          <text x="0" y=${y(name)} dy="0.35em">${name.length > 16 ? `${name.slice(0, 15)}…` : name}</text>`,
      )}
      <path class="path" d=${path} />
      ${visits.map(
        ({ camera: name, from, until }) =>
          html`<rect class="visit" x=${x(from) - 4} y=${y(name) - 7} width=${x(until) - x(from) + 8} height="14" rx="7" />`,
      )}
      ${rows.map((row) => {
        const [left, middle] = [x(axis.of(row)), y(camera(row.camera))];
        return html`<line class="tick" x1=${left} x2=${left} y1=${middle - 4} y2=${middle + 4} />`;
      })}
      ${now && html`<circle class="now" cx=${x(axis.of(now))} cy=${y(camera(now.camera))} r="8" />`}
      <text x=${label} y=${height - 4}>${axis.tell(first)}</text>
      <text x=${width} y=${height - 4} text-anchor="end">${axis.tell(last)}</text>
    </svg>
  </div>`;
}

/** @param {{gallery: string, visits: Visit[], rows: Row[], axis: Axis}} props Rows in the order of the axis. */
export function Timeline({ gallery, visits, rows, axis }) {
  const [chosen, setAt] = useState(0);
  const at = Math.min(chosen, rows.length - 1);
  if (!rows.length)
    return html`<p class="note">No row of this person has a time or a frame, so there is no timeline.</p>`;
  const row = rows[at];
  return html`<div class="timeline">
    <figure>
      <a href=${address(gallery, "search", "", { like: row.row_id })} aria-label=${`Search from ${inWords(row)}`}>
        <${Crop} gallery=${gallery} id=${row.row_id} /></a>
    </figure>
    <div>
      <${Lanes} visits=${visits} rows=${rows} axis=${axis} at=${at} onPick=${setAt} />
      <input type="range" min="0" max=${rows.length - 1} value=${at} aria-label="Row on the timeline" aria-valuetext=${inWords(row)}
        onInput=${(/** @type {any} */ event) => setAt(Number(event.target.value))} />
      <p class="small quiet">Row ${row.row_id}, ${camera(row.camera)}, ${when(row)}, ${person(row.identity)}</p>
    </div>
  </div>`;
}

/** @param {{visits: Visit[], axis: Axis}} props */
export const Path = ({ visits, axis }) => html`<ol class="visits">
  ${visits.map(
    ({ camera: name, from, until, rows }, index) => html`<li>
      ${index > 0 && html`<span class="way">
        <span aria-hidden="true">→</span> ${axis.long(from - visits[index - 1].until)}</span>`}
      <div class="stop"><strong>${name}</strong><span>
        ${axis.tell(from)}${until > from ? ` for ${axis.long(until - from)}` : ""}</span>
        <span>${rows.length} ${rows.length === 1 ? "row" : "rows"}</span></div></li>`,
  )}
</ol>`;
