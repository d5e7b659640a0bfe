// Lists of a registry that come in pages (distribution-spec, "Listing Tags"; RFC 8288).

import { isSameOrigin } from "./egress.ts";
import { AppError } from "./errors.ts";

/** The next page of a list: only at the same origin (a Link header must not lead credentials elsewhere). */
export function nextPage(link: string | undefined, url: URL): URL | undefined {
  const match = link === undefined ? null : /<([^<>]*)>\s*;\s*rel="?next"?/i.exec(link);
  if (match === null) return undefined;
  let next: URL;
  try {
    next = new URL(match[1] ?? "", url);
  } catch {
    return undefined;
  }
  if (!isSameOrigin(next, url)) {
    throw new AppError("PolicyRefused", `${url.host} continues its tag list at another host`);
  }
  return next;
}
