// Only regular files are opened for reading: a named pipe blocks until another process writes to it, a
// device may be endless, and opening either may block forever.

/** What something is, in words; undefined for files and folders, which are distinguished elsewhere. */
const kindOf = (info: Deno.FileInfo): string | undefined => {
  if (info.isFile || info.isDirectory) return undefined;
  if (info.isFifo) return "a named pipe";
  if (info.isSocket) return "a socket";
  return info.isCharDevice || info.isBlockDevice ? "a device" : "something else";
};

/**
 * Why a path, after following links, is not opened, to follow the path in a message. Undefined for files
 * and folders, and if it cannot be determined: opening it says more.
 */
export const irregular = (path: string): string | undefined => {
  try {
    const kind = kindOf(Deno.statSync(path));
    return kind === undefined ? undefined : `it is not a regular file: ${kind}`;
  } catch (error) {
    return (error as { readonly code?: string }).code === "ELOOP"
      ? "it is not a regular file: a link that leads back to itself"
      : undefined;
  }
};

/** Opens a file for reading. Throws Deno's error, or one that says why it is not a regular file. */
export const openRegular = (path: string): Deno.FsFile => {
  const why = irregular(path);
  if (why !== undefined) throw new Error(why);
  return Deno.openSync(path);
};
