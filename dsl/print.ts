// Prints an expression as a person would write it: values that are used more than once, or would
// make a line too long, get a name, followed by their axes. The step of a scan is a block.
import { type AnyTensor, showAxes } from "./axes.ts";
import { type Node, nodeOf } from "./node.ts";
import { binding, type Phrase, phraseOf, type Text } from "./print_ops.ts";
import { locals, type Nodes, roles } from "./scan.ts";
import { ascend } from "./walk.ts";

/** Longer texts get a name. */
const longest = 72;

/** Unused names, for one printed text. */
type Naming = (wanted?: string) => string;

const naming = (): Naming => {
  const taken = new Set<string>();
  let next = 0;
  const letters = (n: number): string =>
    (n < 26 ? "" : letters(Math.floor(n / 26) - 1)) + String.fromCharCode(97 + n % 26);
  return (wanted) => {
    let name = wanted?.replaceAll(/[^\p{L}\p{N}_]/gu, "_").replace(/^(?=\p{N})/u, "_");
    for (let k = 2; name !== undefined && taken.has(name); k++) name = `${wanted}_${k}`;
    while (name === undefined || taken.has(name)) name = letters(next++);
    taken.add(name);
    return name;
  };
};

const isLeaf = (node: Node): boolean => node.op === "input" || node.op === "param";

const annotation = (node: Node): string =>
  `// ${node.dtype === "f32" ? "" : `${node.dtype} `}${showAxes(node.axes)}`;

const leafPhrase = (node: Node): Phrase => {
  const dtype = node.dtype === "f32" ? "" : `, "${node.dtype}"`;
  const text = `${node.op}(${JSON.stringify(node.attributes.name)}, ${
    showAxes(node.axes)
  }${dtype})`;
  return { operands: [], write: () => ({ text, binds: binding.atom }) };
};

const scanPhrase = (node: Node, name: Naming): Phrase => ({
  operands: node.args,
  write: (texts) => ({ text: scanText(node, texts, name).join("\n"), binds: binding.atom }),
});

const record = (names: readonly string[], texts: readonly Text[]): string => {
  const fields = names.map((name, k) => {
    const key = /^[\p{L}_][\p{L}\p{N}_]*$/u.test(name) ? name : JSON.stringify(name);
    return key === texts[k].text ? key : `${key}: ${texts[k].text}`;
  });
  return fields.length === 0 ? "{}" : `{ ${fields.join(", ")} }`;
};

const scanText = (node: Node, texts: readonly Text[], name: Naming): readonly string[] => {
  const { axis, reverse, carries, eachs, step } = node.attributes;
  const from = record(carries!, texts), each = record(eachs!, texts.slice(carries!.length));
  const leaves = locals(node);
  const bound = new Map<Node, Text>();
  leaves.rest.forEach((leaf, k) => bound.set(leaf, texts[carries!.length + eachs!.length + k]));
  const list = (nodes: Nodes) => Object.keys(nodes).map((key) => nodes[key]);
  const inner = written([...list(step!.next), ...list(step!.out)], name, bound);
  const next = record(Object.keys(step!.next), inner.texts);
  const out = record(Object.keys(step!.out), inner.texts.slice(carries!.length));
  return [
    `scan({ over: ${JSON.stringify(axis)}, from: ${from}, each: ${each}${
      reverse ? ", reverse: true" : ""
    } }, (carry, each) => {`,
    ...inner.lines.map((line) => `  ${line}`),
    `  return { next: ${next}, out: ${out} }`,
    "})",
  ];
};

/** The lines that name what the roots share, and the text of each root. */
const written = (
  roots: readonly Node[],
  name: Naming,
  bound: ReadonlyMap<Node, Text>,
): { readonly lines: readonly string[]; readonly texts: readonly Text[] } => {
  const phrases = new Map<Node, Phrase>();
  const uses = new Map<Node, number>();
  const shown = new Set<Node>(), isRoot = new Set(roots);
  const use = (node: Node) => uses.set(node, (uses.get(node) ?? 0) + 1);
  const operandsOf = (node: Node): readonly Node[] => {
    if (bound.has(node)) return [];
    const made = isLeaf(node)
      ? leafPhrase(node)
      : node.op === "scan"
      ? scanPhrase(node, name)
      : phraseOf(node);
    phrases.set(node, made);
    made.operands.forEach(use);
    // Values that a step reads from outside are computed once, before the scan, and named there.
    if (node.op === "scan") roles(node).rest.forEach((arg) => shown.add(arg));
    return made.operands;
  };
  const visited = new Map<Node, Node>();
  for (const root of roots) {
    use(root);
    ascend(root, visited, operandsOf, (node) => node);
  }
  const order = [...visited.keys()].filter((node) => phrases.has(node));
  const texts = new Map<Node, Text>(bound);
  const lines: string[] = [];
  // Leaves keep their own names; all other names avoid them.
  for (const node of order) {
    if (isLeaf(node)) texts.set(node, { text: name(node.attributes.name), binds: binding.atom });
  }
  for (const node of order) {
    const text = phrases.get(node)!.write(
      phrases.get(node)!.operands.map((arg) => texts.get(arg)!),
    );
    const short = node.op === "const" || node.op === "local";
    const named = isLeaf(node) || node.op === "scan" || shown.has(node) && !short ||
      uses.get(node)! > 1 && !short && !(node.op === "part" && text.text.length < 24) ||
      text.text.length > longest && !isRoot.has(node);
    if (!named) {
      texts.set(node, text);
      continue;
    }
    const own = isLeaf(node) ? texts.get(node)! : { text: name(), binds: binding.atom };
    texts.set(node, own);
    const told = isLeaf(node) || node.op === "scan" ? "" : ` ${annotation(node)}`;
    lines.push(...`let ${own.text} = ${text.text}${told}`.split("\n"));
  }
  return { lines, texts: roots.map((root) => texts.get(root)!) };
};

/**
 * An expression as text, for people: shared parts as `let`, infix operators, derived operations by
 * their names, and the axes of everything that has a name.
 *
 * ```ts
 * import { div, input, max, print } from "@formant/formant";
 * const x = input("x", { batch: 8, time: 250 });
 * print(div(x, max(x, "time")));
 * // let x = input("x", { batch: 8, time: 250 })
 * // x / max(x, "time") // { batch: 8, time: 250 }
 * ```
 */
export const print = (of: AnyTensor): string => {
  const root = nodeOf(of);
  const { lines, texts: [text] } = written([root], naming(), new Map());
  return [...lines, `${text.text} ${annotation(root)}`].join("\n");
};
