// The faults that `deno task faults` puts back are changes of the code as it is: each finds its place,
// and changes it.
import { assert, assertStrictEquals } from "@std/assert";
import { faults } from "./faults.ts";

const root = new URL("../../", import.meta.url);

for (const { name, changes } of faults) {
  Deno.test(`the fault can be put back: ${name}`, () => {
    assert(changes.length > 0);
    for (const { file, find, put } of changes) {
      const text = Deno.readTextFileSync(new URL(file, root));
      assertStrictEquals(text.split(find).length, 2, `${file}: ${find}`);
      assert(find !== put, `${file}: nothing changes`);
    }
  });
}
