// One crop: its picture, what is known of it, and what can be done with it.
import { html, useState } from "../vendor/preact.js";
import { cropAddress } from "../api.js";
import { camera, dayOf, person, score, shortly, when } from "./format.js";
import { Icon } from "./icons.js";

/** @import {Hit, Row} from "../types.js" */

/** @param {{gallery: string, id: number, height?: number, alt?: string, address?: string}} props */
export function Crop({ gallery, id, height = 256, alt = "", address }) {
  const [missing, setMissing] = useState("");
  const [again, setAgain] = useState("");
  const source = address ?? cropAddress(gallery, id, height);
  // Whoever scrolls fast may ask faster than the service lets one client: once more, a moment later.
  const failed = () => (again === source ? setMissing(source) : setTimeout(() => setAgain(source), 1500));
  if (missing === source) return html`<span class="crop missing">${alt ? `${alt}: ` : ""}no picture</span>`;
  return html`<img class="crop" key=${again} src=${source} alt=${alt} loading="lazy" decoding="async" draggable=${false}
    onError=${failed} />`;
}

/** @param {Row} row */
export const inWords = (row) => `row ${row.row_id}, ${camera(row.camera)}, ${when(row)}, ${person(row.identity)}`;

/** @param {{hit: Hit}} props */
const Score = ({ hit }) => html`<span class=${`score ${hit.match ? "match" : ""}`}>
  ${hit.match && html`<${Icon} name="check" />`}${score(hit.score)}
</span>`;

/**
 * @param {{gallery: string, row: Row & Partial<Hit>, current?: boolean, verb: string, chosen?: boolean,
 *   onPress: () => void, onFocus?: () => void, onDetails?: () => void}} props
 */
export function Card({ gallery, row, current = true, verb, chosen, onPress, onFocus, onDetails }) {
  const hit = row.score === undefined ? null : /** @type {Hit} */ (row);
  const told = hit ? `rank ${hit.rank}, score ${score(hit.score)}${hit.match ? ", match" : ""}, ` : "";
  return html`<li class=${`card ${hit && hit.match === false ? "below" : ""}`}>
    <button class="picture" data-item aria-label=${`${verb}: ${told}${inWords(row)}`} aria-pressed=${chosen ?? null}
      tabindex=${current ? 0 : -1} onClick=${onPress} onFocus=${onFocus}>
      <${Crop} gallery=${row.gallery ?? gallery} id=${row.row_id} />
      ${hit && html`<span class="rank">${hit.rank}</span>`}
      ${chosen !== undefined && html`<span class="mark">${chosen && html`<${Icon} name="check" />`}</span>`}
    </button>
    <div class="facts">
      <div>
        ${hit && html`<${Score} hit=${hit} />`}
        <span>${camera(row.camera)}</span>
        <span title=${when(row)}>${dayOf(row.captured_at)} ${shortly(row)}</span>
        <span>${person(row.identity)}</span>
        ${row.gallery && html`<span>${row.gallery}</span>`}
      </div>
      ${
        onDetails &&
        html`<button class="plain square more" aria-label=${`Details of row ${row.row_id}`} title="Details"
        tabindex=${current ? 0 : -1} onClick=${onDetails}><${Icon} name="info" /></button>`
      }
    </div>
  </li>`;
}
