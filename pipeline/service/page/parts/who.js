// Who a row shows, as a link to that person where there is one.
import { html } from "../vendor/preact.js";
import { person } from "./format.js";
import { address } from "./place.js";

/** @param {{gallery: string, identity: number | null, text?: string}} props */
export const Who = ({ gallery, identity, text = person(identity) }) =>
  identity !== null && identity > 0 ? html`<a href=${address(gallery, "person", identity)}>${text}</a>` : html`${text}`;
