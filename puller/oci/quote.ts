// Shows a string that came with an artifact inside a message. Does not validate it.

const maxShownCharacters = 96;

/** The string in double quotes, in printable ASCII, cut after 96 characters. */
export function quote(text: string): string {
  const cut = text.length > maxShownCharacters;
  const shown = JSON.stringify(cut ? text.slice(0, maxShownCharacters) : text).replace(
    /[^\u0020-\u007e]/gu,
    (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`,
  );
  return cut ? `${shown}…` : shown;
}
