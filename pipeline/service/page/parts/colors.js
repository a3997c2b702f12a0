// The colors of the map: by camera, identity or time.
import { camera as named, hour, moment } from "./format.js";

/** @import {Points} from "../types.js" */

/** @typedef {"camera" | "identity" | "time"} By */
/** @typedef {[number, number, number]} Rgb */
/** @typedef {{kinds: Uint8Array, palette: Rgb[], legend: {name: string, color: Rgb, kind: number, rows: number}[]}} Coloring */

// Told apart on light and on dark ground, and by people who see fewer colors: after Okabe and Ito (2008).
/** @type {Rgb[]} */
const DISTINCT = [
  [35, 125, 200], [222, 128, 20], [0, 150, 110], [196, 84, 150], [110, 160, 220], [190, 80, 40],
  [135, 120, 200], [150, 140, 30], [80, 180, 170], [220, 110, 120], [100, 110, 130], [150, 100, 60],
]; // prettier-ignore
/** @type {Rgb} */
const UNKNOWN = [140, 146, 156];
const STEPS = 64;
const NO_NUMBER = 65535;

/** @param {number} part From 0 to 1: from blue by way of rose to amber. @returns {Rgb} */
function ramp(part) {
  /** @type {Rgb[]} */
  const stops = [
    [45, 95, 190],
    [130, 90, 190],
    [205, 90, 130],
    [232, 125, 70],
    [235, 175, 50],
  ];
  const at = Math.min(stops.length - 1.001, part * (stops.length - 1));
  const [low, high] = [stops[Math.floor(at)], stops[Math.floor(at) + 1]];
  return /** @type {Rgb} */ (low.map((value, index) => Math.round(value + (high[index] - value) * (at % 1))));
}

/**
 * @param {Points} points
 * @param {By} by
 * @returns {Coloring}
 */
export function colorBy(points, by) {
  const kinds = new Uint8Array(points.rows);
  const counts = new Uint32Array(256);
  // The last color is that of the unknown.
  const palette = /** @type {Rgb[]} */ (
    Array.from({ length: 256 }, (_, kind) =>
      by === "time" ? ramp(kind / (STEPS - 1)) : DISTINCT[kind % DISTINCT.length],
    )
  );
  palette[255] = UNKNOWN;
  const { camera, identity, time } = points;
  for (let at = 0; at < points.rows; at += 1) {
    let kind = 255;
    if (by === "camera" && camera[at] !== NO_NUMBER) kind = camera[at] % 252;
    if (by === "identity" && identity[at] > 0) kind = identity[at] % 252;
    if (by === "time" && time[at] !== NO_NUMBER) kind = Math.floor((time[at] / NO_NUMBER) * STEPS);
    kinds[at] = kind;
    counts[kind] += 1;
  }
  /** @param {number} kind @param {string} name */
  const entry = (kind, name) => ({ name, color: palette[kind], kind, rows: counts[kind] });
  const legend = [];
  if (by === "camera") legend.push(...points.cameras.slice(0, 252).map((name, kind) => entry(kind, named(name))));
  if (by === "time" && points.span) {
    legend.push(
      entry(0, moment(points.span[0])),
      entry(
        STEPS - 1,
        points.span[0].slice(0, 10) === points.span[1].slice(0, 10) ? hour(points.span[1]) : moment(points.span[1]),
      ),
    );
  }
  if (counts[255]) legend.push(entry(255, by === "identity" ? "no identity" : `${by} unknown`));
  return { kinds, palette, legend };
}

/** @param {Coloring} coloring @param {number} kind @returns {Uint32Array<ArrayBuffer>} The positions of a color. */
export function ofKind({ kinds }, kind) {
  const found = new Uint32Array(kinds.length);
  let count = 0;
  for (let at = 0; at < kinds.length; at += 1) if (kinds[at] === kind) found[count++] = at;
  return found.slice(0, count);
}
