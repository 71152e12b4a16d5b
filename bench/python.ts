// Which Python has PyTorch, for what is measured beside it.

const hasTorch = async (python: string): Promise<boolean> => {
  try {
    const { success } = await new Deno.Command(python, {
      args: ["-c", "import torch"],
      stdout: "null",
      stderr: "null",
    }).output();
    return success;
  } catch {
    return false;
  }
};

/** The Python that was asked for, or one of the path or the system, if it has PyTorch. */
export const findPython = async (asked: string | undefined): Promise<string | undefined> => {
  for (const python of asked === undefined ? ["python3", "/usr/bin/python3"] : [asked]) {
    if (await hasTorch(python)) return python;
  }
  return undefined;
};
