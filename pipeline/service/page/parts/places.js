// Where points are on the canvas, which of them a lasso holds, and which is nearest.

/** @import {Points} from "../types.js" */
/** @import {View} from "./points.js" */

const WHOLE = 65535;
const BANDS = 512;

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
 * The edges of a polygon that cross each of some bands, from its top to its bottom: a point meets
 * only those of its own band.
 *
 * @param {[number, number][]} polygon
 * @param {number} top
 * @param {number} height Of a band.
 * @returns {Float64Array[]} Of each band: x and y of both ends of each edge.
 */
function bandsOf(polygon, top, height) {
  const edges = Array.from({ length: BANDS + 1 }, () => /** @type {number[]} */ ([]));
  polygon.forEach(([x0, y0], at) => {
    const [x1, y1] = polygon[(at || polygon.length) - 1];
    const first = Math.floor((Math.min(y0, y1) - top) / height);
    const last = Math.floor((Math.max(y0, y1) - top) / height);
    for (let band = first; band <= last && y0 !== y1; band += 1) edges[band].push(x0, y0, x1, y1);
  });
  return edges.map((each) => Float64Array.from(each));
}

/**
 * Whether a place is inside, by the edges of its band: the even-odd rule.
 *
 * @param {Float64Array} edges
 * @param {number} x
 * @param {number} y
 */
function isInside(edges, x, y) {
  let inside = false;
  for (let at = 0; at < edges.length; at += 4) {
    const y0 = edges[at + 1];
    const y1 = edges[at + 3];
    if (y0 > y !== y1 > y && x < ((edges[at + 2] - edges[at]) * (y - y0)) / (y1 - y0) + edges[at]) inside = !inside;
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
  if (top === bottom) return new Uint32Array();
  const height = (bottom - top) / BANDS;
  const bands = bandsOf(corners, top, height);
  const { rows, x: across, y: down } = points;
  const found = new Uint32Array(rows);
  let count = 0;
  for (let at = 0; at < rows; at += 1) {
    const x = across[at];
    const y = down[at];
    if (x < left || x > right || y < top || y > bottom) continue;
    if (isInside(bands[Math.floor((y - top) / height)], x, y)) found[count++] = at;
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
