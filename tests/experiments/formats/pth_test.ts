// Checkpoints of PyTorch: files that torch.save wrote are read to the values that went in; archives
// and pickles put together by hand show the parts of the formats that those do not have.
import {
  assert,
  assertEquals,
  assertLess,
  assertMatch,
  assertStrictEquals,
  assertThrows,
  fail,
} from "@std/assert";
import { join } from "node:path";
import * as E from "fp-ts/Either.js";
import { unpickle } from "../../../experiments/formats/pickle_read.ts";
import { bytesSource, fileSource, openZip } from "../../../experiments/formats/zip.ts";
import { openPth } from "../../../experiments/formats/pth.ts";
import { torchMeanings } from "../../../experiments/formats/pth_tensors.ts";
import {
  dict,
  joined,
  latin,
  name,
  number,
  pickleOf,
  pthOf,
  storage,
  tensor,
  text,
  tuple,
  zipOf,
} from "../../support/archive.ts";
import { checkCheckpoints, opened, refusal, tensorsIn } from "../../support/torch.ts";
import { assertSameNumbers } from "../../support/same_numbers.ts";

const checkpoints = new URL("../../support/checkpoints", import.meta.url).pathname;

Deno.test("what torch.save wrote is read: families, views of storages, every element type", () => {
  checkCheckpoints(checkpoints);
});

Deno.test("a file is read where it is needed, and the optimiser's numbers are not", () => {
  using file = Deno.openSync(join(checkpoints, "mamba.pth"));
  const source = fileSource(file);
  let bytes = 0;
  const counted = {
    size: source.size,
    read: (at: number, length: number) => {
      bytes += length;
      return source.read(at, length);
    },
  };
  const pth = openPth(counted);
  if (E.isLeft(pth)) fail(pth.left._tag);
  bytes = 0;
  const found = pth.right.read(["encoder_norm.weight"]);
  if (E.isLeft(found)) fail(found.left._tag);
  assertEquals([...found.right.keys()], ["encoder_norm.weight"]);
  assertLess(bytes, 100, `${bytes} bytes were read for one tensor of 16`);
  assertThrows(() => pth.right.read(["no such"]), Error, "there is no tensor no such");
});

const weights = new Uint8Array(Float32Array.of(1, 2, 3, 4, 5, 6).buffer);
const plain = pickleOf(dict({ w: tensor(storage("0", 6), [2, 3], [3, 1]) }));
const two = { dtype: "F32", shape: [2, 3], data: Float32Array.of(1, 2, 3, 4, 5, 6) };

Deno.test("archives of other writers are read: deflated, with 64-bit fields, with a comment", () => {
  for (
    const options of [{}, { deflate: true }, { wide: true }, { comment: "PK\x05\x06 not yet" }]
  ) {
    assertSameNumbers([...tensorsIn(pthOf(plain, { 0: weights }, options))], [["w", two]]);
  }
});

Deno.test("files of newer versions are read, which say their byte order; others are told", () => {
  const file = (order: string): Uint8Array =>
    zipOf([
      { name: "x/data.pkl", content: plain },
      { name: "x/.format_version", content: latin("1") },
      { name: "x/.storage_alignment", content: latin("64") },
      { name: "x/byteorder", content: latin(order) },
      { name: "x/data/0", content: weights },
      { name: "x/version", content: latin("3\n") },
      { name: "x/.data/serialization_id", content: latin("0123456789") },
    ]);
  assertSameNumbers([...tensorsIn(file("little"))], [["w", two]]);
  const sentence = "x.pth is not a checkpoint of PyTorch: its numbers are not little-endian";
  assertStrictEquals(refusal(file("big")), sentence);
  assertStrictEquals(refusal(file("l".repeat(1000))), sentence);
});

Deno.test("an archive's entries are listed with their sizes", () => {
  const found = openZip(bytesSource(pthOf(plain, { 0: weights })));
  if (E.isLeft(found)) fail(found.left.problem);
  assertEquals(
    [...found.right.entries.values()].map(({ name, size }) => [name, size]),
    [["x/data.pkl", plain.length], ["x/data/0", 24], ["x/version", 2]],
  );
});

Deno.test("a model is found at the top or under its usual names, and wrappers' prefixes go", () => {
  const state = (prefix: string) =>
    dict({ [`${prefix}a`]: tensor(storage("0", 6), [6], [1]), [`${prefix}b`]: number(3) });
  const names = (root: string): readonly string[] => {
    const pth = opened(pthOf(pickleOf(root), { 0: weights }));
    assertStrictEquals(pth.others, 1);
    return [...pth.shapes.keys()];
  };
  assertEquals(names(state("")), ["a"]);
  assertEquals(names(dict({ epoch: number(1), model: state("module.") })), ["a"]);
  assertEquals(names(dict({ state_dict: state("_orig_mod.module.") })), ["a"]);
  assertEquals(names(dict({ model: number(1), state_dict: state("net.") })), ["net.a"]);

  const mixed = dict({
    "module.a": tensor(storage("0", 6), [6], [1]),
    "b": tensor(storage("0", 6), [6], [1]),
  });
  const pth = opened(pthOf(pickleOf(mixed), { 0: weights }));
  assertEquals([...pth.shapes.keys()], ["module.a", "b"]);
});

Deno.test("what holds no model is told, with what it holds", () => {
  const said = (root: string) => refusal(pthOf(pickleOf(root)));
  const rest = ", and no state_dict at the top or under 'model' or 'state_dict'; save one, in " +
    "Python: torch.save(model.state_dict(), 'new.pth')";
  assertStrictEquals(said(number(3)), `x.pth holds a number${rest}`);
  assertStrictEquals(said("]"), `x.pth holds a list${rest}`);
  assertStrictEquals(said("}"), `x.pth holds an empty dict${rest}`);
  assertStrictEquals(
    said(dict({ a: "N", "\x1b[2Jb": "N" })),
    `x.pth holds a dict with 'a', '\\u001b[2Jb'${rest}`,
  );
  assertStrictEquals(
    said(tensor(storage("0", 6), [6], [1])),
    `x.pth holds a tensor or storage${rest}`,
  );
});

// What a pickle holds, in the words of JSON, or the sentence that refuses it.
const value = (instructions: string, protocol = 2): unknown => {
  const bytes = pickleOf(instructions);
  bytes[1] = protocol;
  const found = unpickle(bytes, torchMeanings);
  if (E.isLeft(found)) return found.left;
  return JSON.parse(JSON.stringify(found.right, (key, part) => {
    if (typeof part === "bigint") return `${part}n`;
    if (part instanceof Map) return [...part];
    return key === "depth" ? undefined : part;
  }));
};

Deno.test("numbers, texts and containers of a pickle are Python's", () => {
  assertEquals(
    [
      "N",
      "\x88",
      "\x89",
      "K\xff",
      "M\x01\x02",
      "J\xfe\xff\xff\xff",
      "\x8a\x00",
      "\x8a\x01\xff",
      "\x8a\x08\0\0\0\0\0\0\0\x40",
      "\x8b\x02\0\0\0\0\x80",
      "G\x3f\xf8\0\0\0\0\0\0",
      text("ä\u{1f600}"),
      "\x8c\x02ab",
      "\x8d\x02\0\0\0\0\0\0\0ab",
    ].map((of) => value(of)),
    [
      null,
      true,
      false,
      255,
      513,
      -2,
      0,
      -1,
      "4611686018427387904n",
      -32768,
      1.5,
      "ä\u{1f600}",
      "ab",
      "ab",
    ],
  );
  const list = (...items: readonly unknown[]) => ({ kind: "list", items });
  const tuples = (...items: readonly unknown[]) => ({ kind: "tuple", items });
  assertEquals(value(")"), tuples());
  assertEquals(value("K\x01\x85"), tuples(1));
  assertEquals(value("K\x01K\x02\x86"), tuples(1, 2));
  assertEquals(value("K\x01K\x02K\x03\x87"), tuples(1, 2, 3));
  assertEquals(value("](K\x01K\x02eK\x03a"), list(1, 2, 3));
  assertEquals(value("}K\x01Ns"), { kind: "dict", type: "dict", entries: [[1, null]] });
  // POP, POP_MARK, DUP, and the memo in its three ways of being written.
  assertEquals(value("]K\x01K\x020a"), list(1));
  assertEquals(value("](K\x01K\x021K\x03a"), list(3));
  assertEquals(value("K\x012\x86"), tuples(1, 1));
  assertEquals(value("(K\x07q\x00K\x08\x94h\x00h\x01t"), tuples(7, 8, 7, 8));
  assertEquals(value("K\x07r\x00\x01\0\0j\x00\x01\0\0\x86"), tuples(7, 7));
  assertEquals(value("\x95\x02\0\0\0\0\0\0\0K\x07", 5), 7);
});

Deno.test("objects are no more than their fields", () => {
  const fields = dict({ lr: number(1), nested: dict({ a: "N" }) });
  assertEquals(value(`${name("argparse.Namespace")})\x81${fields}b`), {
    kind: "dict",
    type: "Namespace",
    entries: [["lr", 1], ["nested", { kind: "dict", type: "dict", entries: [["a", null]] }]],
  });
  assertEquals(value(`${name("collections.OrderedDict")})R${fields}b`), {
    kind: "dict",
    type: "OrderedDict",
    entries: [],
  });
  assertEquals(value(`${name("torch.Size")}${tuple(tuple(number(2), number(3)))}R`), {
    kind: "tuple",
    items: [2, 3],
  });
});

Deno.test("a list that holds itself is read and does no harm", () => {
  const found = unpickle(pickleOf("]q\x00h\x00a"), torchMeanings);
  assert(E.isRight(found));
  assertMatch(refusal(pthOf(pickleOf("}q\x00K\x01h\x00s"))), /^x\.pth holds an empty dict,/);
});

Deno.test("tensors lie inside their storages, or the sentence says how they do not", () => {
  const said = (of: string) => refusal(pthOf(pickleOf(dict({ w: of })), { 0: weights }));
  const six = storage("0", 6), damaged = /^x\.pth is damaged: at byte \d+ of its pickle: /;
  const past = (of: string, shape: string, offset: number | string, strides: string) => {
    const sentence = said(of);
    assertMatch(sentence, damaged);
    assertStrictEquals(
      sentence.replace(damaged, ""),
      `a tensor of [${shape}] at ${offset} with strides [${strides}] reaches past the 6 elements of ` +
        "its storage",
    );
  };
  past(tensor(six, [7], [1]), "7", 0, "1");
  past(tensor(six, [2, 3], [4, 1]), "2, 3", 0, "4, 1");
  past(tensor(six, [3], [1], 4), "3", 4, "1");
  past(tensor(six, [2 ** 31, 2 ** 31], [0, 0]), "2147483648, 2147483648", 0, "0, 0");
  past(tensor(six, [2], [2 ** 52]), "2", 0, "4503599627370496");
  const whole = /a tensor's offset, sizes and strides are not whole numbers from 0 that fit$/;
  assertMatch(said(tensor(six, [-1], [1])), whole);
  assertMatch(said(tensor(six, [2], [-1])), whole);
  assertMatch(said(tensor(six, [2], [1], -1)), whole);
  assertMatch(said(tensor(six, [2], [1, 1])), whole);
  assertMatch(said(tensor(six, [2n ** 100n], [1])), whole);
  assertMatch(said(tensor(six, Array.from({ length: 65 }, () => 1), [])), whole);
  assertMatch(
    said(tensor(number(3), [2], [1])),
    /a tensor is made of something that is no storage/,
  );
  const nan = "G\x7f\xf8\0\0\0\0\0\0";
  assertMatch(
    said(`${name("torch._utils._rebuild_tensor_v2")}${tuple(six, nan, ")", ")", "\x89", "N")}R`),
    whole,
  );
  assertMatch(
    said(`${name("torch._utils._rebuild_parameter")}${tuple(number(1), "\x88", "}")}R`),
    /a parameter is made of a number, not of a tensor$/,
  );
});

Deno.test("storages are in the archive with the bytes that they need, or the tensor is told", () => {
  const said = (of: string) => refusal(pthOf(pickleOf(dict({ w: of })), { 0: weights }));
  assertStrictEquals(
    said(tensor(storage("1", 6), [6], [1])),
    "x.pth is damaged: the tensor 'w': its storage '1' is not in the archive",
  );
  assertStrictEquals(
    said(tensor(storage("0", 7), [6], [1])),
    "x.pth is damaged: the tensor 'w': its storage should have 28 bytes, but has 24",
  );
  assertStrictEquals(
    said(tensor(storage("0", 6, "Half"), [6], [1])),
    "x.pth is damaged: the tensor 'w': its storage should have 12 bytes, but has 24",
  );
  assertMatch(said(tensor(storage("0", -6), [0], [1])), /an outside reference is not a storage$/);
  assertMatch(
    said(tensor(storage("0", 2 ** 52), [0], [1])),
    /the storage '0' has 4503599627370496/,
  );
  assertMatch(
    said(`${tuple(text("storage"), name("torch.FloatStorage"), number(0))}Q`),
    /an outside reference is not a storage$/,
  );
});

Deno.test("an archive whose parts do not fit is told part by part", () => {
  const entry = { name: "x/data.pkl", content: plain };
  const said = (...args: Parameters<typeof zipOf>) => refusal(zipOf(...args));
  const damaged = (rest: string) => `x.pth is damaged: ${rest}`;
  assertStrictEquals(
    said([entry, { ...entry }]),
    damaged("it has two entries called 'x/data.pkl'"),
  );
  assertStrictEquals(
    said([{ ...entry, crc: 1 }]),
    damaged(
      "the entry 'x/data.pkl' does not agree with its checksum; copy or save the file again",
    ),
  );
  assertStrictEquals(
    said([{ ...entry, flags: 1 }]),
    damaged("the entry 'x/data.pkl' is encrypted"),
  );
  assertStrictEquals(
    said([{ ...entry, method: 12 }]),
    damaged("the entry 'x/data.pkl' is compressed by method 12, which is not deflate"),
  );
  assertStrictEquals(
    said([entry, { name: "x/data/0", content: weights, at: 0 }]),
    damaged("the entry 'x/data.pkl' reaches into what comes after it"),
  );
  assertStrictEquals(
    said([{ ...entry, size: 10 ** 6 }]),
    damaged("the entry 'x/data.pkl' reaches into what comes after it"),
  );
  assertStrictEquals(
    said([{ ...entry, at: 10 ** 6 }]),
    damaged("the entry 'x/data.pkl' reaches into what comes after it"),
  );
  const renamed = zipOf([entry]);
  renamed[30] ^= 1;
  assertStrictEquals(
    refusal(renamed),
    damaged("the entry 'x/data.pkl' does not begin where the list says"),
  );
  const list = zipOf([entry]);
  list[list.length - 22 - 56] = 0;
  assertStrictEquals(refusal(list), damaged("entry 0 of its list is not one"));
  assertStrictEquals(
    said([entry], { count: 0 }),
    damaged("its list of entries has more bytes than entries"),
  );
  assertStrictEquals(
    said([entry], { count: 60000 }),
    damaged("it announces 60000 entries in a list of 56 bytes"),
  );
  const sizes = damaged("the entry 'x/data.pkl' does not unpack to the 9 bytes that the list says");
  assertStrictEquals(said([{ ...entry, deflate: true, size: 9 }]), sizes);
  assertStrictEquals(
    refusal(joined([zipOf([entry]), latin("more")])),
    "x.pth is not a checkpoint of PyTorch: the record that ends a zip archive is missing",
  );
  assertStrictEquals(
    said([{ name: "weights.npy", content: weights }]),
    "x.pth is not a checkpoint of PyTorch: it is a zip archive with no data.pkl",
  );
  assertStrictEquals(
    refusal(latin("PNG picture")),
    "x.pth is not a checkpoint of PyTorch: it begins neither as a zip archive nor as a pickle",
  );
});
