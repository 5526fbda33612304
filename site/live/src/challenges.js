// Challenges, and how many points what is set is worth. challenges.json says which there are; the mixing desk of the
// notebooks reads the same file, and counts the same points (lightavseg_core/widgets/challenges.py).
import { json } from "./assets.js";
import { MARKED } from "./verdict.js";

export const load = () => json("challenges.json");

const within = (value, [low, high]) => low <= value && value <= high;

function fits({ needs }, object) {
  return (needs.sounding === undefined || object.sounding === needs.sounding)
    && (needs.audible === undefined || object.audible === needs.audible)
    && (!needs.level || within(object.level, needs.level))
    && (!needs.marked || within(object.marked, needs.marked));
}

function othersAreKept(object, objects) {
  const others = objects.filter((one) => one !== object && one.audible);
  return others.length > 0 && others.every((one) => one.marked >= MARKED);
}

const worth = { marked: (one) => one.marked, hidden: (one) => 1 - one.marked, quiet: (one) => 1 - one.level };

/** 0 to 100. objects: of the visible ones, whether it sounds in the recording, whether it is heard in the mix, its
 * level (0 to 2) and the share of its pixels that is marked. Of a clip that nobody has touched: 0. */
export function points(challenge, objects, untouched) {
  if (untouched) return 0;
  let best = 0;
  for (const object of objects) {
    if (!fits(challenge, object) || (challenge.others_kept && !othersAreKept(object, objects))) continue;
    best = Math.max(best, Math.round(100 * worth[challenge.score](object)));
  }
  return best;
}
