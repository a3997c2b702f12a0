// A person's rows as visits: rows at one camera without a long break are one visit.

/** @import {Row} from "../types.js" */

/**
 * @typedef {object} Visit
 * @property {string} camera
 * @property {number} from Milliseconds.
 * @property {number} until
 * @property {Row[]} rows
 */

const BREAK = 5 * 60 * 1000;
export const NO_CAMERA = "camera unknown";

/** @param {Row} row */
export const timeOf = (row) => (row.captured_at ? Date.parse(row.captured_at) : NaN);

/** @param {Row} row */
const endOf = (row) => (row.captured_until ? Date.parse(row.captured_until) : timeOf(row));

/**
 * @param {Row[]} rows In the order of their times; rows without a time are left out.
 * @returns {Visit[]}
 */
export function visitsOf(rows) {
  /** @type {Visit[]} */
  const visits = [];
  for (const row of rows) {
    const time = timeOf(row);
    if (Number.isNaN(time)) continue;
    const camera = row.camera ?? NO_CAMERA;
    const last = visits.at(-1);
    if (last && last.camera === camera && time - last.until <= BREAK) {
      last.rows.push(row);
      last.until = Math.max(last.until, endOf(row));
    } else {
      visits.push({ camera, from: time, until: endOf(row), rows: [row] });
    }
  }
  return visits;
}
