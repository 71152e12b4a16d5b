// Copies of the tree: to be packed, and with an edit to be tried.
import { cp, mkdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";

/** The root of this tree. */
export const root = fileURLToPath(new URL("../../", import.meta.url));

/** What runs; documents are not needed for it. */
const parts = [
  ...["mod.ts", "deno.json", "deno.lock"],
  ...["backends", "bench", "dsl", "experiments", "models", "tests"],
];

/** Copies the tree at `from` to a folder, which is made. */
export const copyTree = async (from: string, to: string): Promise<void> => {
  await mkdir(to, { recursive: true });
  const filter = (path: string) => !path.endsWith("__pycache__");
  for (const part of parts) {
    await cp(`${from}/${part}`, `${to}/${part}`, { recursive: true, filter });
  }
};
