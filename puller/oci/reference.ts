// References: `[registry/]repository[:tag][@digest]`, as Docker, containerd and the distribution project read them. Pure.
//
//   reference  := name [ ":" tag ] [ "@" digest ]
//   name       := [ host [ ":" port ] "/" ] path *( "/" path )
//   path       := alphanumeric *( ( "." | "_" | "__" | 1*"-" ) alphanumeric )        lower case
//   tag        := [A-Za-z0-9_] 0*127( [A-Za-z0-9_.-] )
//   https://github.com/distribution/reference/blob/v0.6.0/reference.go

import { isDigest } from "./digest.ts";
import { AppError } from "./errors.ts";
import { canonicalRegistry } from "./host.ts";
import type { Reference } from "./types.ts";

/** Names longer than this are refused by registries, characters of registry and repository. */
const maxNameLength = 255;

const pathPattern = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const tagPattern = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
const labelPattern = /^(?:[a-z0-9]|[a-z0-9][a-z0-9-]*[a-z0-9])$/;

/** A valid reference is never longer, characters: name, tag, sha512 digest and what separates them. */
const maxReferenceLength = maxNameLength + 1 + 128 + 1 + 7 + 128;

/** A text that should be a reference, as it may be shown: without a user name and password, and not without end. */
export function shownReference(text: string): string {
  const [scheme = ""] = /^(?:[A-Za-z][A-Za-z0-9+.-]*:\/\/)?/.exec(text) ?? [];
  const bare = `${scheme}${withoutUser(text.slice(scheme.length), scheme !== "")}`;
  return bare.length > maxReferenceLength ? `${bare.slice(0, maxReferenceLength).toWellFormed()}…` : bare;
}

/** A password may hold any character: what ends it is the last "@" that begins no digest. */
function withoutUser(text: string, isUrl: boolean): string {
  const [front] = /^.*@(?!sha(?:256|512):)/s.exec(text) ?? [];
  if (front === undefined) return text;
  const behind = text.slice(front.length);
  // A host and its path follow, or a name and a password stand in front (`host:5000/` is a host and its port).
  const isUser =
    behind.includes("/") || /^[^/@:]*:(?!\d{1,5}\/)/.test(front) || (isUrl && !front.includes("/"));
  return isUser ? `***@${behind}` : text;
}

function refuse(text: string, why: string): AppError {
  // Without its password first, then cut: else the cut would hide the "@" and show the password.
  const whole = shownReference(text);
  const shown = JSON.stringify(whole.length > 300 ? `${whole.slice(0, 300)}…` : whole);
  return new AppError(
    "InvalidReference",
    `reference ${shown}: ${why}; expected [registry/]repository[:tag][@digest], such as registry.example.com/ai/model:q4`,
  );
}

/** Whether the first component of a name is a registry: it has a dot or a port, is localhost, or an IPv6 address. */
function isRegistry(component: string): boolean {
  return /[.:]/.test(component) || component === "localhost" || component.startsWith("[");
}

function parseRegistry(text: string, component: string): string {
  const match = /^(\[[0-9a-fA-F:.]+\]|[^:[\]]+)(?::(.*))?$/.exec(component);
  if (match === null)
    throw refuse(text, `${JSON.stringify(component)} is no host (IPv6 addresses stand in brackets)`);
  const [, host = "", port] = match;
  if (port !== undefined && (!/^\d{1,5}$/.test(port) || Number(port) < 1 || Number(port) > 65535)) {
    throw refuse(text, `port ${JSON.stringify(port)} is not between 1 and 65535`);
  }
  const lower = host.toLowerCase();
  if (host.startsWith("[")) {
    if (!URL.canParse(`http://${lower}/`)) throw refuse(text, `${host} is no IPv6 address`);
  } else if (
    lower.length > 253 ||
    !lower.split(".").every((label) => label.length <= 63 && labelPattern.test(label))
  ) {
    throw refuse(text, `${JSON.stringify(host)} is no host name`);
  }
  const registry = canonicalRegistry(port === undefined ? lower : `${lower}:${Number(port)}`);
  if (registry === undefined) throw refuse(text, `${JSON.stringify(host)} is no host name and no IP address`);
  const canonical = port === undefined ? registry : registry.slice(0, registry.lastIndexOf(":"));
  // Credentials, --plain-http and mirrors are filed under a host: it must not have two names.
  if (registry !== "docker.io" && !host.startsWith("[") && canonical !== lower) {
    throw refuse(text, `${JSON.stringify(host)} is another spelling of ${canonical}; write that`);
  }
  return registry;
}

/**
 * Parses a reference. Docker Hub's short names are expanded (`model` is `docker.io/library/model`); a reference with
 * neither tag nor digest has the tag `latest`; with both, the digest decides and the tag is kept for people.
 * Fails with InvalidReference.
 */
export function parseReference(text: string): Reference {
  if (text === "") throw refuse(text, "it is empty");
  if (text.trim() !== text) throw refuse(text, "it has white space around it");
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(text)) throw refuse(text, "it has a URL scheme; leave it out");
  if (shownReference(text).startsWith("***@")) {
    throw refuse(text, "it holds a user name; leave it out, credentials go into a docker config");
  }
  const at = text.indexOf("@");
  const digest = at === -1 ? undefined : text.slice(at + 1);
  const tagged = at === -1 ? text : text.slice(0, at);
  if (digest !== undefined && !isDigest(digest)) {
    throw refuse(text, `${JSON.stringify(digest.slice(0, 80))} is no sha256 or sha512 digest`);
  }
  const colon = tagged.indexOf(":", tagged.lastIndexOf("/") + 1);
  // A colon in the only component is a tag, not a port: `localhost:5000` is the image `localhost`.
  const tag = colon === -1 ? undefined : tagged.slice(colon + 1);
  const name = colon === -1 ? tagged : tagged.slice(0, colon);
  if (tag !== undefined && !tagPattern.test(tag)) {
    throw refuse(
      text,
      `${JSON.stringify(tag.slice(0, 140))} is no tag (1 to 128 letters, digits, "_", "." and "-")`,
    );
  }
  const components = name.split("/");
  const first = components[0] ?? "";
  const hasRegistry = components.length > 1 && isRegistry(first);
  const registry = hasRegistry ? parseRegistry(text, first) : "docker.io";
  const paths = hasRegistry ? components.slice(1) : components;
  for (const path of paths) {
    if (pathPattern.test(path)) continue;
    const why = /[A-Z]/.test(path)
      ? `repository part ${JSON.stringify(path)} has capital letters; repositories are lower case`
      : `repository part ${JSON.stringify(path.slice(0, 80))} is not made of lower-case letters, digits and single separators`;
    throw refuse(text, why);
  }
  const repository =
    registry === "docker.io" && paths.length === 1 ? `library/${paths.join("/")}` : paths.join("/");
  if (registry.length + 1 + repository.length > maxNameLength) {
    throw refuse(text, `its name is longer than ${maxNameLength} characters`);
  }
  return {
    registry,
    repository,
    ...(tag !== undefined ? { tag } : digest === undefined ? { tag: "latest" } : {}),
    ...(digest === undefined ? {} : { digest }),
  };
}

/** The text of a reference, in full; `parseReference` of it is the same reference. */
export function formatReference({ registry, repository, tag, digest }: Reference): string {
  return `${registry}/${repository}${tag === undefined ? "" : `:${tag}`}${digest === undefined ? "" : `@${digest}`}`;
}

/** The part of a reference that a manifest request names: the digest, else the tag. */
export function manifestName({ tag, digest }: Reference): string {
  return digest ?? tag ?? "latest";
}

/**
 * A variant's reference against its source's: `:tag` and `@digest` are in the same repository, anything else is a reference
 * of its own. The texts are not checked here.
 */
export function resolveRelativeReference(base: string, relative: string): string {
  if (!relative.startsWith(":") && !relative.startsWith("@")) return relative;
  const withoutDigest = base.split("@")[0] ?? base;
  const colon = withoutDigest.indexOf(":", withoutDigest.lastIndexOf("/") + 1);
  return `${colon === -1 ? withoutDigest : withoutDigest.slice(0, colon)}${relative}`;
}
