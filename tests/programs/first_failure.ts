// `first_failure.ts WHAT COUNT SEED MOST SKIPPED`: the numbers of the first of so many random programs
// that are wrong, MOST of them, as one line of JSON. WHAT is a device and what is compared there.
import fc from "fast-check";
import { type Recipe, recipes } from "./recipes.ts";
import { again, type Compare, refused, toExpected } from "./compare.ts";

const what = Deno.args[0];
const [count, seed, most] = Deno.args.slice(1, 4).map(Number);
const devices = await import("../support/device.ts");
const backend = what.startsWith("webgpu") ? devices.webgpu : devices.wasmPlain;
const compare: Compare = what.endsWith("again")
  ? again
  : what.endsWith("mistakes")
  ? refused
  : toExpected();

const isWrong = async (list: readonly Recipe[]): Promise<string | undefined> => {
  try {
    return (await compare(backend!, list)).find((said) => said !== undefined);
  } catch (error) {
    return `${error}`;
  }
};
// Chains take long, and none of the faults is theirs; special values are for another table.
const all = fc.sample(recipes, { seed, numRuns: count });
const skipped = new Set(JSON.parse(Deno.args[4] ?? "[]"));
const found: { readonly k: number; readonly said: string }[] = [];
for (const [k, recipe] of all.entries()) {
  if (backend === undefined || found.length === most) break;
  if (recipe.chain > 0 || recipe.special || skipped.has(k)) continue;
  const said = await isWrong([recipe]);
  if (said !== undefined) found.push({ k, said: said.slice(0, 150) });
}
console.log(JSON.stringify({ found }));
Deno.exit(0);
