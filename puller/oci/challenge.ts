// WWW-Authenticate: several challenges in one header, quoted strings, any case. Pure, linear in the header's length.
// RFC 9110 section 11.3 and 11.6.1; https://distribution.github.io/distribution/spec/auth/token/

import { limits } from "./limits.ts";

export type Challenge = { readonly scheme: string; readonly parameters: Readonly<Record<string, string>> };

const tokenPattern = /[!#$%&'*+.^_`|~0-9A-Za-z-]+/y;

/** Parameters of one challenge that are kept; more is no honest server. */
const maxParameters = 32;

/**
 * Parses the header; schemes and parameter names are given in lower case. What cannot be read ends the list: a broken
 * header is no reason to guess.
 */
export function parseChallenges(header: string): readonly Challenge[] {
  const text = header.slice(0, limits.challengeLength);
  const challenges: { scheme: string; parameters: Record<string, string> }[] = [];
  let at = 0;
  const skip = (pattern: RegExp): void => {
    pattern.lastIndex = at;
    if (pattern.test(text)) at = pattern.lastIndex;
  };
  const token = (): string | undefined => {
    tokenPattern.lastIndex = at;
    const match = tokenPattern.exec(text);
    if (match === null) return undefined;
    at = tokenPattern.lastIndex;
    return match[0];
  };
  const quoted = (): string | undefined => {
    let value = "";
    for (at += 1; at < text.length; at += 1) {
      const character = text.charAt(at);
      if (character === '"') {
        at += 1;
        return value;
      }
      if (character === "\\") at += 1;
      value += text.charAt(at);
    }
    return undefined;
  };
  for (;;) {
    skip(/[\s,]+/y);
    const name = token();
    if (name === undefined) return challenges;
    skip(/\s+/y);
    const current = challenges.at(-1);
    // `name =` continues the current challenge; a name alone begins the next one.
    if (text.charAt(at) !== "=" || current === undefined) {
      challenges.push({
        scheme: name.toLowerCase(),
        parameters: Object.create(null) as Record<string, string>,
      });
      // `Negotiate YII=`: a token68 in place of parameters says nothing that we use.
      skip(/[A-Za-z0-9._~+/-]+=*\s*(?=,|$)/y);
      continue;
    }
    at += 1;
    skip(/\s+/y);
    const value = text.charAt(at) === '"' ? quoted() : token();
    if (value === undefined) return challenges;
    if (Object.keys(current.parameters).length < maxParameters)
      current.parameters[name.toLowerCase()] ??= value;
  }
}
