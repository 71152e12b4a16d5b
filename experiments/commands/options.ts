// Options that several commands share.
import * as E from "fp-ts/Either.js";
import { type DeviceName, deviceNames } from "../specs/spec.ts";
import { flag, oneOf, type Option } from "./command.ts";

const isDevice = (name: string): name is DeviceName => deviceNames.some((known) => known === name);

/** The device of a command; some take their default from a spec. */
export const device: Option<DeviceName | undefined> = {
  takes: "text",
  value: "D",
  help: deviceNames.join(", "),
  suggests: { values: deviceNames },
  read: (_, [given]) =>
    given === undefined || isDevice(given)
      ? E.right(given)
      : E.left(`there is no device '${given}'; the devices are ${deviceNames.join(", ")}`),
};

/** The same without the devices that a command does not support. */
export const deviceWithout = (
  ...others: readonly DeviceName[]
): Option<DeviceName | undefined> => {
  const values = deviceNames.filter((name) => !others.includes(name));
  return { ...device, help: values.join(", "), suggests: { values } };
};

/** Fidelity to the published code; `what` is the part that it affects. */
export const fidelity = (
  what: string,
  whose: string,
): Option<"faithful" | "corrected" | undefined> =>
  oneOf(
    "F",
    `faithful: ${what}; corrected: without its quirks; default: as ${whose}`,
    ["faithful", "corrected"],
  );

export const jsonTable: Option<boolean> = flag("one JSON object instead of the table");
