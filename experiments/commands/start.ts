// Starts the command line. With a V8 flag that can only be set when a process starts, V8 fuses pairs of
// 128-bit WebAssembly vectors into 256-bit ones (decision 15). So on processors with such vectors the
// command runs in a child process; this one forwards signals and exits with the child's status.
import { flagsVariable, wideFlags } from "../../backends/wasm/engine.ts";
import { endings } from "../io/interrupt.ts";

/** Whether the processor has 256-bit vectors (AVX2); assumed where it cannot be determined. */
const hasAvx2 = (): boolean => {
  if (Deno.build.arch !== "x86_64") return false;
  if (Deno.build.os !== "linux") return true;
  try {
    return /\bavx2\b/.test(Deno.readTextFileSync("/proc/cpuinfo"));
  } catch {
    return true;
  }
};

const startWide = async (args: readonly string[]): Promise<never> => {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", new URL("./main.ts", import.meta.url).href, ...args],
    env: { [flagsVariable]: wideFlags.join(",") },
    stdin: "inherit",
    stdout: "inherit",
    stderr: "inherit",
  }).spawn();
  // Ctrl-C reaches parent and child; a second SIGINT has no effect.
  const passOn = endings.map((signal) => {
    const listener = () => {
      try {
        child.kill(signal);
      } catch {
        // The child has just exited.
      }
    };
    Deno.addSignalListener(signal, listener);
    return () => Deno.removeSignalListener(signal, listener);
  });
  const { code, signal } = await child.status;
  passOn.forEach((stop) => stop());
  if (signal !== null) Deno.kill(Deno.pid, signal);
  return Deno.exit(code);
};

if (import.meta.main) {
  // If DENO_V8_FLAGS is set already, it is left as it is.
  if (hasAvx2() && !Deno.env.has(flagsVariable)) await startWide(Deno.args);
  else {
    const { main } = await import("./main.ts");
    await main();
  }
}
