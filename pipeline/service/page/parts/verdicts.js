// A person's word on pairs of rows, each with an undo that takes back exactly what was given.
import * as api from "../api.js";
import { who } from "./keys.js";
import { complain, say } from "./messages.js";

/** @import {Verdict, Word} from "../types.js" */

/** @type {Map<string, Word>} The words of this visit, so that an undo finds the one before. */
const words = new Map();

/**
 * @param {string} gallery
 * @param {Verdict} verdict
 */
const key = (gallery, { a, b }) => `${gallery} ${Math.min(a, b)} ${Math.max(a, b)}`;

/**
 * Give verdicts; return what takes them back, or null if the service refused.
 *
 * @param {string} gallery
 * @param {Verdict[]} verdicts
 * @returns {Promise<(() => Promise<boolean>) | null>}
 */
export async function give(gallery, verdicts) {
  const before = verdicts.map((each) => ({
    ...each,
    verdict: words.get(key(gallery, each)) ?? /** @type {Word} */ ("withdrawn"),
  }));
  try {
    const { recorded } = await api.give(gallery, verdicts, who());
    for (const each of verdicts) words.set(key(gallery, each), each.verdict);
    // Someone said the same before: taking it back would take back their word.
    if (!recorded) return async () => true;
  } catch (error) {
    complain(error);
    return null;
  }
  return () => takeBack(gallery, before);
}

/**
 * @param {string} gallery
 * @param {Verdict[]} verdicts
 */
async function takeBack(gallery, verdicts) {
  try {
    await api.give(gallery, verdicts, who());
    for (const each of verdicts) words.set(key(gallery, each), each.verdict);
    return true;
  } catch (error) {
    complain(error);
    return false;
  }
}

/**
 * Give one verdict, and offer its undo in a message.
 *
 * @param {string} gallery
 * @param {number} a
 * @param {number} b
 * @param {"same" | "different"} verdict
 * @param {() => void} [after] Called when it is given, and when it is taken back.
 */
export async function giveAndSay(gallery, a, b, verdict, after) {
  const undo = await give(gallery, [{ a, b, verdict }]);
  if (!undo) return;
  after?.();
  say(`Rows ${a} and ${b}: ${verdict}.`, {
    undo: async () => {
      if (await undo()) say(`The verdict on rows ${a} and ${b} is withdrawn.`);
      after?.();
    },
  });
}

/**
 * Say what a merge or a split did, with an undo that withdraws its verdicts.
 *
 * @param {string} gallery
 * @param {string} text
 * @param {Verdict[]} given
 * @param {() => void} after
 */
export function sayGiven(gallery, text, given, after) {
  say(text, {
    undo: async () => {
      const back = given.map((each) => ({
        ...each,
        verdict: /** @type {Word} */ (each.verdict === "withdrawn" ? "same" : "withdrawn"),
      }));
      if (await takeBack(gallery, back)) say("Taken back.");
      after();
    },
  });
}
