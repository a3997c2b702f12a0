// Erase: who, what would go from where, a typed confirmation, and the proof.
import { html, useEffect, useState } from "../vendor/preact.js";
import * as api from "../api.js";
import { Crop } from "../parts/card.js";
import { count, grouped, span } from "../parts/format.js";
import { Icon } from "../parts/icons.js";
import { Refused, useLoaded, Waiting } from "../parts/load.js";
import { Outputs, Proof } from "../parts/proof.js";

/** @import {Job, Room} from "../types.js" */

/** @typedef {"identity" | "rows" | "where"} Way */
const SHOWN = 24;

/** @param {Way} way @param {string} text @returns {object | null} */
function selectionOf(way, text) {
  const given = text.trim();
  if (!given) return null;
  if (way === "where") return { where: given };
  const numbers = given.split(/[\s,;]+/).filter(Boolean);
  if (numbers.some((each) => !/^-?\d+$/.test(each))) return null;
  return way === "rows" ? { rows: numbers.map(Number) } : { where: `identity in (${numbers.join(", ")})` };
}

const WAYS = /** @type {Record<Way, {name: string, hint: string}>} */ ({
  identity: { name: "By identity", hint: "One or more identities, as in 7, 12" },
  rows: { name: "By row", hint: "Row ids, as in 17, 23, 31" },
  where: {
    name: "By condition",
    hint: "An SQL condition on the columns, as in camera = '3' and captured_at < '2026-01-01'",
  },
});

/** @param {{way: Way, text: string, onWay: (way: Way) => void, onType: (text: string) => void, onLook: () => void, ready: boolean}} props */
function Selecting({ way, text, onWay, onType, onLook, ready }) {
  /** @param {Event} event */
  const typed = (event) => onType(/** @type {HTMLInputElement} */ (event.target).value);
  /** @param {Event} event */
  const look = (event) => {
    event.preventDefault();
    if (ready) onLook();
  };
  return html`<form class="sheet stack" onSubmit=${look}>
  <fieldset class="field"><legend class="label">Who or what</legend>
    <div class="chips">${
      /** @type {Way[]} */ (Object.keys(WAYS)).map(
        (each) =>
          html`<label class="chip">
            <input type="radio" name="way" checked=${each === way} onChange=${() => onWay(each)} />
            ${WAYS[each].name}</label>`,
      )
    }</div></fieldset>
  <label class="field"><span class="label">${WAYS[way].hint}</span>
    ${
      way === "where"
        ? html`<textarea class="code" value=${text} spellcheck=${false} onInput=${typed}></textarea>`
        : html`<input type="text" inputmode="numeric" value=${text} onInput=${typed} />`
    }
  </label>
  <div class="row"><button class="primary" disabled=${!ready}>Show what would go</button>
    <span class="quiet small">This changes nothing.</span></div>
</form>`;
}

/** @param {any} plan */
const about = ({ identities, cameras, first_time: first, last_time: last }) =>
  [
    count(identities, "identity", "identities"),
    cameras.length && `cameras ${cameras.join(", ")}`,
    first && span(first, last),
  ]
    .filter(Boolean)
    .join(" · ");

/** @param {{gallery: string, plan: any, may: boolean, onErase: (everywhere: boolean, typed: string) => void, working: boolean}} props */
function Plan({ gallery, plan, may, onErase, working }) {
  const [typed, setTyped] = useState("");
  const [everywhere, setEverywhere] = useState(false);
  const { rows, purge_unfinished: unfinished } = plan;
  const ids = /** @type {number[]} */ (plan.row_ids ?? []);
  if (!rows && !unfinished) return html`<p class="note" role="status">No row fits: nothing would go.</p>`;
  return html`<section class="sheet stack" aria-label="What would go">
    <div role="status"><h2>${
      unfinished
        ? "No row fits now, but older versions still hold some"
        : `${count(rows, "row")} would go, ${grouped(plan.rows_left)} would stay`
    }</h2></div>
    <p class="quiet">${unfinished ? "They were erased or replaced, and not yet purged: their bytes are still on the disk." : about(plan)}</p>
    <ul class="strip-wide">${ids.slice(0, SHOWN).map((id) => html`<li key=${id}>
      <${Crop} gallery=${gallery} id=${id} height=${128} alt=${`Row ${id}`} /></li>`)}</ul>
    ${ids.length > SHOWN && html`<p class="small quiet">The first ${SHOWN} of them.</p>`}
    <h3>From where</h3>
    <p>From the gallery and all its older versions: their bytes are deleted, and every file that stays is searched for
      them. Older versions can then no longer be read.</p>
    ${
      plan.outputs?.length > 0 &&
      html`<${Outputs} outputs=${plan.outputs} />
      <label class="row"><input type="checkbox" checked=${everywhere} onChange=${() => setEverywhere(!everywhere)} />
        Also purge what was made from the gallery elsewhere, where it can be reached</label>`
    }
    ${
      may
        ? html`<form class="row confirm" onSubmit=${(/** @type {Event} */ event) => {
            event.preventDefault();
            if (typed === gallery && !working) onErase(everywhere, typed);
          }}>
          <label class="field"><span class="label">This cannot be undone. Type the gallery’s name, <strong>
            ${gallery}</strong></span>
            <input type="text" autocomplete="off" spellcheck=${false} value=${typed} onInput=${(/** @type {any} */ event) => setTyped(event.target.value)} /></label>
          <button class="danger" disabled=${typed !== gallery || working}>
            <${Icon} name="erase" />${unfinished ? "Purge them" : `Erase ${count(rows, "row")}`}</button>
        </form>`
        : html`<p class="note">The service was started without the right to erase.</p>`
    }
  </section>`;
}

/** @param {Room} props */
export default function Erase({ summary, allow, place }) {
  const { gallery } = summary;
  const begun = /** @type {Way} */ (place.query.has("rows") ? "rows" : "identity");
  const given = place.query.get(begun) ?? "";
  const [way, setWay] = useState(begun);
  const [text, setText] = useState(given);
  const [asked, setAsked] = useState(selectionOf(begun, given));
  const [job, setJob] = useState(/** @type {Job | null} */ (null));
  const [working, setWorking] = useState(false);
  const [refusal, setRefusal] = useState(/** @type {Error | null} */ (null));
  const [proof, setProof] = useState(/** @type {any} */ (null));
  const plan = useLoaded(() => (asked ? api.wouldErase(gallery, asked) : null), [asked]);
  const selection = selectionOf(way, text);
  useEffect(() => {
    // Whoever leaves in the middle is asked; the erasure itself goes on in the service.
    const stay = (/** @type {Event} */ event) => working && event.preventDefault();
    addEventListener("beforeunload", stay);
    return () => removeEventListener("beforeunload", stay);
  }, [working]);
  const again = () => {
    setProof(null);
    setAsked(null);
    setText("");
  };
  /** @param {boolean} everywhere @param {string} typed */
  const erase = async (everywhere, typed) => {
    setWorking(true);
    setRefusal(null);
    try {
      setProof(await api.erase(gallery, { ...asked, everywhere }, typed, setJob));
    } catch (error) {
      setRefusal(/** @type {Error} */ (error));
    }
    setWorking(false);
  };
  return html`<div class="narrow-room stack">
    <header class="head flat"><div><h1>Erase</h1>
      <p>Remove rows, and their bytes from the disk, with a proof that nothing of them is left.</p></div></header>
    ${
      proof
        ? html`<${Proof} result=${proof} onAgain=${again} />`
        : html`<${Selecting} way=${way} text=${text} ready=${selection !== null && !working}
            onWay=${(/** @type {Way} */ next) => (setWay(next), setText(""), setAsked(null))}
            onType=${(/** @type {string} */ next) => (setText(next), setAsked(null))} onLook=${() => setAsked(selection)} />
          ${plan.error && asked && html`<${Refused} error=${plan.error} />`}
          ${asked && plan.busy && html`<${Waiting} job=${null} what="Looking for the rows" />`}
          ${asked && plan.value && !plan.busy && !working && html`<${Plan} gallery=${gallery} plan=${plan.value} may=${allow.erase} working=${working} onErase=${erase} />`}
          ${refusal && html`<${Refused} error=${refusal} />`}
          ${working && html`<${Waiting} job=${job} what="Erasing" />`}`
    }
  </div>`;
}
