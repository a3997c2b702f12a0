// Map: all rows at once, near each other if they look alike; a lasso makes a grid of them.
import { html, useEffect, useMemo, useRef, useState } from "../vendor/preact.js";
import * as api from "../api.js";
import { Canvas } from "../parts/canvas.js";
import { Crop, inWords } from "../parts/card.js";
import { colorBy, ofKind } from "../parts/colors.js";
import { Details } from "../parts/details.js";
import { count, grouped } from "../parts/format.js";
import { Grid } from "../parts/grid.js";
import { Icon } from "../parts/icons.js";
import { Refused, useLoaded, Waiting } from "../parts/load.js";
import { complain } from "../parts/messages.js";
import { address } from "../parts/place.js";

/** @import {Room, Row} from "../types.js" */
/** @import {By} from "../parts/colors.js" */

const BY = /** @type {By[]} */ (["camera", "identity", "time"]);
const LIKE = 10;
const NONE = new Uint32Array();

/** @param {{gallery: string, position: number, at: [number, number]}} props */
function Glance({ gallery, position, at: [left, top] }) {
  // The pointer passes many points: the one where it rests is asked for.
  const { value } = useLoaded(
    (signal) =>
      new Promise((done) => setTimeout(done, 90))
        .then(() => signal.throwIfAborted())
        .then(() => api.rows(gallery, { positions: position }, signal)),
    [gallery, position],
  );
  const row = value?.rows[0];
  if (!row) return null;
  return html`<div class="glance" style=${{ left: `${left + 14}px`, top: `${top + 14}px` }}>
    <${Crop} gallery=${gallery} id=${row.row_id} height=${128} /><span>${inWords(row)}</span>
  </div>`;
}

/** @param {{gallery: string, positions: Uint32Array, onNone: () => void, onPress: (row: Row) => void}} props */
function Selected({ gallery, positions, onNone, onPress }) {
  const search = async () => {
    const step = Math.max(1, Math.floor(positions.length / LIKE));
    const some = positions.filter((_, index) => index % step === 0).slice(0, LIKE);
    try {
      const { rows } = await api.rows(gallery, { positions: some.join(",") });
      location.hash = address(gallery, "search", "", { like: rows.map(({ row_id }) => row_id).join() });
    } catch (error) {
      complain(error);
    }
  };
  if (!positions.length) {
    return html`<div class="empty small"><${Icon} name="lasso" /><h2>Draw around some points</h2>
      <p>Their crops appear here. A point alone, or a color of the list, works too.</p></div>`;
  }
  return html`<div class="row spread"><div role="status"><h2>${count(positions.length, "row")}</h2></div>
      <div class="row"><button onClick=${search}>Search from these</button>
        <button class="plain" onClick=${onNone}>Select none</button></div></div>
    <${Grid} gallery=${gallery} positions=${positions} label="Selected rows" onPress=${onPress} />`;
}

/** @param {Room} props */
export default function MapRoom({ summary, images }) {
  const { gallery } = summary;
  const {
    value: points,
    error,
    job,
  } = useLoaded((signal, tell) => api.points(gallery, tell, signal), [gallery, summary.version]);
  const [by, setBy] = useState(/** @type {By} */ ("camera"));
  const [lasso, setLasso] = useState(true);
  const panel = useRef(/** @type {HTMLElement | null} */ (null));
  const [positions, setPositions] = useState(NONE);
  const [hover, setHover] = useState(/** @type {{position: number, at: [number, number]} | null} */ (null));
  const [opened, setOpened] = useState(/** @type {Row | null} */ (null));
  useEffect(() => setPositions(NONE), [points]);
  const coloring = useMemo(() => points && colorBy(points, by), [points, by]);
  const marks = useMemo(() => {
    if (!points || !positions.length) return null;
    const made = new Uint8Array(points.rows);
    for (let index = 0; index < positions.length; index += 1) made[positions[index]] = 1;
    return made;
  }, [points, positions]);
  return html`<header class="head"><div><h1>Map</h1>
      <p>${points ? `${grouped(points.rows)} rows. ` : ""}Rows that look alike lie near each other; distances between groups mean little.</p></div></header>
    ${error && html`<${Refused} error=${error} />`}
    ${!points && !error && html`<${Waiting} job=${job} what="Laying out the map" />`}
    ${
      points &&
      coloring &&
      html`<div class="map">
      <section class="sheet plot" aria-label="Map">
        <div class="row spread">
          <label class="row">Color by <select value=${by} onChange=${(/** @type {any} */ event) => setBy(event.target.value)}>
            ${BY.map((each) => html`<option value=${each}>${each}</option>`)}</select></label>
          ${positions.length > 0 && html`<button class="below-only" onClick=${() => panel.current?.scrollIntoView()}>Show ${count(positions.length, "row")}</button>`}
          <div class="row" role="group" aria-label="What dragging does">
            <button aria-pressed=${lasso} onClick=${() => setLasso(true)}><${Icon} name="lasso" />Lasso</button>
            <button aria-pressed=${!lasso} onClick=${() => setLasso(false)}><${Icon} name="hand" />Move</button>
          </div>
        </div>
        <div class="stage">
          <${Canvas} points=${points} coloring=${coloring} marks=${marks} lasso=${lasso} onSelect=${setPositions}
            onHover=${(/** @type {number | null} */ position, /** @type {[number, number]} */ at) => setHover(position === null ? null : { position, at })}
            onPress=${(/** @type {number} */ position) => setPositions(Uint32Array.of(position))} />
          ${hover && html`<${Glance} gallery=${gallery} ...${hover} />`}
        </div>
        <ul class="legend" aria-label=${`Colors by ${by}`}>
          ${coloring.legend.map(
            ({
              name,
              color,
              kind,
              rows,
            }) => html`<li><button class="chip" onClick=${() => setPositions(ofKind(coloring, kind))} title=${`Select ${grouped(rows)} rows`}>
              <i style=${{ background: `rgb(${color.join(" ")})` }}></i>${name}</button></li>`,
          )}
          ${by === "identity" && html`<li class="small quiet">Identities share twelve colors.</li>`}
        </ul>
      </section>
      <section ref=${panel} class="sheet chosen" aria-label="Selected rows">
        <${Selected} gallery=${gallery} positions=${positions} onNone=${() => setPositions(NONE)} onPress=${setOpened} />
      </section>
    </div>`
    }
    ${
      opened &&
      html`<${Details} gallery=${gallery} row=${opened} images=${images} frames=${summary.frames && opened.frame !== null} onClose=${() => setOpened(null)}
      onSearch=${() => {
        location.hash = address(gallery, "search", "", { like: opened.row_id });
      }}
      onBox=${(/** @type {number[]} */ box) => {
        location.hash = address(gallery, "search", "", { box: [opened.row_id, ...box].join() });
      }} />`
    }`;
}
