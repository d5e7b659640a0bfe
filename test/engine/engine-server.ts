// llama-server's HTTP interface, as far as the operator, the tests and the demo use it, over an engine that may still be loading.
// Answers in whole; streaming is refused. Interface: https://github.com/ggml-org/llama.cpp/tree/master/tools/server

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { json } from "node:stream/consumers";
import { PromptTooLongError, type Generation, type GenerationRequest, type LlamaEngine } from "./llama.ts";

type Answer = { readonly status: number; readonly body: Readonly<Record<string, unknown>> };

class RequestError extends Error {
  override name = "RequestError";
}

const failure = (status: number, type: string, message: string): Answer => ({
  status,
  body: { error: { code: status, message, type } },
});

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

function numberField(
  body: Readonly<Record<string, unknown>>,
  ...names: readonly string[]
): number | undefined {
  for (const name of names) {
    const value = body[name];
    if (value === undefined || value === null) continue;
    if (typeof value !== "number" || !Number.isFinite(value))
      throw new RequestError(`${name} must be a number`);
    return value;
  }
  return undefined;
}

function stopTexts(stop: unknown): readonly string[] {
  if (stop === undefined || stop === null) return [];
  const texts: readonly unknown[] = Array.isArray(stop) ? stop : [stop];
  return texts.map((text) => {
    if (typeof text !== "string" || text === "")
      throw new RequestError("stop must be a text or a list of texts");
    return text;
  });
}

// No chat template: tests need an answer to a conversation, not the manners of one model family.
function conversation(messages: unknown): string {
  if (!Array.isArray(messages) || messages.length === 0) throw new RequestError("messages must be a list");
  return messages
    .map((message: unknown) => {
      if (!isRecord(message) || typeof message["content"] !== "string") {
        throw new RequestError("every message must have a content that is a text");
      }
      return message["content"];
    })
    .join("\n");
}

function generationRequest(body: Readonly<Record<string, unknown>>, prompt: unknown): GenerationRequest {
  if (typeof prompt !== "string") throw new RequestError("prompt must be a text");
  if (body["stream"] === true) throw new RequestError("this server does not stream; leave stream out");
  const maxTokens = numberField(body, "max_tokens", "max_completion_tokens", "n_predict");
  const seed = numberField(body, "seed");
  return {
    prompt,
    maxTokens: maxTokens === undefined || maxTokens < 0 ? undefined : Math.trunc(maxTokens),
    temperature: numberField(body, "temperature") ?? 0.8,
    seed: seed === undefined || seed < 0 ? undefined : Math.trunc(seed),
    stopTexts: stopTexts(body["stop"]),
  };
}

const usage = (generation: Generation): Readonly<Record<string, number>> => ({
  prompt_tokens: generation.promptTokens,
  completion_tokens: generation.completionTokens,
  total_tokens: generation.promptTokens + generation.completionTokens,
});

async function generated(
  path: string,
  body: Readonly<Record<string, unknown>>,
  engine: LlamaEngine,
  signal: AbortSignal,
): Promise<Answer> {
  const chat = path.endsWith("/chat/completions");
  const request = generationRequest(body, chat ? conversation(body["messages"]) : body["prompt"]);
  const generation = await engine.generate(request, signal);
  const named = { model: engine.name, created: Math.trunc(Date.now() / 1000), usage: usage(generation) };
  const finish = { index: 0, finish_reason: generation.finishReason, logprobs: null };
  if (chat) {
    const message = { role: "assistant", content: generation.text };
    const choices = [{ ...finish, message }];
    return {
      status: 200,
      body: { id: `chatcmpl-${named.created}`, object: "chat.completion", ...named, choices },
    };
  }
  if (path.startsWith("/v1/")) {
    const choices = [{ ...finish, text: generation.text }];
    return {
      status: 200,
      body: { id: `cmpl-${named.created}`, object: "text_completion", ...named, choices },
    };
  }
  return {
    status: 200,
    body: {
      content: generation.text,
      model: engine.name,
      stop: true,
      stop_type: generation.finishReason === "length" ? "limit" : "eos",
      tokens_evaluated: generation.promptTokens,
      tokens_predicted: generation.completionTokens,
    },
  };
}

function facts(path: string, engine: LlamaEngine): Answer | undefined {
  if (path === "/health" || path === "/v1/health") return { status: 200, body: { status: "ok" } };
  if (path === "/props") {
    return { status: 200, body: { default_generation_settings: { n_ctx: engine.contextLength } } };
  }
  if (path !== "/v1/models" && path !== "/models") return undefined;
  const meta = {
    n_vocab: engine.vocabularySize,
    n_ctx_train: engine.trainedContextLength,
    n_embd: engine.embeddingLength,
    size: engine.sizeBytes,
  };
  return {
    status: 200,
    body: { object: "list", data: [{ id: engine.name, object: "model", owned_by: "llamacpp", meta }] },
  };
}

const generationPaths = new Set([
  "/completion",
  "/completions",
  "/v1/completions",
  "/chat/completions",
  "/v1/chat/completions",
]);

async function answer(
  request: IncomingMessage,
  engine: LlamaEngine | undefined,
  signal: AbortSignal,
): Promise<Answer> {
  const path = new URL(request.url ?? "/", "http://engine").pathname;
  if (engine === undefined) {
    const loading = failure(503, "unavailable_error", "Loading model");
    return { ...loading, body: { ...loading.body, status: "loading model" } };
  }
  if (request.method === "GET" || request.method === "HEAD") {
    const found = facts(path, engine);
    if (found !== undefined) return found;
  }
  if (request.method !== "POST" || !generationPaths.has(path)) {
    return failure(404, "not_found_error", "no such path");
  }
  try {
    const body: unknown = await json(request).catch(() => undefined);
    if (!isRecord(body)) throw new RequestError("the body must be a JSON object");
    return await generated(path, body, engine, signal);
  } catch (error) {
    if (!(error instanceof RequestError) && !(error instanceof PromptTooLongError)) throw error;
    return failure(400, "invalid_request_error", error.message);
  }
}

function send(response: ServerResponse, { status, body }: Answer): void {
  const bytes = Buffer.from(JSON.stringify(body));
  response.writeHead(status, {
    "content-type": "application/json; charset=utf-8",
    "content-length": bytes.length,
  });
  response.end(bytes);
}

/** A server that says 503 until `engine()` gives an engine. The caller listens and closes. */
export function engineServer(engine: () => LlamaEngine | undefined): Server {
  return createServer((request, response) => {
    const gone = new AbortController();
    response.once("close", () => gone.abort());
    answer(request, engine(), gone.signal).then(
      (result) => send(response, result),
      (error: unknown) => {
        if (gone.signal.aborted) return;
        console.error(JSON.stringify({ level: "error", message: "generation failed", error: String(error) }));
        send(response, failure(500, "server_error", "generation failed; the server's log says why"));
      },
    );
  });
}
