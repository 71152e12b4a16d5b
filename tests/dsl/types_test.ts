// The promises of the types: good programs check, bad ones are refused with the sentence that says
// what is wrong, the same mistake throws the same sentence at run time, and a large model checks
// quickly. Programs are small generated files in a temporary folder.
import { assert, assertLess, assertStrictEquals, assertThrows } from "@std/assert";
import ts from "typescript";
import { checkerOptions } from "../support/checker_options.ts";
import * as ops from "../../dsl/ops.ts";
import { AxisError } from "../../dsl/axes.ts";
import { grad } from "../../dsl/grad.ts";

const face = new URL("../../dsl/ops.ts", import.meta.url).href;
const gradients = new URL("../../dsl/grad.ts", import.meta.url).href;
const axesFile = new URL("../../dsl/axes.ts", import.meta.url).href;
const config = new URL("../../deno.json", import.meta.url).pathname;

const imports =
  `import { add, concat, constant, contract, expand, flip, gather, input, max, maximum, mean, mul, on,
  param, recurrence, rename, renaming, scan, select, sizeOf, softmax, split, square, stack, states,
  sub, sum, take, unstack } from "${face}";
import { grad } from "${gradients}";
import type { Has, None, Tensor } from "${axesFile}";
`;
const leaves = `
const x = input("x", { batch: 8, time: 250, channel: 192 });
const longer = input("longer", { time: 251, channel: 192 });
const unbound = input("unbound", { time: "T", channel: 192 });
const other = input("other", { time: "U" });
const weight = input("weight", { channel: 192, out: 64 });
const words = input("words", { time: 250 }, "u32");
const start = input("start", { batch: 8, channel: 192 });
`;

/** What `deno check` says of files by name, each at its own position in the output. */
const check = async (files: Readonly<Record<string, string>>) => {
  const folder = await Deno.makeTempDir();
  try {
    for (const [name, text] of Object.entries(files)) {
      await Deno.writeTextFile(`${folder}/${name}.ts`, text);
    }
    const start = performance.now();
    const { success, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [
        "check",
        "--quiet",
        "--config",
        config,
        ...Object.keys(files).map((name) => `${folder}/${name}.ts`),
      ],
      env: { NO_COLOR: "1" },
    }).output();
    const seconds = (performance.now() - start) / 1000;
    const text = new TextDecoder().decode(stderr);
    // Each error ends with the place where it is.
    const errors = text.split(/(?=^TS\d+ )/m).filter((one) => one.startsWith("TS"));
    const of = (name: string) => errors.filter((one) => one.includes(`/${name}.ts:`));
    return { success, text, of, seconds };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
};

const good = `
const centred = on.sub(x, on(x, sum(x, "channel")));
const y: ReturnType<typeof input<{ batch: 8; time: 250; out: 64 }>> = contract(centred, weight, "channel");
const outer = mul(sum(x, ["batch", "time"]), input("v", { feature: 3 }));
const heads = split(outer, "channel", { head: 4, part: 48 });
const attention = softmax(contract(heads, rename(heads, "head", "key"), ["part", "feature"]), "key");
const symbolic = add(unbound, sum(unbound, "channel"));
const h = recurrence("time", flip(x, "time"), x, { reverse: true });
const { out, final } = scan({ over: "time", from: { h: constant(0) }, each: { x: take(take(x, "batch", 0), "channel", 1) } },
  ({ h }, { x }) => ({ next: { h: add(h, x) }, out: { y: mul(h, x) } }));
const back = add(out.y, final.h);
const rows = gather(weight, "out", words);
const shifted = sub(1, mul(add(x, 1), 2));
const sequence: Tensor<{ batch: number; time: number; channel: number }> = shifted;
const added = add(sequence, input("p", { time: 250, channel: 192 }));
const toKey = renaming("time", "key");
const pairs: Tensor<{ batch: 8; time: 250; key: 250 }> = contract(x, toKey(x), "channel");
const { m } = states({ over: "time", from: { m: start }, each: { x } }, ({ m }, { x }) => ({ m: add(m, x) }));
const same: typeof x = m;
const { p, q } = unstack(stack([x, x], "pair"), "pair", ["p", "q"]);
const long: Tensor<{ batch: 8; time: number; channel: 192 }> = concat(x, x, "time");
const slopes = grad(sum(square(x), ["batch", "time", "channel"]), { x });
const centred2 = <A extends Has<"time">>(x: Tensor<A>): Tensor<A> => on.sub(x, mean(x, "time"));
const normalised = <A, K extends keyof A & string>(x: Tensor<A>, over: K): Tensor<A> => on.div(x, add(mean(x, over), 1));
const generic = <A>(x: Tensor<A>, y: Tensor<A>): Tensor<A> => add(mul(x, y), y);
const filtered = <A, K extends keyof A & string>(x: Tensor<A>, over: K): Tensor<A> => recurrence(over, x, x);
const scaled = <A>(x: Tensor<A>, s: Tensor<None>): Tensor<A> => on.mul(x, s);
const size: number = sizeOf(x, "time");
export const all = [y, attention, symbolic, h, back, rows, added, pairs, same, p, q, long, slopes,
  centred2(x), normalised(x, "time"), generic(x, x), filtered(x, "time"), scaled(x, constant(2)), size];
`;

/** A mistake: its code, what the checker says of it, and what a program does that was not checked. */
interface Mistake {
  readonly code: string;
  readonly says: string;
  /** The sentence at run time, where it is not the checker's. */
  readonly throws: string;
}

const mistakes: Readonly<Record<string, Mistake>> = {
  sizes: {
    code: `add(x, longer);`,
    says: `"axis 'time' is 250 on the left but 251 on the right"`,
    throws: "axis 'time' is 250 on the left but 251 on the right",
  },
  symbols: {
    code: `mul(unbound, other);`,
    says: `"axis 'time' is T on the left but U on the right"`,
    throws: "axis 'time' is T on the left but U on the right",
  },
  symbolAndNumber: {
    code: `mul(x, unbound);`,
    says: `"axis 'time' is 250 on the left but T on the right"`,
    throws: "axis 'time' is 250 on the left but T on the right",
  },
  // However the right side was made, the message shows the axes that it has.
  computed: {
    code: `add(x, add(longer, sum(longer, "time")));`,
    says:
      `Argument of type 'Tensor<{ time: 251; channel: 192; }>' is not assignable to parameter of type '"axis 'time' is 250 on the left but 251 on the right"'.`,
    throws: "axis 'time' is 250 on the left but 251 on the right",
  },
  misspelt: {
    code: `sum(x, "chanel");`,
    says:
      `'"chanel"' is not assignable to parameter of type '"batch" | "time" | "channel" | readonly`,
    throws: "axis 'chanel' does not exist here; there is 'batch', 'time', 'channel'",
  },
  renamed: {
    code: `rename(x, "time", "channel");`,
    says: `"axis 'channel' already exists"`,
    throws: "axis 'channel' already exists",
  },
  contracted: {
    code: `contract(x, weight, "out");`,
    says: `'"out"' is not assignable to parameter of type '"channel"`,
    throws: "axis 'out' does not exist here; there is 'batch', 'time', 'channel'",
  },
  contractedSizes: {
    code: `contract(x, longer, "channel");`,
    says: `"axis 'time' is 250 on the left but 251 on the right"`,
    throws: "axis 'time' is 250 on the left but 251 on the right",
  },
  recurrent: {
    code: `recurrence("time", x, longer);`,
    says: `"axis 'time' is 250 on the left but 251 on the right"`,
    throws: "axis 'time' is 250 on the left but 251 on the right",
  },
  lifted: {
    code: `on.add(longer, x);`,
    says: `"axis 'batch' is on the right but not on the left"`,
    throws: "axis 'batch' is on the right but not on the left",
  },
  liftedSizes: {
    code: `on.add(x, input("bias", { channel: 96 }));`,
    says: `"axis 'channel' is 192 on the left but 96 on the right"`,
    throws: "axis 'channel' is 192 on the left but 96 on the right",
  },
  lookedUp: {
    code: `gather(x, "batch", input("w", { time: 9 }, "u32"));`,
    says: `"axis 'time' is 250 on the left but 9 on the right"`,
    throws: "axis 'time' is 250 on the left but 9 on the right",
  },
  maximumOver: {
    code: `maximum(x, "time");`,
    says: `Argument of type 'string' is not assignable to parameter of type 'number | Tensor<any>'`,
    throws: "maximum is element by element and takes two tensors; over an axis it is max",
  },
  maxOfTwo: {
    code: `max(x, x);`,
    says: `is not assignable to parameter of type '"batch" | "time" | "channel" | readonly`,
    throws: "max is over axes, given by name; of two tensors, element by element, it is maximum",
  },
  chosen: {
    code: `select(x, longer, longer);`,
    says: `"axis 'time' is 250 on the left but 251 on the right"`,
    throws: "axis 'time' is 250 on the left but 251 on the right",
  },
  carried: {
    code: `scan({ over: "time", from: { h: constant(0) }, each: { x: longer } },
      ({ h }, { x }) => ({ next: { h: add(h, x) }, out: {} }));`,
    says: `"the step gives the carry 'h' the axis 'channel', which it does not start with"`,
    throws: "the step gives the carry 'h' the axis 'channel', which it does not start with",
  },
  carriedLess: {
    code: `scan({ over: "time", from: { h: start }, each: { x } },
      ({ h }, { x }) => ({ next: { h: sum(add(h, x), "channel") }, out: {} }));`,
    says: `"the step loses the axis 'channel' of the carry 'h'"`,
    throws: "the step loses the axis 'channel' of the carry 'h'",
  },
  carriedNot: {
    code: `scan({ over: "time", from: { h: start, m: start }, each: { x } },
      ({ h }, { x }) => ({ next: { h: add(h, x) }, out: {} }));`,
    says: `"the step gives no next value for the carry 'm'"`,
    throws: "the step gives no next value for the carry 'm'",
  },
  scannedOver: {
    code:
      `scan({ over: "tme", from: { h: start }, each: { x } }, ({ h }) => ({ next: { h }, out: {} }));`,
    says: `Did you mean '"time"'?`,
    throws: "'x' has no axis 'tme' to scan over",
  },
  notSummed: {
    code: `grad(square(x), { weight });`,
    says: `"only a scalar has a gradient; this has axes: reduce it first"`,
    throws:
      "only a scalar has a gradient; this has { batch: 8, time: 250, channel: 192 }: reduce it first",
  },
  continued: {
    code: `concat(x, longer, "time");`,
    says: `"axis 'batch' is on the left but not on the right"`,
    throws: "axis 'batch' is on the left but not on the right",
  },
  renamedTwice: {
    code: `renaming("time", "channel")(x);`,
    says: `"axis 'channel' already exists"`,
    throws: "axis 'channel' already exists",
  },
  forgottenRename: {
    code: `const pairs: Tensor<{ batch: 8; time: 250; key: 250 }> = contract(x, x, "channel");`,
    says: `is not assignable to type 'Tensor<{ batch: 8; time: 250; key: 250; }>'`,
    throws: "",
  },
  forgotten: {
    code: `const loss: ReturnType<typeof constant> = sum(x, "time"); on(loss, loss);`,
    says: `is not assignable to type 'Tensor<None>'`,
    throws: "",
  },
};

Deno.test("good programs check, and mistakes are refused with the sentence that says what is wrong", async () => {
  const files = Object.entries(mistakes).map(([name, { code }]) =>
    [name, `${imports}${leaves}\n${code}\n`] as const
  );
  const said = await check({ good: imports + leaves + good, ...Object.fromEntries(files) });
  assert(!said.success);
  assertStrictEquals(said.of("good").join("\n"), "");
  for (const [name, { says }] of Object.entries(mistakes)) {
    const errors = said.of(name);
    assertStrictEquals(errors.length, 1, `${name}: ${errors.length} errors\n${errors.join("\n")}`);
    assert(errors[0].includes(says), `${name}: expected ${says}, but it says\n${errors[0]}`);
  }
});

Deno.test("the same mistakes throw the same sentences at run time", () => {
  for (const [name, { code, throws: sentence }] of Object.entries(mistakes)) {
    if (sentence === "") continue;
    const verbs = { ...ops, grad };
    const run = new Function(...Object.keys(verbs), `${leaves}\n${code}`);
    const error = assertThrows(() => run(...Object.values(verbs)), AxisError, "", name);
    assertStrictEquals(error.message.split("\n")[0], sentence, name);
  }
});

/** A Transformer of twelve blocks written out, so that the checker sees every operation. */
const encoder = (depth: number) => {
  const block = (k: number) => `
const norm${k} = on.mul(x${k}, input("n${k}", { channel: 192 }));
const q${k} = split(rename(contract(norm${k}, input("q${k}", { channel: 192, o: 192 }), "channel"), "o", "channel"), "channel", { head: 3, feature: 64 });
const k${k} = rename(split(rename(contract(norm${k}, input("k${k}", { channel: 192, o: 192 }), "channel"), "o", "channel"), "channel", { head: 3, feature: 64 }), "time", "key");
const v${k} = rename(split(rename(contract(norm${k}, input("v${k}", { channel: 192, o: 192 }), "channel"), "o", "channel"), "channel", { head: 3, feature: 64 }), "time", "key");
const a${k} = contract(softmax(contract(q${k}, k${k}, "feature"), "key"), v${k}, "key");
const p${k} = contract(a${k}, input("p${k}", { head: 3, feature: 64, channel: 192 }), ["head", "feature"]);
const y${k} = add(x${k}, p${k});
const up${k} = contract(y${k}, input("u${k}", { channel: 192, hidden: 768 }), "channel");
const x${
    k + 1
  } = add(y${k}, contract(up${k}, input("d${k}", { hidden: 768, channel: 192 }), "hidden"));
`;
  const blocks = Array.from({ length: depth }, (_, k) => block(k));
  return `${imports}
const x0 = input("x", { batch: 8, time: 250, channel: 192 });
${blocks.join("")}
export const result: ReturnType<typeof input<{ batch: 8; time: 250; channel: 192 }>> = x${depth};
`;
};

Deno.test("an encoder of 48 blocks checks in seconds", async () => {
  const before = await check({ empty: `${imports}export const nothing = input;\n` });
  const after = await check({ encoder: encoder(48) });
  assert(after.success, after.text);
  const more = after.seconds - before.seconds;
  console.log(`48 blocks: ${more.toFixed(2)} s more than an empty file`);
  // One second on a machine that has nothing else to do, which this need not be.
  assertLess(more, 3, `checking takes ${more.toFixed(1)} s more`);
});

/** How many types the checker instantiates for an encoder: a count, whatever else the machine does. */
const instantiations = async (depth: number): Promise<number> => {
  const folder = await Deno.makeTempDir();
  try {
    const file = `${folder}/encoder.ts`;
    await Deno.writeTextFile(file, encoder(depth).replaceAll("file://", ""));
    const program = ts.createProgram([file], checkerOptions);
    const said = program.getSemanticDiagnostics(program.getSourceFile(file))
      .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, "\n"));
    assertStrictEquals(said.join("\n"), "");
    return program.getInstantiationCount();
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
};

Deno.test("the checker's work is linear in the blocks of an encoder, and within a budget", async () => {
  const [few, many] = [await instantiations(12), await instantiations(24)];
  console.log(`${few} instantiations for 12 blocks, ${many} for 24`);
  assert(few > 10_000 && few <= 60_000, `${few} instantiations`);
  assertLess(many, 2.2 * few);
});
