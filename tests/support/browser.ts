// Pages as headless Chromium shows them, where it is installed: at the width of a desk and of a phone, light
// and dark. It is spoken to by its own protocol, so nothing else is needed.
import { assert } from "@std/assert";

const names = ["chromium", "chromium-browser", "google-chrome", "chrome"];

const program = names.flatMap((name) =>
  (Deno.env.get("PATH") ?? "").split(":").map((folder) => `${folder}/${name}`)
).find((path) => {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
});

/** Whether there is a browser; a test that needs one says that it is skipped. */
export const hasBrowser = program !== undefined;
if (!hasBrowser) console.log("pages are not looked at: there is no Chromium here");

/** What is wrong with a page in one look: nothing, for a good one. */
export interface Look {
  readonly width: number;
  readonly scheme: "light" | "dark";
  readonly problems: readonly string[];
}

const looks = [[1280, "light"], [1280, "dark"], [390, "light"], [390, "dark"]] as const;

const inspection = Deno.readTextFileSync(new URL("./inspect.js", import.meta.url));

interface Message {
  readonly id?: number;
  readonly method?: string;
  readonly params?: Readonly<Record<string, unknown>>;
  readonly result?: Readonly<Record<string, unknown>>;
}

/** Looks at a page in a file, with all that it hides opened. */
export const lookAt = async (path: string): Promise<readonly Look[]> => {
  const profile = await Deno.makeTempDir();
  const browser = new Deno.Command(program!, {
    args: [
      "--headless=new",
      "--no-sandbox",
      "--disable-gpu",
      "--remote-debugging-port=0",
      `--user-data-dir=${profile}`,
      "about:blank",
    ],
    stdout: "null",
    stderr: "piped",
  }).spawn();
  try {
    const socket = new WebSocket(await addressOf(browser.stderr));
    await new Promise((resolve) => socket.onopen = resolve);
    const waiting = new Map<number, (message: Message) => void>();
    let problems: string[] = [], loaded = () => {}, next = 0;
    socket.onmessage = ({ data }) => {
      const { id, method, params = {}, ...rest }: Message = JSON.parse(data);
      if (id !== undefined) waiting.get(id)!(rest);
      const url = (params.request as { readonly url?: string } | undefined)?.url ?? "";
      if (method === "Page.loadEventFired") loaded();
      if (method === "Network.requestWillBeSent" && !/^(file|data):/.test(url)) {
        problems.push(`it asks for ${url}`);
      }
      if (/^(Log\.entryAdded|Runtime\.(consoleAPICalled|exceptionThrown))$/.test(method ?? "")) {
        problems.push(`the console says ${JSON.stringify(params)}`);
      }
    };
    const ask = (method: string, params: Readonly<Record<string, unknown>>, sessionId?: string) =>
      new Promise<Readonly<Record<string, unknown>>>((resolve) => {
        waiting.set(++next, ({ result }) => resolve(result ?? {}));
        socket.send(JSON.stringify({ id: next, method, params, sessionId }));
      });
    const { targetId } = await ask("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await ask("Target.attachToTarget", { targetId, flatten: true });
    const tell = (method: string, params: Readonly<Record<string, unknown>> = {}) =>
      ask(method, params, sessionId as string);
    for (const domain of ["Page", "Log", "Runtime", "Network"]) await tell(`${domain}.enable`);
    const found: Look[] = [];
    for (const [width, scheme] of looks) {
      problems = [];
      const mobile = width < 600, size = { width, height: 900, deviceScaleFactor: 1, mobile };
      await tell("Emulation.setDeviceMetricsOverride", size);
      const features = [{ name: "prefers-color-scheme", value: scheme }];
      await tell("Emulation.setEmulatedMedia", { features });
      const load = new Promise<void>((resolve) => loaded = resolve);
      await tell("Page.navigate", { url: `file://${path}` });
      await load;
      const opening = "document.querySelectorAll('details').forEach((one) => one.open = true)";
      await tell("Runtime.evaluate", { expression: opening });
      const { result } = await tell("Runtime.evaluate", {
        expression: inspection,
        returnByValue: true,
      });
      const { value } = result as { readonly value?: readonly string[] };
      assert(value !== undefined, `the page was not looked at: ${JSON.stringify(result)}`);
      found.push({ width, scheme, problems: [...problems, ...value] });
    }
    socket.close();
    return found;
  } finally {
    browser.kill("SIGTERM");
    await browser.status;
    await Deno.remove(profile, { recursive: true }).catch(() => {});
  }
};

/** The address that a browser tells when it has started; what it says later is read and forgotten. */
async function addressOf(output: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<string> {
  const reader = output.pipeThrough(new TextDecoderStream()).getReader();
  let said = "";
  for (;;) {
    const { value, done } = await reader.read();
    assert(!done, `Chromium did not start: ${said}`);
    said += value;
    const address = /DevTools listening on (ws:\S+)/.exec(said)?.[1];
    if (address === undefined) continue;
    (async () => {
      while (!(await reader.read()).done);
    })();
    return address;
  }
}
