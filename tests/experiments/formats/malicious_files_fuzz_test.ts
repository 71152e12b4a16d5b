// 10 000 files at random, damaged or made to harm, of both formats: each ends in a value or a sentence,
// none in a throw, all of them in little memory.
import {
  assert,
  assertGreater,
  assertLess,
  assertLessOrEqual,
  assertMatch,
  assertNotMatch,
  assertStrictEquals,
} from "@std/assert";
import { join } from "node:path";
import * as E from "fp-ts/Either.js";
import { importErrorText, importFrom } from "../../../experiments/commands/import.ts";
import { openPth, pthErrorText } from "../../../experiments/formats/pth.ts";
import { bytesSource } from "../../../experiments/formats/zip.ts";
import {
  decode,
  encode,
  safetensorsErrorText,
  type TensorData,
} from "../../../backends/runtime/safetensors.ts";
import {
  dict,
  joined,
  latin,
  little,
  name,
  number,
  pickleOf,
  pthOf,
  storage,
  tensor,
  text,
  zipOf,
} from "../../support/archive.ts";
import { shapesOf, small, valuesOf } from "../../support/torch.ts";

const weights = new Uint8Array(Float32Array.of(1, 2, 3, 4, 5, 6).buffer);

// Whole numbers below n, the same for the same seed (mulberry32).
const generator = (seed: number) => {
  let state = seed;
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ state >>> 15, 1 | state);
    t = t + Math.imul(t ^ t >>> 7, 61 | t) ^ t;
    return ((t ^ t >>> 14) >>> 0) / 2 ** 32;
  };
  return {
    below: (n: number): number => Math.floor(next() * n),
    of: <A>(list: readonly A[]): A => list[Math.floor(next() * list.length)],
  };
};
type Random = ReturnType<typeof generator>;

/** One to four bits flipped, bytes set, taken out, put in, doubled; or the end cut off. */
const damagedBytes = (random: Random, whole: Uint8Array): Uint8Array => {
  let bytes = whole.slice();
  for (let n = 1 + random.below(4); n > 0 && bytes.length > 0; n--) {
    const at = random.below(bytes.length), to = Math.min(bytes.length, at + 1 + random.below(20));
    switch (random.below(6)) {
      case 0:
        bytes[at] ^= 1 << random.below(8);
        break;
      case 1:
        bytes[at] = random.of([0, 1, 0x7f, 0x80, 0xff]);
        break;
      case 2:
        bytes = joined([bytes.subarray(0, at), bytes.subarray(to)]);
        break;
      case 3:
        bytes = joined([bytes.subarray(0, to), bytes.subarray(at)]);
        break;
      case 4:
        bytes.fill(0xff, at, Math.min(to, at + 8));
        break;
      default:
        if (random.below(4) === 0) bytes = bytes.slice(0, at);
    }
  }
  return bytes;
};

const folder = new URL("../../support/checkpoints", import.meta.url).pathname;
const read = (name: string): Uint8Array => Deno.readFileSync(join(folder, name)).slice();

// A file of ours, and its header's value and data.
const described = encode(
  new Map(
    shapesOf(small("mamba")).map(([name, shape], k): [string, TensorData] => [
      name,
      { dtype: "F32", shape, data: valuesOf(k, shape) },
    ]),
  ),
  { encoder: JSON.stringify(small("mamba").encoder), frames: "8" },
);
const length = Number(new DataView(described.buffer).getBigUint64(0, true));
const headerText = new TextDecoder().decode(described.subarray(8, 8 + length));
const data = described.subarray(8 + length);

const strangeJson = [
  "-1",
  "1e400",
  "9007199254740991",
  "4294967296",
  "0.5",
  "NaN",
  "null",
  '"x"',
  "[]",
  "{}",
  '"F64"',
  '"I8"',
  '"__proto__"',
  "[".repeat(50) + "]".repeat(50),
  "[0,0]",
  "[4294967296,4294967296]",
];

const withLength = (header: string): Uint8Array => {
  const bytes = new TextEncoder().encode(header);
  return joined([little(bytes.length, 8), bytes]);
};

/** Another value for a random part of a header, names twice, entries swapped; the length fits. */
const damagedHeader = (random: Random): Uint8Array => {
  let text = headerText.trimEnd();
  for (let n = 1 + random.below(3); n > 0; n--) {
    const parts = [...text.matchAll(/"[^"]*"|-?\d+(?:\.\d+)?|\[[^\[\]]*\]|\{[^{}]*\}/g)];
    const part = random.of(parts), other = random.of(parts);
    const to = random.below(3) === 0 ? other[0] : random.of(strangeJson);
    text = text.slice(0, part.index) + to + text.slice(part.index + part[0].length);
  }
  return joined([withLength(text), data.subarray(0, random.below(5) === 0 ? 99 : data.length)]);
};

// Parts of pickles that do something, good or bad.
const instructions = [
  ...[
    "0",
    "1",
    "2",
    "(",
    ")",
    "]",
    "}",
    "t",
    "e",
    "a",
    "s",
    "u",
    "R",
    "b",
    "Q",
    "o",
    "\x81",
    "\x85",
  ],
  ...["\x86", "\x87", "\x93", "\x94", "N", ".", "h\x00", "q\x00", "\x88", "\x92", "\x82\x01"],
  name("os.system"),
  name("builtins.exec"),
  name("argparse.Namespace") + ")\x81",
  name("collections.OrderedDict") + ")R",
  name("torch._utils._rebuild_tensor_v2"),
  name("torch.FloatStorage"),
  "\x8c\x02os\x8c\x06system\x93",
  "(Vtrue\nios\nsystem\n",
  text("a"),
  number(-1),
  number(2 ** 40),
  number(2n ** 90n),
  "G\x7f\xf8\0\0\0\0\0\0",
  "\x8b\xff\xff\xff\x7f",
  "X\xff\xff\xff\xff",
  ...[")\x85", "\x85", "("].map((one) => one.repeat(200)),
];

const byteText = (bytes: Uint8Array): string => String.fromCharCode(...bytes);
// The pickle and storages of a file that PyTorch wrote: entries are stored.
const pickleIn = (bytes: Uint8Array): string => {
  const all = byteText(bytes), from = all.indexOf("\x80\x02");
  return all.slice(from, all.indexOf("PK\x07\x08", from)).replace(/(?<=\.)[^.]*$/, "");
};
const modelPickle = pickleIn(read("mamba.pth")), viewsPickle = pickleIn(read("views.pth"));

/** Instructions put into or taken out of a pickle; the archive around it is whole. */
const damagedPickle = (random: Random): Uint8Array => {
  let pickle = random.of([modelPickle, viewsPickle, viewsPickle]);
  for (let n = 1 + random.below(3); n > 0; n--) {
    const at = 2 + random.below(pickle.length - 2);
    const cut = random.of([0, 0, 1, 2, 5, 20]);
    pickle = pickle.slice(0, at) + random.of(instructions) + pickle.slice(at + cut);
  }
  return pthOf(latin(pickle), { 0: weights, 1: weights }, { deflate: random.below(2) === 0 });
};

/** A few tensors whose sizes, strides, offsets and storages are drawn from what could overflow. */
const strangeTensors = (random: Random): Uint8Array => {
  const sizes = [
    0,
    1,
    2,
    3,
    6,
    7,
    -1,
    1000,
    2 ** 31 - 1,
    2 ** 32,
    2 ** 53 - 1,
    2n ** 64n,
    2n ** 120n,
  ];
  const some = () => Array.from({ length: random.below(4) }, () => random.of(sizes));
  const types = ["Float", "Half", "BFloat16", "Double", "Long", "Bool", "Char", "ComplexFloat"];
  const one = () => {
    const shape = some(),
      strides = random.below(4) === 0 ? some() : shape.map(() => random.of(sizes));
    const from = storage(
      random.of(["0", "1", "../0"]),
      random.of([6, 24, 3, ...sizes]),
      random.of(types),
    );
    return tensor(from, shape, strides, random.of([0, 0, 0, 1, ...sizes]));
  };
  const names = ["a", "b", "__proto__", "blocks.0.mixer.A_log"];
  const state = dict(Object.fromEntries(names.slice(random.below(4)).map((key) => [key, one()])));
  return pthOf(pickleOf(random.below(2) === 0 ? state : dict({ model: state })), {
    0: weights,
    1: new Uint8Array(random.below(40)),
  });
};

/** Entries with wrong sizes, places, checksums, flags, names. */
const strangeArchive = (random: Random): Uint8Array => {
  const numbers = [0, 1, 24, 80, 1000, 2 ** 31, 2 ** 32 - 1];
  const change = () => ({
    ...(random.below(3) === 0 ? { size: random.of(numbers) } : {}),
    ...(random.below(4) === 0 ? { at: random.of(numbers) } : {}),
    ...(random.below(6) === 0 ? { crc: 7 } : {}),
    ...(random.below(9) === 0 ? { flags: random.below(65536) } : {}),
    ...(random.below(9) === 0 ? { method: random.below(100) } : {}),
  });
  const zeros = new Uint8Array(random.of([10, 100_000]));
  const entries = [
    { name: "x/data.pkl", content: random.below(4) === 0 ? zeros : latin(viewsPickle) },
    { name: random.of(["x/data/0", "x/data.pkl", "../x", ""]), content: weights },
    {
      name: random.of(["x/version", "x/byteorder", "x/constants.pkl", "x/data/1"]),
      content: zeros,
    },
  ].map((entry) => ({ ...entry, ...change(), deflate: random.below(2) === 0 }));
  return zipOf(entries, {
    wide: random.below(2) === 0,
    ...(random.below(6) === 0 ? { count: random.below(70_000) % 65536 } : {}),
  });
};

const wholes = ["views.pth", "mamba.pth", "xlstm.pth", "hostile.pth", "legacy.pth", "script.pt"]
  .map(read);

// Makers of files, and how often each is asked.
const makers: readonly (readonly [count: number, make: (random: Random) => Uint8Array])[] = [
  [1500, (random) => damagedBytes(random, described)],
  [2000, damagedHeader],
  [2000, (random) => damagedBytes(random, random.of(wholes))],
  [2500, damagedPickle],
  [1000, strangeTensors],
  [1000, strangeArchive],
];

/** What is said of a file, or how many of its bytes are numbers. */
const outcome = (bytes: Uint8Array): string | number => {
  const source = bytesSource(bytes);
  if (bytes[0] !== 0x50 && bytes[8] === 0x7b) {
    const found = decode(bytes);
    return E.isLeft(found)
      ? safetensorsErrorText(found.left, "x")
      : [...found.right.tensors.values()].reduce((sum, { data }) => sum + data.byteLength, 0);
  }
  const pth = openPth(source);
  if (E.isLeft(pth)) return pthErrorText(pth.left, "x");
  const found = pth.right.read([...pth.right.shapes.keys()]);
  if (E.isLeft(found)) return pthErrorText(found.left, "x");
  return [...found.right.values()].reduce((sum, { data }) => sum + data.byteLength, 0);
};

Deno.test("10 000 files at random each end in a value or a sentence, in little memory", () => {
  assertStrictEquals(makers.reduce((sum, [count]) => sum + count, 0), 10_000);
  const random = generator(3);
  const start = Deno.memoryUsage();
  let refusals = 0, values = 0, imported = 0, rss = 0, external = 0;
  const sentences = new Set<string>();
  for (const [count, make] of makers) {
    for (let k = 0; k < count; k++) {
      const bytes = make(random), end = outcome(bytes);
      if (typeof end === "number") {
        values++;
        assertLessOrEqual(end, 16 * bytes.length + 2 ** 20);
      } else {
        refusals++;
        // One line without what a terminal would obey, that is a sentence about the file.
        assertMatch(end, /^x (?:is|holds) [^\p{Cc}]{10,700}$/u);
        assertNotMatch(end, /undefined|\[object|NaN bytes/);
        sentences.add(end.replaceAll(/'[^']*'|\d+|\[[^\]]*\]/g, "…"));
      }
      // The whole way for some: the encoder told, the keys compared.
      if (k % 25 === 0) {
        const whole = importFrom(bytesSource(bytes));
        if (E.isRight(whole)) imported++;
        else assertMatch(importErrorText(whole.left, "x"), /^x[ :]/);
      }
      if (k % 20 === 0) {
        const now = Deno.memoryUsage();
        rss = Math.max(rss, now.rss - start.rss);
        external = Math.max(external, now.external - start.external);
      }
    }
  }
  console.log(
    `${refusals} refused in ${sentences.size} kinds of sentences, ${values} read, ${imported} of ` +
      `400 imported; memory grew by ${Math.round(rss / 2 ** 20)} MB at most`,
  );
  // Damage that leaves a valid file is rare; so are files that only one check can tell.
  assert(
    refusals > 8000 && sentences.size > 60,
    `${refusals} refusals, ${sentences.size} kinds`,
  );
  assertGreater(values, 100, `${values} were read`);
  assertLess(rss, 400 * 2 ** 20, `memory grew by ${rss} bytes`);
  assertLess(external, 200 * 2 ** 20, `arrays grew by ${external} bytes`);
});
