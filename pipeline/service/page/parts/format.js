// Numbers, times and names in words.

const number = new Intl.NumberFormat("en");

/** @param {number} value */
export const grouped = (value) => number.format(value);

/**
 * @param {number} value
 * @param {string} one
 * @param {string} [many]
 */
export const count = (value, one, many = `${one}s`) => `${grouped(value)} ${value === 1 ? one : many}`;

/** @param {number | null | undefined} value */
export const score = (value) => (value === null || value === undefined ? "–" : value.toFixed(3));

/** @param {number} value */
export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (value >= 1000 && at < units.length - 1) {
    value /= 1000;
    at += 1;
  }
  return `${value.toFixed(at && value < 100 ? 1 : 0)} ${units[at]}`;
}

/** @param {number} rate A false-match rate: short, and never rounded to zero. */
export const rate = (rate) => (rate === 0 ? "0" : String(Number(rate.toPrecision(2))));

/** @param {number} rate */
export function oneIn(rate) {
  if (rate <= 0) return "no false match among the calibration's pairs";
  if (rate >= 0.5) return "more than half of the pairs of two people match";
  return `1 in ${grouped(Number((1 / rate).toPrecision(2)))} pairs of two people matches`;
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/** @param {number} value */
const two = (value) => String(value).padStart(2, "0");

/** @param {Date} time */
const clock = (time) => `${two(time.getUTCHours())}:${two(time.getUTCMinutes())}:${two(time.getUTCSeconds())}`;

/** @param {string | null | undefined} iso All times of the page are UTC. */
export function day(iso) {
  if (!iso) return "unknown day";
  const time = new Date(iso);
  return `${time.getUTCDate()} ${MONTHS[time.getUTCMonth()]} ${time.getUTCFullYear()}`;
}

/** @param {string | null | undefined} iso */
export const hour = (iso) => (iso ? clock(new Date(iso)) : "no time");

/** @param {string | null | undefined} iso */
export const moment = (iso) => (iso ? `${day(iso)}, ${hour(iso)}` : "time unknown");

/**
 * @param {string | null} first
 * @param {string | null} last
 */
export function span(first, last) {
  if (!first || !last) return "times unknown";
  if (day(first) !== day(last)) return `${day(first)} to ${day(last)}`;
  return hour(first) === hour(last) ? moment(first) : `${moment(first)} to ${hour(last)}`;
}

/** @param {number} seconds */
export function duration(seconds) {
  const whole = Math.round(Math.abs(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 172800) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.round(whole / 86400)} days`;
}

/**
 * A row's identity in words: 0 stands for distractors and less for junk.
 *
 * @param {number | null | undefined} identity
 */
export function person(identity) {
  if (identity === null || identity === undefined) return "identity unknown";
  return identity > 0 ? `identity ${identity}` : identity === 0 ? "distractor" : "junk";
}

/** @param {number} name A person without an identity is named after the first of the rows that verdicts joined. */
export const named = (name) => (name < -1 ? `Person of row ${-2 - name}` : `Identity ${name}`);

/** @param {string | null | undefined} name A camera's name, said to be one where it is only a number. */
export const camera = (name) =>
  name === null || name === undefined ? "camera unknown" : /^\d+$/.test(name) ? `camera ${name}` : name;

/** @param {{captured_at: string | null, frame: number | null}} row */
export const when = ({ captured_at: time, frame }) =>
  time ? moment(time) : frame === null ? "time unknown" : `frame ${frame}`;

/** @param {{captured_at: string | null, frame: number | null}} row Without the day, and empty if nothing is known. */
export const shortly = ({ captured_at: time, frame }) => (time ? hour(time) : frame === null ? "" : `frame ${frame}`);

/** @param {string | null} iso The day without its year. */
export const dayOf = (iso) => (iso ? day(iso).replace(/ \d+$/, "") : "");
