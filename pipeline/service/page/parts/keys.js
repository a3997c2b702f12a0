// Keys: single letters work only inside a room, and can be turned off (WCAG 2.2, 2.1.4).
import { html, useState } from "../vendor/preact.js";
import { Dialog } from "./dialog.js";

const SETTING = "regallery-single-keys";
const NAME = "regallery-name";

/** @param {string} name */
export function stored(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null; // storage is blocked
  }
}

/**
 * @param {string} name
 * @param {string} value
 */
export function store(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // Storage is blocked: the choice holds until the page is closed.
  }
}

/** Who gives verdicts here, if they said so. */
export const who = () => stored(NAME) || undefined;

let single = stored(SETTING) !== "off";

/** Whether single letters are keys. */
export const singleKeys = () => single;

/**
 * A handler of keydown events that calls what a key stands for.
 *
 * @param {Record<string, (event: KeyboardEvent) => void>} actions By `event.key`.
 * @returns {(event: KeyboardEvent) => void}
 */
export const onKeys = (actions) => (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  const target = /** @type {HTMLElement} */ (event.target);
  if (target.closest("input:not([type=checkbox]):not([type=radio]), textarea, select")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key.length === 1 && key !== " " && !single) return;
  // A space on a button presses it.
  if ((key === " " || key === "Enter") && target.closest("button, a, summary, label")) return;
  const action = actions[key];
  if (!action) return;
  event.preventDefault();
  action(event);
};

/**
 * Move the focus among the elements `[data-item]` of a list with the arrow keys.
 *
 * @param {KeyboardEvent} event
 */
export function moveFocus(event) {
  const list = /** @type {HTMLElement} */ (event.currentTarget);
  const items = /** @type {HTMLElement[]} */ ([...list.querySelectorAll("[data-item]")]);
  const at = items.indexOf(/** @type {HTMLElement} */ (document.activeElement));
  if (at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
  const top = items[at].getBoundingClientRect().top;
  const columns = Math.max(1, items.filter((each) => Math.abs(each.getBoundingClientRect().top - top) < 4).length);
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
  let next = at + (steps[/** @type {keyof typeof steps} */ (event.key)] ?? NaN);
  if (event.key === "Home") next = 0;
  if (event.key === "End") next = items.length - 1;
  if (Number.isNaN(next)) return;
  event.preventDefault();
  items[Math.min(items.length - 1, Math.max(0, next))].focus();
}

const KEYS = [
  [
    "Everywhere",
    [
      ["Tab", "next control"],
      ["Esc", "close a dialog"],
      ["?", "this list"],
    ],
  ],
  [
    "Search and grids",
    [
      ["← ↑ ↓ →", "move among the crops"],
      ["Enter", "search from the crop"],
      ["i", "details of the crop"],
      ["+ −", "more or less like the crop"],
    ],
  ],
  [
    "Person",
    [
      ["← →", "previous and next row of the timeline"],
      ["u", "undo"],
    ],
  ],
  [
    "Review",
    [
      ["s", "same"],
      ["d", "different"],
      ["u", "undo"],
      ["Space", "skip"],
    ],
  ],
  [
    "Map",
    [
      ["← ↑ ↓ →", "move the view"],
      ["+ −", "zoom"],
      ["0", "show all"],
      ["a", "select what is in view"],
    ],
  ],
];

/** @param {{onClose: () => void}} props */
export function KeysDialog({ onClose }) {
  const [on, setOn] = useState(single);
  /** @param {Event} event */
  const change = (event) => {
    single = /** @type {HTMLInputElement} */ (event.target).checked;
    store(SETTING, single ? "on" : "off");
    setOn(single);
  };
  return html`<${Dialog} title="Keys and name" narrow onClose=${onClose}>
    <div class="stack">
      ${KEYS.map(
        ([title, keys]) => html`<section class="stack tight">
          <h3>${title}</h3>
          <dl class="keys">
            ${/** @type {string[][]} */ (keys).map(([key, what]) => html`<dt><kbd>${key}</kbd></dt><dd>${what}</dd>`)}
          </dl>
        </section>`,
      )}
      <label class="row"><input type="checkbox" checked=${on} onChange=${change} /> Single letters are keys</label>
      <label class="field"><span class="label">Your name, kept with your verdicts (empty: that of the service)</span>
        <input type="text" autocomplete="name" value=${who() ?? ""} onChange=${(/** @type {any} */ event) => store(NAME, event.target.value.trim())} /></label>
    </div>
  <//>`;
}
