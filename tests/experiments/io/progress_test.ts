// Progress: what a line says at each width, and what is written to a terminal and to a file.
import {
  assert,
  assertEquals,
  assertLessOrEqual,
  assertMatch,
  assertStrictEquals,
} from "@std/assert";
import {
  clock,
  plainLine,
  progress,
  type ProgressState,
  render,
} from "../../../experiments/io/progress.ts";

const state: ProgressState = {
  step: 45,
  steps: 150,
  from: 0,
  elapsed: 90,
  loss: 0.81234,
  heldOutLoss: 0.9,
  clipsPerSecond: 4.02,
};

Deno.test("a wide line has everything", () => {
  assertStrictEquals(
    render(state, 120),
    " 45/150  ████████████····························  " +
      "loss 0.8123  held-out 0.9000  4.0 clips/s  3:30 left",
  );
});

Deno.test("a narrow line gives up the least important first and is never too long", () => {
  assertMatch(
    render(state, 60),
    /^ 45\/150 {2}[█▏▎▍▌▋▊▉·]+ {2}loss 0\.8123 {2}4\.0 clips\/s {2}3:30 left$/,
  );
  assertMatch(render(state, 45), /^ 45\/150 {2}[█▏▎▍▌▋▊▉·]+ {2}loss 0\.8123 {2}3:30 left$/);
  assertMatch(render(state, 35), /^ 45\/150 {2}[█▏▎▍▌▋▊▉·]+ {2}loss 0\.8123$/);
  assertMatch(render(state, 20), /^ 45\/150 {2}[█▏▎▍▌▋▊▉·]+$/);
  assertStrictEquals(render(state, 10), "45/150");
  for (let width = 0; width < 140; width++) {
    assertLessOrEqual(render(state, width).length, width, `width ${width}`);
  }
});

Deno.test("the bar is empty at the start and full at the end", () => {
  const start = render({ step: 0, steps: 150, from: 0, elapsed: 0 }, 60);
  assertStrictEquals(start, `  0/150  ${"·".repeat(40)}`);
  const end = render({ ...state, step: 150, elapsed: 300 }, 120);
  assert(end.startsWith(`150/150  ${"█".repeat(40)}  loss`));
  assert(end.endsWith("took 5:00"));
});

Deno.test("the time left counts this process's steps only", () => {
  assertMatch(plainLine({ ...state, step: 60, from: 50, elapsed: 20 }), /, 3:00 left$/);
});

Deno.test("a plain line", () => {
  assertStrictEquals(
    plainLine(state),
    "step 45 of 150, loss 0.8123, held-out 0.9000, 4.0 clips/s, 3:30 left",
  );
  assertStrictEquals(plainLine({ step: 0, steps: 5, from: 0, elapsed: 0 }), "step 0 of 5");
});

Deno.test("times", () => {
  assertEquals([0, 7.4, 59.6, 760, 11109].map(clock), [
    "0:00",
    "0:07",
    "1:00",
    "12:40",
    "3:05:09",
  ]);
});

function collect(terminal: boolean): { texts: string[]; show: ReturnType<typeof progress> } {
  const texts: string[] = [];
  const write = (text: string): void => void texts.push(text);
  return { texts, show: progress({ write, terminal, columns: () => 81 }) };
}

const at = (step: number, elapsed: number): ProgressState => ({
  step,
  steps: 10,
  from: 0,
  elapsed,
});

Deno.test("a file gets a line every five seconds, the last step, and no control characters", () => {
  const { texts, show } = collect(false);
  for (let step = 0; step <= 10; step++) show.update(at(step, step * 2));
  show.note("checkpoint written");
  show.finish();
  assertEquals(texts, [
    "step 0 of 10\n",
    "step 3 of 10, 0:14 left\n",
    "step 6 of 10, 0:08 left\n",
    "step 9 of 10, 0:02 left\n",
    "step 10 of 10, took 0:20\n",
    "checkpoint written\n",
  ]);
});

Deno.test("an interrupted run's last step is written once", () => {
  const { texts, show } = collect(false);
  show.update(at(0, 0));
  show.update(at(1, 1));
  show.finish();
  show.finish();
  assertEquals(texts, ["step 0 of 10\n", "step 1 of 10, 0:09 left\n"]);
});

Deno.test("a terminal's line is drawn over, at most ten times a second, and ended", () => {
  const { texts, show } = collect(true);
  show.update(at(1, 0.01));
  show.update(at(2, 0.05));
  show.update(at(3, 0.2));
  show.note("checkpoint written");
  show.finish();
  const drawn = (state: ProgressState): string => `\r\x1b[K${render(state, 80)}`;
  assertEquals(texts, [
    drawn(at(1, 0.01)),
    drawn(at(3, 0.2)),
    "\r\x1b[Kcheckpoint written\n",
    drawn(at(3, 0.2)),
    drawn(at(3, 0.2)),
    "\n",
  ]);
});
