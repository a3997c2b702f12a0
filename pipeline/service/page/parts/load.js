// Something asked from the service: on its way, there, or refused.
import { html, useEffect, useState } from "../vendor/preact.js";
import { grouped } from "./format.js";

/**
 * @template T
 * @typedef {{value: T | null, error: Error | null, busy: boolean, job: import("../types.js").Job | null}} Loaded
 */

/**
 * Ask again whenever `inputs` change; an answer that came too late is dropped.
 *
 * @template T
 * @param {(signal: AbortSignal, tell: (job: import("../types.js").Job) => void) => Promise<T> | null} load
 * @param {unknown[]} inputs
 * @returns {Loaded<T>}
 */
export function useLoaded(load, inputs) {
  const [state, setState] = useState(/** @type {Loaded<T>} */ ({ value: null, error: null, busy: true, job: null }));
  useEffect(() => {
    const control = new AbortController();
    const { signal } = control;
    const asked = load(signal, (job) => !signal.aborted && setState((old) => ({ ...old, job })));
    if (!asked) {
      setState({ value: null, error: null, busy: false, job: null });
      return undefined;
    }
    setState((old) => ({ ...old, busy: true, error: null }));
    asked.then(
      (value) => !signal.aborted && setState({ value, error: null, busy: false, job: null }),
      (error) => !signal.aborted && setState((old) => ({ value: old.value, error, busy: false, job: null })),
    );
    return () => control.abort();
  }, inputs);
  return state;
}

/** @param {{job: import("../types.js").Job | null, what: string}} props */
export function Waiting({ job, what }) {
  const { done = 0, total = null, label = null } = job?.progress ?? {};
  return html`<div class="loading" role="status">
    <p>${label ? `${what}: ${label}` : `${what} …`}</p>
    ${total ? html`<progress max=${total} value=${done} aria-label=${what}></progress><p class="small">
      ${grouped(done)} of ${grouped(total)}</p>` : null}
  </div>`;
}

/** @param {{error: Error}} props */
export const Refused = ({ error }) => html`<p class="note bad" role="alert">${error.message}</p>`;
