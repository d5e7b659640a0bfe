// Names of found variants: from what their authors and registries call them, valid and unique. Pure.

import { maxVariantNameLength } from "../contract.ts";

/** What a name is made of. */
export type Named = {
  /** Of the manifest; differs from that of every other. */
  readonly digest: string;
  /** As the author stated it, valid already. */
  readonly stated?: string;
  readonly tag?: string;
  readonly format: string;
  readonly quantization?: string;
  readonly parameters?: string;
};

/** A name from any text: lower-case letters, digits and single hyphens; empty where nothing is left. */
function plain(text: string): string {
  return text
    .toLowerCase()
    .replace(/[^a-z0-9]+/gu, "-")
    .slice(0, maxVariantNameLength)
    .replace(/^-+|-+$/gu, "");
}

function wish({ stated, tag, quantization, parameters, format, digest }: Named): string {
  if (stated !== undefined) return stated;
  const fromTag = tag === undefined ? "" : plain(tag);
  if (fromTag !== "" && fromTag !== "latest") return fromTag;
  const shape = plain([parameters, quantization].filter((each) => each !== undefined).join("-"));
  if (quantization !== undefined && shape !== "") return shape;
  return plain(`${format}-${digest.slice(digest.indexOf(":") + 1).slice(0, 12)}`);
}

/**
 * A name for each, in order. Where two would have the same one, both get the first characters of their digests, so that a name
 * does not depend on what comes before it.
 */
export function variantNames(all: readonly Named[]): readonly string[] {
  for (let length = 0; ; length += 8) {
    const wishes = all.map(wish);
    const counts = new Map<string, number>();
    for (const each of wishes) counts.set(each, (counts.get(each) ?? 0) + 1);
    const names = all.map((each, index) => {
      const name = wishes[index] ?? "";
      if (length === 0 || counts.get(name) === 1) return name;
      const mark = each.digest.slice(each.digest.indexOf(":") + 1).slice(0, length);
      return plain(`${name.slice(0, maxVariantNameLength - mark.length - 1)}-${mark}`);
    });
    if (new Set(names).size === names.length || length >= maxVariantNameLength - 8) return names;
  }
}

/** The one of several tags of one artifact that tells most: the longest of those that name its quantization, else the longest. */
export function bestTag(tags: readonly string[], quantization: string | undefined): string | undefined {
  const mark = quantization === undefined ? "" : plain(quantization);
  const tells = (tag: string): number => (mark !== "" && plain(tag).includes(mark) ? 1 : 0);
  return [...tags].sort(
    (one, other) =>
      tells(other) - tells(one) || other.length - one.length || (one < other ? -1 : one > other ? 1 : 0),
  )[0];
}
