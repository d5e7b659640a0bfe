// The chart of an area: every goal as a bar on one axis, on which 1 is the peer, or where there is none the limit. Pure.

import { formatLimit, formatNumber, formatUnit } from "./format.ts";
import type { SavedResults } from "./results.ts";
import type { Verdict } from "./statistics.ts";

const width = 1000;
const labelWidth = 400;
const valueWidth = 150;
const rowHeight = 26;
const titleHeight = 30;
const headHeight = 64;
/** What is shown of the axis; longer bars are cut. */
const axisEnd = 1.6;

const colours = {
  met: "#2e7d32",
  missed: "#c0392b",
  text: "#222222",
  faint: "#707070",
  grid: "#d8d8d8",
} as const;

/** Where a verdict lies on the axis. */
export type Position = {
  readonly min: number;
  readonly median: number;
  readonly max: number;
  readonly limit: number;
};

/** Less is better on the axis, so a speed-up stands as the share of time that is left. */
export function positionOf({ goal, figure }: Verdict): Position {
  const { min, median, max } = figure;
  const limit = goal.atMost ?? goal.atLeast ?? 1;
  if (goal.atMost === undefined) {
    return { min: 1 / max, median: 1 / median, max: 1 / min, limit: 1 / limit };
  }
  const one = goal.against === undefined ? limit : 1;
  return { min: min / one, median: median / one, max: max / one, limit: limit / one };
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function place(value: number): number {
  const share = Math.min(Math.max(value, 0), axisEnd) / axisEnd;
  return Math.round((labelWidth + share * (width - labelWidth - valueWidth)) * 10) / 10;
}

function text(
  x: number,
  y: number,
  content: string,
  options: {
    readonly size?: number;
    readonly fill?: string;
    readonly anchor?: string;
    readonly bold?: boolean;
  } = {},
): string {
  const { size = 12, fill = colours.text, anchor = "start", bold = false } = options;
  return `<text x="${x}" y="${y}" font-size="${size}" fill="${fill}" text-anchor="${anchor}"${bold ? ' font-weight="bold"' : ""}>${escape(content)}</text>`;
}

function row(y: number, seriesName: string, verdict: Verdict): string {
  const { goal, figure, isMet } = verdict;
  const { min, median, max, limit } = positionOf(verdict);
  const colour = isMet ? colours.met : colours.missed;
  const middle = y + rowHeight / 2;
  const zero = place(0);
  return [
    text(labelWidth - 10, middle + 4, `${seriesName}: ${goal.text}`, { anchor: "end" }),
    `<rect x="${zero}" y="${middle - 7}" width="${Math.max(1, place(median) - zero)}" height="14" fill="${colour}"/>`,
    `<line x1="${place(min)}" y1="${middle}" x2="${place(max)}" y2="${middle}" stroke="#000000" stroke-opacity="0.55" stroke-width="2"/>`,
    `<line x1="${place(limit)}" y1="${middle - 11}" x2="${place(limit)}" y2="${middle + 11}" stroke="${colours.text}" stroke-width="2"/>`,
    text(
      width - valueWidth + 10,
      middle + 4,
      `${formatNumber(figure.median)}${formatUnit(goal)}  (${formatLimit(goal)})`,
      { fill: colour },
    ),
  ].join("\n");
}

/** The SVG chart. */
export function renderChart({ area, results }: SavedResults): string {
  const parts: string[] = [];
  let y = headHeight;
  for (const { id, title, series } of results) {
    if (series.every(({ verdicts }) => verdicts.length === 0)) continue;
    parts.push(text(12, y + 20, `${id}: ${title}`, { size: 13, bold: true }));
    y += titleHeight;
    for (const { name, verdicts } of series) {
      for (const verdict of verdicts) {
        parts.push(row(y, name, verdict));
        y += rowHeight;
      }
    }
    y += 6;
  }
  const height = y + 16;
  const ticks = [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5].map((value) => {
    const isOne = value === 1;
    return [
      `<line x1="${place(value)}" y1="${headHeight - 8}" x2="${place(value)}" y2="${height - 12}" stroke="${isOne ? colours.faint : colours.grid}"${isOne ? ' stroke-dasharray="5 3"' : ""}/>`,
      text(place(value), headHeight - 14, String(value), { size: 11, fill: colours.faint, anchor: "middle" }),
    ].join("\n");
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="Helvetica, Arial, sans-serif">
<rect width="${width}" height="${height}" fill="#ffffff"/>
${text(12, 24, `Benchmarks: ${area}`, { size: 16, bold: true })}
${text(12, 44, "Less is better. 1 is the peer, or the limit where there is none.", { size: 11, fill: colours.faint })}
${text(12, 58, "Bar: median. Line: min to max. Upright mark: goal.", { size: 11, fill: colours.faint })}
${ticks.join("\n")}
${parts.join("\n")}
</svg>
`;
}
