// Line icons, drawn here.
import { html } from "../vendor/preact.js";

const PATHS = {
  search: "M10.5 4a6.5 6.5 0 1 1 0 13 6.5 6.5 0 0 1 0-13zM15.3 15.3 20 20",
  person: "M12 4a3.5 3.5 0 1 1 0 7 3.5 3.5 0 0 1 0-7zM5 20c.6-4 3.3-6 7-6s6.4 2 7 6",
  review: "M4 5h6.500v14H4zM13.5 5H20v14h-6.500zM6 15.500l1.2 1.2 2-2.500M15.5 14l2.5 2.500m0-2.5-2.5 2.5",
  map: "M6 7.500h.01M10 5.500h.01M8.5 10h.01M16 8h.01M18.5 11h.01M14.5 12h.01M7 16h.01M11 18.500h.01M12.5 15.500h.01M17.5 17.500h.01",
  quality: "M4 20h16M6.5 16v-4M11 16V8M15.5 16v-6M20 16V5",
  erase: "M5 7h14M10 7V4.500h4V7M7 7l.8 12.500h8.400L17 7M10.2 10.500v6M13.8 10.500v6",
  theme: "M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16",
  keys: "M3.5 7h17v10h-17zM7 10.500h.01M10.3 10.500h.01M13.7 10.500h.01M17 10.500h.01M8 14h8",
  close: "M6 6l12 12M18 6 6 18",
  image: "M4 5h16v14H4zM4 16l4.5-4.5 4 4 2.5-2.5 5 5M15.5 9h.01",
  box: "M4 8V4h4M16 4h4v4M20 16v4h-4M8 20H4v-4",
  info: "M12 4a8 8 0 1 1 0 16 8 8 0 0 1 0-16zM12 11v5M12 8h.01",
  check: "M5 12.5 10 17 19 7",
  cross: "M7 7l10 10M17 7 7 17",
  undo: "M9 6 5 10l4 4M5 10h9a5 5 0 0 1 0 10h-3",
  lasso: "M12 5c4.7 0 8.5 2.2 8.5 5s-3.8 5-8.5 5-8.5-2.2-8.5-5S7.3 5 12 5zM7 14c-1.5 1.5-.5 4 2 3.5 2-.5 1.5 2-.5 2.5",
  hand: "M12 4v16M4 12h16M12 4 9.5 6.500M12 4l2.5 2.500M12 20l-2.5-2.500M12 20l2.5-2.500M4 12l2.5-2.500M4 12l2.5 2.500M20 12l-2.5-2.500M20 12l-2.5 2.5",
  arrow: "M5 12h14M13 6l6 6-6 6",
  back: "M19 12H5M11 6l-6 6 6 6",
  plus: "M12 5v14M5 12h14",
  minus: "M5 12h14",
  filter: "M4 6h16M7 12h10M10 18h4",
};

/** @param {{name: keyof typeof PATHS}} props */
export const Icon = ({ name }) =>
  html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true"><path d=${PATHS[name]} /></svg>`;
