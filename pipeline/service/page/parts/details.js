// All that is known of a row, with its frame, and what to do from here.
import { html, useEffect, useState } from "../vendor/preact.js";
import * as api from "../api.js";
import { BoxOn } from "./boxes.js";
import { Crop } from "./card.js";
import { Dialog } from "./dialog.js";
import { Facts } from "./facts.js";
import { camera, moment, score } from "./format.js";
import { Refused, useLoaded } from "./load.js";
import { Who } from "./who.js";

/** @import {Box, Hit, Row} from "../types.js" */

/** @param {{gallery: string, row: Row, images: boolean, onBox: (box: Box) => void}} props */
function Frame({ gallery, row, images, onBox }) {
  const { value, error } = useLoaded((signal) => api.frame(gallery, row.row_id, signal), [gallery, row.row_id]);
  const [source, setSource] = useState("");
  const [box, setBox] = useState(/** @type {Box | null} */ (null));
  useEffect(() => {
    if (!value) return undefined;
    const made = URL.createObjectURL(value.blob);
    setSource(made);
    return () => URL.revokeObjectURL(made);
  }, [value]);
  if (error) return html`<${Refused} error=${error} />`;
  if (!source) return html`<p class="loading">Reading the frame …</p>`;
  return html`<div class="stack">
    <${BoxOn} address=${source} alt=${`The frame of row ${row.row_id}`} box=${box} known=${value?.box} onBox=${setBox} />
    ${
      images
        ? html`<div class="row">
          <button class="primary" disabled=${!box} onClick=${() => box && onBox(box)}>Search what is in the box</button>
          </div>`
        : html`<p class="note">The service has no network loaded, so it cannot search a new box.</p>`
    }
  </div>`;
}

/**
 * @param {{gallery: string, row: Row | Hit, images: boolean, frames: boolean, onClose: () => void,
 *   onSearch: () => void, onBox: (box: Box) => void, children?: any}} props
 */
export function Details({ gallery, row, images, frames, onClose, onSearch, onBox, children }) {
  const [frame, setFrame] = useState(false);
  const held = row.gallery ?? gallery;
  /** @type {[string, any][]} */
  const facts = [
    ["Score", "score" in row ? `${score(row.score)}${row.match ? ", match" : ""}` : null],
    ["Gallery", row.gallery],
    ["Camera", camera(row.camera)],
    ["Time", row.captured_at && moment(row.captured_at)],
    ["Until", row.captured_until && moment(row.captured_until)],
    [
      "Identity",
      html`<${Who} gallery=${held} identity=${row.identity} />`,
    ],
    ["Frame", row.frame],
    ["Tracklet", row.tracklet],
    ["Boxes", row.boxes],
    ["Size", row.width && row.height ? `${row.width} × ${row.height} pixels` : null],
    ["Quality", row.quality?.toFixed(2)],
    ["Path", html`<span class="code wrap">${row.path}</span>`],
  ];
  return html`<${Dialog} title=${`Row ${row.row_id}`} onClose=${onClose}>
    <div class="details">
      <${Crop} gallery=${held} id=${row.row_id} height=${512} alt=${`Row ${row.row_id}`} />
      <div class="stack">
        <${Facts} facts=${facts} />
        <div class="row">
          <button class="primary" onClick=${onSearch}>Search from this</button>
          ${children}
          ${frames && html`<button aria-expanded=${frame} onClick=${() => setFrame(!frame)}>
            ${frame ? "Hide the frame" : "Show the frame"}</button>`}
        </div>
      </div>
    </div>
    ${frame && html`<${Frame} gallery=${held} row=${row} images=${images} onBox=${onBox} />`}
  <//>`;
}
