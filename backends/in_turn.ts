// The contract of every machine, whatever its device: programs are checked before they are opened,
// values before they are taken, calls are answered one at a time in the order in which they were
// made, and calls after `close` fail with a sentence. The backend below is used for one thing at a
// time.
import type { Backend, Machine, Program, Values } from "./backend.ts";
import { checked, type Names, refuseInputs, refuseValue } from "./checked.ts";

/** Whether the device of machines has been closed. */
interface Device {
  isClosed: boolean;
}

const there = (names: Iterable<string>): string => [...names].join(", ");

/**
 * A copy of the arguments of a call that must wait, since its caller may change the arrays
 * meanwhile.
 */
const kept = (values: Values): Values =>
  Object.fromEntries(
    Object.entries(values).map(([name, data]) => [
      name,
      data instanceof Float32Array || data instanceof Uint32Array ? data.slice() : data,
    ]),
  );

const machineInTurn = (machine: Machine, names: Names, device: Device): Machine => {
  const { write, run, read, report, time, close } = machine;
  /** Parameters that have values, and those that a failed run left undefined. */
  const set = new Set<string>(), unsure = new Set<string>();
  const waiting: (() => void)[] = [];
  let isBusy = false, isClosed = false;

  const isSet = (name: string) => {
    set.add(name);
    unsure.delete(name);
  };
  const refuseUnset = (list: readonly string[]) => {
    for (const name of list) {
      if (unsure.has(name)) {
        throw new RangeError(
          `the parameter '${name}' may be old or new in part, as a run that updates it failed; ` +
            "write it again",
        );
      }
      if (!set.has(name)) throw new RangeError(`the parameter '${name}' has not been set`);
    }
  };
  const refuseClosed = () => {
    if (isClosed) throw new Error("this machine is closed; open its programs again");
    if (device.isClosed) throw new Error("the device of this machine is closed; open it again");
  };
  const programOf = (key: string) => {
    const found = names.programs.get(key);
    if (found !== undefined) return found;
    throw new RangeError(`there is no program '${key}'; there is ${there(names.programs.keys())}`);
  };

  /** Runs something after all earlier calls: at once if there are none. */
  const inTurn = <R>(task: () => Promise<R>): Promise<R> =>
    new Promise((resolve, reject) => {
      const attempt = async (): Promise<R> => {
        refuseClosed();
        return await task();
      };
      const ended = (tell: () => void) => {
        const next = waiting.shift();
        isBusy = next !== undefined;
        if (isClosed && !isBusy) close();
        tell();
        next?.();
      };
      const begin = () => {
        isBusy = true;
        attempt().then(
          (result) => ended(() => resolve(result)),
          (error) => ended(() => reject(error)),
        );
      };
      if (isBusy) waiting.push(begin);
      else begin();
    });

  /** Runs or times a program once everything that it reads is known to be set. */
  const running = <R>(
    key: string,
    inputs: Values,
    way: (key: string, inputs: Values) => Promise<R>,
  ): Promise<R> => {
    const given = isBusy ? kept(inputs) : inputs;
    return inTurn(async () => {
      const { inputs: slots, reads, updates } = programOf(key);
      refuseUnset(reads);
      refuseInputs(slots, given);
      try {
        const result = await way(key, given);
        updates.forEach(isSet);
        return result;
      } catch (error) {
        updates.forEach((name) => unsure.add(name));
        throw device.isClosed
          ? new Error(`the device was closed while the program '${key}' ran`, { cause: error })
          : error;
      }
    });
  };

  return {
    write: (values) => {
      refuseClosed();
      const taken = Object.entries(values).filter(([name]) => names.params.has(name));
      for (const [name, data] of taken) {
        refuseValue(names.params.get(name)!, data, `the parameter '${name}'`);
      }
      const put = (given: Values) => {
        write(given);
        taken.forEach(([name]) => isSet(name));
      };
      const own = Object.fromEntries(taken);
      if (!isBusy) return put(own);
      const given = kept(own);
      // An error of the device is reported by the next call that waits for an answer.
      inTurn(async () => await put(given)).catch(() => {});
    },
    run: (key, inputs) => running(key, inputs, run),
    read: (list) => {
      const wanted = [...list];
      return inTurn(async () => {
        for (const name of wanted) {
          if (!names.params.has(name)) throw new RangeError(`there is no parameter '${name}'`);
        }
        refuseUnset(wanted);
        return await read(wanted);
      });
    },
    report: (key) => {
      refuseClosed();
      programOf(key);
      return report(key);
    },
    ...(time === undefined
      ? {}
      : { time: (key: string, inputs: Values) => running(key, inputs, time) }),
    close: () => {
      if (isClosed) return;
      isClosed = true;
      if (!isBusy) close();
    },
  };
};

/** A backend whose machines keep the contract, made from one that does one thing at a time. */
export const inTurn = (backend: Backend): Backend => {
  const { open, peaks, close } = backend;
  const device: Device = { isClosed: false };
  const refuseClosed = () => {
    if (device.isClosed) throw new Error(`the device '${backend.device}' is closed; open it again`);
  };
  return {
    ...backend,
    open: async (programs: Readonly<Record<string, Program>>) => {
      refuseClosed();
      const names = checked(programs);
      return machineInTurn(await open(programs), names, device);
    },
    ...(peaks === undefined ? {} : {
      peaks: async () => {
        refuseClosed();
        return await peaks();
      },
    }),
    close: () => {
      if (device.isClosed) return;
      device.isClosed = true;
      close();
    },
  };
};
