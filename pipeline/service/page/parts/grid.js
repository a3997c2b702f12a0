// A grid of any number of rows, of which only what is in view exists: rows are fetched by their positions.
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../vendor/preact.js";
import { elementScroll, observeElementOffset, observeElementRect, Virtualizer } from "../vendor/virtual-core.js";
import * as api from "../api.js";
import { Crop, inWords } from "./card.js";
import { camera, shortly } from "./format.js";
import { complain } from "./messages.js";

/** @import {Row} from "../types.js" */

const WIDE = 92;
const CHUNK = 60;

/**
 * The rows of positions, fetched in chunks when they come into view.
 *
 * @param {string} gallery
 * @param {Uint32Array} positions
 */
function useRows(gallery, positions) {
  const [, setTurn] = useState(0);
  const held = useMemo(
    () => ({ rows: /** @type {Map<number, Row>} */ (new Map()), asked: /** @type {Set<number>} */ (new Set()) }),
    [gallery, positions],
  );
  /** @param {number} from @param {number} until */
  const want = (from, until) => {
    for (let chunk = Math.floor(from / CHUNK); chunk * CHUNK < until; chunk += 1) {
      if (held.asked.has(chunk)) continue;
      held.asked.add(chunk);
      const start = chunk * CHUNK;
      const part = positions.subarray(start, start + CHUNK);
      api.rows(gallery, { positions: part.join(",") }).then(({ rows }) => {
        rows.forEach((row, index) => held.rows.set(start + index, row));
        setTurn((old) => old + 1);
      }, complain);
    }
  };
  return { rows: held.rows, want };
}

/** @param {{gallery: string, positions: Uint32Array, label: string, onPress: (row: Row) => void}} props */
export function Grid({ gallery, positions, label, onPress }) {
  const frame = useRef(/** @type {HTMLDivElement | null} */ (null));
  const [, setTurn] = useState(0);
  const [columns, setColumns] = useState(3);
  const [current, setCurrent] = useState(0);
  const wantsFocus = useRef(false);
  const { rows, want } = useRows(gallery, positions);
  const lines = Math.ceil(positions.length / columns);
  const options = () => ({
    count: lines,
    getScrollElement: () => frame.current,
    estimateSize: () => tall(frame.current, columns),
    observeElementRect,
    observeElementOffset,
    scrollToFn: elementScroll,
    overscan: 2,
    onChange: () => setTurn((old) => old + 1),
  });
  const virtual = useMemo(() => new Virtualizer(/** @type {any} */ (options())), []);
  virtual.setOptions(/** @type {any} */ (options()));
  useLayoutEffect(() => virtual._didMount(), []);
  useLayoutEffect(() => virtual._willUpdate());
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) =>
      setColumns(Math.max(2, Math.floor(entry.contentRect.width / WIDE))),
    );
    observer.observe(/** @type {HTMLDivElement} */ (frame.current));
    return () => observer.disconnect();
  }, []);
  useEffect(() => virtual.measure(), [columns, positions]);
  useEffect(() => {
    setCurrent(0);
    virtual.scrollToOffset(0);
  }, [positions]);
  const shown = virtual.getVirtualItems();
  const first = shown[0]?.index ?? 0;
  const last = shown.at(-1)?.index ?? 0;
  useEffect(
    () => want(first * columns, Math.min(positions.length, (last + 1) * columns)),
    [first, last, columns, positions],
  );
  useEffect(() => {
    if (!wantsFocus.current) return;
    const cell = /** @type {HTMLElement | null | undefined} */ (frame.current?.querySelector(`[data-at="${current}"]`));
    if (!cell) return;
    wantsFocus.current = false;
    cell.focus();
  });
  /** @param {KeyboardEvent} event */
  const press = (event) => {
    const steps = {
      ArrowLeft: -1,
      ArrowRight: 1,
      ArrowUp: -columns,
      ArrowDown: columns,
      Home: -Infinity,
      End: Infinity,
    };
    const step = steps[/** @type {keyof typeof steps} */ (event.key)];
    if (step === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const next = Math.min(positions.length - 1, Math.max(0, current + step));
    setCurrent(next);
    wantsFocus.current = true;
    virtual.scrollToIndex(Math.floor(next / columns));
  };
  return html`<div class="virtual" ref=${frame} onKeyDown=${press} role="group" aria-label=${label}>
    <div style=${{ height: `${virtual.getTotalSize()}px`, position: "relative" }}>
      ${shown.map(
        ({
          index,
          start,
        }) => html`<div class="line" key=${index} style=${{ transform: `translateY(${start}px)`, gridTemplateColumns: `repeat(${columns}, minmax(0, 1fr))` }}>
          ${Array.from({ length: Math.min(columns, positions.length - index * columns) }, (_, column) => {
            const at = index * columns + column;
            const row = rows.get(at);
            return html`<button key=${at} class="cell" data-at=${at} tabindex=${at === current ? 0 : -1} disabled=${!row}
              aria-label=${row ? inWords(row) : "On its way"} onClick=${() => row && onPress(row)} onFocus=${() => setCurrent(at)}>
              ${row ? html`<${Crop} gallery=${gallery} id=${row.row_id} height=${192} /><span>
                ${shortly(row) || camera(row.camera)}</span>` : html`<span class="crop"></span>`}
            </button>`;
          })}
        </div>`,
      )}
    </div>
  </div>`;
}

/** @param {HTMLElement | null} frame @param {number} columns A crop is twice as high as wide, above one line of text. */
const tall = (frame, columns) => Math.round(((frame?.clientWidth ?? 300) / columns - 16) * 2 + 34);
