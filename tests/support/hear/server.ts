// A server on this machine, for tests of downloads: one that answers as it should, and ways not to.
import { createHash } from "node:crypto";

/** The checksum of some bytes as Zenodo writes it. */
export const md5 = (bytes: Uint8Array): string =>
  `md5:${createHash("md5").update(bytes).digest("hex")}`;

/** A server while it runs. */
export interface Served {
  readonly url: string;
  /** The range that each request for a file asked for. */
  readonly asked: readonly (string | null)[];
}

/** What a server answers to a request for the bytes of a file. */
export type Answer = (request: Request, bytes: Uint8Array<ArrayBuffer>) => Response;

const rangeOf = (request: Request): number =>
  Number(/^bytes=(\d+)-$/.exec(request.headers.get("range") ?? "")?.[1] ?? 0);

/** The bytes from where the request wants them. */
export const part: Answer = (request, bytes) => {
  const from = rangeOf(request);
  if (from === 0) return new Response(bytes, { headers: { "content-length": `${bytes.length}` } });
  return from >= bytes.length
    ? new Response(null, { status: 416, headers: { "content-range": `bytes */${bytes.length}` } })
    : new Response(bytes.subarray(from), {
      status: 206,
      headers: { "content-range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` },
    });
};

/** The first `count` bytes of what is asked for, and then the connection breaks. */
export const broken = (count: number): Answer => (request, bytes) => {
  const from = rangeOf(request), rest = bytes.subarray(from);
  let sent = false;
  const body = new ReadableStream<Uint8Array>({
    pull: async (controller) => {
      if (!sent) controller.enqueue(rest.slice(0, count));
      else {
        // The bytes reach the other side before the connection ends.
        await new Promise((resolve) => setTimeout(resolve, 100));
        controller.error(new Error("broken for the test"));
      }
      sent = true;
    },
  });
  return new Response(body, {
    status: from > 0 ? 206 : 200,
    headers: {
      "content-length": `${rest.length}`,
      ...(from > 0 ? { "content-range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` } : {}),
    },
  });
};

/**
 * Runs with a server on this machine that has files under `files/` and a record of them. The k-th
 * request for a file gets the k-th answer, later ones the last.
 */
export const serving = async (
  files: Readonly<Record<string, Uint8Array<ArrayBuffer>>>,
  answers: readonly Answer[],
  act: (served: Served) => Promise<void>,
): Promise<void> => {
  const asked: (string | null)[] = [];
  const server = Deno.serve({
    hostname: "127.0.0.1",
    port: 0,
    onListen: () => {},
    onError: () => new Response(null, { status: 500 }),
  }, (request) => {
    const { pathname, origin } = new URL(request.url);
    const name = decodeURIComponent(pathname.replace(/^\/files\//, ""));
    if (pathname === "/record") {
      return Response.json({
        id: 1,
        files: Object.entries(files).map(([key, bytes]) => ({
          key,
          size: bytes.length,
          checksum: md5(bytes),
          links: { self: `${origin}/files/${key}` },
        })),
      });
    }
    if (!Object.hasOwn(files, name)) return new Response("nothing", { status: 404 });
    asked.push(request.headers.get("range"));
    const answer = answers[Math.min(asked.length, answers.length) - 1] ?? part;
    return answer(request, files[name]);
  });
  try {
    await act({ url: `http://127.0.0.1:${server.addr.port}`, asked });
  } finally {
    await server.shutdown();
  }
};
