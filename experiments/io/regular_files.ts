// Only regular files are opened for reading: a named pipe gives nothing until another process
// writes to it, a device may give bytes without end, and opening either may block forever.

/** What something is, in words; undefined for files and folders, which are distinguished elsewhere. */
const kindOf = (info: Deno.FileInfo): string | undefined => {
  if (info.isFile || info.isDirectory) return undefined;
  if (info.isFifo) return "a named pipe";
  if (info.isSocket) return "a socket";
  return info.isCharDevice || info.isBlockDevice ? "a device" : "something else";
};

/**
 * Why what is at a path, or where links from there lead, is not opened, in words that follow its path.
 * Undefined for files and folders, and where that cannot be found out: opening it says more.
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

/** Opens a file to be read. Throws what Deno throws, or why it is not opened. */
export const openRegular = (path: string): Deno.FsFile => {
  const why = irregular(path);
  if (why !== undefined) throw new Error(why);
  return Deno.openSync(path);
};
