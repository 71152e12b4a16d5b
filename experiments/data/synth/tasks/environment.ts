// Synthetic tasks of environmental sound: which texture it is, and which of several kinds of sound
// overlap.
import { shuffled } from "../random.ts";
import { recorded } from "../room_effects.ts";
import { type Scene, scenes } from "../scenes.ts";
import { textures } from "../textures.ts";
import { rate } from "../voices.ts";
import { accuracies, oneOf, type SyntheticTask } from "./task.ts";

const { birds, engine, wind, rain, alarms, knocks } = scenes;

const texture = oneOf(
  {
    name: "synthetic_texture",
    description: "Which of ten sounds of surroundings.",
    splitMode: "presplit_kfold",
    seconds: 2,
    evaluation: accuracies,
  },
  Object.fromEntries(
    Object.entries<Scene>({ birds, engine, wind, rain, alarms, knocks, ...textures }).map((
      [name, scene],
    ) => [
      name,
      (length, dice) => recorded(scene(length, dice), { least: -25, most: 0 }, dice),
    ]),
  ),
);

const mixed: Readonly<Record<string, Scene>> = {
  speech: scenes.voice,
  strings: scenes.plucks,
  bells: scenes.bells,
  drums: scenes.drums,
  birds,
  engine,
  rain,
  alarm: alarms,
};
const mixedNames = Object.keys(mixed);

const mixture: SyntheticTask = {
  name: "synthetic_mixture",
  description: "Which of eight kinds of sound are heard where one to three overlap.",
  labels: mixedNames,
  prediction: "multilabel",
  splitMode: "trainvaltest",
  seconds: null,
  evaluation: ["mAP", "top1_acc", "d_prime", "aucroc"],
  make: (label, dice) => {
    const length = Math.round(dice.between(1, 3) * rate);
    const others = shuffled(mixedNames.filter((name) => name !== label), dice);
    const kinds = [label, ...others.slice(0, dice.whole(0, 2))];
    const out = new Float32Array(length);
    for (const kind of kinds) {
      const sound = mixed[kind](length, dice);
      let power = 0;
      for (const sample of sound) power += sample ** 2;
      const gain = 10 ** (dice.between(-9, 0) / 20) / Math.sqrt(power / length + 1e-12);
      for (let i = 0; i < length; i++) out[i] += gain * sound[i];
    }
    return {
      samples: recorded(out, { least: -40, most: -15 }, dice),
      labels: mixedNames.filter((name) => kinds.includes(name)),
    };
  },
};

/** The two tasks. */
export const surroundingTasks: readonly SyntheticTask[] = [texture, mixture];
