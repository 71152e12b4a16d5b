// Starts the command line. WebAssembly has vectors of 128 bits; V8 makes vectors of 256 bits of them where
// it is told to (decision 15), which only the start of a process can tell it. So where the processor has
// such vectors, the command runs in a process below this one, which passes signals on and ends as it does.
import { flagsVariable, wideFlags } from "../../backends/wasm/engine.ts";
import { endings } from "../io/interrupt.ts";

/** Whether the processor has vectors of 256 bits; where that cannot be read, those of today have. */
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
  // A terminal's Ctrl-C reaches both: hearing it twice is hearing it once.
  const passOn = endings.map((signal) => {
    const listener = () => {
      try {
        child.kill(signal);
      } catch {
        // It has just ended.
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
