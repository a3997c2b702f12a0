// Person: who is known, where each was when, and who is the same.
import { html, useEffect, useState } from "../vendor/preact.js";
import * as api from "../api.js";
import { Alike } from "../parts/alike.js";
import { Crop } from "../parts/card.js";
import { Cards } from "../parts/cards.js";
import { count, named, span } from "../parts/format.js";
import { Icon } from "../parts/icons.js";
import { onKeys, who } from "../parts/keys.js";
import { Refused, useLoaded, Waiting } from "../parts/load.js";
import { complain, keepFocus, undoLast } from "../parts/messages.js";
import { address } from "../parts/place.js";
import { Path, Timeline } from "../parts/timeline.js";
import { giveAndSay, sayGiven } from "../parts/verdicts.js";
import { along, axisOf, visitsOf } from "../parts/visits.js";

/** @import {Person, Room, Row, Summary} from "../types.js" */

const PAGE = 48;
const MOST = 64; // rows that one search takes

/** @param {{gallery: string, person: Person}} props */
const Face = ({ gallery, person }) => html`<li>
  <a class="face sheet" href=${address(gallery, "person", person.identity)}>
    <span class="strip">${person.row_ids.slice(0, 4).map((id) => html`<${Crop} key=${id} gallery=${gallery} id=${id} height=${192} />`)}</span>
    <strong>${named(person.identity)}</strong>
    <span class="small quiet">${count(person.rows, "row")}, ${count(person.cameras.length, "camera")}</span>
  </a>
</li>`;

/** @param {{summary: Summary, changes: number}} props */
function People({ summary, changes }) {
  const [q, setQ] = useState("");
  const [all, setAll] = useState(/** @type {Person[]} */ ([]));
  const [after, setAfter] = useState(/** @type {number | null} */ (null));
  const { value, error, busy } = useLoaded(
    (signal) => api.people(summary.gallery, { limit: PAGE, q, after }, signal),
    [q, after, changes],
  );
  useEffect(() => {
    if (value)
      setAll((old) =>
        after === null
          ? value.people
          : [
              ...old.filter(({ identity }) => !value.people.some((each) => each.identity === identity)),
              ...value.people,
            ],
      );
  }, [value]);
  return html`<header class="head">
      <div><h1>Person</h1><p>
        ${count(summary.identities, "identity", "identities")}, as the gallery and the verdicts have them.</p></div>
      <div class="acts"><input type="search" placeholder="Identity, camera or path" aria-label="Find people" value=${q}
        onInput=${(/** @type {any} */ event) => {
          setAfter(null);
          setQ(event.target.value.trim());
        }} /></div>
    </header>
    ${error && html`<${Refused} error=${error} />`}
    ${!value && busy && html`<${Waiting} job=${null} what="Gathering people" />`}
    ${
      value &&
      !all.length &&
      html`<div class="empty"><${Icon} name="person" /><h2>${q ? "No such identity" : "No row has an identity"}</h2>
      <p>${q ? "Look for another number." : "Give verdicts in Review, or link rows, and people appear here."}</p></div>`
    }
    <ul class="faces">${all.map((person) => html`<${Face} key=${person.identity} gallery=${summary.gallery} person=${person} />`)}</ul>
    ${value && value.next !== null && html`<p class="more">
      <button disabled=${busy} onClick=${() => setAfter(value.next)}>Show more people</button></p>`}`;
}

/** @param {{gallery: string, rows: Row[], may: boolean, after: () => void}} props */
function Chosen({ gallery, rows, may, after }) {
  const [chosen, setChosen] = useState(/** @type {Set<number>} */ (new Set()));
  /** @param {Row} row */
  const toggle = ({ row_id }) =>
    setChosen((old) => (old.has(row_id) ? new Set([...old].filter((id) => id !== row_id)) : new Set([...old, row_id])));
  const ids = [...chosen];
  const rest = rows.map(({ row_id }) => row_id).filter((id) => !chosen.has(id));
  const split = async () => {
    try {
      const { verdicts } = await api.split(gallery, ids, rest, who());
      setChosen(new Set());
      sayGiven(gallery, `${count(ids.length, "row")} split from the other ${rest.length}.`, verdicts, after);
      after();
    } catch (refusal) {
      complain(refusal);
    }
  };
  return html`<section class="stack">
    <div class="row spread bar">
      <h2>Rows</h2>
      <div class="row">
        ${
          ids.length > 0
            ? html`<span class="quiet">${ids.length} chosen</span>
              <a class="button" href=${address(gallery, "search", "", { like: ids.slice(0, MOST).join() })}>Search from ${ids.length === 1 ? "it" : "these"}</a>
              ${
                may &&
                ids.length === 2 &&
                html`
                <button class="says-same" onClick=${() => giveAndSay(gallery, ids[0], ids[1], "same", after)}>Same</button>
                <button class="says-different" onClick=${() => giveAndSay(gallery, ids[0], ids[1], "different", after)}>Not same</button>`
              }
              ${may && rest.length > 0 && html`<button onClick=${split}>Split from the others</button>`}
              <button class="plain" onClick=${() => setChosen(new Set())}>Choose none</button>`
            : html`<span class="quiet">Choose rows that are someone else.</span>`
        }
      </div>
    </div>
    <${Cards} gallery=${gallery} rows=${rows} label="Rows of the person" verb="Choose" chosen=${chosen} onPress=${toggle} />
  </section>`;
}

/** @param {Room} props */
function One({ summary, allow, place, changes }) {
  const { gallery } = summary;
  const [turn, setTurn] = useState(0);
  const after = () => {
    setTurn((old) => old + 1);
    keepFocus();
  };
  const { value, error } = useLoaded(
    (signal) => api.person(gallery, place.part, signal),
    [place.part, summary.version, changes, turn],
  );
  useEffect(keepFocus, [value]);
  const keys = onKeys({ u: undoLast });
  const back = html`<a class="back" href=${address(gallery, "person")}><${Icon} name="back" />All people</a>`;
  if (!value)
    return html`${back}${error ? html`<${Refused} error=${error} />` : html`<${Waiting} job=${null} what="Gathering rows" />`}`;
  const { person, rows } = value;
  const axis = axisOf(rows);
  const timed = along(rows, axis);
  const visits = visitsOf(timed, axis);
  // Whoever was joined by verdicts has several identities, or none: then the rows themselves are named.
  const whole = /** @type {Record<string, string | number>} */ (
    rows.every(({ identity }) => identity === person.identity)
      ? { identity: person.identity }
      : { rows: rows.map(({ row_id }) => row_id).join() }
  );
  return html`<div class="stack wide" data-home tabindex="-1" onKeyDown=${keys}>
    <header class="head flat"><div>${back}<h1>${named(person.identity)}</h1>
      <p>${count(person.rows, "row")} at ${count(person.cameras.length, "camera")}${person.first_time ? `, ${span(person.first_time, person.last_time)}` : ""}.</p></div>
      <div class="acts"><a class="button" href=${address(gallery, "search", "", { like: person.row_ids.join() })}>
        <${Icon} name="search" />Search</a>
        ${allow.erase && html`<a class="button" href=${address(gallery, "erase", "", whole)}>
          <${Icon} name="erase" />Erase</a>`}</div></header>
    ${rows.length < person.rows && html`<p class="note">The first ${rows.length} rows are shown.</p>`}
    ${error && html`<${Refused} error=${error} />`}
    <section class="sheet stack"><h2>Timeline</h2>
      <${Timeline} gallery=${gallery} visits=${visits} rows=${timed} axis=${axis} />
      ${visits.length > 0 && html`<h3>Path between cameras</h3><${Path} visits=${visits} axis=${axis} />`}</section>
    <section class="stack"><div><h2>May be the same person</h2>
      <p class="quiet">The nearest rows of others. “Same” merges; both can be undone.</p></div>
      <${Alike} summary=${summary} person=${person} rows=${rows} may=${allow.verdicts} after=${after} />
      ${!allow.verdicts && html`<p class="note">The service is read-only: it was started without the right to give verdicts.</p>`}</section>
    <${Chosen} key=${place.part} gallery=${gallery} rows=${rows} may=${allow.verdicts} after=${after} />
  </div>`;
}

/** @param {Room} props */
export default function PersonRoom(props) {
  return props.place.part
    ? html`<${One} key=${props.place.part} ...${props} />`
    : html`<${People} summary=${props.summary} changes=${props.changes} />`;
}
