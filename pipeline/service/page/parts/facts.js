// A list of names and values, without what is unknown.
import { html } from "../vendor/preact.js";

/** @param {{facts: [string, any][]}} props */
export const Facts = ({ facts }) =>
  html`<dl class="columns">
    ${facts.filter(isKnown).map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}
  </dl>`;

/** @param {[string, any]} fact */
const isKnown = ([, value]) => value !== null && value !== undefined && value !== "";
