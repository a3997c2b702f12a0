// A modal dialog: the browser's own, which keeps the focus inside and gives it back.
import { html, useEffect, useRef } from "../vendor/preact.js";
import { Icon } from "./icons.js";

/** @param {{title: string, onClose: () => void, narrow?: boolean, children?: any}} props */
export function Dialog({ title, onClose, narrow, children }) {
  const element = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useEffect(() => {
    const dialog = element.current;
    const before = /** @type {HTMLElement | null} */ (document.activeElement);
    if (dialog && !dialog.open) dialog.showModal();
    // It leaves the page while it is open, so the browser does not give the focus back by itself.
    return () => before?.isConnected && before.focus();
  }, []);
  /** @param {MouseEvent} event */
  const click = (event) => event.target === element.current && onClose();
  /** @param {Event} event */
  const cancel = (event) => {
    event.preventDefault();
    onClose();
  };
  return html`<dialog ref=${element} class=${narrow ? "narrow" : ""} aria-label=${title} onClick=${click} onCancel=${cancel}>
    <header>
      <h2>${title}</h2>
      <button class="plain square" aria-label="Close" onClick=${onClose}><${Icon} name="close" /></button>
    </header>
    <div>${children}</div>
  </dialog>`;
}
