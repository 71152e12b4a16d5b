// Why something failed: an exception as the end of a sentence for the user.

/** The message of a failed system call or any other exception. */
export const reasonOf = (error: unknown): string => {
  if (error instanceof Deno.errors.NotFound) return "there is no such file";
  if (error instanceof Deno.errors.PermissionDenied) return "permission denied";
  if (error instanceof Deno.errors.IsADirectory) return "it is a folder";
  if (error instanceof Deno.errors.NotADirectory) return "it is not a folder";
  return error instanceof Error ? error.message : String(error);
};
