// Where the layers of an artifact go, and what their files are for, as far as names tell. Pure.

import { AppError } from "../oci/errors.ts";
import type { Descriptor } from "../oci/types.ts";
import { fileMetadataAnnotations, filePathAnnotations } from "./media-types.ts";
import { quote } from "../oci/quote.ts";
import { baseName } from "./safe-path.ts";
import type { FileRole } from "./types.ts";

/** Shards as every tool names them: `<prefix>-00001-of-00003.gguf`. */
const shardName = /^(.*)-(\d{5})-of-(\d{5})\.(gguf|safetensors)$/su;

/** One file of a sharded model. */
export type Shard = { readonly prefix: string; readonly number: number; readonly count: number };

/** What a path says about being a shard; undefined if it does not. */
export function parseShard(path: string): Shard | undefined {
  const match = shardName.exec(path);
  if (match === null) return undefined;
  return { prefix: match[1] ?? "", number: Number(match[2]), count: Number(match[3]) };
}

/** `model.gguf` for one file, `model-00002-of-00003.gguf` for several, as Docker v0.1 names by position (from 1). */
export function positionalName(extension: "gguf" | "safetensors", position: number, count: number): string {
  if (count === 1) return `model.${extension}`;
  const digits = (value: number): string => String(value).padStart(5, "0");
  return `model-${digits(position)}-of-${digits(count)}.${extension}`;
}

/** The file path a layer's annotations state, unchecked: file path, else title, else the name in the file metadata. */
export function statedPath(layer: Descriptor): string | undefined {
  for (const key of filePathAnnotations) {
    const value = layer.annotations[key];
    if (value !== undefined && value !== "") return value;
  }
  for (const key of fileMetadataAnnotations) {
    const name = metadataName(layer.annotations[key]);
    if (name !== undefined) return name;
  }
  return undefined;
}

/** As `statedPath`; throws AppError InvalidArtifact where nothing names the file. */
export function requireStatedPath(layer: Descriptor): string {
  const path = statedPath(layer);
  if (path === undefined)
    throw new AppError(
      "InvalidArtifact",
      `layer ${layer.digest} of type ${quote(layer.mediaType)} has no file name; it must have the annotation ${filePathAnnotations[0]}`,
    );
  return path;
}

function metadataName(json: string | undefined): string | undefined {
  if (json === undefined || json.length > 16_384) return undefined;
  try {
    const value: unknown = JSON.parse(json);
    if (typeof value !== "object" || value === null || !("name" in value)) return undefined;
    return typeof value.name === "string" && value.name !== "" ? value.name : undefined;
  } catch {
    // The metadata is decoration of other tools; only its name would have helped.
    return undefined;
  }
}

/** Refines a layer's role by its file's name: media types of ModelPack, and Docker's "file", do not tell. */
export function roleByName(role: FileRole, path: string): FileRole {
  const name = baseName(path).toLowerCase();
  const isLicense = /licen[sc]e|copying|notice/u.test(name);
  if (role === "weights") return name.includes("mmproj") ? "projector" : "weights";
  if (role === "documentation") return isLicense ? "license" : "documentation";
  if (role !== "config" && role !== "other") return role;
  if (name.endsWith(".jinja") || name.includes("chat_template")) return "chat-template";
  if (role === "config") return "config";
  if (/\.(?:gguf|safetensors|dduf)$/u.test(name)) return name.includes("mmproj") ? "projector" : "weights";
  if (isLicense) return "license";
  if (name.endsWith(".md")) return "documentation";
  return /\.(?:json|txt|vocab|model)$/u.test(name) ? "config" : "other";
}
