// Who else a person might be: the nearest rows of other identities, each to be called same or not.
import { html, useEffect, useState } from "../vendor/preact.js";
import * as api from "../api.js";
import { Crop } from "./card.js";
import { camera, person, score, when } from "./format.js";
import { Refused, useLoaded } from "./load.js";
import { who as name } from "./keys.js";
import { complain, keepFocus } from "./messages.js";
import { address } from "./place.js";
import { giveAndSay, sayGiven } from "./verdicts.js";
import { Who } from "./who.js";

/** @import {Hit, Person, Row, Summary} from "../types.js" */

const SHOWN = 6;

/** @param {{summary: Summary, person: Person, rows: Row[], may: boolean, after: () => void}} props */
export function Alike({ summary, person: who, rows, may, after }) {
  const { gallery } = summary;
  const [different, setDifferent] = useState(/** @type {Set<number>} */ (new Set()));
  const own = new Set(rows.map(({ row_id }) => row_id));
  const identities = [...new Set(rows.map(({ identity }) => identity).filter((each) => (each ?? 0) > 0))];
  const { value, error } = useLoaded(
    (signal) =>
      api.search(
        gallery,
        {
          positive: who.row_ids,
          negative: [],
          limit: 60,
          ...(identities.length && { filter: { must_not: [{ key: "identity", match: { any: identities } }] } }),
        },
        signal,
      ),
    [gallery, who.identity, rows.length, summary.version],
  );
  useEffect(keepFocus, [value]);
  /** @type {Map<unknown, Hit>} The best row of each identity; rows without one stand for themselves. */
  const best = new Map();
  for (const hit of value?.results[0].hits ?? []) {
    const name = (hit.identity ?? 0) > 0 ? hit.identity : `row ${hit.row_id}`;
    if (!own.has(hit.row_id) && !different.has(hit.row_id) && !best.has(name)) best.set(name, hit);
  }
  /** @param {Hit} hit Called when the verdict is given, and again when it is taken back. */
  const turn =
    ({ row_id: id }) =>
    () => {
      setDifferent((old) => (old.has(id) ? new Set([...old].filter((each) => each !== id)) : new Set([...old, id])));
      keepFocus();
    };
  /** @param {Hit} hit */
  const part = (hit) => giveAndSay(gallery, who.row_ids[0], hit.row_id, "different", turn(hit));
  /** @param {Hit} hit */
  const merge = async (hit) => {
    try {
      const { verdicts } = await api.merge(gallery, [rows.map(({ row_id }) => row_id), [hit.row_id]], name());
      sayGiven(gallery, `Row ${hit.row_id} (${person(hit.identity)}) is the same person.`, verdicts, after);
      after();
    } catch (refusal) {
      complain(refusal);
    }
  };
  if (error) return html`<${Refused} error=${error} />`;
  return html`<ul class="alike">
    ${[...best.values()].slice(0, SHOWN).map(
      (hit) => html`<li class="sheet" key=${hit.row_id}>
        <a href=${address(gallery, "search", "", { like: hit.row_id })} aria-label=${`Search from row ${hit.row_id}`}>
          <${Crop} gallery=${gallery} id=${hit.row_id} /></a>
        <div class="stack tight">
          <p><strong><${Who} gallery=${gallery} identity=${hit.identity}
            text=${(hit.identity ?? 0) > 0 ? `Identity ${hit.identity}` : `Row ${hit.row_id}`} /></strong>
            <span class="small quiet">score ${score(hit.score)}<br />${camera(hit.camera)}<br />${when(hit)}</span></p>
          ${
            may &&
            html`<div class="row">
            <button class="says-same" onClick=${() => merge(hit)}>Same</button>
            <button class="says-different" onClick=${() => part(hit)}>Not same</button>
          </div>`
          }
        </div>
      </li>`,
    )}
  </ul>`;
}
