// What is kept of an object's metadata where the rest would only fill memory. Pure.

import type { ObjectMeta } from "./types.ts";

/** What tells an object and its state apart, with the labels that are read. */
export function reducedMetadata(
  { name, namespace, uid, resourceVersion, labels = {} }: ObjectMeta,
  isRead: (label: string) => boolean,
): ObjectMeta {
  const read = Object.entries(labels).filter(([label]) => isRead(label));
  return {
    name,
    ...(namespace === undefined ? {} : { namespace }),
    ...(uid === undefined ? {} : { uid }),
    ...(resourceVersion === undefined ? {} : { resourceVersion }),
    ...(read.length === 0 ? {} : { labels: Object.fromEntries(read) }),
  };
}
