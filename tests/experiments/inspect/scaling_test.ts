// `deno task scaling`: what is asked of it, what its table and page say of known points, and a plan of
// real encoders, which needs no device.
import { assert, assertEquals, assertMatch, assertNotMatch, assertStrictEquals } from "@std/assert";
import * as E from "fp-ts/Either.js";
import { readAsked } from "../../../experiments/commands/command.ts";
import { type Asked, command, scaling } from "../../../experiments/commands/scaling.ts";
import type { Point } from "../../../experiments/inspect/scaling.ts";
import {
  type Scaling,
  scalingJson,
  scalingPage,
  spreads,
  tableText,
} from "../../../experiments/inspect/scaling_page.ts";

const asked = (...args: readonly string[]): E.Either<string, Asked> =>
  E.map((of) => (of as { options: unknown }).options as Asked)(readAsked(command, args));

const refusal = (...args: readonly string[]): string => {
  const of = asked(...args);
  assert(E.isLeft(of), args.join(" "));
  return of.left;
};

Deno.test("lengths, families and depth are read, and what is wrong with them is said", () => {
  const of = asked("--tokens", "1000, 250,250", "--families=xlstm,mamba", "--depth=3", "--plan");
  assert(E.isRight(of));
  assertEquals(of.right.tokens, [250, 1000]);
  assertEquals(of.right.families, ["mamba", "xlstm"]);
  assertStrictEquals(of.right.depth, 3);
  assertStrictEquals(of.right.plan, true);
  assertMatch(
    refusal("--families", "mamba,rnn"),
    /no family 'rnn'; there are transformer, mamba, xlstm/,
  );
  assertMatch(refusal("--tokens", "251"), /multiples of 5 up to 100000, .* found '251'/);
  assertMatch(refusal("--tokens=-5"), /found '-5'/);
  assertMatch(refusal("--depth", "0"), /--depth: expected a whole number from 1 to 100, found '0'/);
  assertMatch(refusal("--device", "reference"), /no kernels; choose another device/);
});

const point = (tokens: number, peakBytes: number, ms: number): Point => ({
  family: "mamba",
  pass: "forward",
  tokens,
  found: E.right({ kernels: 10, peakBytes, time: { ms, runs: 5 } }),
});
const refused: Point = {
  family: "mamba",
  pass: "forward",
  tokens: 4000,
  found: E.left({ _tag: "Refused", why: "too | small" }),
};
const measured: Scaling = {
  device: "a device",
  depth: 1,
  points: [point(250, 1e6, 10), point(1000, 5e6, 50), refused],
};

Deno.test("the table has a line for each point, and how even a pass is", () => {
  assertEquals(spreads(measured.points), [
    { family: "mamba", pass: "forward", from: 250, to: 1000, memory: 1.25, time: 1.25 },
  ]);
  const lines = tableText(measured).split("\n").slice(2);
  assertEquals(lines, [
    "| family | pass | tokens | kernels | peak MB | KB per token | ms | µs per token |",
    "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    "| mamba | forward | 250 | 10 | 1.00 | 4.00 | 10.0 | 40.0 |",
    "| mamba | forward | 1000 | 10 | 5.00 | 5.00 | 50.0 | 50.0 |",
    "| mamba | forward | 4000 | refused: too \\| small |  |  |  |  |",
    "",
    "- mamba, forward, 250 to 1000 tokens: peak memory per token within a factor of 1.25, " +
    "time per token of 1.25",
  ]);
  const { points } = JSON.parse(scalingJson(measured));
  assertStrictEquals(points.length, 3);
  assertStrictEquals(points[0].peakBytes, 1e6);
  assertStrictEquals(points[2].refused, "too | small");
});

Deno.test("the page draws time and memory, and loads nothing", () => {
  const page = scalingPage(measured);
  assertStrictEquals(page.match(/<figure class="lines">/g)?.length, 2);
  assertMatch(page, /too \| small/);
  assertNotMatch(page, /(src|href)="http/);
});

Deno.test("a plan opens no device, and is written whole", async () => {
  const out = await Deno.makeTempDir();
  try {
    const of = asked("--families=mamba", "--tokens=250,500", "--depth=1", "--plan", "--out", out);
    assert(E.isRight(of));
    const { log, error } = console, said: string[] = [];
    console.log = (text: string) => said.push(text);
    console.error = () => {};
    const status = await scaling(of.right).finally(() => Object.assign(console, { log, error }));
    assertStrictEquals(status, 0);
    assertMatch(said.join("\n"), /\| mamba \| training \| 500 \| \d+ \| [\d.]+ \| [\d.]+ \|/);
    const kept = JSON.parse(await Deno.readTextFile(`${out}/scaling.json`));
    assertEquals(
      kept.points.map(({ pass, tokens }: { pass: string; tokens: number }) => [pass, tokens]),
      [["forward", 250], ["forward", 500], ["training", 250], ["training", 500]],
    );
    assertMatch(await Deno.readTextFile(`${out}/scaling.html`), /planned and not run/);
  } finally {
    await Deno.remove(out, { recursive: true });
  }
});
