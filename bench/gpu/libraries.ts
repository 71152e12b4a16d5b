// Libraries that a GPU's driver wants and a bare machine may lack: the Vulkan loader, and what NVIDIA's
// driver links to even where there is no display. Fetched as packages of Debian when packing; on the
// machine only those are used that its own loader does not find.

/** Packages, and the file by which each library is known to the loader. */
export const LIBRARIES: Readonly<Record<string, string>> = {
  libvulkan1: "libvulkan.so.1",
  libegl1: "libEGL.so.1",
  libglvnd0: "libGLdispatch.so.0",
  libopengl0: "libOpenGL.so.0",
  libgl1: "libGL.so.1",
  libglx0: "libGLX.so.0",
  libgles2: "libGLESv2.so.2",
  "libx11-6": "libX11.so.6",
  libxext6: "libXext.so.6",
  libxcb1: "libxcb.so.1",
  libxau6: "libXau.so.6",
  libxdmcp6: "libXdmcp.so.6",
  libbsd0: "libbsd.so.0",
  libmd0: "libmd.so.0",
  "libstdc++6": "libstdc++.so.6",
  "libgcc-s1": "libgcc_s.so.1",
};

const loads = (name: string): boolean => {
  try {
    Deno.dlopen(name, {});
    return true;
  } catch {
    return false;
  }
};

/**
 * A value of LD_LIBRARY_PATH with a folder of those packed libraries that this machine lacks, which is
 * made anew; undefined where none is packed.
 */
export const chosenLibraries = async (folder: string): Promise<string | undefined> => {
  const packed = Deno.env.get("FORMANT_LIBRARIES");
  if (packed === undefined) return undefined;
  await Deno.remove(folder, { recursive: true }).catch(() => {});
  await Deno.mkdir(folder, { recursive: true });
  for await (const { name } of Deno.readDir(packed)) {
    if (!loads(name)) await Deno.copyFile(`${packed}/${name}`, `${folder}/${name}`);
  }
  // What the user has set stays before the system's own.
  return [folder, Deno.env.get("LD_LIBRARY_PATH") ?? ""].filter((one) => one !== "").join(":");
};
