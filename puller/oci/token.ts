// Bearer tokens: asked of the realm that a registry names, kept until shortly before they expire. Never shown.
// https://distribution.github.io/distribution/spec/auth/token/ and …/oauth/

import * as z from "zod";
import { unlessAborted } from "../unless-aborted.ts";
import type { Challenge } from "./challenge.ts";
import type { Credential } from "./credentials.ts";
import { judgeUrl, type EgressContext } from "./egress.ts";
import { AppError } from "./errors.ts";
import { limits } from "./limits.ts";
import { readCapped, statusError } from "./status.ts";
import type { Transport } from "./transport.ts";

/** Lifetime of a token whose server states none, seconds (the specification's own default). */
const defaultLifetimeSeconds = 60;
/** Longest lifetime that is believed, seconds. */
const longestLifetimeSeconds = 24 * 3600;
/** A token is not used in its last part, so that it does not expire under way. */
const usableShare = 0.8;

// A token becomes a header: printable ASCII without spaces.
const tokenText = z
  .string()
  .min(1)
  .max(limits.headerBytes / 2)
  .regex(/^[\x21-\x7e]+$/);
// An empty one is as good as none: some servers fill in only one of the two.
const optionalToken = z.union([tokenText, z.literal("").transform(() => undefined)]).nullish();
const answerSchema = z.looseObject({
  token: optionalToken,
  access_token: optionalToken,
  // `unknown` alone would make it required.
  expires_in: z.unknown().optional(),
});

export function basicAuthorization(credential: Extract<Credential, { kind: "basic" }>): string {
  return `Basic ${Buffer.from(`${credential.username}:${credential.password}`).toString("base64")}`;
}

/** To read a repository. */
export function pullScope(repository: string): string {
  return `repository:${repository}:pull`;
}

/** To read and write a repository. */
export function pushScope(repository: string): string {
  return `repository:${repository}:pull,push`;
}

type Asking = {
  readonly authorization: Promise<string>;
  callers: number;
  readonly abandoned: AbortController;
};

export class TokenCache {
  readonly #transport: Transport;
  readonly #nowMs: () => number;
  readonly #tokens = new Map<string, { readonly authorization: string; readonly untilMs: number }>();
  /** Requests for tokens that are under way: lanes that meet the end of a token together share one. */
  readonly #asking = new Map<string, Asking>();

  constructor(transport: Transport, nowMs: () => number = () => performance.now()) {
    this.#transport = transport;
    this.#nowMs = nowMs;
  }

  /** The header for a registry and repository, if a usable token is there. */
  get(key: string): string | undefined {
    const known = this.#tokens.get(key);
    if (known === undefined || known.untilMs <= this.#nowMs()) return undefined;
    return known.authorization;
  }

  /** Forgets a header that was refused; one that has taken its place meanwhile stays. */
  forget(key: string, authorization: string | undefined): void {
    if (this.#tokens.get(key)?.authorization === authorization) this.#tokens.delete(key);
  }

  /**
   * Asks the challenge's realm for a token for these scopes (`pullScope`, `pushScope`), whatever the challenge asks for. The
   * credential goes to the realm only, after the egress policy has judged it. Whoever comes while it is asked waits for the same
   * answer; it is given up when nobody waits any more.
   */
  async fetch(
    key: string,
    challenge: Challenge,
    scopes: readonly string[],
    credential: Credential | undefined,
    context: EgressContext,
    signal: AbortSignal,
  ): Promise<string> {
    let asking = this.#asking.get(key);
    if (asking === undefined) {
      const abandoned = new AbortController();
      const authorization = this.#ask(key, challenge, scopes, credential, context, abandoned.signal);
      asking = { authorization, callers: 0, abandoned };
      this.#asking.set(key, asking);
    }
    asking.callers += 1;
    try {
      return await unlessAborted(asking.authorization, signal);
    } finally {
      asking.callers -= 1;
      if (asking.callers === 0) {
        this.#asking.delete(key);
        asking.abandoned.abort();
      }
    }
  }

  async #ask(
    key: string,
    challenge: Challenge,
    scopes: readonly string[],
    credential: Credential | undefined,
    context: EgressContext,
    signal: AbortSignal,
  ): Promise<string> {
    const realm = challenge.parameters["realm"];
    if (realm === undefined || realm === "") {
      throw new AppError(
        "RegistryUnauthorized",
        `${context.registry.host} asks for a token but names no token server`,
      );
    }
    if (!/^https?:\/\//i.test(realm)) {
      throw new AppError(
        "PolicyRefused",
        `${context.registry.host} names a token server that is no http URL`,
      );
    }
    const { url } = judgeUrl(realm, context.registry, context);
    const service = challenge.parameters["service"];
    const isRefresh = credential?.kind === "identity-token";
    if (!isRefresh) {
      if (service !== undefined) url.searchParams.set("service", service);
      url.searchParams.delete("scope");
      for (const scope of scopes) url.searchParams.append("scope", scope);
    }
    const { answer } = await this.#transport.send(
      {
        method: isRefresh ? "POST" : "GET",
        url,
        context,
        headers: {
          accept: "application/json",
          ...(isRefresh ? { "content-type": "application/x-www-form-urlencoded" } : {}),
        },
        ...(credential?.kind === "basic" ? { authorization: basicAuthorization(credential) } : {}),
        ...(isRefresh
          ? {
              body: new URLSearchParams({
                ...(service === undefined ? {} : { service }),
                scope: scopes.join(" "),
                grant_type: "refresh_token",
                client_id: "ocimodel",
                refresh_token: credential.token,
              }).toString(),
            }
          : {}),
      },
      this.#transport.ask,
      signal,
    );
    if (answer.status !== 200) {
      await answer.discard();
      throw statusError(answer, "token", url.host);
    }
    const bytes = await readCapped(answer, limits.tokenBytes, "the token server's answer");
    const { token, expiresInSeconds } = parseTokenAnswer(bytes, url.host);
    const authorization = `Bearer ${token}`;
    this.#tokens.set(key, { authorization, untilMs: this.#nowMs() + expiresInSeconds * usableShare * 1000 });
    return authorization;
  }
}

/** Token and lifetime of a token server's answer; its keys are taken in exactly their case. Fails with RegistryUnauthorized. */
export function parseTokenAnswer(
  bytes: Uint8Array,
  host: string,
): { readonly token: string; readonly expiresInSeconds: number } {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes).toString("utf8"));
  } catch {
    value = undefined;
  }
  const parsed = answerSchema.safeParse(value);
  const token = parsed.success ? (parsed.data.token ?? parsed.data.access_token) : undefined;
  if (!parsed.success || typeof token !== "string") {
    throw new AppError("RegistryUnauthorized", `token server ${host} answered without a usable token`);
  }
  const stated = parsed.data.expires_in;
  const expiresInSeconds =
    typeof stated === "number" && Number.isFinite(stated) && stated > 0
      ? Math.min(stated, longestLifetimeSeconds)
      : defaultLifetimeSeconds;
  return { token, expiresInSeconds };
}
