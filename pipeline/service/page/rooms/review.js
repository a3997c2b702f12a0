// Review: the pairs whose verdict would change most, one key for each verdict.
import { html, useEffect, useRef, useState } from "../vendor/preact.js";
import * as api from "../api.js";
import { Crop } from "../parts/card.js";
import { camera, count, duration, score, when } from "../parts/format.js";
import { Icon } from "../parts/icons.js";
import { onKeys } from "../parts/keys.js";
import { Refused, useLoaded, Waiting } from "../parts/load.js";
import { keepFocus } from "../parts/messages.js";
import { Who } from "../parts/who.js";
import { give } from "../parts/verdicts.js";

/** @import {Pair, Room, Row} from "../types.js" */

/** @typedef {{pair: Pair, said: "same" | "different" | "skipped", undo: (() => Promise<boolean>) | null}} Done */

const QUEUE = 40;
const NOTHING = "No pair lies close enough to the threshold for a verdict to change much.";

/** @param {{gallery: string, row: Row, side: string}} props */
const Side = ({ gallery, row, side }) => html`<figure class="sheet">
  <${Crop} gallery=${gallery} id=${row.row_id} height=${512} alt=${`${side} crop, row ${row.row_id}`} />
  <figcaption>
    <strong>${camera(row.camera)}</strong><br />${when(row)}<br />
    <span class="quiet">row ${row.row_id}, <${Who} gallery=${gallery} identity=${row.identity} /></span>
  </figcaption>
</figure>`;

/** @param {Pair} pair */
function between({ a, b }) {
  if (!a.captured_at || !b.captured_at) return "";
  const seconds = (Date.parse(b.captured_at) - Date.parse(a.captured_at)) / 1000;
  return `, ${duration(seconds)} apart`;
}

/** @param {Room} props */
export default function Review({ summary, allow }) {
  const { gallery } = summary;
  const [turn, setTurn] = useState(0);
  const { value, error, job } = useLoaded(
    (signal, tell) => api.review(gallery, QUEUE, tell, signal),
    [gallery, summary.version, turn],
  );
  const [done, setDone] = useState(/** @type {Done[]} */ ([]));
  const busy = useRef(false);
  const room = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    setDone([]);
    // Single letters work at once, unless the focus has gone somewhere else meanwhile.
    const active = document.activeElement;
    if (!active || active === document.body || active.contains(room.current)) room.current?.focus({ preventScroll: true });
  }, [value]);
  const pairs = value?.pairs ?? [];
  const pair = pairs[done.length];
  /** @param {"same" | "different"} verdict */
  const judge = async (verdict) => {
    if (!pair || busy.current || !allow.verdicts) return;
    busy.current = true;
    const undo = await give(gallery, [{ a: pair.a.row_id, b: pair.b.row_id, verdict }]);
    busy.current = false;
    if (undo) setDone((old) => [...old, { pair, said: verdict, undo }]);
  };
  const skip = () => pair && setDone((old) => [...old, { pair, said: "skipped", undo: null }]);
  const undo = async () => {
    const last = done.at(-1);
    if (!last || busy.current) return;
    busy.current = true;
    const taken = last.undo ? await last.undo() : true;
    busy.current = false;
    if (taken) setDone((old) => old.slice(0, -1));
  };
  const keys = onKeys({ s: () => judge("same"), d: () => judge("different"), u: undo, " ": skip });
  useEffect(keepFocus, [!pair]);
  const given = done.filter(({ said }) => said !== "skipped").length;
  const next = pairs[done.length + 1];
  return html`<section class="review" ref=${room} data-home tabindex="-1" onKeyDown=${keys} aria-label="Review">
    <header class="head"><div><h1>Review</h1><p>Is it the same person? These pairs would change most.</p></div>
      ${pairs.length > 0 && html`<p class="tally" role="status">
        ${count(given, "verdict")} given, pair ${Math.min(done.length + 1, pairs.length)} of ${pairs.length}</p>`}
        </header>
    ${error && html`<${Refused} error=${error} />`}
    ${!value && !error && html`<${Waiting} job=${job} what="Looking for the pairs that matter" />`}
    ${!allow.verdicts && html`<p class="note">The service is read-only: it was started without the right to give verdicts.</p>`}
    ${
      pair &&
      html`<div class="pair">
        <${Side} gallery=${gallery} row=${pair.a} side="Left" />
        <${Side} gallery=${gallery} row=${pair.b} side="Right" />
      </div>
      <p class="score-line">Score <strong>${score(pair.score)}</strong>
        ${value?.threshold != null ? `, threshold ${score(value.threshold)}` : ""}${between(pair)}</p>
      <div class="verdict">
        <button class="says-same" disabled=${!allow.verdicts} onClick=${() => judge("same")}>
          <${Icon} name="check" />Same <kbd>s</kbd></button>
        <button class="says-different" disabled=${!allow.verdicts} onClick=${() => judge("different")}>
          <${Icon} name="cross" />Different <kbd>d</kbd></button>
        <button onClick=${skip}>Skip <kbd>space</kbd></button>
        <button disabled=${!done.length} onClick=${undo}><${Icon} name="undo" />Undo <kbd>u</kbd></button>
      </div>`
    }
    ${
      value &&
      !pair &&
      html`<div class="empty"><${Icon} name="check" /><h2>${pairs.length ? "The queue is done" : "No pair waits"}</h2>
      <p>${pairs.length ? `${count(given, "verdict")} given. With them, other pairs may matter now.` : NOTHING}</p>
      <div class="row"><button class="primary" onClick=${() => setTurn(turn + 1)}>Look for more pairs</button>
        ${done.length > 0 && html`<button onClick=${undo}>Undo the last</button>`}</div></div>`
    }
    ${next && html`<div hidden>
      ${[next.a, next.b].map(({ row_id }) => html`<img src=${api.cropAddress(gallery, row_id, 512)} alt="" />`)}</div>`}
  </section>`;
}
