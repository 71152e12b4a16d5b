// The disassembler: a function as text, one instruction per line, in the names of the
// specification, with blocks indented.
import { type Func, type Instruction, instruction, onLane } from "./encode.ts";

/** Names of instructions by their bytes. */
const plain = new Map<string, Instruction>(
  (Object.keys(instruction) as Instruction[]).map((name) => [instruction[name].join(), name]),
);
const vectorAccess: Readonly<Record<number, string>> = {
  0: "v128.load",
  9: "v128.load32_splat",
  11: "v128.store",
  86: "v128.load32_lane",
  90: "v128.store32_lane",
  91: "v128.store64_lane",
  92: "v128.load32_zero",
  93: "v128.load64_zero",
};
/** Those that take a lane index. */
const withLane: ReadonlySet<number> = new Set([86, 90, 91]);
const lanes = new Map<number, string>(Object.entries(onLane).map(([name, code]) => [code, name]));
const onLocals: Readonly<Record<number, string>> = {
  0x20: "local.get",
  0x21: "local.set",
  0x22: "local.tee",
  0x10: "call",
  0x0d: "br_if",
};
const blocks: Readonly<Record<number, string>> = { 0x03: "loop", 0x04: "if" };

/** The text of a function. Throws at bytes that kernels never contain. */
export const showFunc = ({ params, locals, body }: Func): string => {
  let at = 0;
  const byte = () => body[at++];
  const unsigned = (): number => {
    let value = 0;
    for (let shift = 0;; shift += 7) {
      const next = byte();
      value += (next & 0x7f) * 2 ** shift;
      if (next < 0x80) return value;
    }
  };
  const signed = (): number => {
    let value = 0;
    for (let shift = 0;; shift += 7) {
      const next = byte();
      value += (next & 0x7f) * 2 ** shift;
      if (next >= 0x80) continue;
      return (next & 0x40) === 0 ? value : value - 2 ** (shift + 7);
    }
  };
  const place = (): string => {
    byte();
    const offset = unsigned();
    return offset === 0 ? "" : ` offset=${offset}`;
  };
  const word = (): number => {
    const bytes = [byte(), byte(), byte(), byte()];
    return new DataView(Uint8Array.from(bytes).buffer).getUint32(0, true);
  };
  const vector = (): string => {
    const code = unsigned();
    const access = vectorAccess[code];
    if (access !== undefined) {
      const where = place();
      return `${access}${where}${withLane.has(code) ? ` ${byte()}` : ""}`;
    }
    if (code === 12) {
      const words = [word(), word(), word(), word()];
      return `v128.const i32x4 ${words.map((one) => `0x${one.toString(16)}`).join(" ")}`;
    }
    if (code === 13) {
      const picked = Array.from({ length: 16 }, byte);
      return `i8x16.shuffle ${picked.join(" ")}`;
    }
    if (lanes.has(code)) return `${lanes.get(code)} ${byte()}`;
    return "";
  };
  const next = (): string => {
    const from = at, code = byte();
    if (code in onLocals) return `${onLocals[code]} ${unsigned()}`;
    if (code === 0x41) return `i32.const ${signed()}`;
    if (code === 0x28) return `i32.load${place()}`;
    if (code === 0x36) return `i32.store${place()}`;
    const text = code === 0xfd ? vector() : "";
    const name = text === "" ? plain.get(body.slice(from, at).join()) : text;
    if (name === undefined) throw new Error(`byte ${from} of a function is no known instruction`);
    return name;
  };
  const lines: string[] = [];
  for (let depth = 0; at < body.length;) {
    const block = blocks[body[at]];
    if (block !== undefined) {
      lines.push(`${"  ".repeat(++depth)}${block}`);
      at += 2;
    } else if (body[at] === 0x0b) {
      lines.push(`${"  ".repeat(depth--)}end`);
      at++;
    } else lines.push(`${"  ".repeat(depth + 1)}${next()}`);
  }
  const param = params === 0 ? "" : ` (param${" i32".repeat(params)})`;
  const local = locals.length === 0 ? "" : ` (local ${locals.join(" ")})`;
  return [`(func${param}${local}`, ...lines, ")"].join("\n");
};
