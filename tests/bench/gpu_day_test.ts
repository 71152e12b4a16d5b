// The GPU day: that all it names is there, and a rehearsal as on a bare machine, packed here, unpacked
// elsewhere and run without network on a software driver in the smallest sizes.
import { assert, assertEquals, assertMatch, assertStrictEquals } from "@std/assert";
import * as E from "fp-ts/Either.js";
import { swiftshader } from "../../backends/webgpu/discovery/swiftshader.ts";
import { deviceErrorMessage, openDevice } from "../../backends/webgpu/discovery/discover.ts";
import { type Result, summaryOf } from "../../bench/gpu/day.ts";
import { pack } from "../../bench/gpu/pack.ts";
import { deviceTests, PARTS, stagesOf } from "../../bench/gpu/stages.ts";
import { root } from "../../bench/gpu/tree.ts";
import { edited, VARIANTS } from "../../bench/gpu/variants.ts";

const setting = { device: "gpu", python: "python3", files: "files", scratch: "scratch" };

Deno.test("every variant changes the tree as it is", () => {
  for (const edits of Object.values(VARIANTS)) {
    for (const file of new Set(edits.map(({ file }) => file))) {
      const text = Deno.readTextFileSync(root + file);
      assert(edited(text, edits.filter((edit) => edit.file === file)) !== text);
    }
  }
});

Deno.test("every stage of every part is there, with the files that it names", () => {
  for (const small of [false, true]) {
    const stages = stagesOf({ ...setting, small });
    assertEquals(Object.values(PARTS).flat(2).filter((name) => !(name in stages)), []);
    const named = Object.values(stages).flatMap(({ commands }) => commands.flatMap((of) => of.args))
      .filter((text) => /^(?:bench|experiments|tests)\/.*\.(?:ts|py|safetensors)$/.test(text));
    assert(named.length > 20 || small);
    named.forEach((file) => assert(Deno.statSync(root + file).isFile));
  }
});

Deno.test("tests of the device are found, and none of the day itself", () => {
  const files = deviceTests();
  assert(files.includes("tests/golden_test.ts") && files.includes("tests/backends/table_test.ts"));
  assert(!files.some((file) => /^tests\/(?:bench|backends\/wasm)\//.test(file)));
});

Deno.test("a summary shows a table, and what stages have to show", () => {
  const results: readonly Result[] = [
    { name: "steps", result: "ok", seconds: 1.25, shown: ["| a |"] },
    { name: "tune", result: "left out: no time", seconds: 0, shown: [] },
  ];
  assertStrictEquals(
    summaryOf("a day", results),
    "# a day\n\n| stage | result | seconds |\n| --- | --- | --- |\n| steps | ok | 1.3 |\n" +
      "| tune | left out: no time | 0.0 |\n\n## steps\n\n```\n| a |\n```\n",
  );
});

const inFolder = async (act: (folder: string) => Promise<void>): Promise<void> => {
  const folder = await Deno.makeTempDir({ prefix: "gpu-day-" });
  try {
    await act(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
};
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const isLinux = Deno.build.target === "x86_64-unknown-linux-gnu";

/** What a day left, as whoever ran it reads it. */
const resultsIn = async (out: string): Promise<readonly Result[]> => {
  const { stages } = JSON.parse(await Deno.readTextFile(`${out}/results.json`));
  return stages;
};

Deno.test({
  name: "a device that is not to be had is one sentence",
  ignore: !isLinux,
  fn: () =>
    inFolder(async (folder) => {
      const out = `${folder}/out`;
      const { code, stderr } = await new Deno.Command(Deno.execPath(), {
        args: ["run", "-A", "--no-check", `${root}bench/gpu/main.ts`, "golden", "--out", out],
        env: { VK_DRIVER_FILES: "/none", NO_COLOR: "1" },
      }).output();
      assertStrictEquals(code, 1);
      assertMatch(text(stderr), /^no device: no WebGPU device was found \(asked for: gpu\).*\n$/);
      const results = await resultsIn(out);
      assertEquals(results.map(({ name }) => name), ["machine", "adapters", "golden"]);
      assertStrictEquals(results[2].result, "left out: there is no device");
    }),
});

/** The software driver of a rehearsal, or why there is none. SwiftShader compiles soonest. */
const softwareDriver = async (): Promise<E.Either<string, string>> => {
  if (!isLinux) return E.left(`what is packed does not run on ${Deno.build.target}`);
  if (E.isRight(await swiftshader()())) return E.right("swiftshader");
  const opened = await openDevice("software")();
  return E.isRight(opened) ? E.right("software") : E.left(deviceErrorMessage(opened.left));
};
const driver = await softwareDriver();
const withoutNetwork = ["unshare", "-n"];
const canUnshare = ((): boolean => {
  try {
    return new Deno.Command("unshare", { args: ["-n", "true"] }).outputSync().success;
  } catch {
    return false;
  }
})();

Deno.test({
  name: E.isLeft(driver)
    ? `a rehearsal (skipped: ${driver.left})`
    : canUnshare
    ? `a rehearsal, packed and run elsewhere without network, on ${driver.right}`
    : `a rehearsal on ${driver.right} (a network is there, as only root can do without)`,
  ignore: E.isLeft(driver),
  fn: () =>
    inFolder(async (folder) => {
      const device = E.isRight(driver) ? driver.right : "";
      const said: string[] = [];
      await pack(`${folder}/packed`, { plain: true, say: (line) => said.push(line) });
      assertStrictEquals(said.length, 1, said.join("\n"));
      await Deno.mkdir(`${folder}/elsewhere`);
      await Deno.rename(`${folder}/packed`, `${folder}/elsewhere/day`);
      const [program, ...args] = [
        ...canUnshare ? withoutNetwork : [],
        ...["bash", `${folder}/elsewhere/day/start.sh`, "rehearsal", "--device", device],
        ...["--budget", "35", "--out", `${folder}/out`],
      ];
      const { stdout, stderr } = await new Deno.Command(program, {
        args,
        cwd: folder,
        clearEnv: true,
        env: { PATH: Deno.env.get("PATH")!, HOME: folder },
      }).output();
      const printed = text(stdout) + text(stderr);
      const results = await resultsIn(`${folder}/out`);
      const summary = await Deno.readTextFile(`${folder}/out/summary.md`);
      assertEquals(
        results.map(({ name }) => name),
        ["machine", "adapters", ...PARTS.rehearsal.flat()],
      );
      for (const { name, result, shown } of results) {
        // A loaded machine may get no further in time; whatever was run to its end is well.
        assertMatch(result, /^(?:ok|skipped: .+|stopped after \d+ s|left out: no time)$/, printed);
        assert(
          printed.includes(`${name}: ${result}`) && summary.includes(`| ${name} | ${result} |`),
        );
        if (result !== "ok") continue;
        assert(shown.length > 0, `${name} has nothing to show`);
        assert((await Deno.stat(`${folder}/out/logs/${name}.log`)).size > 0);
      }
      const isOk = (wanted: string) =>
        results.some(({ name, result }) => name === wanted && result === "ok");
      assert(["machine", "adapters", "doctor", "golden"].every(isOk), printed);
      if (!isOk("steps")) return;
      const rows = await Deno.readTextFile(`${folder}/out/files/steps.jsonl`);
      const [row] = rows.trim().split("\n").map((line) => JSON.parse(line));
      assertStrictEquals(row.family, "transformer");
      assert(row.loss > 0 && row.ms > 0 && row.kernels > 0);
    }),
});
