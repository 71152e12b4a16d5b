// Time and memory of a study's encoders by clip length: a forward pass and a training step at the study's
// lengths, measured once and saved.
import * as E from "fp-ts/Either.js";
import { openBackend } from "../machines/device.ts";
import { fileErrorText, writeWhole } from "../io/files.ts";
import { parseJson } from "../../backends/runtime/json.ts";
import { measured, type Pass, passProgram } from "../inspect/scaling.ts";
import type { Spec } from "../specs/spec.ts";
import type { Study } from "../specs/sweep.ts";
import { encoderOf } from "../training/programs.ts";

/** Time and memory of an encoder for one clip of `tokens` patches. */
export interface LengthPoint {
  /** The label of a row in the study's first table. */
  readonly label: string;
  readonly family: Spec["encoder"]["family"];
  readonly pass: Pass;
  readonly tokens: number;
  /** The device's description. */
  readonly device: string;
  /** The encoder as JSON: a changed encoder is measured again. */
  readonly encoder: string;
  readonly peakBytes?: number;
  readonly ms?: number;
  /** Why there are no numbers. */
  readonly trouble?: string;
}

const file = (folder: string): string => `${folder}/lengths.json`;

/** Saved measurements. */
export const keptLengths = (folder: string): readonly LengthPoint[] => {
  try {
    const json = parseJson(Deno.readTextFileSync(file(folder)));
    return E.isRight(json) && Array.isArray(json.right) ? json.right : [];
  } catch {
    return [];
  }
};

type Place = Pick<LengthPoint, "label" | "pass" | "tokens">;
const samePlace = (one: Place, other: Place): boolean =>
  one.label === other.label && one.pass === other.pass && one.tokens === other.tokens;

/** Measures what is not saved yet. On the left, why not, in words. */
export const lengthsOf = async (
  study: Study,
  folder: string,
  interrupted: () => boolean,
): Promise<E.Either<string, readonly LengthPoint[]>> => {
  if (study.lengths.length === 0) return E.right([]);
  const specs = study.parts[0].rows.flatMap(({ label, runs }) => {
    const spec = study.runs.find(({ name }) => name === runs[0]);
    return spec === undefined ? [] : [{ label, spec }];
  });
  const chosen = await openBackend(study.runs[0].device);
  if (E.isLeft(chosen)) return chosen;
  const { backend } = chosen.right;
  const kept = keptLengths(folder), points: LengthPoint[] = [];
  try {
    for (const { label, spec } of specs) {
      const encoder = encoderOf(spec), { mels } = spec.frontEnd;
      const rows = mels / spec.patch.frequency;
      for (const pass of ["forward", "training"] as const) {
        for (const tokens of study.lengths) {
          if (interrupted()) return E.left("interrupted; --resume goes on");
          const at = {
            label,
            family: spec.encoder.family,
            pass,
            tokens,
            device: backend.device,
            encoder: JSON.stringify(encoder),
          };
          if (tokens % rows !== 0) {
            points.push({ ...at, trouble: `${tokens} patches are not whole columns of ${rows}` });
            continue;
          }
          const before = kept.find((one) =>
            one.ms !== undefined && samePlace(one, at) && one.encoder === at.encoder &&
            one.device === at.device
          );
          if (before !== undefined) {
            points.push(before);
            continue;
          }
          console.error(`${label}, ${pass}, ${tokens} patches`);
          const found = await measured(backend, passProgram(encoder, pass, tokens, mels));
          points.push(
            E.isLeft(found) ? { ...at, trouble: found.left.why } : {
              ...at,
              peakBytes: found.right.peakBytes,
              ...(found.right.time === undefined ? {} : { ms: found.right.time.ms }),
            },
          );
          // Keep saved points that have not been reached yet, in case this is interrupted.
          const others = kept.filter((one) => !points.some((point) => samePlace(point, one)));
          const all = JSON.stringify([...points, ...others], null, 1);
          const written = await writeWhole(file(folder), all)();
          if (E.isLeft(written)) return E.left(fileErrorText(written.left));
        }
      }
    }
    return E.right(points);
  } finally {
    backend.close();
  }
};
