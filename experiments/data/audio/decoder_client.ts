// Client of the decoder process, one process per decoding thread: the engine of compute code may run
// without WebAssembly bounds checks (decision 15), that of decoders of untrusted files must not.
import * as E from "fp-ts/Either.js";
import { flagsVariable } from "../../../backends/wasm/engine.ts";
import { answerNumbers, greeting, type Wanted } from "./decoder_protocol.ts";
import type { RecordingError } from "./errors.ts";

interface Decoder {
  readonly child: Deno.ChildProcess;
  readonly input: WritableStreamDefaultWriter<Uint8Array>;
  readonly output: ReadableStreamBYOBReader;
  /** Whether its handshake has been read. */
  began: boolean;
}

const start = (): Decoder => {
  const { [flagsVariable]: _, ...env } = Deno.env.toObject();
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", new URL("./decoder_process.ts", import.meta.url).href],
    clearEnv: true,
    env,
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  return {
    child,
    input: child.stdin.getWriter(),
    output: child.stdout.getReader({ mode: "byob" }),
    began: false,
  };
};

/** Reads exactly `length` bytes; undefined if the process ended before. */
const read = async (
  { output }: Decoder,
  length: number,
): Promise<Uint8Array<ArrayBuffer> | undefined> => {
  let buffer = new ArrayBuffer(length);
  for (let done = 0; done < length;) {
    const { value } = await output.read(new Uint8Array(buffer, done));
    if (value === undefined || value.length === 0) return undefined;
    buffer = value.buffer;
    done += value.length;
  }
  return new Uint8Array(buffer);
};

type Decoded = E.Either<RecordingError, Float32Array>;

const ask = async (
  decoder: Decoder,
  file: Uint8Array,
  { rate, shortest }: Wanted,
): Promise<Decoded | undefined> => {
  decoder.began ||= (await read(decoder, greeting)) !== undefined;
  if (!decoder.began) return undefined;
  try {
    const head = new Uint8Array(Float64Array.of(file.length, rate, shortest).buffer);
    const request = new Uint8Array(head.length + file.length);
    request.set(head);
    request.set(file, head.length);
    await decoder.input.write(request);
  } catch {
    return undefined; // It no longer reads.
  }
  const head = await read(decoder, 8 * answerNumbers);
  if (head === undefined) return undefined;
  const [errorLength, length] = new Float64Array(head.buffer);
  const error = await read(decoder, errorLength), samples = await read(decoder, 4 * length);
  if (error === undefined || samples === undefined) return undefined;
  return errorLength > 0
    ? E.left(JSON.parse(new TextDecoder().decode(error)))
    : E.right(new Float32Array(samples.buffer));
};

let running: Decoder | undefined;
let report: (pid: number | undefined) => void = () => {};

/** Calls a listener with the id of each process that is started here, and when it has ended. */
export const onDecoder = (listener: typeof report): void => {
  report = listener;
};

/** Kills a decoder process, which may hang and not notice that its client is gone. */
export const killDecoder = (pid: number | undefined = running?.child.pid): void => {
  if (pid === undefined) return;
  try {
    Deno.kill(pid, "SIGKILL");
  } catch {
    // It has just exited.
  }
};

let before: Promise<unknown> = Promise.resolve();

const decodeNow = async (file: Uint8Array, wanted: Wanted): Promise<Decoded> => {
  let end: Deno.CommandStatus | undefined;
  // The process may have been killed for a reason unrelated to this file, so one retry.
  for (let attempt = 0; attempt < 2; attempt++) {
    if (running === undefined) report((running = start()).child.pid);
    running.child.ref();
    const decoded = await ask(running, file, wanted);
    if (decoded !== undefined) {
      running.child.unref(); // Idle: does not keep the event loop alive.
      return decoded;
    }
    end = await running.child.status;
    const { began } = running;
    running = undefined;
    report(undefined);
    // Ended before the handshake, so not because of a file.
    if (!began && end.signal === null) {
      throw new Error(
        `the process that decodes recordings ended ${describe(end)} before it began; ` +
          "what it said is above",
      );
    }
  }
  return E.left({ _tag: "Undecodable", reason: `its decoder ended ${describe(end!)}` });
};

const describe = ({ code, signal }: Deno.CommandStatus): string =>
  signal === null ? `with status ${code}` : `by ${signal}`;

/** Decodes a recording in the decoder process, after all earlier requests. */
export const decodeElsewhere = (
  file: Uint8Array,
  wanted: Wanted,
): Promise<Decoded> => {
  const decoded = before.then(() => decodeNow(file, wanted));
  before = decoded.catch(() => {});
  return decoded;
};
