// What the type checker knows of the axes in models/: casts, tensors whose axes it does not know, and
// which mistakes it sees when one axis name is replaced by another or a rename is left out.
import ts from "typescript";
import { checkerOptions } from "../support/checker_options.ts";

const root = new URL("../../", import.meta.url).pathname;
const files = [...Deno.readDirSync(`${root}models`)].map(({ name }) => `${root}models/${name}`)
  .filter((file) => file.endsWith(".ts")).sort();
const texts = new Map(files.map((file) => [file, Deno.readTextFileSync(file)]));
const versions = new Map(files.map((file) => [file, 0]));
const read = (file: string) => texts.get(file) ?? ts.sys.readFile(file);

const service = ts.createLanguageService({
  getScriptFileNames: () => files,
  getScriptVersion: (file) => `${versions.get(file) ?? 0}`,
  getScriptSnapshot: (file) => {
    const text = read(file);
    return text === undefined ? undefined : ts.ScriptSnapshot.fromString(text);
  },
  getCurrentDirectory: () => root,
  getCompilationSettings: () => checkerOptions,
  getDefaultLibFileName: ts.getDefaultLibFilePath,
  fileExists: (file) => texts.has(file) || ts.sys.fileExists(file),
  readFile: read,
});
const sourceOf = (file: string) => service.getProgram()!.getSourceFile(file)!;
const everywhere = (visit: (node: ts.Node, source: ts.SourceFile) => void): void => {
  for (const file of files) {
    const source = sourceOf(file);
    const look = (node: ts.Node): void => {
      visit(node, source);
      ts.forEachChild(node, look);
    };
    look(source);
  }
};
const placeOf = (node: ts.Node, source: ts.SourceFile): string => {
  const { line } = source.getLineAndCharacterOfPosition(node.getStart(source));
  return `${source.fileName.slice(root.length)}:${line + 1}`;
};

/** The casts in models, but `as const`, every `any`, and comments that silence the checker. */
export const casts = (): readonly string[] => {
  const found: string[] = [];
  everywhere((node, source) => {
    const isCast = ts.isAsExpression(node) && node.type.getText(source) !== "const";
    if (isCast || node.kind === ts.SyntaxKind.AnyKeyword) {
      found.push(`${placeOf(node, source)} ${node.getText(source).slice(0, 80)}`);
    }
  });
  for (const [file, text] of texts) {
    for (const [silenced] of text.matchAll(/@ts-\w+/g)) {
      found.push(`${file.slice(root.length)} ${silenced}`);
    }
  }
  return found;
};

/** Calls that give tensors: how many, and those of which the axes are unknown. */
export const calls = (): { readonly all: number; readonly unknown: readonly string[] } => {
  const checker = service.getProgram()!.getTypeChecker(), unknown: string[] = [];
  let all = 0;
  everywhere((node, source) => {
    if (!ts.isCallExpression(node)) return;
    const type = checker.getTypeAtLocation(node);
    if (type.symbol?.name !== "Tensor") return;
    all++;
    const [axes] = checker.getTypeArguments(type as ts.TypeReference);
    const isAny = (axes.flags & ts.TypeFlags.Any) !== 0;
    if (isAny || checker.getIndexInfosOfType(axes).length > 0) {
      unknown.push(`${placeOf(node, source)} ${node.getText(source).slice(0, 80)}`);
    }
  });
  return { all, unknown };
};

/** A mistake: another text in a place of a file. */
export interface Mistake {
  readonly file: string;
  readonly from: number;
  readonly to: number;
  readonly text: string;
  readonly what: string;
}

/** Parameters of the language's functions that are names of axes. */
const axisParameters = new Set(["axis", "over", "from", "to", "axes", "along"]);

/** Every name of an axis that models give to the language, as "batch" and as "channel"; every rename left out. */
export const mistakes = (): readonly Mistake[] => {
  const checker = service.getProgram()!.getTypeChecker(), found: Mistake[] = [];
  everywhere((node, source) => {
    if (!ts.isCallExpression(node)) return;
    const declared = checker.getResolvedSignature(node)?.declaration;
    if (!declared?.getSourceFile().fileName.includes("/dsl/")) return;
    const put = (at: ts.Node, text: string, what: string) =>
      found.push({
        file: source.fileName,
        from: at.getStart(source),
        to: at.getEnd(),
        text,
        what: `${placeOf(at, source)} ${what}`,
      });
    const name = (at: ts.Node): void => {
      if (ts.isArrayLiteralExpression(at)) return at.elements.forEach(name);
      if (ts.isObjectLiteralExpression(at)) {
        return at.properties.forEach((one) => {
          if (ts.isPropertyAssignment(one) && one.name.getText(source) === "over") {
            name(one.initializer);
          }
        });
      }
      if (!ts.isStringLiteral(at)) return;
      for (const other of ["batch", "channel"]) {
        if (at.text !== other) put(at, `"${other}"`, `${at.getText(source)} as "${other}"`);
      }
    };
    node.arguments.forEach((argument, k) => {
      const parameter = declared.parameters[k]?.name.getText();
      if (parameter !== undefined && (axisParameters.has(parameter) || /^\{/.test(parameter))) {
        name(argument);
      }
    });
    if (node.expression.getText(source) === "rename") {
      put(node, node.arguments[0].getText(source), "without its rename");
    }
  });
  return found;
};

const importers = (file: string): readonly string[] =>
  files.filter((other) => texts.get(other)!.includes(`/${file.split("/").at(-1)}"`));

/** Whether the checker sees a mistake, in its file or in those that import it. */
export const isSeen = ({ file, from, to, text }: Mistake): boolean => {
  const was = texts.get(file)!;
  const write = (now: string) => {
    texts.set(file, now);
    versions.set(file, versions.get(file)! + 1);
  };
  write(was.slice(0, from) + text + was.slice(to));
  const seen = [file, ...importers(file)].some((one) =>
    service.getSemanticDiagnostics(one).length > 0
  );
  write(was);
  return seen;
};
