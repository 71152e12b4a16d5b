// What programs cost on each kind of device is what costs.json says: which values are stored and which
// computed again, what is split, fused and started together, how long the code is and which code it is. A change that
// is meant to change costs or code writes the file anew, `deno run -A tests/backends/lower/costs.ts`, and its diff
// says what became of each program. Less is new as well: what is not written down is lost unnoticed.
import { fail } from "@std/assert";
import { costNames, costsOn, deviceNames } from "./costs.ts";
import table from "./costs.json" with { type: "json" };

const wanted: Readonly<Record<string, Readonly<Record<string, string>>>> = table;
for (const device of deviceNames) {
  Deno.test(`programs cost what the table says on ${device}`, () => {
    const wrong = Object.entries(costsOn(device)).flatMap(([name, cost]) =>
      costNames.flatMap((key, k) => {
        const want = wanted[device]?.[name]?.split(" ")[k], found = `${cost[key]}`;
        return found === want ? [] : [`${name}: ${key} ${want} -> ${found}`];
      })
    );
    if (wrong.length > 0) {
      fail(`${wrong.length} costs are others:\n${wrong.slice(0, 40).join("\n")}`);
    }
  });
}
