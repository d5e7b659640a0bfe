// Real llama.cpp loads generated models and recites their sentences through llama-server's interface.

import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { shardName, splitGguf, writeGguf, type GgufFile } from "../models/gguf-writer.ts";
import { tinyModel, tinyModelSentence } from "../models/tiny-model.ts";
import { engineOptions } from "./engine-options.ts";
import { startEngine, type EngineProcess } from "./engine-process.ts";
import { engineServer } from "./engine-server.ts";
import { engineObstacle, prepareEngine } from "./prepare-engine.ts";

const obstacle = engineObstacle();

type Completion = {
  readonly model: string;
  readonly choices: readonly { readonly text: string; readonly finish_reason: string }[];
  readonly usage: { readonly completion_tokens: number };
};

async function post(
  url: string,
  body: unknown,
): Promise<{ readonly status: number; readonly body: unknown }> {
  const response = await fetch(url, { method: "POST", body: JSON.stringify(body) });
  return { status: response.status, body: await response.json() };
}

async function get(url: string): Promise<{ readonly status: number; readonly body: unknown }> {
  const response = await fetch(url);
  return { status: response.status, body: await response.json() };
}

test("says 503 until the model is loaded", async () => {
  const server = engineServer(() => undefined).listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  expect(await get(`${url}/health`)).toMatchObject({ status: 503, body: { status: "loading model" } });
  expect(await post(`${url}/v1/completions`, { prompt: "x" })).toMatchObject({ status: 503 });
  server.close();
});

describe("flags", () => {
  test("win over environment variables, which win over defaults", () => {
    const environment = {
      LLAMA_ARG_CTX_SIZE: "64",
      MODEL_PATH: "/from-environment",
      LLAMA_ARG_HOST: "0.0.0.0",
    };
    expect(engineOptions(["-m", "/m.gguf", "--ctx-size=128", "-np", "2", "-ngl", "99"], environment)).toEqual(
      {
        modelPath: "/m.gguf",
        host: "0.0.0.0",
        port: 8080,
        contextLength: 128,
        alias: undefined,
        parallel: 2,
        threads: 0,
      },
    );
    expect(engineOptions([], environment)).toMatchObject({
      modelPath: "/from-environment",
      contextLength: 64,
    });
  });

  test.each([
    [[], "no model"],
    [["--model", "m", "--ctx-size", "many"], "--ctx-size"],
    [["--model", "m", "--port", "70000"], "--port"],
    [["--model", "m", "--made-up"], "--made-up"],
  ])("%j is refused with a reason", (args, message) => {
    expect(() => engineOptions(args, {})).toThrow(message);
  });
});

describe.skipIf(obstacle !== undefined)(`llama.cpp${obstacle === undefined ? "" : ` (${obstacle})`}`, () => {
  let directory: string;

  beforeAll(async () => {
    directory = await mkdtemp(path.join(tmpdir(), "ocimodel-engine-"));
    await prepareEngine();
  });
  afterAll(async () => {
    await rm(directory, { recursive: true, force: true });
  });

  const write = async (name: string, file: GgufFile, padToBytes?: number): Promise<string> => {
    const target = path.join(directory, name);
    await writeGguf(target, file, padToBytes === undefined ? {} : { padToBytes });
    return target;
  };

  describe("serving the default model", () => {
    let engine: EngineProcess;
    beforeAll(async () => {
      const model = await write("model.gguf", tinyModel({ name: "tiny-test" }));
      engine = await startEngine(["--model", model, "--host", "127.0.0.1", "--ctx-size", "256"]);
    });
    afterAll(async () => {
      await engine.stop();
    });

    test("is healthy and says what it serves", async () => {
      expect(await get(`${engine.url}/health`)).toEqual({ status: 200, body: { status: "ok" } });
      expect(await get(`${engine.url}/v1/models`)).toMatchObject({
        status: 200,
        body: {
          object: "list",
          data: [{ id: "tiny-test", meta: { n_ctx_train: 2048, n_embd: 64, n_vocab: 300 } }],
        },
      });
      expect(await get(`${engine.url}/props`)).toMatchObject({
        body: { default_generation_settings: { n_ctx: 256 } },
      });
    });

    test("completes a prompt with the sentence that is in its weights", async () => {
      const { status, body } = await post(`${engine.url}/v1/completions`, {
        prompt: "Hello",
        temperature: 0,
      });
      const completion = body as Completion;
      expect(status).toBe(200);
      expect(completion.model).toBe("tiny-test");
      expect(completion.choices[0]?.text.trim()).toBe(tinyModelSentence);
      expect(completion.choices[0]?.finish_reason).toBe("stop");
    });

    test("stops at max_tokens, and gives the same text for the same seed", async () => {
      const body = { prompt: "Say it", max_tokens: 3, seed: 7, temperature: 0.8 };
      const answers = [
        await post(`${engine.url}/v1/completions`, body),
        await post(`${engine.url}/v1/completions`, body),
      ];
      const [first, second] = answers.map((answer) => answer.body as Completion);
      expect(first?.choices).toEqual(second?.choices);
      expect(first?.choices[0]).toMatchObject({ finish_reason: "length" });
      expect(first?.usage.completion_tokens).toBe(3);
    });

    test("answers llama-server's own completion and a conversation", async () => {
      expect(await post(`${engine.url}/completion`, { prompt: "Hello", n_predict: 2 })).toMatchObject({
        status: 200,
        body: { stop: true, stop_type: "limit", tokens_predicted: 2 },
      });
      const messages = [{ role: "user", content: "What happened?" }];
      expect(await post(`${engine.url}/v1/chat/completions`, { messages })).toMatchObject({
        status: 200,
        body: {
          choices: [{ message: { role: "assistant", content: expect.stringContaining("pulled, verified") } }],
        },
      });
    });

    test.each([
      [{}, "prompt must be a text"],
      [{ prompt: "x", stream: true }, "does not stream"],
      [{ prompt: "x", max_tokens: "3" }, "max_tokens must be a number"],
      [{ prompt: "word ".repeat(100) }, "the context 256"],
    ])("refuses %j", async (body, message) => {
      expect(await post(`${engine.url}/v1/completions`, body)).toMatchObject({
        status: 400,
        body: { error: { type: "invalid_request_error", message: expect.stringContaining(message) } },
      });
    });

    test("answers several requests at once, one after the other", async () => {
      const requests = ["a", "b", "c"].map((prompt) => post(`${engine.url}/v1/completions`, { prompt }));
      const answers = (await Promise.all(requests)).map((answer) => answer.body as Completion);
      const texts = answers.map((completion) => completion.choices[0]?.text.trim());
      expect(texts).toEqual([tinyModelSentence, tinyModelSentence, tinyModelSentence]);
    });
  });

  test.each<[string, () => Promise<string>]>([
    ["32-bit", () => write("f32.gguf", tinyModel({ elementType: "F32" }))],
    [
      "larger, with one key/value head",
      () =>
        write(
          "large.gguf",
          tinyModel({ shape: { embeddingLength: 256, blockCount: 4, headCount: 8, headCountKv: 1 } }),
        ),
    ],
    ["labelled Q4_K_M", () => write("label.gguf", tinyModel({ fileType: 15 }))],
    ["padded", () => write("padded.gguf", tinyModel(), 5_000_003)],
    [
      "in three shards",
      async () => {
        const names = splitGguf(tinyModel(), 3).map((shard, index) =>
          write(shardName("sharded", index + 1, 3), shard),
        );
        return (await Promise.all(names))[0] ?? "";
      },
    ],
  ])("loads a model that is %s", async (_, model) => {
    const engine = await startEngine(["--ctx-size", "128"], { MODEL_PATH: await model() });
    const { body } = await post(`${engine.url}/v1/completions`, { prompt: "Hello", temperature: 0 });
    expect((body as Completion).choices[0]?.text.trim()).toBe(tinyModelSentence);
    expect(await engine.stop()).toBe(0);
  });

  test("another model gives another answer, under the alias it was given", async () => {
    const sentence = "This is the smaller variant.";
    const model = await write("variant.gguf", tinyModel({ sentence }));
    const engine = await startEngine(["--model", model, "--alias", "chat", "--ctx-size", "128"]);
    const { body } = await post(`${engine.url}/v1/completions`, { prompt: "Who are you?", temperature: 0 });
    expect((body as Completion).choices[0]?.text.trim()).toBe(sentence);
    expect((body as Completion).model).toBe("chat");
    expect(await engine.stop()).toBe(0);
  });

  test("a file that is no model ends the engine, with the reason in its log", async () => {
    const broken = path.join(directory, "broken.gguf");
    await writeFile(broken, "GGUF, but not really");
    await expect(startEngine(["--model", broken])).rejects.toThrow("model cannot be loaded");
  });
});
