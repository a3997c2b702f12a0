// The frame of the page: which gallery, which room, and what the service says on its own.
import { html, render, useCallback, useEffect, useRef, useState } from "./vendor/preact.js";
import * as api from "./api.js";
import { count, span } from "./parts/format.js";
import { Icon } from "./parts/icons.js";
import { KeysDialog, singleKeys, store } from "./parts/keys.js";
import { Messages, say } from "./parts/messages.js";
import { address, places } from "./parts/place.js";

/** @import {Allowed, Place, Summary} from "./types.js" */

/** @type {Record<string, {name: string, load: () => Promise<{default: any}>}>} */
const ROOMS = {
  search: { name: "Search", load: () => import("./rooms/search.js") },
  person: { name: "Person", load: () => import("./rooms/person.js") },
  review: { name: "Review", load: () => import("./rooms/review.js") },
  map: { name: "Map", load: () => import("./rooms/map.js") },
  quality: { name: "Quality", load: () => import("./rooms/quality.js") },
  erase: { name: "Erase", load: () => import("./rooms/erase.js") },
};

/** @returns {Place} */
function usePlace() {
  const [place, setPlace] = useState(places());
  useEffect(() => {
    const change = () => setPlace(places());
    addEventListener("hashchange", change);
    change(); // the address may have changed since it was read
    return () => removeEventListener("hashchange", change);
  }, []);
  return place;
}

/** The galleries, asked again whenever the service tells of a change. */
function useService() {
  const [service, setService] = useState(
    /** @type {{galleries: Summary[], allow: Allowed, images: boolean} | null} */ (null),
  );
  const [error, setError] = useState(/** @type {api.ServiceError | null} */ (null));
  const [changes, setChanges] = useState(0);
  const refresh = useCallback(async () => {
    try {
      setService(await api.galleries());
      setError(null);
    } catch (refusal) {
      setError(/** @type {api.ServiceError} */ (refusal));
    }
  }, []);
  useEffect(() => {
    /** @type {Map<string, string>} */
    const known = new Map();
    let stop = () => {};
    refresh().then(() => {
      stop = api.listen(({ gallery, version, verdicts }) => {
        const before = known.get(gallery);
        const now = `${version} ${JSON.stringify(verdicts)}`;
        known.set(gallery, now);
        if (before === undefined || before === now) return;
        if (before.split(" ")[0] !== String(version)) say(`${gallery} has a new version, ${version}.`);
        setChanges((old) => old + 1);
        refresh();
      }, refresh);
    });
    return () => stop();
  }, []);
  return { service, error, changes };
}

function turnTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  store("regallery-theme", root.dataset.theme);
  dispatchEvent(new Event("themechange"));
}

/** @param {{place: Place, galleries: Summary[], summary: Summary, onKeys: () => void}} props */
function Rail({ place, galleries, summary, onKeys }) {
  /** @param {Event} event */
  const choose = (event) => {
    location.hash = address(/** @type {HTMLSelectElement} */ (event.target).value, place.room);
  };
  return html`<header class="rail">
    <div class="brand"><img src="icon.svg" alt="" /><span>Regallery</span></div>
    <div class="pick">
      <label for="gallery">Gallery</label>
      <select id="gallery" aria-label="Gallery" value=${summary.gallery} onChange=${choose}>
        ${galleries.map(({ gallery }) => html`<option value=${gallery}>${gallery}</option>`)}
      </select>
    </div>
    <nav class="rooms" aria-label="Rooms">
      ${Object.entries(ROOMS).map(
        ([room, { name }]) =>
          html`<a href=${address(summary.gallery, room)} aria-current=${room === place.room ? "page" : null}>
            <${Icon} name=${room} />${name}
          </a>`,
      )}
    </nav>
    <div class="about">
      <span class="line">${count(summary.rows, "row")}, ${count(summary.cameras.length, "camera")}</span>
      ${summary.first_time && html`<span class="line">${span(summary.first_time, summary.last_time)} UTC</span>`}
      <span class="line">version ${summary.version}</span>
      <div class="tools">
        <button class="plain square" aria-label="Light or dark" title="Light or dark" onClick=${turnTheme}>
          <${Icon} name="theme" /></button>
        <button class="plain square" aria-label="Keys and name" title="Keys and name" onClick=${onKeys}><${Icon} name="keys" /></button>
      </div>
    </div>
  </header>`;
}

/** Let in whoever knows the token. */
function Token() {
  const [wrong, setWrong] = useState("");
  /** @param {Event} event */
  const enter = async (event) => {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (event.currentTarget);
    try {
      await api.enter(String(new FormData(form).get("token")).trim());
      location.reload();
    } catch (error) {
      setWrong(/** @type {Error} */ (error).message);
    }
  };
  return html`<form class="row" onSubmit=${enter}>
    <label class="field"><span class="label">The token of the service</span>
      <input type="password" name="token" autocomplete="current-password" required /></label>
    <button class="primary">Enter</button>
    ${wrong && html`<p class="note bad" role="alert">${wrong}</p>`}
  </form>`;
}

/** @param {{error: api.ServiceError}} props */
function Closed({ error }) {
  const asked = error.status === 401;
  const told = asked
    ? "This page opens with a link that the service prints when it starts, or with its token."
    : error.message;
  return html`<main class="empty" role="alert"><${Icon} name="info" /><h1>The galleries are not open</h1><p>
    ${told}</p>${asked && html`<${Token} />`}</main>`;
}

function App() {
  const place = usePlace();
  const { service, error, changes } = useService();
  const [room, setRoom] = useState(/** @type {{name: string, View: any} | null} */ (null));
  const [keys, setKeys] = useState(false);
  const main = useRef(/** @type {HTMLElement | null} */ (null));
  const summary = service?.galleries.find(({ gallery }) => gallery === place.gallery) ?? service?.galleries[0];
  const name = place.room in ROOMS ? place.room : "search";
  useEffect(() => {
    let late = false;
    ROOMS[name].load().then(({ default: View }) => {
      if (late) return;
      setRoom({ name, View });
      // Whoever reads by ear hears where they are; the first room leaves the focus at the top.
      if (room) main.current?.focus();
    });
    return () => {
      late = true;
    };
  }, [name]);
  useEffect(() => {
    document.title = `${ROOMS[name].name}, ${summary?.gallery ?? "Regallery"}`;
  }, [name, summary?.gallery]);
  useEffect(() => {
    /** @param {KeyboardEvent} event */
    const press = (event) => {
      const target = /** @type {HTMLElement} */ (event.target);
      if (event.key === "?" && singleKeys() && !target.closest("input, textarea, select, dialog")) setKeys(true);
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
  if (error && !service) return html`<${Closed} error=${error} />`;
  if (!service) return html`<p class="loading">Opening the galleries …</p>`;
  if (!summary)
    return html`<main class="empty"><h1>There is no gallery</h1><p>The service was started without one.</p></main>`;
  const View = room?.name === name ? room.View : null;
  return html`<div class="frame">
      <a class="skip" href="#main" onClick=${(/** @type {Event} */ event) => (event.preventDefault(), main.current?.focus())}>Skip to the room</a>
      <${Rail} place=${{ ...place, room: name }} galleries=${service.galleries} summary=${summary} onKeys=${() => setKeys(true)} />
      <main id="main" tabindex="-1" ref=${main}>
        ${error && html`<p class="note bad" role="alert">${error.message}</p>`}
        ${
          View
            ? html`<${View} key=${summary.gallery} summary=${summary} allow=${service.allow} images=${service.images}
              galleries=${service.galleries} place=${place} changes=${changes} />`
            : html`<p class="loading">Opening the room …</p>`
        }
      </main>
    </div>
    <${Messages} />
    ${keys && html`<${KeysDialog} onClose=${() => setKeys(false)} />`}`;
}

const root = /** @type {HTMLElement} */ (document.getElementById("app"));
root.replaceChildren();
render(html`<${App} />`, root);
