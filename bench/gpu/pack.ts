// Packs what a machine with a GPU and no network needs to run the day (Linux, x86_64, glibc): this Deno,
// the npm packages with Dawn, libraries that may be missing there, and the tree as it stands. What is slow
// to compress is kept when the same is packed into the same folder again.
import { cp } from "node:fs/promises";
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { dirname, relative } from "node:path";
import { LIBRARIES } from "./libraries.ts";
import { copyTree, root } from "./tree.ts";

/** How to pack. */
export interface PackOptions {
  /** Nothing is compressed, and no libraries are fetched: quick, for a rehearsal. */
  readonly plain: boolean;
  readonly say: (line: string) => void;
}

/** `contents.json` of a packed folder: of each part the SHA-256 of what it holds and its size there. */
export interface Contents {
  readonly revision: string;
  readonly deno: string;
  readonly parts: Readonly<Record<string, { readonly sha256: string; readonly bytes: number }>>;
}

/** Runs a program to its end; throws what it said when it fails. */
const output = async (
  program: string,
  args: readonly string[],
  cwd?: string,
): Promise<string> => {
  const { success, stdout, stderr } = await new Deno.Command(program, {
    args: [...args],
    ...(cwd === undefined ? {} : { cwd }),
    env: { NO_COLOR: "1" },
  }).output();
  if (success) return new TextDecoder().decode(stdout);
  throw new Error(`${program} ${args[0]}: ${new TextDecoder().decode(stderr).trim()}`);
};

/** What a tree is, in words: its revision, from Git or from what was written when it was packed. */
export const revisionOf = async (tree: string): Promise<string> => {
  try {
    return (await Deno.readTextFile(`${tree}/revision`)).trim();
  } catch {
    try {
      const commit = (await output("git", ["rev-parse", "--short", "HEAD"], tree)).trim();
      const changes = await output("git", ["status", "--porcelain"], tree);
      return changes === "" ? commit : `${commit} with changes`;
    } catch {
      return "of an unknown revision";
    }
  }
};

/** Where Deno keeps what it has fetched. */
export const denoFolders = (): { readonly denoDir: string; readonly npmCache: string } => {
  const { stdout } = new Deno.Command(Deno.execPath(), { args: ["info", "--json"] }).outputSync();
  return JSON.parse(new TextDecoder().decode(stdout));
};

/** What the day starts, for Deno to say which packages it needs. */
const entries = [
  "bench/gpu/main.ts",
  "bench/gpu/adapters.ts",
  "bench/gpu/steps.ts",
  "bench/peers.ts",
]
  .concat("experiments/commands/main.ts", "tests/backends/random_programs_test.ts");

interface Package {
  readonly name: string;
  readonly version: string;
  readonly localPath: string;
}

/** The npm packages of the day, and the folder in which Deno keeps all. */
const packages = async (
  say: PackOptions["say"],
): Promise<{ readonly cache: string; readonly found: readonly Package[] }> => {
  const deno = (...args: readonly string[]) => output(Deno.execPath(), args, root);
  // Dawn and SwiftShader are loaded when they are asked for; Deno's cache has them after a test.
  const found = new Map<string, Package>();
  for (const entry of [...entries, "npm:webgpu", "npm:@sparticuz/chromium"]) {
    const version = entry.replace("npm:", "");
    const specifier = entry.startsWith("npm:") ? import.meta.resolve(version) : entry;
    const { npmPackages = {} } = JSON.parse(await deno("info", "--json", specifier)) as {
      readonly npmPackages?: Readonly<Record<string, Package>>;
    };
    for (const [key, one] of Object.entries(npmPackages)) found.set(key, one);
  }
  const missing = [...found.values()].filter(({ localPath }) => {
    try {
      return !Deno.statSync(localPath).isDirectory;
    } catch {
      return true;
    }
  });
  for (const { name, version } of missing) say(`${name} ${version} is not in Deno's cache`);
  return {
    cache: denoFolders().npmCache,
    found: [...found.values()].filter((one) => !missing.includes(one)),
  };
};

/** Packages of which only a few files are needed, of the others all but what editors read. */
const only: Readonly<Record<string, RegExp>> = {
  // The driver, without the browser.
  "@sparticuz/chromium": /^package\.json$|^build\/|^bin\/swiftshader\.tar\.br$/,
  webgpu: /^[^/]+$|^dist\/linux-x64\//,
  // Only their names, so that Deno does not ask for them: not compared there.
  "@tensorflow/tfjs-core": /^package\.json$/,
  "@tensorflow/tfjs-backend-wasm": /^package\.json$/,
  "@tensorflow/tfjs-backend-webgpu": /^package\.json$/,
  typescript: /^package\.json$/,
};
const unread = /\.(?:map|md|d\.[mc]?ts)$|^(?:prebuilds|test|tests)\//;

const isFile = async (path: string): Promise<boolean> => {
  try {
    return (await Deno.stat(path)).isFile;
  } catch {
    return false;
  }
};

const copyPackages = async (to: string, say: PackOptions["say"]): Promise<void> => {
  const { cache, found } = await packages(say);
  for (const { name, localPath } of found) {
    const folder = `${to}/npm/${relative(cache, localPath)}`;
    const isKept = (path: string) => {
      const inside = relative(localPath, path);
      if (inside === "" || Deno.statSync(path).isDirectory) return true;
      return only[name]?.test(inside) ?? !unread.test(inside);
    };
    await Deno.mkdir(dirname(folder), { recursive: true });
    await cp(localPath, folder, { recursive: true, filter: isKept });
    const registry = `${dirname(localPath)}/registry.json`;
    if (await isFile(registry)) await Deno.copyFile(registry, `${dirname(folder)}/registry.json`);
  }
  if (!found.some(({ name }) => name === "webgpu")) {
    throw new Error("Dawn is not in Deno's cache; run `deno task test` once, with a network");
  }
};

/** Fetches libraries as packages of Debian. What is not to be had is said, and the rest is packed. */
const fetchLibraries = async (
  to: string,
  scratch: string,
  say: PackOptions["say"],
): Promise<void> => {
  for (const [name, file] of Object.entries(LIBRARIES)) {
    try {
      const folder = `${scratch}/${name}`;
      await Deno.mkdir(folder, { recursive: true });
      await output("apt-get", ["-qq", "download", `${name}:amd64`], folder);
      const [{ name: archive }] = [...Deno.readDirSync(folder)];
      await output("dpkg", ["-x", archive, "."], folder);
      const at = (await output("find", [folder, "-name", file])).split("\n")[0];
      // A link's own content, under the name that the loader looks for.
      await Deno.copyFile(await Deno.realPath(at), `${to}/${file}`);
    } catch (error) {
      const why = error instanceof Error ? error.message.split("\n")[0] : error;
      say(`${file} is not packed: ${why}`);
    }
  }
};

const sha256 = async (path: string): Promise<string> => {
  const hash = createHash("sha256");
  for await (const bytes of createReadStream(path)) hash.update(bytes);
  return hash.digest("hex");
};

const readContents = async (out: string): Promise<Contents | undefined> => {
  try {
    return JSON.parse(await Deno.readTextFile(`${out}/contents.json`));
  } catch {
    return undefined;
  }
};

/** Packs into a folder, and says what it weighs. Throws an Error with a sentence where it cannot. */
export const pack = async (out: string, { plain, say }: PackOptions): Promise<Contents> => {
  if (Deno.build.target !== "x86_64-unknown-linux-gnu") {
    throw new Error(
      `what is packed runs on Linux, x86_64 with glibc, but this is ${Deno.build.target}`,
    );
  }
  await Deno.mkdir(out, { recursive: true });
  const before = await readContents(out);
  const scratch = await Deno.makeTempDir({ prefix: "gpu-pack-" });
  try {
    await Deno.mkdir(`${scratch}/packages/libraries`, { recursive: true });
    await copyPackages(`${scratch}/packages/deno`, say);
    if (!plain) await fetchLibraries(`${scratch}/packages/libraries`, `${scratch}/debian`, say);
    const revision = await revisionOf(root.replace(/\/$/, ""));
    await copyTree(root, `${scratch}/tree`);
    await Deno.writeTextFile(`${scratch}/tree/revision`, `${revision}\n`);
    // The same files make the same archive, whenever and by whom it is packed.
    const same = ["--sort=name", "--mtime=@0", "--owner=0", "--group=0"];
    for (const part of ["packages", "tree"]) {
      await output("tar", [`-cf`, `${part}.tar`, ...same, "-C", part, "."], scratch);
    }
    await Deno.copyFile(Deno.execPath(), `${scratch}/deno`);
    const parts: Record<string, { sha256: string; bytes: number }> = {};
    for (const name of ["deno", "packages.tar", "tree.tar"]) {
      const sum = await sha256(`${scratch}/${name}`), to = plain ? name : `${name}.xz`;
      if (before?.parts[to]?.sha256 !== sum || !await isFile(`${out}/${to}`)) {
        if (plain) await Deno.copyFile(`${scratch}/${name}`, `${out}/${to}`);
        else {
          say(`compressing ${name}`);
          // Machine code is smaller when it is filtered as such.
          await output("xz", ["--x86", "--lzma2=preset=9e,dict=64MiB", `${scratch}/${name}`]);
          await Deno.copyFile(`${scratch}/${name}.xz`, `${out}/${to}`);
        }
      }
      await Deno.remove(`${out}/${plain ? `${name}.xz` : name}`).catch(() => {});
      parts[to] = { sha256: sum, bytes: (await Deno.stat(`${out}/${to}`)).size };
    }
    await Deno.copyFile(new URL("start.sh", import.meta.url), `${out}/start.sh`);
    const contents = { revision, deno: Deno.version.deno, parts };
    await Deno.writeTextFile(`${out}/contents.json`, `${JSON.stringify(contents, undefined, 2)}\n`);
    const sizes = Object.entries(parts).map(([name, { bytes }]) =>
      `${name} ${(bytes / 2 ** 20).toFixed(1)} MiB`
    );
    say(`packed Formant ${revision} with Deno ${Deno.version.deno}: ${sizes.join(", ")}`);
    return contents;
  } finally {
    await Deno.remove(scratch, { recursive: true });
  }
};
