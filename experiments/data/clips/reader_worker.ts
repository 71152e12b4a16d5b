/// <reference lib="deno.worker" />
// A reader thread: reads recordings ahead of training, one at a time, as requested by reader_pool.ts.
import type { FrontEnd } from "../../../models/frontend.ts";
import { onDecoder } from "../audio/decoder_client.ts";
import { type MemberReader, memberReader, type Place, type RecordingKind } from "./read_clip.ts";
import { indexShard } from "./shard_index.ts";
import { openStore } from "./spectrogram_cache.ts";

/** Settings of a worker, the same for all its questions. */
export interface Settings {
  readonly form: RecordingKind;
  readonly frontEnd: FrontEnd;
  /** Frames of a crop. */
  readonly frames: number;
  /** Each thread stores the id of its decoder process at its index; 0 is none. */
  readonly decoders: Int32Array<SharedArrayBuffer>;
  readonly thread: number;
  /** The folder of the cache, if there is one, and the bytes that this thread may add to it. */
  readonly store?: { readonly path: string; readonly room: number };
}

/** A request to a worker. */
export type Question =
  | { readonly kind: "settings"; readonly settings: Settings }
  | {
    readonly kind: "crop";
    readonly place: Place;
    readonly at: number;
  }
  | { readonly kind: "index"; readonly path: string; readonly wanted: string };

let reader: Promise<MemberReader> | undefined;

const answer = async (question: Question): Promise<readonly [unknown, readonly ArrayBuffer[]]> => {
  switch (question.kind) {
    case "settings": {
      const { form, frontEnd, frames, decoders, thread, store } = question.settings;
      onDecoder((pid) => Atomics.store(decoders, thread, pid ?? 0));
      reader = Promise.resolve(
        store === undefined ? undefined : openStore(store.path, store.room, frontEnd),
      )
        .then((opened) => memberReader(form, frontEnd, frames, opened));
      return [undefined, []];
    }
    case "crop": {
      const { place, at } = question;
      const read = await (await reader!)(place, at);
      return [read, read._tag === "Values" ? [read.values.buffer] : []];
    }
    case "index":
      return [indexShard(question.path, new RegExp(question.wanted, "i")), []];
  }
};

// Questions are answered one at a time.
let before: Promise<void> = Promise.resolve();
self.onmessage = ({ data }: MessageEvent<Question>) => {
  before = before.then(async () => {
    const [content, moved] = await answer(data);
    self.postMessage(content, { transfer: [...moved] });
  });
};
