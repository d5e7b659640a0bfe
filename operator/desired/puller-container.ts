// What every puller container has in common: command line, credentials, limits. Pure.

import { parseReference } from "../../puller/oci/reference.ts";
import type { JsonObject, Model, ModelSpec } from "../api/model.ts";
import type { OperatorConfiguration } from "../configuration.ts";
import { caDirectory, dockerConfigDirectory, userId } from "./names.ts";

/** What Pod Security "restricted" asks of a container, and a read-only root file system. */
export const containerSecurityContext: JsonObject = {
  allowPrivilegeEscalation: false,
  capabilities: { drop: ["ALL"] },
  privileged: false,
  readOnlyRootFilesystem: true,
  runAsNonRoot: true,
  seccompProfile: { type: "RuntimeDefault" },
};

/** What the puller needs for itself, whatever the size of the model. */
export const defaultPullerResources: JsonObject = {
  requests: { cpu: "100m", memory: "128Mi" },
  limits: { memory: "512Mi" },
};

export function pullerResources(
  model: Pick<Model, "spec">,
  configuration: Pick<OperatorConfiguration, "pullerResources">,
): JsonObject {
  if (model.spec.puller?.resources !== undefined) return model.spec.puller.resources;
  const configured = configuration.pullerResources as JsonObject;
  return Object.keys(configured).length > 0 ? configured : defaultPullerResources;
}

/** Environment that the operator's configuration gives to all pullers, for proxies. */
export function pullerEnvironment({ pullerEnv = [] }: OperatorConfiguration): JsonObject {
  return pullerEnv.length === 0 ? {} : { env: pullerEnv };
}

/**
 * A text that a container gets as it is, in its arguments and variables: the kubelet replaces `$(NAME)` there by a variable's
 * value, and `$$` by `$`. A glob that came out as another one would name another directory than the runtime mounts: an empty one.
 */
export function literal(text: string): string {
  return text.replaceAll("$", "$$$$");
}

/** The registry that a reference names, docker.io where it names none; of a malformed one the puller tells. */
function registriesOf(reference: string): readonly string[] {
  try {
    return [parseReference(reference).registry];
  } catch {
    return [];
  }
}

/** Flags for reaching the registries of these references. */
export function registryArguments(
  model: { readonly spec: Pick<ModelSpec, "source"> },
  references: readonly string[],
): readonly string[] {
  const { pullSecrets = [], tls, mirrors = [] } = model.spec.source;
  const hosts = [...new Set(references.flatMap(registriesOf))];
  return [
    ...pullSecrets.map((_secret, index) => `--docker-config=${dockerConfigDirectory}/${index}/config.json`),
    ...(tls?.caBundle === undefined ? [] : [`--ca-file=${caDirectory}/ca.crt`]),
    ...(tls?.plainHTTP === true ? hosts.map((host) => `--plain-http=${host}`) : []),
    ...mirrors.map(({ host, url }) => `--mirror=${host}=${url}`),
  ];
}

/**
 * Volumes with the Model's own pull secrets and authority. Optional on purpose: a Secret that is missing is then the
 * puller's clear refusal, not a pod that hangs without a word.
 */
export function registryVolumes(model: Model): readonly JsonObject[] {
  const { pullSecrets = [], tls } = model.spec.source;
  return [
    ...pullSecrets.map(({ name }, index) => ({
      name: `docker-config-${index}`,
      secret: {
        secretName: name,
        optional: true,
        // Readable by the pod's group only.
        defaultMode: 0o440,
        items: [{ key: ".dockerconfigjson", path: "config.json" }],
      },
    })),
    ...(tls?.caBundle === undefined
      ? []
      : [
          {
            name: "ca",
            configMap: {
              name: tls.caBundle.configMap.name,
              optional: true,
              items: [{ key: tls.caBundle.configMap.key, path: "ca.crt" }],
            },
          },
        ]),
  ];
}

/**
 * A puller's words with the names of objects where it has paths, which nobody outside its pod knows, and fields of the Model where it
 * has flags.
 */
export function withObjectNames({ metadata, spec }: Model, message: string): string {
  const { pullSecrets = [], tls } = spec.source;
  const place = (key: string, kind: string, name: string): string =>
    `${JSON.stringify(key)} of ${kind} ${JSON.stringify(name)} in namespace ${metadata.namespace}`;
  const named = pullSecrets.reduce(
    (text, { name }, index) =>
      text.replaceAll(
        `${dockerConfigDirectory}/${index}/config.json`,
        place(".dockerconfigjson", "Secret", name),
      ),
    message,
  );
  const map = tls?.caBundle?.configMap;
  return (
    map === undefined
      ? named
      : named.replaceAll(`${caDirectory}/ca.crt`, place(map.key, "ConfigMap", map.name))
  ).replaceAll("with --ca-file", "with spec.source.tls.caBundle");
}

export function registryVolumeMounts(model: Model): readonly JsonObject[] {
  const { pullSecrets = [], tls } = model.spec.source;
  return [
    ...pullSecrets.map((_secret, index) => ({
      name: `docker-config-${index}`,
      mountPath: `${dockerConfigDirectory}/${index}`,
      readOnly: true,
    })),
    ...(tls?.caBundle === undefined ? [] : [{ name: "ca", mountPath: caDirectory, readOnly: true }]),
  ];
}

/** Pod fields that both kinds of pods share. */
export const podSecurityContext: JsonObject = {
  fsGroup: userId,
  // A recursive change of ownership over a large volume takes minutes.
  fsGroupChangePolicy: "OnRootMismatch",
  runAsGroup: userId,
  runAsNonRoot: true,
  runAsUser: userId,
  seccompProfile: { type: "RuntimeDefault" },
};

/** The runtime's own image may expect to write to the usual places. */
export const temporaryVolumeName = "tmp";
