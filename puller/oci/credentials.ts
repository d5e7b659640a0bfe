// Registry credentials from dockerconfigjson files: merged in order, the longest matching key wins. The only I/O is reading the files.

import { open } from "node:fs/promises";
import * as z from "zod";
import { AppError } from "./errors.ts";
import { canonicalRegistry } from "./host.ts";
import type { Reference } from "./types.ts";

/** What a registry is offered. */
export type Credential =
  | { readonly kind: "basic"; readonly username: string; readonly password: string }
  | { readonly kind: "identity-token"; readonly username: string; readonly token: string }
  /** Sent as it is, instead of one that a token server gives. */
  | { readonly kind: "registry-token"; readonly username: string; readonly token: string };

/** One entry: whose requests it is for. */
export type CredentialEntry = {
  /** `host[:port]`; `*` stands for a part of one label (`*.azurecr.io`), as for the kubelet. */
  readonly host: string;
  /** Repository prefix of whole components; empty: all repositories. */
  readonly path: string;
  readonly credential: Credential;
};

/** Largest docker config, bytes: a Kubernetes Secret holds at most 1 MiB. */
const maxFileBytes = 1024 * 1024;

/** It becomes a header: printable ASCII without spaces. */
const bearerToken = /^[\x21-\x7e]+$/;

const entrySchema = z.looseObject({
  auth: z.string().optional(),
  username: z.string().optional(),
  password: z.string().optional(),
  identitytoken: z.string().optional(),
  registrytoken: z.string().optional(),
});
const fileSchema = z.looseObject({ auths: z.record(z.string(), entrySchema.nullable()).nullish() });

/** Host and path of a key as docker, kubectl and people write it: with or without scheme, `/v1/`, `/v2/` and repository path. */
export function parseKey(key: string): { readonly host: string; readonly path: string } | undefined {
  const bare = key.trim().replace(/^https?:\/\//i, "");
  const slash = bare.indexOf("/");
  const text = (slash === -1 ? bare : bare.slice(0, slash)).toLowerCase();
  // A wildcard is checked as the name that it would be.
  const isPattern = text.includes("*");
  const checked = canonicalRegistry(text.replaceAll("*", "x"));
  const host = isPattern && checked !== undefined ? text : checked;
  if (host === undefined) return undefined;
  const path = (slash === -1 ? "" : bare.slice(slash + 1)).replace(/^v[12](?:\/|$)/, "").replace(/\/+$/, "");
  return { host, path };
}

function decodeAuth(auth: string): { username: string; password: string } | undefined {
  if (!/^[A-Za-z0-9+/_-]+={0,2}$/.test(auth)) return undefined;
  const text = Buffer.from(auth, "base64").toString("utf8");
  const colon = text.indexOf(":");
  // A password may have colons, a name may not; old docker pads with NUL.
  if (colon < 1) return undefined;
  return { username: text.slice(0, colon), password: text.slice(colon + 1).replace(/\0+$/, "") };
}

/**
 * Entries of one docker config. `name` is the file, for messages; no message ever shows a value. Keys with credential helpers
 * only are ignored: a helper is a program that a container does not have.
 */
export function parseDockerConfig(text: string, name: string): readonly CredentialEntry[] {
  const refuse = (why: string): AppError =>
    new AppError("InvalidConfiguration", `docker config ${name}: ${why}`);
  let value: unknown;
  try {
    value = JSON.parse(text.startsWith("\uFEFF") ? text.slice(1) : text);
  } catch {
    throw refuse("it is not valid JSON");
  }
  const parsed = fileSchema.safeParse(value);
  if (!parsed.success) {
    const path = parsed.error.issues[0]?.path.map(String).join(".") ?? "";
    throw refuse(`${path === "" ? "the document" : path} does not have the type a dockerconfigjson has`);
  }
  const entries: CredentialEntry[] = [];
  for (const [key, entry] of Object.entries(parsed.data.auths ?? {})) {
    const place = parseKey(key);
    if (place === undefined)
      throw refuse(
        `auths key ${JSON.stringify(key.slice(0, 100))} is no registry host; expected host[:port][/path]`,
      );
    if (entry === null) continue;
    const decoded = entry.auth === undefined || entry.auth === "" ? undefined : decodeAuth(entry.auth);
    if (entry.auth !== undefined && entry.auth !== "" && decoded === undefined) {
      throw refuse(
        `auths[${JSON.stringify(key.slice(0, 100))}].auth is not base64 of user:password; make the Secret with kubectl create secret docker-registry`,
      );
    }
    const username = entry.username ?? decoded?.username ?? "";
    // The most direct of what an entry has goes first, as other clients do.
    if (entry.registrytoken !== undefined && entry.registrytoken !== "") {
      if (!bearerToken.test(entry.registrytoken)) {
        throw refuse(
          `auths[${JSON.stringify(key.slice(0, 100))}].registrytoken has characters that a bearer token cannot have`,
        );
      }
      entries.push({
        ...place,
        credential: { kind: "registry-token", username, token: entry.registrytoken },
      });
      continue;
    }
    if (entry.identitytoken !== undefined && entry.identitytoken !== "") {
      entries.push({
        ...place,
        credential: { kind: "identity-token", username, token: entry.identitytoken },
      });
      continue;
    }
    const password = entry.password ?? decoded?.password;
    if (username === "" || password === undefined) continue;
    if (/[\r\n]/.test(username + password))
      throw refuse(`auths[${JSON.stringify(key.slice(0, 100))}] has a line break in it`);
    if (username.includes(":")) {
      throw refuse(
        `auths[${JSON.stringify(key.slice(0, 100))}].username has a colon, which Basic cannot carry`,
      );
    }
    entries.push({ ...place, credential: { kind: "basic", username, password } });
  }
  return entries;
}

/** The file's bytes, never more than the limit; undefined when there are more. */
async function readBounded(file: string): Promise<Buffer | undefined> {
  try {
    const handle = await open(file);
    try {
      const buffer = Buffer.alloc(maxFileBytes + 1);
      let length = 0;
      for (;;) {
        const { bytesRead } = await handle.read(buffer, length, buffer.length - length);
        length += bytesRead;
        if (length > maxFileBytes) return undefined;
        if (bytesRead === 0) return buffer.subarray(0, length);
      }
    } finally {
      await handle.close();
    }
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? "unknown";
    throw new AppError(
      "InvalidConfiguration",
      `docker config ${file} cannot be read (${code}); is there a Secret of type kubernetes.io/dockerconfigjson with that name?`,
      { cause: error },
    );
  }
}

/** Reads docker configs in order. Fails with InvalidConfiguration, which names the file and never its content. */
export async function loadCredentials(files: readonly string[]): Promise<readonly CredentialEntry[]> {
  const all: CredentialEntry[] = [];
  for (const file of files) {
    const bytes = await readBounded(file);
    if (bytes === undefined) {
      throw new AppError(
        "InvalidConfiguration",
        `docker config ${file} is larger than ${maxFileBytes} bytes, more than a Secret can hold`,
      );
    }
    all.push(...parseDockerConfig(bytes.toString("utf8"), file));
  }
  return all;
}

/** Whether a label fits one with `*` in it; linear. */
function labelFits(pattern: string, label: string): boolean {
  const [first = "", ...rest] = pattern.split("*");
  const last = rest.pop();
  if (last === undefined) return first === label;
  if (!label.startsWith(first) || !label.endsWith(last)) return false;
  let at = first.length;
  for (const part of rest) {
    const found = label.indexOf(part, at);
    if (found === -1) return false;
    at = found + part.length;
  }
  return at <= label.length - last.length;
}

/** How well a key's host fits: 2 exactly, 1 by wildcards, which stand for no dot; 0 not at all. */
function hostFit(key: string, registry: string): 0 | 1 | 2 {
  if (key === registry) return 2;
  if (!key.includes("*")) return 0;
  const [keyHost = "", keyPort] = key.split(":");
  const [host = "", port] = registry.split(":");
  const [patterns, labels] = [keyHost.split("."), host.split(".")];
  const fits =
    keyPort === port &&
    patterns.length === labels.length &&
    patterns.every((pattern, index) => labelFits(pattern, labels[index] ?? ""));
  return fits ? 1 : 0;
}

/**
 * The credential for a repository: of the entries of its host (those of exactly this name before those with wildcards), the
 * one with the longest path that is a prefix of whole components; of equals the first file's, as the kubelet does.
 */
export function credentialFor(
  entries: readonly CredentialEntry[],
  reference: Pick<Reference, "registry" | "repository">,
): Credential | undefined {
  let best: { readonly entry: CredentialEntry; readonly fit: number } | undefined;
  for (const entry of entries) {
    const fit = hostFit(entry.host, reference.registry);
    if (fit === 0) continue;
    const isPrefix =
      entry.path === "" ||
      reference.repository === entry.path ||
      reference.repository.startsWith(`${entry.path}/`);
    if (!isPrefix) continue;
    const isBetter =
      best === undefined ||
      fit > best.fit ||
      (fit === best.fit && entry.path.length > best.entry.path.length);
    if (isBetter) best = { entry, fit };
  }
  return best?.entry.credential;
}
