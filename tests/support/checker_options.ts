// How tests ask TypeScript's own checker: as Deno does, without libraries of a browser or of Node.
import ts from "typescript";

/** Options of a program or a language service over files of this project. */
export const checkerOptions: ts.CompilerOptions = {
  strict: true,
  noEmit: true,
  allowImportingTsExtensions: true,
  target: ts.ScriptTarget.ESNext,
  module: ts.ModuleKind.ESNext,
  moduleResolution: ts.ModuleResolutionKind.Bundler,
  lib: ["lib.esnext.d.ts"],
  types: [],
  skipLibCheck: true,
};
