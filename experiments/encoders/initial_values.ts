// Initial values of parameters: each initialiser, evaluated on the reference interpreter with a key
// derived from the seed and the parameter's name, so that values are the same on every device.
import type { Values } from "../../backends/backend.ts";
import { interpret, ordered } from "../../backends/reference/interpret.ts";
import { nodeOf } from "../../dsl/node.ts";
import type { Parameter } from "../../dsl/parameters.ts";
import { keyForName, randomKey } from "../../dsl/random.ts";

/** Initial values by name. */
export const initialValues = (parameters: readonly Parameter[], seed: number): Values =>
  Object.fromEntries(parameters.map(({ name, axes, init }) => {
    const of = nodeOf(init(keyForName(randomKey(seed), name), axes));
    const [value] = interpret([of], () => {
      throw new Error(`the first value of '${name}' must not depend on inputs`);
    });
    return [name, Float32Array.from(ordered(value, of, Object.keys(axes)))];
  }));
