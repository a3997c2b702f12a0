// The one client of the service: every request of the page is made here.

/** @import {Allowed, Found, Job, Pair, Person, Points, Row, Summary, Verdict} from "./types.js" */

/** What the service answered instead of a result: its own sentence and the status. */
export class ServiceError extends Error {
  /**
   * @param {string} message
   * @param {number} status
   */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** @param {Response} response */
async function failure(response) {
  const text = await response.text();
  try {
    return new ServiceError(JSON.parse(text).error.message, response.status);
  } catch {
    return new ServiceError(`The service answered ${response.status} ${response.statusText}.`, response.status);
  }
}

/**
 * @param {string} path
 * @param {RequestInit} [options]
 * @returns {Promise<Response>}
 */
async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(`v1/${path}`, { credentials: "same-origin", ...options });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ServiceError("The service does not answer. Is it still running?", 0);
  }
  if (!response.ok) throw await failure(response);
  return response;
}

/**
 * @param {unknown} body
 * @param {AbortSignal} [signal]
 * @returns {RequestInit}
 */
const posted = (body, signal) => ({
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(body),
  signal,
});

/**
 * @param {string} path
 * @param {RequestInit} [options]
 * @returns {Promise<any>}
 */
const json = async (path, options) => (await ask(path, options)).json();

/** @param {number} milliseconds */
const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

/**
 * Wait for a job, and return its result.
 *
 * @param {string} id
 * @param {(job: Job) => void} [tell] Called with each state on the way.
 * @param {AbortSignal} [signal]
 */
async function finished(id, tell, signal) {
  for (let wait = 150; ; wait = Math.min(1000, wait * 1.5)) {
    /** @type {Job} */
    const job = await json(`jobs/${encodeURIComponent(id)}`, { signal });
    tell?.(job);
    if (job.state === "done") return job.result;
    if (job.state === "failed") {
      const told = typeof job.error === "string" ? job.error : job.error?.message;
      throw new ServiceError(told ?? "The job failed.", 500);
    }
    await pause(wait);
    signal?.throwIfAborted();
  }
}

/**
 * Ask for something that the service may first have to compute: wait while it does.
 *
 * @param {string} path
 * @param {(job: Job) => void} [tell]
 * @param {AbortSignal} [signal]
 * @returns {Promise<Response>}
 */
async function computed(path, tell, signal) {
  for (;;) {
    const response = await ask(path, { signal });
    if (response.status !== 202) return response;
    try {
      await finished((await response.json()).job, tell, signal);
    } catch (error) {
      // Of several replicas only the one that works on a job knows it: ask for the result again.
      if (!(error instanceof ServiceError && error.status === 404)) throw error;
      await pause(500);
    }
  }
}

/** @param {string} gallery */
const at = (gallery) => `galleries/${encodeURIComponent(gallery)}`;

/** @param {Record<string, string | number | null | undefined>} values */
function parameters(values) {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (value !== null && value !== undefined && value !== "") given.set(name, String(value));
  }
  return given.size ? `?${given}` : "";
}

/** @param {string} token What the service answers with a cookie. */
export const enter = (token) => ask("session", { method: "POST", headers: { Authorization: `Bearer ${token}` } });

/** @returns {Promise<{galleries: Summary[], allow: Allowed, images: boolean}>} */
export const galleries = () => json("galleries");

/** @type {(gallery: string) => Promise<Summary>} */
export const summary = (gallery) => json(at(gallery));

/** @type {(gallery: string, body: object, signal?: AbortSignal) => Promise<Found>} */
export const search = (gallery, body, signal) => json(`${at(gallery)}/search`, posted(body, signal));

/** @type {(gallery: string, values: Record<string, string | number | null | undefined>, signal?: AbortSignal) => Promise<{rows: Row[], next: number | null}>} */
export const rows = (gallery, values, signal) => json(`${at(gallery)}/rows${parameters(values)}`, { signal });

/** @type {(gallery: string, id: number, signal?: AbortSignal) => Promise<Row>} */
export const row = async (gallery, id, signal) => (await json(`${at(gallery)}/rows/${id}`, { signal })).row;

/** @type {(gallery: string, values: Record<string, string | number | null | undefined>, signal?: AbortSignal) => Promise<{people: Person[], next: number | null}>} */
export const people = (gallery, values, signal) => json(`${at(gallery)}/people${parameters(values)}`, { signal });

/** @type {(gallery: string, identity: string, signal?: AbortSignal) => Promise<{person: Person, rows: Row[]}>} */
export const person = (gallery, identity, signal) =>
  json(`${at(gallery)}/people/${encodeURIComponent(identity)}`, { signal });

/** @type {(gallery: string, verdicts: Verdict[], who?: string) => Promise<{recorded: number, unchanged: number}>} */
export const give = (gallery, verdicts, who) => json(`${at(gallery)}/verdicts`, posted({ verdicts, who }));

/** @type {(gallery: string, groups: number[][], who?: string) => Promise<{verdicts: Verdict[]}>} */
export const merge = (gallery, groups, who) => json(`${at(gallery)}/merge`, posted({ groups, who }));

/** @type {(gallery: string, chosen: number[], from: number[], who?: string) => Promise<{verdicts: Verdict[]}>} */
export const split = (gallery, chosen, from, who) =>
  json(`${at(gallery)}/split`, posted({ rows: chosen, from, who }));

/** @type {(gallery: string, limit: number, tell?: (job: Job) => void, signal?: AbortSignal) => Promise<{pairs: Pair[], threshold: number | null}>} */
export const review = async (gallery, limit, tell, signal) =>
  (await computed(`${at(gallery)}/review${parameters({ limit })}`, tell, signal)).json();

/** @type {(gallery: string, tell?: (job: Job) => void, signal?: AbortSignal) => Promise<any>} */
export const quality = async (gallery, tell, signal) => (await computed(`${at(gallery)}/quality`, tell, signal)).json();

/** @type {(gallery: string, selection: object) => Promise<any>} */
export const wouldErase = (gallery, selection) =>
  json(`${at(gallery)}/erasures`, posted({ ...selection, dry_run: true }));

/** @type {(gallery: string, selection: object, confirm: string, tell: (job: Job) => void) => Promise<any>} */
export const erase = async (gallery, selection, confirm, tell) =>
  finished((await json(`${at(gallery)}/erasures`, posted({ ...selection, confirm }))).job, tell);

/** @type {(gallery: string, id: number, height?: number) => string} */
export const cropAddress = (gallery, id, height = 256) =>
  `v1/${at(gallery)}/rows/${id}/image${parameters({ kind: "crop", height })}`;

/** @type {(gallery: string, number: number) => string} */
export const rejectAddress = (gallery, number) => `v1/${at(gallery)}/rejects/${number}/image`;

/**
 * The whole frame that a row was cut from, and where.
 *
 * @param {string} gallery
 * @param {number} id
 * @param {AbortSignal} [signal]
 * @returns {Promise<{blob: Blob, box: import("./types.js").Box | null}>}
 */
export async function frame(gallery, id, signal) {
  const response = await ask(`${at(gallery)}/rows/${id}/image?kind=frame`, { signal });
  const box = response.headers.get("X-Box")?.split(",").map(Number);
  return { blob: await response.blob(), box: box?.length === 4 ? /** @type {any} */ (box) : null };
}

/** @type {Record<string, any>} */
const TYPES = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, i4: Int32Array, f4: Float32Array };

/**
 * Read the one binary answer that holds all rows, without copying its columns.
 *
 * @param {ArrayBuffer} bytes
 * @returns {Points}
 */
export function readPoints(bytes) {
  const magic = new TextDecoder().decode(bytes.slice(0, 8));
  if (magic !== "RGPTS001") throw new ServiceError("The map is in a form that this page does not know.", 0);
  const length = new DataView(bytes).getUint32(8, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.slice(12, 12 + length)));
  const start = Math.ceil((12 + length) / 8) * 8;
  /** @type {Record<string, any>} */
  const columns = {};
  for (const { name, dtype, offset } of header.columns) {
    const type = TYPES[dtype];
    const from = start + offset;
    const until = from + header.rows * type.BYTES_PER_ELEMENT;
    // A view needs an aligned start; a column that has none is copied.
    columns[name] =
      from % type.BYTES_PER_ELEMENT ? new type(bytes.slice(from, until)) : new type(bytes, from, header.rows);
  }
  const { x, y, identity, camera, time } = columns;
  return { rows: header.rows, x, y, identity, camera, time, cameras: header.cameras, span: header.time ?? null };
}

/** @type {(gallery: string, tell?: (job: Job) => void, signal?: AbortSignal) => Promise<Points>} */
export const points = async (gallery, tell, signal) =>
  readPoints(await (await computed(`${at(gallery)}/points`, tell, signal)).arrayBuffer());

/**
 * Call `tell` whenever a gallery has a new version or new verdicts, and `turned` when the service falls silent or is
 * back; return how to stop.
 *
 * @param {(event: {gallery: string, version: number, verdicts: number}) => void} tell
 * @param {() => void} turned
 */
export function listen(tell, turned) {
  const source = new EventSource("v1/events");
  let silent = false;
  source.addEventListener("message", ({ data }) => tell(JSON.parse(data)));
  source.addEventListener("error", () => {
    if (!silent) turned();
    silent = true;
  });
  source.addEventListener("open", () => {
    if (silent) turned();
    silent = false;
  });
  return () => source.close();
}
