// The command that tells what a Model's references hold, as somebody pastes it into a shell. Pure.

import { registryArguments } from "../desired/puller-container.ts";
import type { ModelSpec } from "../api/model.ts";

/** A word as every shell takes it: quoted where it has to be. */
export function shellWord(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

/**
 * `puller inspect` of references, or of what finds variants where it is the source's. Files with credentials and authorities are in a
 * cluster, or elsewhere: see `inspectNeeds`.
 */
export function inspectCommand({ source, variantsFrom }: ModelSpec, references: readonly string[]): string {
  const isFound = variantsFrom !== undefined && references[0] === source.reference;
  const asked = references.map((reference) => `--reference=${reference}`);
  const what = !isFound
    ? asked
    : variantsFrom.tags === undefined
      ? [`--index=${source.reference}`]
      : [...asked, `--tags=${variantsFrom.tags.pattern}`];
  const { reference, mirrors, tls } = source;
  const reached = {
    reference,
    ...(mirrors === undefined ? {} : { mirrors }),
    ...(tls?.plainHTTP === undefined ? {} : { tls: { plainHTTP: tls.plainHTTP } }),
  };
  const flags = registryArguments({ spec: { source: reached } }, references);
  return ["puller", "inspect", ...what, ...flags, "--output=json"].map(shellWord).join(" ");
}

/** What has to be given to the command besides, in words: files that plan cannot name; empty: nothing. */
export function inspectNeeds({ source: { pullSecrets = [], tls } }: ModelSpec): readonly string[] {
  const authority = tls?.caBundle?.configMap;
  return [
    ...pullSecrets.map(({ name }) => `--docker-config FILE with the credentials of Secret ${name}`),
    ...(authority === undefined
      ? []
      : [`--ca-file FILE with ${authority.key} of ConfigMap ${authority.name}`]),
  ];
}
