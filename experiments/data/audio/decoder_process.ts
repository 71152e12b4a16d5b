// The decoder process: reads recordings from standard input, one at a time, and writes their samples or
// an error to standard output. It has no permissions, and exits at the end of its input.
import * as E from "fp-ts/Either.js";
import { decoder } from "./decode.ts";
import { greeting, requestNumbers } from "./decoder_protocol.ts";

/** Fills `into`; false at the end of the input. */
const readAll = (into: Uint8Array): boolean => {
  for (let done = 0; done < into.length;) {
    const count = Deno.stdin.readSync(into.subarray(done));
    if (count === null) return false;
    done += count;
  }
  return true;
};

const writeAll = (...parts: readonly Uint8Array[]): void => {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => {
    bytes.set(part, at);
    return at + part.length;
  }, 0);
  for (let done = 0; done < bytes.length;) done += Deno.stdout.writeSync(bytes.subarray(done));
};

const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array | Float64Array): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);

const serve = async (): Promise<void> => {
  writeAll(new Uint8Array(greeting));
  const decode = decoder(), request = new Float64Array(requestNumbers);
  while (readAll(bytesOf(request))) {
    const [length, rate, shortest] = request;
    const file = new Uint8Array(length);
    if (!readAll(file)) return;
    const decoded = await decode(file, { rate, shortest });
    const error = E.isLeft(decoded)
      ? new TextEncoder().encode(JSON.stringify(decoded.left))
      : new Uint8Array();
    const samples = E.isLeft(decoded) ? new Float32Array() : decoded.right;
    const head = Float64Array.of(error.length, samples.length);
    writeAll(bytesOf(head), error, bytesOf(samples));
  }
};

if (import.meta.main) {
  // Standard output is for answers only.
  console.log = console.info = console.debug = console.error;
  // A terminal signals all its processes. The parent decides when this one ends.
  const signals: readonly Deno.Signal[] = Deno.build.os === "windows"
    ? ["SIGINT"]
    : ["SIGINT", "SIGTERM", "SIGHUP"];
  for (const signal of signals) Deno.addSignalListener(signal, () => {});
  await serve();
  Deno.exit(0);
}
