// Small changes to a source text, found in its syntax tree: what a slip of the hand or of the mind
// would write. Which of them type-check is for types.ts to say.
//
// What is only text is left alone: string literals, what is thrown, arguments of errors, names for
// paths (`withScope`), and what is only shown (`textOnly`). So are swaps that change nothing, in
// functions whose arguments commute.
import ts from "typescript";

/** The kinds of changes; a kind is drawn first, so that common ones do not hide rare ones. */
export type Kind =
  | "comparison"
  | "arithmetic"
  | "logic"
  | "condition"
  | "constant"
  | "arguments"
  | "function"
  | "statement";

/** One change: `text` in place of what stands from `start` to `end`. */
export interface Mutation {
  readonly file: string;
  readonly kind: Kind;
  readonly start: number;
  readonly end: number;
  readonly text: string;
}

const K = ts.SyntaxKind;

/** Operators and what a slip makes of them. */
const operators: ReadonlyMap<ts.SyntaxKind, readonly [Kind, string]> = new Map([
  [K.LessThanToken, ["comparison", "<="]],
  [K.LessThanEqualsToken, ["comparison", "<"]],
  [K.GreaterThanToken, ["comparison", ">="]],
  [K.GreaterThanEqualsToken, ["comparison", ">"]],
  [K.EqualsEqualsEqualsToken, ["comparison", "!=="]],
  [K.ExclamationEqualsEqualsToken, ["comparison", "==="]],
  [K.PlusToken, ["arithmetic", "-"]],
  [K.MinusToken, ["arithmetic", "+"]],
  [K.AsteriskToken, ["arithmetic", "/"]],
  [K.SlashToken, ["arithmetic", "*"]],
  [K.PercentToken, ["arithmetic", "*"]],
  [K.AsteriskAsteriskToken, ["arithmetic", "*"]],
  [K.PlusEqualsToken, ["arithmetic", "-="]],
  [K.MinusEqualsToken, ["arithmetic", "+="]],
  [K.LessThanLessThanToken, ["arithmetic", ">>"]],
  [K.GreaterThanGreaterThanToken, ["arithmetic", "<<"]],
  [K.AmpersandToken, ["arithmetic", "|"]],
  [K.BarToken, ["arithmetic", "&"]],
  [K.AmpersandAmpersandToken, ["logic", "||"]],
  [K.BarBarToken, ["logic", "&&"]],
]);

/** Methods and functions that are easily taken for each other. */
const confused: Readonly<Record<string, string>> = {
  some: "every",
  every: "some",
  min: "max",
  max: "min",
  floor: "ceil",
  ceil: "floor",
};
/** Methods that give the list back, changed; without them it stays as it is. */
const listMethods = new Set(["filter", "slice", "reverse", "toReversed", "sort", "toSorted"]);

/** Functions whose arguments may be swapped. */
const commutes = new Set(["Math.max", "Math.min", "Math.imul", "sameAxes", "affine.sum"]);
/** Functions whose first two arguments are factors, or count alike: they may be swapped. */
const multiplies = new Set(["madd", "nmadd", "isWorthTiles"]);
/** Operations of `apply` whose operands may be swapped. */
const commutative = new Set(["add", "mul", "max", "min", "equal", "and", "or", "xor"]);
/** Instructions of WebAssembly whose two operands may be swapped, and those whose first two may be. */
const commutativeCode =
  /^[a-z]\d+(x\d+)?\.(add|mul|and|or|xor|eq|ne|(min|max)(_[su])?|extmul_\w+)$/;
const multiplyingCode = /\.relaxed_n?madd$/;

/** Functions of which only texts for people come: names, reports and what debugging shows. */
const textOnly = new Set([
  ...["withScope", "describe", "pathOf", "showProgram", "showNotFinite", "showFunc", "showAxes"],
]);

/** A number as it may be mistaken: by one, or twice and half of what is larger than a few. */
const mistaken = (value: number): readonly number[] =>
  value === 0 ? [1] : value <= 16 && Number.isInteger(value) ? [value + 1, value - 1] : [
    2 * value,
    Number.isInteger(value) ? Math.floor(value / 2) : value / 2,
  ];

const isError = (of: ts.NewExpression): boolean => /(Error|Refusal)$/.test(of.expression.getText());
const calleeName = (of: ts.CallExpression): string =>
  ts.isPropertyAccessExpression(of.expression) ? of.expression.name.text : of.expression.getText();

/** Whether a part of the tree is only text, or no code at all. */
const isLeftAlone = (of: ts.Node): boolean =>
  ts.isTypeNode(of) || ts.isInterfaceDeclaration(of) || ts.isTypeAliasDeclaration(of) ||
  ts.isImportDeclaration(of) || ts.isExportDeclaration(of) || ts.isThrowStatement(of) ||
  (ts.isNewExpression(of) && isError(of)) ||
  (ts.isCallExpression(of) &&
    (textOnly.has(calleeName(of)) && calleeName(of) !== "withScope" ||
      of.expression.getText().startsWith("console."))) ||
  (ts.isVariableDeclaration(of) && textOnly.has(of.name.getText()));

const instructionOf = (of: ts.CallExpression): string => {
  const [first] = of.arguments;
  return calleeName(of) === "op" && first !== undefined && ts.isStringLiteral(first)
    ? first.text
    : "";
};
/** The name of a function that is one instruction whose operands may be swapped: so may its arguments. */
const commutativeName = (of: ts.Node): string | undefined => {
  if (!ts.isVariableDeclaration(of) || of.initializer === undefined) return undefined;
  const { initializer } = of;
  return ts.isArrowFunction(initializer) && ts.isCallExpression(initializer.body) &&
      commutativeCode.test(instructionOf(initializer.body))
    ? of.name.getText()
    : undefined;
};

/** Every change that this knows to a source text, in the order of the text. */
export const mutationsOf = (file: string, source: string): readonly Mutation[] => {
  const tree = ts.createSourceFile(file, source, ts.ScriptTarget.ESNext, true);
  const found: Mutation[] = [];
  const named = new Set<string>();
  const look = (of: ts.Node): void => {
    const name = commutativeName(of);
    if (name !== undefined) named.add(name);
    ts.forEachChild(of, look);
  };
  look(tree);
  const put = (kind: Kind, of: ts.Node, text: string) => {
    found.push({ file, kind, start: of.getStart(tree), end: of.getEnd(), text });
  };
  const textOf = (of: ts.Node) => of.getText(tree);

  const binary = (of: ts.BinaryExpression) => {
    const operator = of.operatorToken, other = operators.get(operator.kind);
    if (other !== undefined) put(...[other[0], operator, other[1]] as const);
    const dropped: readonly ts.SyntaxKind[] = [K.AmpersandAmpersandToken, K.BarBarToken];
    if (dropped.includes(operator.kind)) {
      put("condition", of, textOf(of.left));
      put("condition", of, textOf(of.right));
    }
    if (operator.kind === K.QuestionQuestionToken) put("condition", of, `(${textOf(of.right)})`);
  };
  const call = (of: ts.CallExpression) => {
    const { expression, arguments: args } = of;
    const name = calleeName(of);
    if (ts.isPropertyAccessExpression(expression)) {
      const isMath = textOf(expression.expression) === "Math";
      const other = Object.hasOwn(confused, name) ? confused[name] : undefined;
      if (other !== undefined && (isMath || args.length > 0)) {
        put("function", expression.name, other);
      }
      if (listMethods.has(name)) put("function", of, textOf(expression.expression));
    }
    if (name === "withScope") return;
    const operation = args[0] !== undefined && ts.isStringLiteral(args[0]) ? args[0].text : "";
    const instruction = instructionOf(of);
    if (
      commutes.has(textOf(expression)) || named.has(textOf(expression)) ||
      name === "apply" && commutative.has(operation) || commutativeCode.test(instruction)
    ) return;
    for (let k = 0; k + 1 < args.length; k++) {
      const [a, b] = [textOf(args[k]), textOf(args[k + 1])];
      if (k === 0 && multiplies.has(name) || k === 1 && multiplyingCode.test(instruction)) continue;
      if (a === b || ts.isStringLiteral(args[k]) || ts.isStringLiteral(args[k + 1])) continue;
      found.push({
        file,
        kind: "arguments",
        start: args[k].getStart(tree),
        end: args[k + 1].getEnd(),
        text: `${b}, ${a}`,
      });
    }
  };
  const visit = (of: ts.Node): void => {
    if (isLeftAlone(of)) return;
    if (ts.isBinaryExpression(of)) binary(of);
    if (ts.isCallExpression(of)) call(of);
    if (ts.isConditionalExpression(of)) {
      put("condition", of, `(${textOf(of.whenTrue)})`);
      put("condition", of, `(${textOf(of.whenFalse)})`);
    }
    if (ts.isIfStatement(of)) {
      put("condition", of.expression, "true as boolean");
      put("condition", of.expression, "false as boolean");
    }
    if (ts.isPrefixUnaryExpression(of)) {
      if (of.operator === K.ExclamationToken) put("condition", of, textOf(of.operand));
      // A literal below zero is one number.
      if (of.operator === K.MinusToken) put("constant", of, textOf(of.operand));
    }
    if (ts.isNumericLiteral(of)) {
      // `.text` is decimal whatever the source has; a number is longer there, and no property's name.
      if (!ts.isPropertyAssignment(of.parent) || of.parent.name !== of) {
        for (const value of mistaken(Number(of.text))) put("constant", of, `${value}`);
      }
    }
    if (of.kind === K.TrueKeyword) put("constant", of, "false");
    if (of.kind === K.FalseKeyword) put("constant", of, "true");
    if (ts.isExpressionStatement(of) || ts.isContinueStatement(of)) put("statement", of, ";");
    // Of a `withScope`, the first argument is a name.
    const parts = ts.isCallExpression(of) && calleeName(of) === "withScope"
      ? of.arguments.slice(1)
      : 0;
    if (parts === 0) ts.forEachChild(of, visit);
    else parts.forEach(visit);
  };
  visit(tree);
  return found;
};

/** A source text with a change. */
export const changed = (source: string, { start, end, text }: Mutation): string =>
  source.slice(0, start) + text + source.slice(end);

/** Where a change is and the lines that it touches, before and after, spaces at the ends cut. */
export interface Shown {
  readonly line: number;
  readonly before: string;
  readonly after: string;
}

/** A change for people. */
export const shown = (source: string, mutation: Mutation): Shown => {
  const from = source.lastIndexOf("\n", mutation.start - 1) + 1;
  const end = source.indexOf("\n", mutation.end), to = end < 0 ? source.length : end;
  const flat = (text: string) => text.replace(/\s+/g, " ").trim();
  const after = source.slice(from, mutation.start) + mutation.text +
    source.slice(mutation.end, to);
  return {
    line: source.slice(0, mutation.start).split("\n").length,
    before: flat(source.slice(from, to)),
    after: flat(after),
  };
};
