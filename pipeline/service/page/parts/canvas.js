// The canvas of the map: it is dragged, zoomed, and drawn on with a lasso.
import { html, useEffect, useRef, useState } from "../vendor/preact.js";
import { onKeys } from "./keys.js";
import { nearest, onMap, within } from "./places.js";
import { PointsDrawing } from "./points.js";

/** @import {Points} from "../types.js" */
/** @import {Coloring} from "./colors.js" */
/** @import {View} from "./points.js" */

const NEAR = 12;

/**
 * @param {{points: Points, coloring: Coloring, marks: Uint8Array | null, lasso: boolean,
 *   onSelect: (positions: Uint32Array<ArrayBuffer>) => void, onHover: (position: number | null, at: [number, number]) => void,
 *   onPress: (position: number) => void}} props
 */
export function Canvas({ points, coloring, marks, lasso, onSelect, onHover, onPress }) {
  const canvas = useRef(/** @type {HTMLCanvasElement | null} */ (null));
  const drawing = useRef(/** @type {PointsDrawing | null} */ (null));
  const view = useRef(/** @type {View | null} */ (null));
  const held = useRef(/** @type {Map<number, [number, number]>} */ (new Map()));
  const moved = useRef(0);
  const waits = useRef(0);
  const [line, setLine] = useState(/** @type {[number, number][]} */ ([]));
  const [problem, setProblem] = useState("");

  const draw = () => {
    cancelAnimationFrame(waits.current);
    waits.current = requestAnimationFrame(() => view.current && drawing.current?.draw(view.current));
  };
  const size = () => /** @type {[number, number]} */ ([canvas.current?.width ?? 1, canvas.current?.height ?? 1]);
  const whole = () => {
    view.current = { x: 0.5, y: 0.5, scale: Math.min(...size()) * 0.94 };
    draw();
  };
  useEffect(() => {
    const element = /** @type {HTMLCanvasElement} */ (canvas.current);
    try {
      drawing.current = new PointsDrawing(element, points.x, points.y);
    } catch (error) {
      setProblem(/** @type {Error} */ (error).message);
      return undefined;
    }
    const observer = new ResizeObserver(([entry]) => {
      const before = Math.min(...size());
      element.width = Math.round(entry.contentRect.width * devicePixelRatio);
      element.height = Math.round(entry.contentRect.height * devicePixelRatio);
      if (view.current) view.current.scale *= Math.min(...size()) / before;
      else whole();
      draw();
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      drawing.current?.gl.getExtension("WEBGL_lose_context")?.loseContext();
      drawing.current = null;
      view.current = null;
    };
  }, [points]);
  useEffect(() => {
    drawing.current?.color(coloring.kinds, coloring.palette);
    draw();
  }, [points, coloring]);
  useEffect(() => {
    drawing.current?.mark(marks);
    draw();
  }, [points, coloring, marks]);

  /** @param {MouseEvent} event @returns {[number, number]} Pixels of the canvas. */
  const at = (event) => {
    const frame = /** @type {HTMLCanvasElement} */ (canvas.current).getBoundingClientRect();
    return [(event.clientX - frame.left) * devicePixelRatio, (event.clientY - frame.top) * devicePixelRatio];
  };
  /** @param {[number, number]} place */
  const mapped = (place) => onMap(/** @type {View} */ (view.current), ...size(), place);
  /** @param {number} factor @param {[number, number]} [about] */
  const zoom = (factor, about) => {
    if (!view.current) return;
    const [width, height] = size();
    const fixed = about ?? /** @type {[number, number]} */ ([width / 2, height / 2]);
    const before = mapped(fixed);
    view.current.scale = Math.min(
      Math.min(width, height) * 400,
      Math.max(Math.min(width, height) * 0.5, view.current.scale * factor),
    );
    const after = mapped(fixed);
    view.current.x += before[0] - after[0];
    view.current.y += before[1] - after[1];
    draw();
  };
  /** @param {number} x @param {number} y In pixels. */
  const pan = (x, y) => {
    if (!view.current) return;
    view.current.x += x / view.current.scale;
    view.current.y += y / view.current.scale;
    draw();
  };
  /** @param {WheelEvent} event */
  const wheel = (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), at(event));
  };
  useEffect(() => {
    const element = canvas.current;
    element?.addEventListener("wheel", wheel, { passive: false });
    return () => element?.removeEventListener("wheel", wheel);
  });
  /** @param {PointerEvent} event */
  const down = (event) => {
    canvas.current?.setPointerCapture(event.pointerId);
    held.current.set(event.pointerId, at(event));
    moved.current = 0;
    if (lasso && held.current.size === 1) setLine([at(event)]);
    else setLine([]);
  };
  /** @param {PointerEvent} event */
  const move = (event) => {
    const now = at(event);
    const before = held.current.get(event.pointerId);
    if (!before) {
      onHover(nearest(points, mapped(now), (NEAR * devicePixelRatio) / (view.current?.scale ?? 1)), [
        event.offsetX,
        event.offsetY,
      ]);
      return;
    }
    moved.current += Math.hypot(now[0] - before[0], now[1] - before[1]);
    const [other] = [...held.current].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    held.current.set(event.pointerId, now);
    if (other) {
      zoom(
        Math.hypot(now[0] - other[0], now[1] - other[1]) /
          Math.max(1, Math.hypot(before[0] - other[0], before[1] - other[1])),
        other,
      );
    } else if (lasso) setLine((old) => [...old, now]);
    else pan(before[0] - now[0], before[1] - now[1]);
  };
  /** @param {PointerEvent} event */
  const up = (event) => {
    if (!held.current.delete(event.pointerId)) return;
    if (moved.current < 5 * devicePixelRatio) {
      const found = nearest(points, mapped(at(event)), (NEAR * devicePixelRatio) / (view.current?.scale ?? 1));
      if (found !== null) onPress(found);
    } else if (line.length > 2) onSelect(within(points, line.map(mapped)));
    setLine([]);
  };
  const step = () => Math.min(...size()) / 8;
  const keys = onKeys({
    ArrowLeft: () => pan(-step(), 0),
    ArrowRight: () => pan(step(), 0),
    ArrowUp: () => pan(0, -step()),
    ArrowDown: () => pan(0, step()),
    "+": () => zoom(1.4),
    "=": () => zoom(1.4),
    "-": () => zoom(1 / 1.4),
    0: whole,
    Escape: () => onSelect(new Uint32Array()),
    a: () => {
      const [width, height] = size();
      onSelect(within(points, [mapped([0, 0]), mapped([width, 0]), mapped([width, height]), mapped([0, height])]));
    },
  });
  return html`<div class=${`canvas ${lasso ? "draws" : ""}`}>
    <canvas ref=${canvas} tabindex="0" role="application" aria-label="Map of all rows. Arrow keys move, plus and minus zoom, a selects what is in view."
      onPointerDown=${down} onPointerMove=${move} onPointerUp=${up} onPointerCancel=${up} onPointerLeave=${() => onHover(null, [0, 0])} onKeyDown=${keys}></canvas>
    ${line.length > 1 && html`<svg aria-hidden="true">
      <path d=${`M${line.map(([x, y]) => `${x / devicePixelRatio} ${y / devicePixelRatio}`).join("L")}Z`} /></svg>`}
    ${problem && html`<p class="note bad" role="alert">${problem}</p>`}
    <div class="zoom">
      <button class="square" aria-label="Zoom in" onClick=${() => zoom(1.5)}>+</button>
      <button class="square" aria-label="Zoom out" onClick=${() => zoom(1 / 1.5)}>−</button>
      <button onClick=${whole}>All</button>
      <button onClick=${() => {
        const [width, height] = size();
        onSelect(within(points, [mapped([0, 0]), mapped([width, 0]), mapped([width, height]), mapped([0, height])]));
      }}>Select the view</button>
    </div>
  </div>`;
}
