// What a process made before must not decide what a program becomes: a run that goes on in another
// process, or after other runs of a study, is compiled to the same kernels in the same order.
import { deepStrictEqual, ok } from "assert";

interface Compiled {
  readonly wgsl: readonly string[];
  readonly wasm: readonly string[];
  readonly built: number;
}

const after = async (before: readonly number[]): Promise<Compiled> => {
  const worker = new Worker(new URL("./history_worker.ts", import.meta.url), { type: "module" });
  try {
    return await new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = ({ message }) => reject(new Error(message));
      worker.postMessage({ before });
    });
  } finally {
    worker.terminate();
  }
};

Deno.test("a program compiles to the same code whatever was built before it", async () => {
  const [first, later] = await Promise.all([after([]), after([2, 3])]);
  ok(first.wgsl.length > 20 && later.built === 2);
  deepStrictEqual(later.wgsl, first.wgsl);
  deepStrictEqual(later.wasm, first.wasm);
});
