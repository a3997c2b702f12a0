// Search: from an image, a row, or a box on a frame, to ranked cards.
import { html, useEffect, useMemo, useState } from "../vendor/preact.js";
import * as api from "../api.js";
import { Ask, Choose, pictureOf, useDropped } from "../parts/ask.js";
import { Cards } from "../parts/cards.js";
import { Details } from "../parts/details.js";
import { ALL, filterOf, Filters } from "../parts/filters.js";
import { count, grouped } from "../parts/format.js";
import { Icon } from "../parts/icons.js";
import { Refused, useLoaded, Waiting } from "../parts/load.js";
import { complain, say } from "../parts/messages.js";
import { address } from "../parts/place.js";
import { giveAndSay } from "../parts/verdicts.js";

/** @import {Box, Found, Row, Summary} from "../types.js" */
/** @import {Picture, Query} from "../parts/ask.js" */

/** @type {Picture | null} The last image stays when another room is visited. */
let picture = null;
const STARTERS = 24;

/** @param {string | null} text */
const numbers = (text) => (text ? text.split(",").map(Number) : []);

/** @param {URLSearchParams} values @param {Box | null} box @returns {Query} */
function queryOf(values, box) {
  const [row, ...part] = numbers(values.get("box"));
  return {
    like: numbers(values.get("like")),
    unlike: numbers(values.get("unlike")),
    frame: part.length === 4 ? { row, box: /** @type {Box} */ (part) } : null,
    picture: values.has("image") ? picture : null,
    box,
  };
}

/** @param {Query} query @returns {object | null} */
function bodyOf({ like, unlike, frame, picture: image, box }) {
  if (image) return { image: image.base64, ...(box && { box }) };
  if (frame) return { frame: { row: frame.row }, box: frame.box };
  if (like.length === 1 && !unlike.length) return { row: like[0] };
  return like.length ? { positive: like, negative: unlike } : null;
}

/** @param {{summary: Summary, images: boolean, onFile: (file: File) => void, onRow: (row: Row) => void}} props */
function Start({ summary, images, onFile, onRow }) {
  const [turn, setTurn] = useState(0);
  const positions = useMemo(() => {
    const step = Math.max(1, summary.rows / STARTERS);
    const shift = Math.floor((turn * step) / 3);
    const all = Array.from({ length: STARTERS }, (_, index) => (Math.floor(index * step) + shift) % summary.rows);
    return [...new Set(all)].join(",");
  }, [summary.version, turn]);
  const { value, error } = useLoaded(
    (signal) => (summary.rows ? api.rows(summary.gallery, { positions }, signal) : null),
    [positions],
  );
  return html`<div class="stack wide">
    <section class="drop">
      <${Icon} name="image" />
      <h2>Who are you looking for?</h2>
      ${
        images
          ? html`<p>Drop an image here, or paste one. A crop of one person works best; on a larger picture, draw a box around
              the person.</p><${Choose} onFile=${onFile} />`
          : html`<p>The service has no network loaded, so it cannot search images. Start from a row below, or start the service
              with a model.</p>`
      }
    </section>
    <section class="stack">
      <div class="row spread"><h2>Or start from a row of the gallery</h2>
        <button onClick=${() => setTurn(turn + 1)}>Show others</button></div>
      ${error && html`<${Refused} error=${error} />`}
      ${value && html`<${Cards} gallery=${summary.gallery} rows=${value.rows} label="Rows to start from" verb="Search from" onPress=${onRow} />`}
    </section>
  </div>`;
}

/** @param {{found: Found, rows: number}} props */
function Summed({ found, rows }) {
  const { hits } = found.results[0];
  const matches = hits.filter(({ match }) => match).length;
  const told =
    found.threshold === null
      ? ""
      : `${count(matches, "match", "matches")} among the ${count(hits.length, "nearest row", "nearest rows")}. `;
  return html`<p class="quiet" role="status">
    ${told}All ${grouped(rows)} rows were compared, exactly, in ${found.took_ms < 10 ? found.took_ms.toFixed(1) : Math.round(found.took_ms)} ms.
  </p>`;
}

/** @param {import("../types.js").Room & {galleries: Summary[]}} props */
export default function Search({ summary, allow, images, galleries, place }) {
  const { gallery } = summary;
  const [chosen, setChosen] = useState(ALL);
  const [box, setBox] = useState(/** @type {Box | null} */ (null));
  const [opened, setOpened] = useState(/** @type {Row | null} */ (null));
  const asked = place.query.toString();
  const query = queryOf(place.query, box);
  const own = useLoaded(
    (signal) => (query.like.length === 1 ? api.row(gallery, query.like[0], signal) : null),
    [asked],
  ).value;
  const ownCamera = query.like.length === 1 ? own?.camera : null;
  const filter = filterOf(chosen, ownCamera);
  const body = bodyOf(query);
  const everywhere = chosen.everywhere && query.picture !== null;
  const compared = everywhere ? galleries.reduce((sum, { rows }) => sum + rows, 0) : summary.rows;
  const inputs = JSON.stringify([
    asked,
    box,
    filter,
    chosen.limit,
    chosen.threshold,
    chosen.everywhere,
    summary.version,
  ]);
  const { value, error, busy } = useLoaded(
    (signal) => {
      if (!body) return null;
      const { limit } = chosen;
      // What is said of the threshold here holds for this gallery, so it goes with the request to all of them.
      const threshold = chosen.threshold ?? (everywhere ? summary.threshold : null);
      const whole = { ...body, limit, ...(filter && { filter }), ...(threshold !== null && { threshold }) };
      // A threshold is drawn before it is let go: ask once it rests.
      const rest = new Promise((done) => setTimeout(done, chosen.threshold === null ? 0 : 120));
      return rest
        .then(() => signal.throwIfAborted())
        .then(() => api.search(everywhere ? "_all" : gallery, whole, signal));
    },
    [inputs],
  );
  /** @param {number[]} like @param {number[]} [unlike] */
  const go = (like, unlike = []) => {
    setOpened(null);
    location.hash = address(gallery, "search", "", {
      ...(like.length && { like: like.join() }),
      ...(unlike.length && { unlike: unlike.join() }),
    });
  };
  /** @param {Row} row */
  const from = (row) => {
    if (row.gallery && row.gallery !== gallery)
      location.hash = address(row.gallery, "search", "", { like: row.row_id });
    else go([row.row_id]);
    scrollTo({ top: 0 });
  };
  /** @param {File} file */
  const take = async (file) => {
    if (!images) return say("The service has no network loaded, so it cannot search images.", { bad: true });
    try {
      if (picture) URL.revokeObjectURL(picture.address);
      picture = await pictureOf(file);
    } catch (refusal) {
      return complain(refusal);
    }
    setBox(null);
    location.hash = address(gallery, "search", "", { image: Date.now() });
    return undefined;
  };
  const over = useDropped(take);
  /** @param {Row} row @param {1 | -1} sign */
  const refine = (row, sign) => {
    const others = (/** @type {number[]} */ ids) => ids.filter((id) => id !== row.row_id);
    const [like, unlike] = [others(query.like), others(query.unlike)];
    if (sign > 0) go([...like, row.row_id], unlike);
    else if (like.length) go(like, [...unlike, row.row_id]);
    else say("Say first which row it should be like.");
  };
  useEffect(() => setBox(null), [asked]);
  const rows =
    value && body
      ? value.results[0].hits.filter(
          ({ row_id, gallery: where }) => where || query.like.length !== 1 || row_id !== query.like[0],
        )
      : [];
  const verdict = (/** @type {"same" | "different"} */ word) => () =>
    opened && giveAndSay(gallery, query.like[0], opened.row_id, word);
  return html`<div class=${over ? "over" : ""}>
    <header class="head"><div><h1>Search</h1>
      ${body && value ? html`<${Summed} found=${value} rows=${compared} />` : html`<p>Find every row of one person, nearest first.</p>`}</div></header>
    ${
      !body
        ? html`<${Start} summary=${summary} images=${images} onFile=${take} onRow=${from} />`
        : html`<div class="search">
          <div class="side sheet">
            <${Ask} gallery=${gallery} query=${query} own=${own} images=${images} onFile=${take} onBox=${setBox} onQuery=${go} />
            <details class="fold" open=${innerWidth > 832}>
              <summary><${Icon} name="filter" />Filters and threshold</summary>
              <${Filters} summary=${summary} several=${galleries.length > 1 && query.picture !== null} own=${ownCamera} chosen=${chosen}
                onChange=${(/** @type {any} */ change) => setChosen((old) => ({ ...old, ...change }))} />
            </details>
          </div>
          <section class=${`found ${busy ? "busy" : ""}`} aria-label="Ranked rows" aria-busy=${busy}>
            ${error && html`<${Refused} error=${error} />`}
            ${!value && busy && html`<${Waiting} job=${null} what="Comparing every row" />`}
            ${value && !rows.length && !error && html`<div class="empty"><${Icon} name="search" /><h2>No row fits</h2>
              <p>Choose more cameras or a longer time.</p></div>`}
            ${
              rows.length > 0 &&
              html`<${Cards} gallery=${gallery} rows=${rows} label="Ranked rows" verb="Search from"
              onPress=${from} onDetails=${setOpened} onMore=${(/** @type {Row} */ row) => refine(row, 1)} onLess=${(/** @type {Row} */ row) => refine(row, -1)} />`
            }
          </section>
        </div>`
    }
    ${
      opened &&
      html`<${Details} gallery=${gallery} row=${opened} images=${images} frames=${summary.frames && opened.frame !== null} onClose=${() => setOpened(null)}
      onSearch=${() => from(opened)} onBox=${(/** @type {Box} */ drawn) => {
        setOpened(null);
        location.hash = address(opened.gallery ?? gallery, "search", "", { box: [opened.row_id, ...drawn].join() });
      }}>
      ${
        body &&
        !query.picture &&
        !query.frame &&
        html`<button onClick=${() => refine(opened, 1)}><${Icon} name="plus" />More like this</button>
        <button onClick=${() => refine(opened, -1)}><${Icon} name="minus" />Less like this</button>`
      }
      ${
        allow.verdicts &&
        query.like.length === 1 &&
        !opened.gallery &&
        html`
        <button class="says-same" onClick=${verdict("same")}>Same as row ${query.like[0]}</button>
        <button class="says-different" onClick=${verdict("different")}>Different</button>`
      }
    <//>`
    }
  </div>`;
}
