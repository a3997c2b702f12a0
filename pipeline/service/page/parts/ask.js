// What a search starts from: an image, a row, a box on a frame, or rows that are and are not meant.
import { html, useEffect, useRef, useState } from "../vendor/preact.js";
import { BoxOn } from "./boxes.js";
import { Crop } from "./card.js";
import { camera, when } from "./format.js";
import { Icon } from "./icons.js";
import { address } from "./place.js";
import { Who } from "./who.js";

/** @import {Box, Row} from "../types.js" */

/** @typedef {{name: string, address: string, base64: string}} Picture */

/** @param {File} file @returns {Promise<Picture>} */
export async function pictureOf(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  let text = "";
  for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768));
  return { name: file.name || "pasted image", address: URL.createObjectURL(file), base64: btoa(text) };
}

/** @param {DataTransfer | null} data */
const imageIn = (data) => [...(data?.files ?? [])].find(({ type }) => type.startsWith("image/"));

/**
 * Take an image that is dropped anywhere or pasted.
 *
 * @param {(file: File) => void} take
 */
export function useDropped(take) {
  const [over, setOver] = useState(false);
  const latest = useRef(take);
  latest.current = take;
  useEffect(() => {
    /** @param {DragEvent} event */
    const drag = (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      setOver(event.type !== "dragleave" || event.relatedTarget !== null);
    };
    /** @param {DragEvent} event */
    const drop = (event) => {
      event.preventDefault();
      setOver(false);
      const file = imageIn(event.dataTransfer);
      if (file) latest.current(file);
    };
    /** @param {ClipboardEvent} event */
    const paste = (event) => {
      const file = imageIn(event.clipboardData);
      if (file) latest.current(file);
    };
    const heard = /** @type {[string, any][]} */ ([
      ["dragover", drag],
      ["dragleave", drag],
      ["drop", drop],
      ["paste", paste],
    ]);
    for (const [name, act] of heard) addEventListener(name, act);
    return () => heard.forEach(([name, act]) => removeEventListener(name, act));
  }, []);
  return over;
}

/** @param {{onFile: (file: File) => void, small?: boolean}} props */
export function Choose({ onFile, small }) {
  const input = useRef(/** @type {HTMLInputElement | null} */ (null));
  return html`<button class=${small ? "" : "primary"} onClick=${() => input.current?.click()}><${Icon} name="image" />
    ${small ? "Another image" : "Choose an image"}</button>
    <input ref=${input} type="file" accept="image/*" hidden aria-label="Image to search" onChange=${(
      /** @type {any} */ event,
    ) => {
      const [file] = event.target.files;
      event.target.value = "";
      if (file) onFile(file);
    }} />`;
}

/** @param {{gallery: string, ids: number[], sign: "like" | "unlike", onRemove: (id: number) => void}} props */
const Examples = ({ gallery, ids, sign, onRemove }) =>
  ids.length > 0 &&
  html`<div class="field"><span class="label">${sign === "like" ? "Like these" : "Unlike these"}</span>
    <ul class="examples">
      ${ids.map(
        (
          id,
        ) => html`<li><button class=${sign} aria-label=${`Remove row ${id} from the query`} title=${`Row ${id}: remove`} onClick=${() => onRemove(id)}>
          <${Crop} gallery=${gallery} id=${id} height=${128} /><${Icon} name=${sign === "like" ? "plus" : "minus"} />
        </button></li>`,
      )}
    </ul></div>`;

/**
 * @typedef {object} Query
 * @property {number[]} like
 * @property {number[]} unlike
 * @property {{row: number, box: Box} | null} frame
 * @property {Picture | null} picture
 * @property {Box | null} box Part of the picture.
 */

/** @param {{gallery: string, query: Query, own: Row | null, images: boolean, onFile: (file: File) => void, onBox: (box: Box | null) => void,
 *   onQuery: (like: number[], unlike: number[]) => void}} props */
export function Ask({ gallery, query, own, images, onFile, onBox, onQuery }) {
  const { like, unlike, frame, picture, box } = query;
  /** @param {number} id */
  const remove = (id) =>
    onQuery(
      like.filter((each) => each !== id),
      unlike.filter((each) => each !== id),
    );
  let shown;
  if (picture) {
    shown = html`<${BoxOn} address=${picture.address} alt="The image to search" box=${box} onBox=${onBox} />
      <p class="small quiet wrap">${picture.name}</p>`;
  } else if (frame) {
    shown = html`<p>A box of ${frame.box[2]} × ${frame.box[3]} pixels on the frame of row ${frame.row}.</p>`;
  } else if (like.length === 1 && !unlike.length) {
    shown = html`<div class="asked"><${Crop} gallery=${gallery} id=${like[0]} alt=${`Row ${like[0]}, the query`} />
      <div><strong>Row ${like[0]}</strong>${own && html`<p class="small quiet">${camera(own.camera)}<br />${when(own)}
        <br /><${Who} gallery=${gallery} identity=${own.identity} /></p>`}</div></div>`;
  } else {
    shown = html`<${Examples} gallery=${gallery} ids=${like} sign="like" onRemove=${remove} />
      <${Examples} gallery=${gallery} ids=${unlike} sign="unlike" onRemove=${remove} />`;
  }
  return html`<section class="asking" aria-label="Query">
    ${shown}
    <div class="row">
      ${images && html`<${Choose} onFile=${onFile} small />`}
      <a class="button" href=${address(gallery, "search")}>New search</a>
    </div>
  </section>`;
}
