// Recordings are decoded in a process of its own: one that checks its memory whatever this one does, that
// is begun anew when it dies, and that leaves with who asked.
import { assert, assertEquals, assertMatch, assertNotMatch, assertStrictEquals } from "@std/assert";
import * as E from "fp-ts/Either.js";
import { decodeRecording } from "../../../../experiments/data/audio/recording.ts";
import { recordingErrorText } from "../../../../experiments/data/audio/errors.ts";
import { wav16 } from "../../../../experiments/formats/wav.ts";
import { assertSameNumbers } from "../../../support/same_numbers.ts";

const recording = wav16(Float32Array.from({ length: 8000 }, (_, t) => Math.sin(t / 9) / 2), 16000);

const samplesOf = async () => {
  const decoded = await decodeRecording(recording)();
  if (E.isLeft(decoded)) throw new Error(recordingErrorText(decoded.left));
  return decoded.right;
};

/** The decoders that a process started and that live, as Linux knows them. */
const decodersOf = (parent: number): readonly number[] =>
  [...Deno.readDirSync("/proc")].map(({ name }) => Number(name)).filter((pid) => {
    try {
      const [state, its] = Deno.readTextFileSync(`/proc/${pid}/stat`).split(") ")[1].split(" ");
      return Number(its) === parent && state !== "Z" &&
        Deno.readTextFileSync(`/proc/${pid}/cmdline`).includes("decoder_process");
    } catch {
      return false; // No process, or one that has ended.
    }
  });

const onLinux = (name: string, fn: () => Promise<void>) =>
  Deno.test({ name, fn, ignore: Deno.build.os !== "linux" });

const until = async (holds: () => boolean): Promise<void> => {
  for (let k = 0; k < 400 && !holds(); k++) {
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  assert(holds());
};

onLinux("many recordings that are asked for at once are decoded by one process", async () => {
  const all = await Promise.all(Array.from({ length: 20 }, samplesOf));
  assert(all.every((samples) => samples.length === 8000 && Math.abs(samples[14]) > 0.4));
  assertStrictEquals(decodersOf(Deno.pid).length, 1);
});

onLinux("signals of a terminal do not end it, and one that was killed is begun anew", async () => {
  const wanted = await samplesOf();
  const [first] = decodersOf(Deno.pid);
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) Deno.kill(first, signal);
  assertSameNumbers(await samplesOf(), wanted);
  assertEquals(decodersOf(Deno.pid), [first]);
  Deno.kill(first, "SIGKILL");
  assertSameNumbers(await samplesOf(), wanted);
  const [second, ...others] = decodersOf(Deno.pid);
  assert(second !== first && others.length === 0);
});

onLinux("a recording at which decoders end again and again is told", async () => {
  const long = wav16(new Float32Array(8000 * 600), 8000); // It takes a while.
  const killing = setInterval(() => {
    decodersOf(Deno.pid).forEach((pid) => Deno.kill(pid, "SIGKILL"));
  }, 1);
  const decoded = await decodeRecording(long)().finally(() => clearInterval(killing));
  assert(E.isLeft(decoded));
  assertStrictEquals(
    recordingErrorText(decoded.left),
    "it cannot be decoded: its decoder ended by SIGKILL",
  );
  assertStrictEquals((await samplesOf()).length, 8000);
});

// A process that decodes under flags by which V8 checks no access, and tells what its decoder was told.
const asking = `
  import { decodeRecording } from "${new URL(
  "../../../../experiments/data/audio/recording.ts",
  import.meta.url,
)}";
  const decoded = await decodeRecording(Deno.readFileSync(Deno.args[0]))();
  console.log(decoded._tag);
  if (Deno.args[1] === "stay") setInterval(() => {}, 1000);
`;

onLinux("it is told none of the flags, may do nothing, and leaves with who asked", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeFile(`${folder}/one.wav`, recording);
    await Deno.writeTextFile(`${folder}/asking.ts`, asking);
    const config = new URL("../../../../deno.json", import.meta.url).pathname;
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", "--config", config, `${folder}/asking.ts`].concat(
        [`${folder}/one.wav`, "stay"],
      ),
      env: { DENO_V8_FLAGS: "--no-wasm-bounds-checks" },
      stdout: "piped",
    }).spawn();
    const output = child.stdout.getReader();
    const line = new TextDecoder().decode((await output.read()).value);
    assertMatch(line, /^Right$/m);
    const [decoder] = decodersOf(child.pid);
    const environment = (pid: number) => Deno.readTextFileSync(`/proc/${pid}/environ`);
    assertMatch(environment(child.pid), /DENO_V8_FLAGS/);
    assertNotMatch(environment(decoder), /DENO_V8_FLAGS/);
    assertNotMatch(Deno.readTextFileSync(`/proc/${decoder}/cmdline`), /-A|allow/);
    child.kill("SIGKILL");
    await child.status;
    await output.cancel();
    await until(() => decodersOf(1).concat(decodersOf(child.pid)).every((pid) => pid !== decoder));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

/** A thread that decodes what it is sent, and says what came of it. */
const thread = (): Worker => {
  const source = `
    import { decodeRecording } from "${new URL(
    "../../../../experiments/data/audio/recording.ts",
    import.meta.url,
  )}";
    self.onmessage = async ({ data }) => {
      const said = decodeRecording(data)().then(({ _tag }) => _tag, ({ message }) => message);
      self.postMessage(await said);
    };
  `;
  const url = URL.createObjectURL(new Blob([source], { type: "text/typescript" }));
  return new Worker(url, { type: "module" });
};

const saidBy = (worker: Worker): Promise<unknown> => {
  const said = new Promise((resolve) => worker.onmessage = ({ data }) => resolve(data));
  worker.postMessage(recording);
  return said;
};

onLinux("a thread that ends leaves no decoder", async () => {
  const before = decodersOf(Deno.pid).length, worker = thread();
  assertStrictEquals(await saidBy(worker), "Right");
  assertStrictEquals(decodersOf(Deno.pid).length, before + 1);
  worker.terminate();
  await until(() => decodersOf(Deno.pid).length === before);
});

onLinux("a decoder that cannot begin is no fault of a recording's", async () => {
  const folder = await Deno.makeTempDir(), worker = thread();
  // Neither a cache with the decoders in it nor a place to fetch them from.
  const wrong = { DENO_DIR: folder, NPM_CONFIG_REGISTRY: "http://127.0.0.1:9" };
  const names = Object.keys(wrong), before = names.map((name) => Deno.env.get(name));
  Object.entries(wrong).forEach(([name, value]) => Deno.env.set(name, value));
  try {
    assertStrictEquals(
      await saidBy(worker),
      "the process that decodes recordings ended with status 1 before it began; what it said is above",
    );
  } finally {
    names.forEach((name, k) =>
      before[k] === undefined ? Deno.env.delete(name) : Deno.env.set(name, before[k])
    );
    worker.terminate();
    await Deno.remove(folder, { recursive: true });
  }
});
