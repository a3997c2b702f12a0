// Where points are on the canvas, which of them a lasso holds, and which is nearest.

/** @import {Points} from "../types.js" */
/** @import {View} from "./points.js" */

const WHOLE = 65535;

/**
 * @param {View} view
 * @param {number} width
 * @param {number} height
 * @param {[number, number]} at Pixels of the canvas.
 * @returns {[number, number]} From 0 to 1 of the map.
 */
export const onMap = (view, width, height, [left, top]) => [
  view.x + (left - width / 2) / view.scale,
  view.y + (top - height / 2) / view.scale,
];

/**
 * Whether a polygon holds a place: the even-odd rule.
 *
 * @param {[number, number][]} polygon
 * @param {number} x
 * @param {number} y
 */
export function holds(polygon, x, y) {
  let inside = false;
  for (let at = 0, before = polygon.length - 1; at < polygon.length; before = at, at += 1) {
    const [x0, y0] = polygon[at];
    const [x1, y1] = polygon[before];
    if (y0 > y !== y1 > y && x < ((x1 - x0) * (y - y0)) / (y1 - y0) + x0) inside = !inside;
  }
  return inside;
}

/**
 * The positions of all points in a polygon.
 *
 * @param {Points} points
 * @param {[number, number][]} polygon From 0 to 1 of the map.
 * @returns {Uint32Array<ArrayBuffer>}
 */
export function within(points, polygon) {
  if (polygon.length < 3) return new Uint32Array();
  const corners = /** @type {[number, number][]} */ (polygon.map(([x, y]) => [x * WHOLE, y * WHOLE]));
  const xs = corners.map(([x]) => x);
  const ys = corners.map(([, y]) => y);
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const found = new Uint32Array(points.rows);
  let count = 0;
  for (let at = 0; at < points.rows; at += 1) {
    const x = points.x[at];
    const y = points.y[at];
    if (x >= left && x <= right && y >= top && y <= bottom && holds(corners, x, y)) found[count++] = at;
  }
  return found.slice(0, count);
}

/**
 * The position of the nearest point, or null if none is as near as `most` (0 to 1 of the map).
 *
 * @param {Points} points
 * @param {[number, number]} place
 * @param {number} most
 * @returns {number | null}
 */
export function nearest(points, [x, y], most) {
  const [left, top] = [x * WHOLE, y * WHOLE];
  let best = (most * WHOLE) ** 2;
  let found = null;
  for (let at = 0; at < points.rows; at += 1) {
    const dx = points.x[at] - left;
    const dy = points.y[at] - top;
    const distance = dx * dx + dy * dy;
    if (distance < best) {
      best = distance;
      found = at;
    }
  }
  return found;
}
