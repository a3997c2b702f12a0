// Cards in a list that is walked with the arrow keys: one of them at a time is reached with Tab.
import { html, useState } from "../vendor/preact.js";
import { Card } from "./card.js";
import { moveFocus, onKeys } from "./keys.js";

/** @import {Hit, Row} from "../types.js" */

/**
 * @param {{gallery: string, rows: (Row | Hit)[], label: string, verb: string, chosen?: Set<number>,
 *   onPress: (row: Row) => void, onDetails?: (row: Row) => void, onMore?: (row: Row) => void, onLess?: (row: Row) => void}} props
 */
export function Cards({ gallery, rows, label, verb, chosen, onPress, onDetails, onMore, onLess }) {
  const [current, setCurrent] = useState(0);
  const at = Math.min(current, rows.length - 1);
  /** @param {((row: Row) => void) | undefined} act */
  const on = (act) => () => act?.(rows[at]);
  const letters = onKeys({ i: on(onDetails), "+": on(onMore), "-": on(onLess) });
  /** @param {KeyboardEvent} event */
  const press = (event) => {
    letters(event);
    moveFocus(event);
  };
  return html`<ul class="cards" aria-label=${label} onKeyDown=${press}>
    ${rows.map(
      (
        row,
        index,
      ) => html`<${Card} key=${`${row.gallery ?? ""} ${row.row_id}`} gallery=${gallery} row=${row} verb=${verb}
        current=${index === at} chosen=${chosen?.has(row.row_id)}
        onPress=${() => onPress(row)} onFocus=${() => setCurrent(index)} onDetails=${onDetails && (() => onDetails(row))} />`,
    )}
  </ul>`;
}
