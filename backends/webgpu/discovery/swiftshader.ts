// SwiftShader without an installation: the npm package `@sparticuz/chromium` contains it, with a
// Vulkan loader, as a compressed archive. It is large, so it is fetched only on request, unpacked
// once into the user's cache folder (or a temporary one if that is not writable), and named to
// Vulkan by an environment variable.
import { Buffer } from "node:buffer";
import { homedir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliDecompressSync } from "node:zlib";
import * as TE from "fp-ts/TaskEither.js";

/** The paths of an unpacked SwiftShader. */
export interface SwiftShader {
  /** The driver's description, the value of `VK_DRIVER_FILES`. */
  readonly driver: string;
  /** A Vulkan loader, for machines that have none. */
  readonly loader: string;
}

/** One file of a tar archive. */
export interface ArchiveFile {
  /** Its path inside the archive. */
  readonly name: string;
  /** Its content, a view of the archive. */
  readonly bytes: Uint8Array;
}

const ARCHIVE = join("bin", "swiftshader.tar.br");
const DRIVER = "vk_swiftshader_icd.json";
const LOADER = "libvulkan.so.1";
const NEEDED: readonly string[] = [DRIVER, LOADER, "libvk_swiftshader.so"];

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes).replace(/\0.*$/s, "");

/**
 * The plain files of a tar archive (ustar: headers of 512 bytes, sizes in octal). An archive that
 * ends early is a RangeError.
 */
export const untar = (archive: Uint8Array): readonly ArchiveFile[] => {
  const files: ArchiveFile[] = [];
  let at = 0;
  while (at + 512 <= archive.length && archive[at] !== 0) {
    const header = archive.subarray(at, at + 512);
    const name = text(header.subarray(0, 100));
    const size = parseInt(text(header.subarray(124, 136)), 8);
    if (!(at + 512 + size <= archive.length)) {
      throw new RangeError(`the archive ends inside '${name}'`);
    }
    const kind = header[156];
    if (kind === 0 || kind === 0x30) {
      files.push({ name, bytes: archive.subarray(at + 512, at + 512 + size) });
    }
    at += 512 + 512 * Math.ceil(size / 512);
  }
  return files;
};

/** The user's cache folder for this package. */
export const cacheFolder = (): string =>
  join(Deno.env.get("XDG_CACHE_HOME") || join(homedir(), ".cache"), "formant");

const exists = async (path: string): Promise<boolean> => {
  try {
    return (await Deno.stat(path)).isFile;
  } catch {
    return false;
  }
};

const deno = async (...args: readonly string[]): Promise<string> => {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [...args],
    env: { NO_COLOR: "1" },
  }).output();
  if (success) return new TextDecoder().decode(stdout);
  const said = new TextDecoder().decode(stderr).trim().split("\n");
  throw new Error(said.find((line) => line.startsWith("error")) ?? said.at(-1));
};

interface PackageInfo {
  readonly npmPackages?: Readonly<
    Record<string, { readonly name: string; readonly version: string; readonly localPath?: string }>
  >;
}

/**
 * Fetches the package if needed and finds its folder. An `import` would fetch it for all users,
 * even if unused, and could not reach its archives; so a Deno process is run.
 */
const packageFolder = async (): Promise<{ readonly path: string; readonly version: string }> => {
  // A file if the lock file names the package, otherwise `npm:` and the range in the import map.
  const resolved = import.meta.resolve("@sparticuz/chromium");
  const folder = resolved.startsWith("file:") ? fileURLToPath(new URL("..", resolved)) : undefined;
  if (folder !== undefined && await exists(join(folder, ARCHIVE))) {
    const { version } = JSON.parse(await Deno.readTextFile(join(folder, "package.json")));
    return { path: folder, version };
  }
  const specifier = folder === undefined ? resolved : `npm:@sparticuz/chromium@${basename(folder)}`;
  await deno("cache", "--no-lock", "--no-config", "--quiet", specifier);
  const info: PackageInfo = JSON.parse(
    await deno("info", "--no-lock", "--no-config", "--json", specifier),
  );
  const found = Object.values(info.npmPackages ?? {}).find((one) =>
    one.name === "@sparticuz/chromium"
  );
  if (found?.localPath === undefined) throw new Error(`Deno does not say where ${specifier} lies`);
  return { path: found.localPath, version: found.version };
};

const unpack = async (archive: string, folder: string): Promise<void> => {
  const files = untar(brotliDecompressSync(Buffer.from(await Deno.readFile(archive))));
  const missing = NEEDED.filter((name) => !files.some((file) => file.name === name));
  if (missing.length > 0) throw new Error(`${archive} lacks ${missing.join(", ")}`);
  const temporary = `${folder}.${crypto.randomUUID()}`;
  try {
    await Deno.mkdir(temporary, { recursive: true });
    for (const { name, bytes } of files.filter((file) => NEEDED.includes(file.name))) {
      await Deno.writeFile(join(temporary, name), bytes, { mode: 0o755 });
    }
    await Deno.rename(temporary, folder);
  } catch (cause) {
    await Deno.remove(temporary, { recursive: true }).catch(() => {});
    // Another process may have been faster; its folder is as good.
    if (!(await exists(join(folder, DRIVER)))) throw cause;
  }
};

/** Unpacks once for this process, into a new folder of its own: a shared one could hold others' code. */
const unpackTemporarily = async (archive: string): Promise<string> => {
  const parent = await Deno.makeTempDir({ prefix: "formant-" });
  globalThis.addEventListener("unload", () => Deno.removeSync(parent, { recursive: true }));
  const folder = join(parent, "swiftshader");
  await unpack(archive, folder);
  return folder;
};

const unpacked = async (archive: string, version: string): Promise<string> => {
  const folder = join(cacheFolder(), `swiftshader-${version}`);
  if (await exists(join(folder, DRIVER))) return folder;
  try {
    await Deno.mkdir(cacheFolder(), { recursive: true });
    await unpack(archive, folder);
    return folder;
  } catch (cause) {
    // The cache folder is full or not writable; any other error occurs again below.
    try {
      return await unpackTemporarily(archive);
    } catch {
      throw cause;
    }
  }
};

/**
 * Finds SwiftShader in the cache folder, or fetches and unpacks it. On the left, a sentence on why
 * it is not available.
 */
export const swiftshader = (): TE.TaskEither<string, SwiftShader> =>
  TE.tryCatch(
    async () => {
      if (Deno.build.os !== "linux" || Deno.build.arch !== "x86_64") {
        throw new Error(
          `it is packaged for linux x86_64 only, this is ${Deno.build.os} ${Deno.build.arch}`,
        );
      }
      const { path, version } = await packageFolder();
      const folder = await unpacked(join(path, ARCHIVE), version);
      return { driver: join(folder, DRIVER), loader: join(folder, LOADER) };
    },
    (cause) => `SwiftShader could not be set up: ${cause instanceof Error ? cause.message : cause}`,
  );
