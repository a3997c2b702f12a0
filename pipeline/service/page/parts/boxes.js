// A picture on which a box can be drawn: with the pointer, or in numbers.
import { html, useRef, useState } from "../vendor/preact.js";

/** @import {Box} from "../types.js" */

/**
 * The box between two corners, in whole pixels inside the picture; null if it is too small to mean anything.
 *
 * @param {[number, number]} from
 * @param {[number, number]} to
 * @param {number} width
 * @param {number} height
 * @returns {Box | null}
 */
export function between([x0, y0], [x1, y1], width, height) {
  const inside = (/** @type {number} */ value, /** @type {number} */ most) =>
    Math.round(Math.min(most, Math.max(0, value)));
  const left = inside(Math.min(x0, x1), width);
  const top = inside(Math.min(y0, y1), height);
  const right = inside(Math.max(x0, x1), width);
  const bottom = inside(Math.max(y0, y1), height);
  return right - left < 4 || bottom - top < 4 ? null : [left, top, right - left, bottom - top];
}

const SIDES = ["left", "top", "width", "height"];

/** @param {{address: string, alt: string, box: Box | null, known?: Box | null, onBox: (box: Box | null) => void}} props */
export function BoxOn({ address, alt, box, known, onBox }) {
  const [size, setSize] = useState(/** @type {[number, number] | null} */ (null));
  const [drawn, setDrawn] = useState(/** @type {Box | null} */ (null));
  const start = useRef(/** @type {[number, number] | null} */ (null));
  const [width, height] = size ?? [1, 1];
  /** @param {PointerEvent} event @returns {[number, number]} */
  const at = (event) => {
    const frame = /** @type {Element} */ (event.currentTarget).getBoundingClientRect();
    return [
      ((event.clientX - frame.left) / frame.width) * width,
      ((event.clientY - frame.top) / frame.height) * height,
    ];
  };
  /** @param {PointerEvent} event */
  const down = (event) => {
    if (!size || event.button) return;
    event.preventDefault();
    /** @type {Element} */ (event.currentTarget).setPointerCapture(event.pointerId);
    start.current = at(event);
  };
  /** @param {PointerEvent} event */
  const move = (event) => start.current && setDrawn(between(start.current, at(event), width, height));
  /** @param {PointerEvent} event */
  const up = (event) => {
    if (!start.current) return;
    const made = between(start.current, at(event), width, height);
    start.current = null;
    setDrawn(null);
    if (made) onBox(made);
  };
  const cancel = () => {
    start.current = null;
    setDrawn(null);
  };
  /** @param {number} side @param {Event} event */
  const type = (side, event) => {
    const value = Number(/** @type {HTMLInputElement} */ (event.target).value);
    const [x, y, w, h] = /** @type {Box} */ (
      (box ?? [0, 0, width, height]).map((old, index) => (index === side ? value : old))
    );
    onBox(between([x, y], [x + w, y + h], width, height));
  };
  const shown = drawn ?? box;
  return html`<div class="boxed">
    <div class="canvas" onPointerDown=${down} onPointerMove=${move} onPointerUp=${up} onPointerCancel=${cancel}>
      <img src=${address} alt=${alt} draggable=${false}
        onLoad=${(/** @type {any} */ event) => setSize([event.target.naturalWidth, event.target.naturalHeight])} />
      ${
        size &&
        html`<svg viewBox=${`0 0 ${width} ${height}`} aria-hidden="true">
        ${shown && html`<path class="outside" fill-rule="evenodd" d=${`M0 0H${width}V${height}H0Z${outline(shown)}`} />`}
        ${known && !shown && html`<path class="known" d=${outline(known)} />`}
        ${shown && html`<path class="drawn" d=${outline(shown)} />`}
      </svg>`
      }
    </div>
    <details>
      <summary>${box ? `Box of ${box[2]} × ${box[3]} pixels` : "Draw a box, or give it in numbers"}</summary>
      <div class="numbers">
        ${SIDES.map(
          (side, index) => html`<label class="field"><span class="label">${side}</span>
            <input type="number" min="0" value=${box?.[index] ?? ""} onChange=${(/** @type {Event} */ event) => type(index, event)} /></label>`,
        )}
      </div>
    </details>
    ${box && html`<button onClick=${() => onBox(null)}>Search the whole picture</button>`}
  </div>`;
}

/** @param {Box} box */
const outline = ([x, y, w, h]) => `M${x} ${y}h${w}v${h}h${-w}z`;
