// The page's address: #/GALLERY/ROOM/PART?QUERY

/** @returns {import("../types.js").Place} */
export function places() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [gallery = "", room = "", part = ""] = path.split("/").map(decoded);
  return { gallery, room, part, query: new URLSearchParams(query) };
}

/** @param {string} text */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a stray percent sign, typed by hand
  }
}

/**
 * @param {string} gallery
 * @param {string} room
 * @param {string | number} [part]
 * @param {Record<string, string | number>} [query]
 */
export function address(gallery, room, part = "", query = {}) {
  const given = new URLSearchParams(Object.entries(query).map(([name, value]) => [name, String(value)]));
  const path = [gallery, room, String(part)].filter(Boolean).map(encodeURIComponent).join("/");
  return `#/${path}${given.size ? `?${given}` : ""}`;
}
