// `deno task check:axes`: how much of the axes in models/ the type checker sees. Counts casts and tensors
// of unknown axes, replaces every axis name by another and leaves out every rename, one at a time, and
// says how many of these mistakes are errors. Status 1 where it is less than the language promises.
import { calls, casts, isSeen, mistakes } from "./models.ts";

const mostCasts = 3, mostUnknown = 0.07, leastSeen = 0.75;

const cast = casts(), { all, unknown } = calls(), tried = mistakes();
const missed = tried.filter((mistake) => !isSeen(mistake));
const seen = tried.length - missed.length;
for (const line of cast) console.log(`cast: ${line}`);
for (const line of unknown) console.log(`unknown axes: ${line}`);
for (const { what } of missed) console.log(`not seen: ${what}`);
const percent = (part: number, whole: number) => `${(100 * part / whole).toFixed(0)}%`;
console.log(`${cast.length} casts`);
console.log(
  `${unknown.length} of ${all} calls have unknown axes (${percent(unknown.length, all)})`,
);
console.log(`${seen} of ${tried.length} mistakes are seen (${percent(seen, tried.length)})`);
const holds = cast.length <= mostCasts && unknown.length <= mostUnknown * all &&
  seen >= leastSeen * tried.length;
Deno.exit(holds ? 0 : 1);
