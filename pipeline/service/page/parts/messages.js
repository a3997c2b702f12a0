// Short messages at the edge of the page; one with an undo stays until it is used, closed or replaced.
import { html, useEffect, useState } from "../vendor/preact.js";
import { Icon } from "./icons.js";

/** @typedef {{text: string, bad?: boolean, undo?: () => void}} Message */

/** @type {Message | null} */
let shown = null;
/** @type {(message: Message | null) => void} */
let changed = () => {};
let timer = 0;

/**
 * @param {string} text
 * @param {{undo?: () => void, bad?: boolean}} [options]
 */
export function say(text, options = {}) {
  clearTimeout(timer);
  shown = { text, ...options };
  changed(shown);
  // Whoever needs longer to read loses nothing: only messages without an action leave by themselves.
  if (!options.undo && !options.bad) timer = setTimeout(close, 8000);
}

/** @param {unknown} error */
export const complain = (error) => say(error instanceof Error ? error.message : String(error), { bad: true });

/** Give the focus back to the room, if what had it is gone: keys go on to work, and nobody starts at the top again. */
export function keepFocus() {
  requestAnimationFrame(() => {
    const active = document.activeElement;
    if (active && active !== document.body) return;
    const home = /** @type {HTMLElement | null} */ (document.querySelector("[data-home]") ?? document.querySelector("main"));
    home?.focus({ preventScroll: true });
  });
}

/** Close the message that is shown. */
export function close() {
  keepFocus();
  shown = null;
  changed(null);
}

/** Undo what the shown message tells, if it can be undone. */
export function undoLast() {
  const undo = shown?.undo;
  if (!undo) return false;
  close();
  undo();
  return true;
}

export function Messages() {
  const [message, setMessage] = useState(shown);
  useEffect(() => {
    changed = setMessage;
  }, []);
  return html`<div class="toasts" role="status">
    ${
      message &&
      html`<div class="toast">
      <p>${message.text}</p>
      ${message.undo && html`<button onClick=${undoLast}><${Icon} name="undo" />Undo</button>`}
      <button class="plain square" aria-label="Close the message" onClick=${close}><${Icon} name="close" /></button>
    </div>`
    }
  </div>`;
}
