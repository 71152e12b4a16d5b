// The parameters of a model, found in its graph: there is no other list of them.
import { type AnyTensor, type Axes, AxisError, showAxes, volume } from "./axes.ts";
import { type Initialiser, type Node, nodeOf, tensorOf, topologicalOrder } from "./node.ts";

/** A parameter of a model. */
export interface Parameter {
  /** Its name in the model and in checkpoints. */
  readonly name: string;
  /** Axes in the order in which the values are stored. */
  readonly axes: Axes;
  /** Computes its initial value. */
  readonly init: Initialiser;
  /** False for parameters that training does not change. */
  readonly trainable: boolean;
  /** The leaf itself, to differentiate for. */
  readonly tensor: AnyTensor;
}

/** Throws `AxisError` unless two leaves of one name have the same dtype, axes and order of axes. */
export const refuseOther = (what: "input" | "parameter", one: Node, other: Node): void => {
  if (one.attributes.trainable !== other.attributes.trainable) {
    throw new AxisError(
      `the ${what} '${one.attributes.name}' is trained in one place and left alone in another`,
    );
  }
  const inOrder = ({ dtype, axes }: Node) => JSON.stringify([dtype, Object.entries(axes)]);
  if (inOrder(one) === inOrder(other)) return;
  const show = ({ dtype, axes }: Node) =>
    `${one.dtype === other.dtype ? "" : `${dtype} `}${showAxes(axes)}`;
  throw new AxisError(
    `the ${what} '${one.attributes.name}' is ${show(one)} in one place and ${
      show(other)
    } in another`,
  );
};

/**
 * The parameters that some tensors depend on, sorted by name (numbers by value).
 * Throws `AxisError` when one name is used with two shapes.
 */
export const parameters = (of: readonly AnyTensor[]): readonly Parameter[] => {
  const byName = new Map<string, Node>();
  for (const leaf of topologicalOrder(of.map(nodeOf))) {
    if (leaf.op !== "param") continue;
    const name = leaf.attributes.name!;
    const other = byName.get(name);
    if (other !== undefined) refuseOther("parameter", other, leaf);
    byName.set(name, leaf);
  }
  return [...byName.values()]
    .map((leaf) => ({
      name: leaf.attributes.name!,
      axes: leaf.axes,
      init: leaf.attributes.init!,
      trainable: leaf.attributes.trainable!,
      tensor: tensorOf<Axes>(leaf),
    }))
    .sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
};

/** How many numbers some parameters hold. */
export const count = (of: readonly Parameter[]): number =>
  of.reduce((total, parameter) => total + volume(parameter.axes), 0);
