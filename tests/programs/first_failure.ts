// `first_failure.ts WHAT COUNT SEED`: the number of the first of so many random programs that is wrong,
// or none, as one line of JSON. WHAT is a device and what is compared there.
import fc from "fast-check";
import { type Recipe, recipes } from "../random_programs.ts";
import { again, type Compare, refused, toExpected } from "./compare.ts";

const [what, count, seed] = [Deno.args[0], Number(Deno.args[1]), Number(Deno.args[2])];
const devices = await import("../device.ts");
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
for (const [k, recipe] of all.entries()) {
  if (backend === undefined) break;
  if (recipe.chain > 0 || recipe.special) continue;
  const said = await isWrong([recipe]);
  if (said === undefined) continue;
  console.log(JSON.stringify({ k, said: said.slice(0, 150) }));
  Deno.exit(0);
}
console.log(JSON.stringify({ k: backend === undefined ? "no device" : null }));
Deno.exit(0);
