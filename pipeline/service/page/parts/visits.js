// A person's rows as visits: rows at one camera without a long break are one visit.
import { camera, count, day, duration, hour, moment } from "./format.js";

/** @import {Row} from "../types.js" */

/**
 * @typedef {object} Visit
 * @property {string} camera
 * @property {number} from On the axis: milliseconds or frames.
 * @property {number} until
 * @property {Row[]} rows
 */

/**
 * @typedef {object} Axis What orders rows, and how it is told.
 * @property {(row: Row) => number} of NaN for a row that has no place on it.
 * @property {(row: Row) => number} end
 * @property {number} rest The longest break within a visit.
 * @property {(value: number) => string} tell
 * @property {(length: number) => string} long
 */

/** @param {number} value */
const asHour = (value) => hour(new Date(value).toISOString());

/** @type {Axis} */
const TIME = {
  of: (row) => (row.captured_at ? Date.parse(row.captured_at) : NaN),
  end: (row) => Date.parse(row.captured_until ?? row.captured_at ?? ""),
  rest: 5 * 60 * 1000,
  tell: asHour,
  long: (length) => duration(length / 1000),
};

/** @type {Axis} */
const FRAME = {
  of: (row) => row.frame ?? NaN,
  end: (row) => row.frame ?? NaN,
  rest: 250,
  tell: (value) => `frame ${value}`,
  long: (length) => count(Math.abs(length), "frame"),
};

/** @param {Row[]} rows Videos without a start have frames, but no times. @returns {Axis} */
export function axisOf(rows) {
  const days = new Set(rows.filter(({ captured_at }) => captured_at).map(({ captured_at }) => day(captured_at)));
  if (!days.size) return FRAME;
  return days.size > 1 ? { ...TIME, tell: (value) => moment(new Date(value).toISOString()) } : TIME;
}

/** @param {Row[]} rows @param {Axis} axis The rows that have a place on the axis, in its order. */
export const along = (rows, axis) =>
  rows.filter((row) => !Number.isNaN(axis.of(row))).sort((a, b) => axis.of(a) - axis.of(b));

/**
 * @param {Row[]} rows In the order of the axis.
 * @param {Axis} axis
 * @returns {Visit[]}
 */
export function visitsOf(rows, axis) {
  /** @type {Visit[]} */
  const visits = [];
  for (const row of rows) {
    const from = axis.of(row);
    const last = visits.at(-1);
    if (last && last.camera === camera(row.camera) && from - last.until <= axis.rest) {
      last.rows.push(row);
      last.until = Math.max(last.until, axis.end(row));
    } else {
      visits.push({ camera: camera(row.camera), from, until: axis.end(row), rows: [row] });
    }
  }
  return visits;
}
