// Whether a changed file still type-checks: TypeScript's language service over the sources, with Deno's
// own declarations. Only the changed file is checked again, which takes a tenth of a second.
import ts from "typescript";
import { checkerOptions } from "../support/checker_options.ts";

const declarations = "/deno.d.ts";

/** Says whether a file with another text has no more type errors than it has as it stands. */
export type TypeCheck = (file: string, text: string) => boolean;

/** A check of changes to some files below `root`; what they import is read as it stands. */
export const typeChecker = async (root: string, files: readonly string[]): Promise<TypeCheck> => {
  const { stdout } = await new Deno.Command(Deno.execPath(), { args: ["types"] }).output();
  // Deno's declarations refer to libraries of their own, which they contain.
  const deno = new TextDecoder().decode(stdout).replace(/^\/\/\/ <reference.*$/gm, "");
  const changes = new Map<string, { readonly text: string; readonly version: number }>();
  const read = (path: string) =>
    path === declarations ? deno : changes.get(path)?.text ?? ts.sys.readFile(path);
  const service = ts.createLanguageService({
    getCompilationSettings: () => checkerOptions,
    getScriptFileNames: () => [declarations, ...files.map((file) => root + file)],
    getScriptVersion: (path) => `${changes.get(path)?.version ?? 0}`,
    getScriptSnapshot: (path) => {
      const text = read(path);
      return text === undefined ? undefined : ts.ScriptSnapshot.fromString(text);
    },
    getCurrentDirectory: () => root,
    getDefaultLibFileName: ts.getDefaultLibFilePath,
    fileExists: (path) => path === declarations || ts.sys.fileExists(path),
    readFile: read,
  });
  const errors = (path: string): number =>
    service.getSyntacticDiagnostics(path).length + service.getSemanticDiagnostics(path).length;
  // Packages are not resolved here, so a file may have some errors as it stands.
  const before = new Map<string, number>();
  let version = 0;
  return (file, text) => {
    const path = root + file;
    if (!before.has(path)) before.set(path, errors(path));
    changes.set(path, { text, version: ++version });
    const found = errors(path);
    changes.set(path, { text: ts.sys.readFile(path)!, version: ++version });
    return found <= before.get(path)!;
  };
};
