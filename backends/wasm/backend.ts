// The WebAssembly backend: programs become one module of functions over one shared memory, whose
// layout is planned before anything runs. Equal kernels share a function; its arguments are the
// addresses of their storages.
import type { Backend, Machine, Program, Values } from "../backend.ts";
import { debugLevel, showNotFinite, showProgram } from "../debug.ts";
import { inTurn } from "../in_turn.ts";
import { axesOf, size } from "../lower/kernel_ir.ts";
import { assemble, type Func, memoryOf } from "./assembler/encode.ts";
import type { Call, Ended } from "./threads/work_queue.ts";
import { byteLength, compile, type Compiled, programReport, writesOf } from "./compile.ts";
import { type Engine, engineHere } from "./engine.ts";
import { helpers } from "./simd/micro_kernel.ts";
import { type Held, layOut } from "./memory_layout.ts";
import { measurePeaks } from "./peaks.ts";
import { openPool } from "./threads/pool.ts";

/** Options of the backend. */
export interface WasmOptions {
  /** Threads, the calling one included; by default as many as the machine has. */
  readonly threads?: number;
  /** Fused multiply-add; by default where the engine has it. */
  readonly relaxed?: boolean;
  /** 256-bit vectors; by default if V8 was started with the flags that fuse pairs (`wideFlags`). */
  readonly wide?: boolean;
  /** Products of more bytes that are only reduced again are not stored; 64 MiB. */
  readonly storedLimit?: number;
}

/** Distinct functions in order of first use, after those that every module has. */
const functionTable = (always: readonly Func[]) => {
  const functions: Func[] = [...always];
  const known = new Map<string, number>();
  const decoder = new TextDecoder("latin1");
  return {
    functions,
    indexOf: (func: Func): number => {
      const key = `${func.locals.join()} ${decoder.decode(Uint8Array.from(func.body))}`;
      const found = known.get(key) ?? functions.push(func) - 1;
      known.set(key, found);
      return found;
    },
  };
};

/** The backend on this machine's processor. */
export const wasmBackend = (options: WasmOptions = {}): Backend => {
  const here = engineHere();
  const engine: Engine = {
    relaxed: options.relaxed ?? here.relaxed,
    wide: options.wide ?? here.wide,
  };
  const level = debugLevel();
  const pool = openPool(options.threads ?? navigator.hardwareConcurrency);
  const { threads } = pool;
  const simd = `${engine.relaxed ? "relaxed " : ""}SIMD${engine.wide ? " of 256 bits" : ""}`;
  const name = `WebAssembly (${simd}, ${threads} ${threads === 1 ? "thread" : "threads"})`;

  let always: readonly Func[] | undefined;
  const open = async (programs: Readonly<Record<string, Program>>): Promise<Machine> => {
    const compiled = new Map(
      Object.entries(programs).map(([key, program]) =>
        [key, compile(program, { engine, storedLimit: options.storedLimit })] as const
      ),
    );
    const layout = layOut(compiled, threads);
    const table = functionTable(always ??= helpers(engine));
    const functionsOf = new Map<string, Set<number>>();
    const calls = [...compiled].map(([key, { steps }]): readonly Call[] => {
      const args = layout.args.get(key)!;
      const list = steps.flatMap(({ launches }) => launches).map(({ func, units }, k) => ({
        func: table.indexOf(func),
        args: args[k],
        units,
      }));
      functionsOf.set(key, new Set(list.map((call) => call.func)));
      return list;
    });
    const memory = memoryOf(layout.pages, pool.shared);
    const began = performance.now();
    const module = await WebAssembly.compile(assemble(table.functions, layout.pages, pool.shared));
    const compiling = performance.now() - began;
    // When kernels are measured or checked one by one, each call is also a program of its own.
    const checked = level >= 4;
    const singles = checked ? calls.flat().map((call) => [call]) : [];
    const team = pool.open({
      module,
      memory,
      programs: [...calls, ...singles],
      scratch: layout.scratch,
    });
    const { buffer } = memory;
    for (const [key, { steps }] of compiled) {
      steps.flatMap(({ launches }) => launches).forEach(({ storages }, k) => {
        const at = layout.args.get(key)![k];
        new Uint32Array(buffer, at, storages.length).set(
          storages.map((storage) => layout.address(key, storage)),
        );
      });
    }
    const elements = ({ storage, address }: Held): Float32Array | Uint32Array =>
      storage.dtype === "f32"
        ? new Float32Array(buffer, address, size(storage.dims))
        : new Uint32Array(buffer, address, size(storage.dims));
    const fill = (held: Held, data: Float32Array | Uint32Array) => elements(held).set(data);
    for (const held of layout.literals) fill(held, held.storage.data!);
    const copied = (held: Held) => elements(held).slice();
    const keys = [...compiled.keys()];
    const programOf = (key: string) => compiled.get(key)!;
    const report = (key: string) => programReport(programOf(key), functionsOf.get(key)!.size);
    if (level >= 1) {
      for (const [key, { took }] of compiled) {
        showProgram(level, key, report(key), {
          ...took,
          pieces: "functions",
          compiling,
          devices: 1,
        });
      }
    }
    /** Runs a program of the module to its end. An error names the kernel's path. */
    const runAll = (key: string, number: number, paths: readonly string[], ended?: Ended) => {
      const failure = team.run(number, ended);
      if (failure === undefined) return;
      const { call, said } = failure;
      const what = call === undefined ? "" : `the kernel '${paths[call]}' of `;
      throw new Error(`${what}the program '${key}' failed: ${said}`);
    };
    /** Runs kernels one at a time, and reports the first that writes a value that is not finite. */
    const runChecked = (key: string, { steps }: Compiled) => {
      const before = keys.slice(0, keys.indexOf(key)).flatMap((one) => programOf(one).steps);
      let single = calls.length + before.flatMap(({ launches }) => launches).length;
      let sound = true;
      for (const { kernel, launches } of steps) {
        launches.forEach(() => runAll(key, single++, [kernel.path]));
        if (!sound) continue;
        const floats = writesOf(kernel).filter(({ dtype }) => dtype === "f32");
        sound = !floats.some((storage) =>
          showNotFinite(
            key,
            kernel.path,
            axesOf(storage.dims),
            elements({ storage, address: layout.address(key, storage) }) as Float32Array,
          )
        );
      }
    };
    const pathsOf = ({ steps }: Compiled): readonly string[] =>
      steps.flatMap(({ kernel, launches }) => launches.map(() => kernel.path));
    const give = (key: string, inputs: Values) =>
      layout.inputs.get(key)!.forEach((held, name) => fill(held, inputs[name]));
    const run = (key: string, ended?: Ended): Values => {
      const one = programOf(key), { lowered } = one;
      if (checked && ended === undefined) runChecked(key, one);
      else runAll(key, keys.indexOf(key), pathsOf(one), ended);
      const bytes = new Uint8Array(buffer);
      for (const { from, to } of lowered.copies) {
        const at = layout.address(key, from);
        bytes.copyWithin(layout.address(key, to), at, at + byteLength(from));
      }
      return Object.fromEntries(
        Object.entries(lowered.outputs).map(([name, storage]) => [
          name,
          copied({ storage, address: layout.address(key, storage) }),
        ]),
      );
    };
    return {
      write: (values) => {
        for (const [key, data] of Object.entries(values)) {
          const target = layout.params.get(key);
          if (target !== undefined) fill(target, data);
        }
      },
      // Inputs are copied at once; the microtask lets the caller start other work first.
      run: (key, inputs) => {
        give(key, inputs);
        return Promise.resolve().then(() => run(key));
      },
      read: (names) =>
        Promise.resolve(
          Object.fromEntries(names.map((key) => [key, copied(layout.params.get(key)!)])),
        ),
      time: (key, inputs) => {
        give(key, inputs);
        const owner = programOf(key).steps.flatMap(({ launches }, k) => launches.map(() => k));
        const times = programOf(key).steps.map(() => 0);
        return Promise.resolve().then(() => {
          let last = performance.now();
          run(key, (call) => {
            const now = performance.now();
            times[owner[call]] += now - last;
            last = now;
          });
          return times;
        });
      },
      report,
      close: team.close,
    };
  };
  return inTurn({
    name: "wasm",
    device: name,
    open,
    peaks: () => Promise.resolve().then(() => measurePeaks(pool, engine)),
    close: pool.close,
  });
};
