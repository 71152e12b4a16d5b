// Files made to harm: each kind ends in its sentence, without much memory. Nothing from a file runs.
// Random ones are in fuzz_test.ts.
import { assertLess, assertMatch, assertStrictEquals, fail } from "@std/assert";
import * as E from "fp-ts/Either.js";
import { decode, safetensorsErrorText } from "../../../backends/runtime/safetensors.ts";
import {
  dict,
  joined,
  latin,
  little,
  name,
  pickleOf,
  pthOf,
  storage,
  tensor,
  text,
  tuple,
  zipOf,
} from "../../support/archive.ts";
import { refusal } from "../../support/torch.ts";

const weights = new Uint8Array(Float32Array.of(1, 2, 3, 4, 5, 6).buffer);
const good = tensor(storage("0", 6), [2, 3], [3, 1]);

const refused = (what: string) =>
  new RegExp(
    `^x\\.pth is refused: at byte \\d+ its pickle asks for '${what}', and nothing from a file is run ` +
      "here; if you trust the file, load it and save the parameters alone, in Python: torch\\.save",
  );

Deno.test("a pickle that would run code is refused by the name of what it would run", () => {
  const command = tuple(text("touch /tmp/harm"));
  const namespace = `${name("argparse.Namespace")})\x81`;
  const cases: readonly (readonly [instructions: string, what: string])[] = [
    // REDUCE of a GLOBAL, of a STACK_GLOBAL, of what stands behind them; INST, OBJ, NEWOBJ, BUILD.
    [`${name("os.system")}${command}R`, "os\\.system"],
    [`${name("posix.system")}${command}R`, "posix\\.system"],
    [`\x8c\x02os\x8c\x06system\x93${command}R`, "os\\.system"],
    [`${name("builtins.eval")}${tuple(text("1"))}R`, "builtins\\.eval"],
    [`${name("torch.load")}${command}R`, "torch\\.load"],
    [`${name("torch._utils._rebuild_tensor_v2.__globals__")}`, "torch\\._utils\\..*__globals__"],
    [`(${text("touch /tmp/harm")}ios\nsystem\n`, "os\\.system"],
    [`(${name("os.system")}${text("x")}o`, "os\\.system"],
    [`(${name("collections.OrderedDict")}o`, "the instruction OBJ"],
    [`${name("subprocess.Popen")}${command}\x81`, "subprocess\\.Popen"],
    [`${name("subprocess.Popen")}${command}}\x92`, "subprocess\\.Popen"],
    [`${name("argparse.Namespace")}${command}}\x92`, "the instruction NEWOBJ_EX"],
    [`${name("torch.nn.Module")})\x81}b`, "torch\\.nn\\.Module"],
    [
      `${name("collections.OrderedDict")}${dict({ __setstate__: "N" })}b`,
      "a state for the name .*",
    ],
    [`${text("a")}}b`, "a state for a text"],
    [`}}b`, "a state for a dict"],
    [`${good}}b`, "a state for a tensor or storage"],
    // What is allowed is not thereby a function.
    [`${name("torch.FloatStorage")}${command}R`, "a call of torch\\.FloatStorage"],
    [`${text("os.system")}${command}R`, "a call of a text"],
    [`${namespace}${command}R`, "a call of an Namespace"],
    // Other ways to bring in a class.
    ["\x82\x01", "the instruction EXT1"],
    ["\x83\x01\0", "the instruction EXT2"],
    ["\x84\x01\0\0\0", "the instruction EXT4"],
    ["Px\n", "the instruction PERSID"],
  ];
  for (const [instructions, what] of cases) {
    const bad = pickleOf(dict({ w: good }) + instructions + "0");
    assertMatch(refusal(pthOf(bad, { 0: weights })), refused(what));
  }
  // Fields named as Python's own are fields.
  const fields = `${namespace}${dict({ __class__: text("os"), __reduce__: text("x") })}b`;
  assertMatch(
    refusal(pthOf(pickleOf(dict({ args: fields })))),
    /^x\.pth holds a dict with 'args',/,
  );
});

Deno.test("names in a refusal are cut, and do not steer the terminal", () => {
  const sentence = refusal(pthOf(pickleOf(`c\x1b[2J${"a".repeat(10_000)}\nb\n`)));
  assertMatch(sentence, /'\\u001b\[2Ja{90,}\.\.\.'/);
  assertLess(sentence.length, 400);
});

const damaged = (rest: string | RegExp) =>
  new RegExp(
    `^x\\.pth is damaged: at byte \\d+ of its pickle: ${
      rest instanceof RegExp ? rest.source : rest
    }$`,
  );

Deno.test("a pickle that is no pickle, or too large a one, is told", () => {
  const cases: readonly (readonly [instructions: string, rest: string])[] = [
    ["0", "it takes a value that is not there"],
    ["(0", "it takes a value that is not there"],
    ["K\x01(0", "it takes a value that is not there"],
    ["t", "it takes a mark that is not there"],
    ["h\x07", "it recalls value 7, which it never remembered"],
    ["K\x01K\x02", "it ends with more than one value"],
    ["N.", "there are bytes after its end"],
    ["X\xff\xff\xff\xffab", "it ends in the middle"],
    ["\x8d\xff\xff\xff\xff\xff\xff\xff\xffab", "it ends in the middle"],
    ["\x95\xff\xff\xff\xff\xff\xff\xff\xff", "it ends in the middle of a frame"],
    ["cos", "it ends in the middle of a name"],
    ["X\x01\0\0\0\xff", "one of its texts is not UTF-8"],
    ["\x8b\xff\xff\xff\x7f", "one of its numbers has 2147483647 bytes"],
    ["N\x80\x02", "it announces its protocol in the middle"],
    ["}]Ns", "a dict's key is a list"],
    ["}(NNNu", "it sets a key without a value"],
    [`}${text("a")}N${"s"}${text("a")}N${"s"}`, "a dict has 'a' twice"],
    ["N(NNu", "it sets items of None"],
    ["}Na", "it appends to a dict"],
    ["NNN\x93", "a name that it imports is not a text"],
    [`${name("collections.OrderedDict")}NR`, "collections.OrderedDict gets None for arguments"],
    ["S'text'\n", "0x53 is no instruction that PyTorch writes"],
    ["I1\n", "0x49 is no instruction that PyTorch writes"],
    ["B\x01\0\0\0a", "0x42 is no instruction that PyTorch writes"],
    ["\x97", "0x97 is no instruction that PyTorch writes"],
    [`${")\x85".repeat(1)}${"\x85".repeat(99)}`, "its containers are more than 100 deep inside .*"],
    ["]".repeat(150) + "a".repeat(149), "its containers are more than 100 deep inside one another"],
    ["(".repeat(300_000), "more than 262144 values are on its stack"],
    ["N".repeat(300_000), "more than 262144 values are on its stack"],
    ["]0".repeat(600_000), "it has more than 524288 instructions"],
  ];
  for (const [instructions, rest] of cases) {
    assertMatch(
      refusal(pthOf(pickleOf(instructions))),
      damaged(rest),
      JSON.stringify(instructions),
    );
  }
  const start = "it does not begin as a pickle of protocol 2 to 5";
  for (const bytes of ["", "\x80", "\x80\x01N.", "\x80\x06N.", "N."]) {
    assertMatch(refusal(pthOf(latin(bytes))), damaged(start));
  }
  assertMatch(refusal(pthOf(latin("\x80\x02"))), damaged("it ends in the middle"));
});

Deno.test("a pickle full of containers takes little memory before it is refused", () => {
  const before = Deno.memoryUsage().rss;
  const full = `](${`${"}".repeat(200_000)}e(`.repeat(5)}e`;
  assertMatch(refusal(pthOf(pickleOf(full))), damaged("it has more than 524288 instructions"));
  assertLess(Deno.memoryUsage().rss, before + 400 * 2 ** 20);
});

Deno.test("a pickle whose values double at each step is read in no time, as nobody walks them", () => {
  const doubled = `]${"2\x86".repeat(98)}`;
  const started = performance.now();
  assertMatch(refusal(pthOf(pickleOf(doubled))), /^x\.pth holds a tuple, and no state_dict/);
  assertLess(performance.now() - started, 10_000);
});

Deno.test("a file that would unpack to much more than it is, is refused before it does", () => {
  const most = 10 ** 8, zeros = new Uint8Array(most);
  const large = (rest: string) =>
    new RegExp(`^x\\.pth is refused: it would unpack to ${rest} bytes`);
  const bomb = (of: Uint8Array, rest: string) => {
    assertLess(of.length, most / 20);
    const before = Deno.memoryUsage().external;
    assertMatch(refusal(of), large(rest));
    assertLess(Deno.memoryUsage().external, before + 10 ** 7);
  };
  const view = (of: string, shape: readonly number[], strides: readonly number[]) =>
    pickleOf(dict({ w: tensor(of, shape, strides) }));
  bomb(
    pthOf(view(storage("0", most, "Byte"), [1], [1]), { 0: zeros }, { deflate: true }),
    "100000008",
  );
  bomb(
    zipOf([{ name: "x/data.pkl", content: zeros, deflate: true }]),
    "100000000",
  );
  bomb(pthOf(view(storage("0", 6), [2 ** 20, 2 ** 20], [0, 0]), { 0: weights }), "8796093022232");
  const many = Array.from({ length: 1000 }, (_, k) => [`w${k}`, "h\x07"] as const);
  const block = new Uint8Array(40_000);
  const shared = `${tensor(storage("0", 10_000), [10_000], [1])}q\x070` +
    dict(Object.fromEntries(many));
  bomb(pthOf(pickleOf(shared), { 0: block }), "80040000");
  // Sizes that lie: the stream is longer than the list says, and no more than that is unpacked.
  const lie = zipOf([{ name: "x/data.pkl", content: zeros, deflate: true, size: 100 }]);
  assertStrictEquals(
    refusal(lie),
    "x.pth is damaged: the entry 'x/data.pkl' does not unpack to the 100 bytes that the list says",
  );
});

Deno.test("entries that share their bytes are refused", () => {
  const entry = { name: "x/data.pkl", content: pickleOf(dict({ w: good })) };
  const twice = [0, 1, 2].map((k) => ({ name: `x/data/${k}`, content: weights, at: 80 }));
  assertMatch(
    refusal(zipOf([entry, ...twice])),
    /^x\.pth is damaged: the entry 'x\/.* reaches into/,
  );
});

// A safetensors file from its header's text and the size of its data.
const header = (of: string | Uint8Array, data = 0, length?: bigint): Uint8Array => {
  const bytes = typeof of === "string" ? new TextEncoder().encode(of) : of;
  return joined([little(length ?? bytes.length, 8), bytes, new Uint8Array(data)]);
};
const told = (bytes: Uint8Array): string => {
  const decoded = decode(bytes);
  return E.isLeft(decoded) ? safetensorsErrorText(decoded.left, "x") : fail("it was read");
};

Deno.test("each kind of hostile safetensors ends in its sentence", () => {
  const w = (entry: string) => `{"w":${entry}}`;
  const of = (shape: string, offsets: string, dtype = '"F32"') =>
    w(`{"dtype":${dtype},"shape":${shape},"data_offsets":${offsets}}`);
  const bad = "x is not a valid safetensors file: ";
  const cases: readonly (readonly [bytes: Uint8Array, sentence: string | RegExp])[] = [
    [
      header("{}", 0, 2n ** 64n - 1n),
      "x is not a safetensors file: its first 8 bytes announce a header of 18446744073709551615 " +
      "bytes, where at most 16777216 are accepted",
    ],
    [header("{}", 0, 3n), /^x is cut: it ends at byte 10, but the header should reach byte 11;/],
    [header(of("[1]", "[0,4]"), 3), /^x is cut: it ends at byte \d+, but the tensors should/],
    [header(of("[1]", "[0,4]"), 5), `${bad}1 bytes at the end belong to no tensor`],
    [header(latin("\xff\xfe")), `${bad}its header is not UTF-8 text`],
    [header("[".repeat(10 ** 6)), `${bad}its header is nested more than 8 deep`],
    [header('{"w":'.repeat(10 ** 5)), `${bad}its header is nested more than 8 deep`],
    [header(`{"a":{},"a":{}}`), `${bad}its header has the name 'a' twice`],
    [header(`{"a":{},"\\u0061":{}}`), `${bad}its header has the name 'a' twice`],
    [
      header(w('{"dtype":"F32","dtype":"F64","shape":[],"data_offsets":[0,4]}')),
      `${bad}its header has the name 'dtype' twice`,
    ],
    [
      header(of("[NaN]", "[0,4]")),
      /its header is not JSON \(line 1, column \d+: expected a value, /,
    ],
    [
      header(of("[-1]", "[0,4]")),
      `${bad}tensor 'w': its shape is [-1], where a list of sizes was ` +
      "expected",
    ],
    [header(of("[1e400]", "[0,4]")), /tensor 'w': its shape is \[null\], where a list of sizes/],
    [header(of("[1.5]", "[0,4]")), /tensor 'w': its shape is \[1\.5\], where a list of sizes was/],
    [header(of("[9007199254740991,2]", "[0,4]")), /its shape \[9007199254740991,2\] is beyond any/],
    [header(of("[4294967296,4294967296,0]", "[0,0]")), /its shape \[.*\] is beyond any file$/],
    [header(of(`[${"1,".repeat(64)}1]`, "[0,4]"), 4), /it has 65 axes, where at most 64 are/],
    [header(of("[1]", "[4,0]")), /its data_offsets are \[4,0\], where \[begin, end\] was expected/],
    [
      header(of("[1]", "[0,9007199254740992]")),
      /its data_offsets are \[0,9007199254740992\], where/,
    ],
    [
      header(of("[1]", "[0,8]"), 8),
      `${bad}tensor 'w': F32 of shape [1] takes 4 bytes, but its ` +
      "data_offsets hold 8",
    ],
    [
      header(of("[1]", "[0,4]", '"F8"'), 4),
      /its dtype is "F8", where one of F64, .* was expected$/,
    ],
    [header(of("[1]", "[0,4]", '"toString"'), 4), /its dtype is "toString", where one of/],
    [
      header(
        `{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},` +
          `"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}`,
        12,
      ),
      `${bad}tensor 'b': it begins at byte 4 of the data, inside the tensor before it, which ends ` +
      "at 8",
    ],
    [header('{"__metadata__":{"a":1}}'), /'__metadata__' in its header is not an object of texts$/],
    [header(`{"\\u001b[2J${"n".repeat(9999)}":1}`), /^x is .* tensor '\\u001b\[2Jn{90,}\.\.\.': /],
  ];
  for (const [bytes, sentence] of cases) {
    if (typeof sentence === "string") assertStrictEquals(told(bytes), sentence);
    else assertMatch(told(bytes), sentence, `${sentence}`);
    assertLess(told(bytes).length, 500);
  }
});
